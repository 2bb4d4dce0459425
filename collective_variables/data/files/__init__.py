"""Read files of every format as columns."""
