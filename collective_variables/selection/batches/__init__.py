"""Choose the next batch of points to label, by features whose products are a kernel."""
