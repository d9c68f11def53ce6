"""The networks: what each is, how it starts, and how it restores."""
