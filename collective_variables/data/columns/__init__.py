"""What each column of a table is for, and how it becomes numbers."""
