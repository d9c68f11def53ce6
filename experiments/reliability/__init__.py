"""Faults made on purpose, counted: `python -m experiments.reliability --help`."""
