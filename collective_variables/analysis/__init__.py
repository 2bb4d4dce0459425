"""Statistics of tables of runs."""
