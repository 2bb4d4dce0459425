"""Collective variables: what a kernel says in a few numbers."""
