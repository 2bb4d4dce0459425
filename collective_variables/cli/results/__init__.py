"""Print and write results of commands: chosen rows, comparisons, pages and files."""
