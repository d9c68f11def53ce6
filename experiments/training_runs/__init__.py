"""Options, photographs and scores of the training program."""
