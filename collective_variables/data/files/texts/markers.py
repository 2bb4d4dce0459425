"""Cells that stand for missing values."""

# Only programs write these, so they are missing in columns of all kinds.
ERRORS = {"NaN", "nan", "NAN", "NaT", "<NA>", "<null>", "\\N", "#N/A", "#NA", "#NV", "#DIV/0!"}
ERRORS |= {"#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#WERT!", "#BEZUG!", "#ZAHL!"}
# These are missing among numbers and dates. They are also missing among texts, unless the column
# has empty cells, too: then NA may be Namibia, and None a degree.
WORDS = {"?", "NA", "N/A", "n/a", "n.a.", "N.A.", "null", "NULL", "Null", "None"}
# These are missing only among numbers and dates.
SIGNS = {"-", "--", "---", "–", "—", ".", "..", "...", "…", "*", "/", "??"}
SIGNS |= {"none", "NONE", "na", "Na", "nil", "n/d", "N/D", "n.d.", "N.D."}
AMONG_TEXTS = ERRORS | WORDS
AMONG_NUMBERS = AMONG_TEXTS | SIGNS


def is_marker(cell: str) -> bool:
    """Return whether a cell is empty or stands for a missing value among numbers."""
    return not cell.strip() or cell.strip() in AMONG_NUMBERS
