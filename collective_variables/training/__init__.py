"""Train networks, alone and as ensembles, and record their kernels on the way."""
