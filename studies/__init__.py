"""Run studies outside the graph: comparisons of methods, their cost, and the paper's scale."""
