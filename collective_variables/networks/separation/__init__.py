"""Check that a network treats every point separately, by its traced program or by trial."""
