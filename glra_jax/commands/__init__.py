"""What the command `glra-jax` does: one module for options and one for work."""
