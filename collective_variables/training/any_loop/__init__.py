"""Record collective variables in training loops that are not of this package."""
