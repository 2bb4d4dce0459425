"""Training, and the recording of kernels on the way."""
