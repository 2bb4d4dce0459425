"""Estimate the trace of the kernel without the kernel."""
