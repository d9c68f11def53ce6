"""Scoring restorations: what is restored, by which methods, how it is scored and reported."""
