"""Networks from lists of layers, named architectures, and imported networks."""
