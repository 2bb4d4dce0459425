"""Select rows, compare methods and measure networks from the command line."""
