"""Assign roles to the columns of a table, and encode them as numbers."""
