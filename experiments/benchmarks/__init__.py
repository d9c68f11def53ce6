"""Measurements of `python -m experiments.benchmark`, a module for each subject."""
