"""Ways to choose the points to train on."""
