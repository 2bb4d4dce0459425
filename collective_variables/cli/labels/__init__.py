"""Gather the labels of a table from all files that hold some."""
