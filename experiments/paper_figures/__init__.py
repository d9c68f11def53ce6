"""Figures of `python -m experiments.figures`, a module for each."""
