"""Kernels of infinite width tile by tile, if all pairs of points do not fit the memory."""
