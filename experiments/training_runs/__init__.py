"""What the training program reads and scores."""
