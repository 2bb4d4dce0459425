"""Read learning problems and tables of the user, and encode, split and scale them."""
