"""Networks from lists of layers, architectures, and networks of the user."""
