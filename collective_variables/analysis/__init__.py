"""Statistics of tables of runs: tables in, tables out, without JAX."""
