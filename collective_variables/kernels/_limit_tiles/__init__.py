"""Kernels of infinite width tile by tile, where all pairs of points do not fit the memory."""
