"""Whether a network treats every point separately: from its traced program, or by trying it."""
