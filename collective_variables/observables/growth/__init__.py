"""How collective variables grow with the number of points."""
