"""Published benchmarks, and what is measured here on the same cases."""
