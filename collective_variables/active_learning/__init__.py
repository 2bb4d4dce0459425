"""Label the points of a pool in batches, with a network that is trained on the labels so far."""
