"""Correlation of image batches with banks of filters, directly and through small DFTs."""
