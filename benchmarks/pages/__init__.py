"""Make the fragments of the pages of results from the files of reference/."""
