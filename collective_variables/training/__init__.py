"""Train single networks and ensembles, and record their kernels on the way."""
