"""The cells that stand for missing values."""

# Written by programs alone, so that they are missing in columns of all kinds.
ERRORS = {"NaN", "nan", "NAN", "NaT", "<NA>", "<null>", "\\N", "#N/A", "#NA", "#NV", "#DIV/0!"}
ERRORS |= {"#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#WERT!", "#BEZUG!", "#ZAHL!"}
# A word that is missing among numbers and dates. Among texts it is missing too, unless the column
# also has empty cells: then NA may be Namibia, and None a degree.
WORDS = {"?", "NA", "N/A", "n/a", "n.a.", "N.A.", "null", "NULL", "Null", "None"}
# Missing among numbers and dates alone.
SIGNS = {"-", "--", "---", "–", "—", ".", "..", "...", "…", "*", "/", "??"}
SIGNS |= {"none", "NONE", "na", "Na", "nil", "n/d", "N/D", "n.d.", "N.D."}
AMONG_TEXTS = ERRORS | WORDS
AMONG_NUMBERS = AMONG_TEXTS | SIGNS


def is_marker(cell: str) -> bool:
    """Return whether a cell is empty or stands for a missing value among numbers."""
    return not cell.strip() or cell.strip() in AMONG_NUMBERS
