"""Pictures that the programs draw."""
