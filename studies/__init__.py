"""Studies outside the graph: comparisons of methods, their cost, and runs at the paper's scale."""
