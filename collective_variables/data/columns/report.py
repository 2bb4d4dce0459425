"""Report how the columns of a table were encoded."""

from collections.abc import Sequence

import pandas as pd

COLUMNS = ("column", "role", "holds", "missing", "distinct", "treatment")
ALIKE = ["role", "holds", "treatment"]
MOST_ALIKE = 10  # columns with equal entries that have a row each


def tabulate(rows: Sequence[tuple]) -> pd.DataFrame:
    """Return a table with the columns `COLUMNS`; unknown entries are missing."""
    return pd.DataFrame(rows, columns=COLUMNS).astype({"missing": "Int64", "distinct": "Int64"})


def summarise(columns: pd.DataFrame, /) -> pd.DataFrame:
    """Return the report with a single row for many columns that were treated alike.

    Args:
        columns: A row for each column of a file, as in `encoding.Table`.

    Returns:
        A table with the same columns. More than `MOST_ALIKE` rows with one role, content and
        treatment become one row at the place of the first. It has the first and the last name, the
        number of all missing values, and the range of the numbers of different values.
    """
    n_alike = columns.groupby(ALIKE, sort=False)["column"].transform("size")
    many = columns[n_alike > MOST_ALIKE]
    merged = [_merge(group) for _, group in many.groupby(ALIKE, sort=False)]
    shown = columns[n_alike <= MOST_ALIKE].astype({"distinct": object})
    return pd.concat([shown, *merged]).sort_index(ignore_index=True)


def _merge(group: pd.DataFrame) -> pd.DataFrame:
    """Return one row for a group of columns, at the place of the first."""
    names, distinct = group["column"], group["distinct"].dropna()
    low, high = (distinct.min(), distinct.max()) if len(distinct) else (pd.NA, pd.NA)
    row = group.iloc[:1].astype({"distinct": object})
    return row.assign(
        column=f"{names.iloc[0]} … {names.iloc[-1]} ({len(names)} columns)",
        missing=group["missing"].sum(),
        distinct=f"{low} to {high}" if len(distinct) and low < high else low,
    )


def to_text(columns: pd.DataFrame, /) -> str:
    """Return the report as text in aligned columns."""
    return summarise(columns).astype(object).fillna("").to_string(index=False)
