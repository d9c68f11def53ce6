"""The comparison with PyTorch: both sides, exact cores and the report."""
