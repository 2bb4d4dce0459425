"""What the papers claim and show, computed from tables of runs, without JAX."""
