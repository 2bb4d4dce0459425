"""Compute or estimate the trace of the kernel without the kernel."""
