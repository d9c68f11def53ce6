"""What `python -m experiments.figures` draws, a module for each figure."""
