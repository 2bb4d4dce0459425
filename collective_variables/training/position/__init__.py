"""The spectral position of a loss: along which modes of the kernel it falls."""
