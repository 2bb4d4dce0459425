"""Find the rows of a table that files list by identity or by number."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

import numpy as np

from collective_variables.cli import _row_files
from collective_variables.cli._row_files import LISTED, Line
from collective_variables.cli.results import chosen
from collective_variables.data._errors import DataError
from collective_variables.data.encoding import Table

MAX_NAMED = 5  # identities that are not in the table
MAX_CHARACTERS = 50  # of a cell in an error
Find = Callable[[str], int | None]


class Sheet(NamedTuple):
    """The lines of a file that list rows, and the row of the table that each one names."""

    path: Path
    lines: list[Line]
    rows: list[int]


class Listed(NamedTuple):
    """Rows of the table, each once, notes for the user, and the files that list the rows."""

    rows: list[int]
    notes: list[str]
    sheets: list[Sheet]


def read_rows(
    paths: Sequence[Path], table: Table, targets: Sequence[str] = (), /, *, by_identity: bool
) -> Listed:
    """Return the rows that files list, each once, in the order of the files.

    A file without names has a row on each line: its number, counted from 0, or its identity. A file
    with names, such as `select --output` writes, may have the column of the table's identities. If
    not, its column "row" gives the rows.

    Raises DataError if a file cannot be read or lists no row. Also raises it if a line names no row
    of the table, or a row that holds other numbers than the file.

    Args:
        paths: Paths of the files.
        table: The table that the rows belong to.
        targets: The columns to fill in.
        by_identity: Whether files without names hold identities.

    Returns:
        The rows and notes.
    """
    rows, notes, sheets = [], [], []
    for path in paths:
        sheet, more = _read_file(path, table, targets, by_identity)
        rows += sheet.rows
        notes += more
        sheets.append(sheet)
    return Listed(list(dict.fromkeys(rows)), notes, sheets)


def _read_file(
    path: Path, table: Table, targets: Sequence[str], by_identity: bool
) -> tuple[Sheet, list[str]]:
    keys = [] if table.identity is None else [chosen.column_in_file(table.identity)]
    asked = keys if by_identity else [*keys, chosen.ROW]
    finders = {True: _identity_finder(table), False: _number_finder(table)}
    lines = _row_files.read_lines(path, asked, lambda text: finders[by_identity](text) is not None)
    lines, notes = _labelled_lines(path, lines, targets)
    key = next((name for name in asked if name in lines[0].cells), LISTED)
    is_identity = key in keys or (key == LISTED and by_identity)
    cells = [line.cells.get(key, "") for line in lines]
    found = list(map(finders[is_identity], cells))
    lost = [place for place, row in enumerate(found) if row is None]
    rows = [row for row in found if row is not None]
    if lost and is_identity:
        raise DataError(_unknown(path, table, [cells[place] for place in lost], len(lines)))
    if lost:
        raise DataError(_no_number(lines[lost[0]], cells[lost[0]], table))
    if key == chosen.ROW:
        _check_unmoved(path, lines, rows, table, targets)
    return Sheet(path, lines, rows), notes


def _number_finder(table: Table) -> Find:
    n_rows = len(table.inputs)

    def find(cell: str) -> int | None:
        digits = re.sub(r"[.,]0+$", "", cell)  # a spreadsheet may write 12.0
        if re.fullmatch(r"\d\.\d+e\+\d\d", cell):  # and `numpy.savetxt` writes 1.2000e+01
            digits = f"{Decimal(cell).normalize():f}"
        is_number = digits.isascii() and digits.isdecimal() and len(digits) < 20
        return int(digits) if is_number and int(digits) < n_rows else None

    return find


def _identity_finder(table: Table) -> Find:
    identities = [] if table.identities is None else table.identities.tolist()
    rows = dict(zip(identities, range(len(identities))))
    if chosen.holds_images(table):
        # File systems differ in whether a letter and its accent are one character or two.
        rows = {_composed(file): row for file, row in rows.items()} | rows
    by_number = _number_finder(table)

    def find(cell: str) -> int | None:
        spellings = [cell, chosen.unescaped(cell), re.sub(r"[.,]0+$", "", cell)]
        if chosen.holds_images(table):
            spellings.append(_composed(cell.replace("\\", "/")).removeprefix("./"))
        found = next((rows[text] for text in spellings if text in rows), None)
        # Names of images have an ending, so a number can only be that of a row.
        return by_number(cell) if found is None and chosen.holds_images(table) else found

    return find


def _composed(file: str) -> str:
    return unicodedata.normalize("NFC", file)


def _unknown(path: Path, table: Table, cells: list[str], n_lines: int) -> str:
    named = [repr(cell[:MAX_CHARACTERS]) for cell in dict.fromkeys(cells)]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    example = f" (such as {table.identities[0]!r})" if chosen.holds_images(table) else ""
    return (
        f"{path} must list rows of the table by its column {table.identity}{example}: "
        f"{len(cells)} of {n_lines} are not there, {', '.join(named[:MAX_NAMED])}{more}."
    )


def _no_number(line: Line, cell: str, table: Table) -> str:
    # Numbers beyond the table and texts may be identities.
    hint = " Identities need --id COLUMN." if cell else ""
    return (
        f"{line.place} must be a row, 0 to {len(table.inputs) - 1}: "
        f"received {cell[:MAX_CHARACTERS]!r}.{hint}"
    )


def _check_unmoved(
    path: Path, lines: Sequence[Line], rows: Sequence[int], table: Table, targets: Sequence[str]
) -> None:
    """Raise DataError if a row of the table holds other numbers than the file says."""
    columns = {
        chosen.column_in_file(name): array
        for name, array in table.contents.items()
        if name not in targets and array.ndim == 1 and array.dtype.kind in "iuf"
    }
    for line, row in zip(lines, rows):
        for name in columns.keys() & line.cells.keys():
            if not agree(line.cells[name], float(columns[name][row])):
                raise DataError(
                    f"{line.place} is no longer row {row} of the table: {name} is "
                    f"{line.cells[name]} there and {columns[name][row]:.10g} here. "
                    "Name rows by a column that stays with them: --id COLUMN."
                )


def agree(cell: str, number: float, /) -> bool:
    """Return whether a cell can show a number as spreadsheets do; any other text can."""
    try:
        value = Decimal(cell.replace(",", ".") if cell.count(",") == 1 else cell)
    except InvalidOperation:
        return True
    if not (value.is_finite() and np.isfinite(number)):
        return True
    digits = value.as_tuple().exponent
    rounding = 0.5 * 10.0 ** float(digits) if isinstance(digits, int) else 0.0
    return abs(float(value) - number) <= rounding * 1.001 + 1e-9 * abs(number)


def _labelled_lines(
    path: Path, lines: list[Line], targets: Sequence[str]
) -> tuple[list[Line], list[str]]:
    """Return the lines that count, and a note if targets are not filled in.

    All lines of a file that `select` wrote count, because somebody is filling it in. In other
    tables only rows with all targets count.

    Raises:
        DataError: No line counts.
    """
    names = [name for name in map(chosen.column_in_file, targets) if name in lines[0].cells]
    filled = [line for line in lines if all(line.cells.get(name) for name in names)]
    n_empty, words = len(lines) - len(filled), " or ".join(targets)
    if not n_empty:
        return lines, []
    told = f"{n_empty} of {len(lines)} rows in {path} have no {words}"
    if chosen.ORDER in lines[0].cells:
        return lines, [f"{told} yet: they still count as labelled."]
    if not filled:
        raise DataError(f"{path} must list labelled rows: no row there has a {words}.")
    return filled, [f"{told}: they do not count as labelled."]
