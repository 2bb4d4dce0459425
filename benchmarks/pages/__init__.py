"""The fragments of the pages of results, made from the files of reference/."""
