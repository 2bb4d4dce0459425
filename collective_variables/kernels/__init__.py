"""Neural tangent kernels: empirical, of infinite width, their products and traces."""
