"""Read files of each format as columns."""
