"""Write chosen rows as lines of text, or as a table with targets to fill in."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from collective_variables.data.encoding import Table

ORDER, ROW, DISTANCE = "order", "row", "distance"
# Texts that a spreadsheet would run and not show; numbers may start with a sign.
FORMULA = re.compile(r"[\t\r\n ]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)*|[.,]\d+)([eE][+-]?\d+)?\s*$")
TEXT_MARK = "'"  # in front of a text that must not be run


def holds_images(table: Table, /) -> bool:
    """Return whether rows are images, whose identities are the paths of their files."""
    return table.inputs.ndim > 2 and table.identities is not None


def lines(table: Table, rows: Sequence[int], /, *, by_identity: bool) -> str:
    """Return a line for each row: its identity, or its number counted from 0."""
    if by_identity and table.identities is not None:
        return "\n".join(table.identities[np.asarray(rows, int)])
    return "\n".join(map(str, rows))


def identified(table: Table, selection: pd.DataFrame, /) -> pd.DataFrame:
    """Return order, row and distance of the chosen rows, and their identities if there are any."""
    if table.identities is None or table.identity is None:
        return selection
    rows = selection[ROW].to_numpy(int)
    result = selection.copy()
    place = result.columns.get_loc(ROW) + 1
    result.insert(place, column_in_file(table.identity), table.identities[rows])
    return result


def sheet(table: Table, selection: pd.DataFrame, targets: Sequence[str], /) -> pd.DataFrame:
    """Return the chosen rows with all their columns, ready for a spreadsheet.

    The first columns are order, row, identity and distance. The targets come last, with empty cells
    to fill in. Arrays of more than one dimension are left out.

    Args:
        table: The table that the rows were chosen from.
        selection: The columns order, row and distance of `commands.select`.
        targets: Names of the columns to fill in.

    Returns:
        A row for each chosen row.
    """
    rows = selection[ROW].to_numpy(int)
    columns = dict(identified(table, selection))
    is_flat = {name: np.ndim(array) == 1 for name, array in table.contents.items()}
    others = [name for name in table.contents if name not in (table.identity, *targets)]
    for name in (*others, *targets):
        if is_flat[name]:
            columns[column_in_file(name)] = _cells(table.contents[name], rows)
    result = pd.DataFrame(columns)
    for name in result.select_dtypes(exclude=["number", "bool", "datetime"]):
        result[name] = result[name].map(_one_line_end).map(escaped)
    return result.rename(columns=escaped)


def to_csv(sheet: pd.DataFrame, /) -> str:
    """Return a table as CSV text."""
    return sheet.to_csv(index=False, lineterminator="\n")


def _cells(array: np.ndarray, rows: np.ndarray) -> pd.Series:
    """Return some cells of a column, whole numbers without a decimal point."""
    cells = array[rows]
    is_whole = cells.dtype.kind == "f" and not np.any(np.mod(array[np.isfinite(array)], 1))
    if is_whole and np.all(np.abs(array[np.isfinite(array)]) < 2**53):
        return pd.Series(cells).astype("Int64")
    return pd.Series(cells)


def _one_line_end(cell: object) -> object:
    """Return a cell with line ends as in the file: readers end a row at a lone CR."""
    return re.sub(r"\r\n?", "\n", cell) if isinstance(cell, str) else cell


def column_in_file(name: str, /) -> str:
    """Return the name in the file of a column of the table, next to order, row and distance."""
    return f"{name} (table)" if name in (ORDER, ROW, DISTANCE) else name


def escaped(cell: object) -> object:
    """Return a cell with an apostrophe in front if a spreadsheet would run it."""
    is_text = isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.match(cell.strip())
    return f"{TEXT_MARK}{cell}" if is_text else cell


def unescaped(cell: str) -> str:
    """Return a text without the apostrophe of `escaped`."""
    rest = cell.removeprefix(TEXT_MARK)
    return rest if escaped(rest) == cell else cell
