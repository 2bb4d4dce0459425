"""What a command prints and writes: chosen rows, comparisons, pages and files."""
