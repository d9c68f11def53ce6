"""Programs over the library: train, evaluate, benchmark, and the paper's figures and tables."""
