"""Choose the points to train on."""
