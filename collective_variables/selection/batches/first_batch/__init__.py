"""Choose the first batch of points to label, while nothing has been learnt from labels."""
