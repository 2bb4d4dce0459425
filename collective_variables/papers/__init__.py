"""What the papers claim and show, from tables of runs."""
