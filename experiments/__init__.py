"""Programs over the library: train, evaluate, benchmark, and the paper's figures and tables."""

from glra_jax import starting  # noqa: F401  # Ctrl-C while a program is imported
