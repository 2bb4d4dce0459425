"""Detect the layout of a text file: separator, line of names, number of columns."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from collective_variables.data._errors import DataError
from collective_variables.data.files import header
from collective_variables.data.files.contents import MAX_COLUMNS, UNNAMED, check_n_columns
from collective_variables.data.files.options import Options

# The first one wins where two divide the file equally well: a comma may be decimal.
SEPARATORS = "\t;|,"
NO_SEPARATOR = "\x1f"  # of a file with one column, whose cells may have commas
ROW_NAMES = UNNAMED.format(0)
MOST_NAMES = 2**22  # characters of the line of names, enough for a million columns
SAMPLE = 2**18  # characters after it
MAX_RECORDS = 100  # of the sample
MAX_CELLS = 20_000  # of the sample
SEPARATOR_LINE = re.compile(r'^\ufeff?"?sep=(.)"?\s*$', re.IGNORECASE)


class Dialect(NamedTuple):
    """How a text file is laid out.

    Attributes:
        separator: Sign between cells.
        first: Line of the first record, counted from 1.
        names: Names of the columns; "" where a column has none.
        has_names: Whether the first record holds the names.
        notes: Notes for the user on the layout.
    """

    separator: str
    first: int
    names: list[str]
    has_names: bool
    notes: tuple[str, ...]


def find_dialect(path: Path, encoding: str, options: Options) -> Dialect:
    """Return separator, names and number of columns, as the first lines of a file show them.

    Raises:
        DataError: The file has no line of names, nothing after it, or too many columns.
    """
    first, separator, line, sample = _sample(path, encoding)
    separator = separator or _find_separator(path, line, sample)
    n_names = line.count(separator) + 1
    # Separators within quotes are counted too, hence the factor.
    if n_names > 2 * MAX_COLUMNS:
        raise DataError(
            f"{path.name} must have at most {MAX_COLUMNS} columns: "
            f"its first line has about {n_names}."
        )
    n_records = min(MAX_RECORDS, max(3, MAX_CELLS // n_names))
    names, *rows = _records(line + sample, separator, n_records + 1) or [[]]
    check_n_columns(path, len(names))
    names = [" ".join(name.replace("\ufeff", "").split()) for name in names]
    if options.header is None:
        header.check_title(path.name, names, rows)
    found = header.find_header(names, rows, options.header)
    notes = [found.note(path.name)] if found.doubt else []
    if not found.is_header:
        n_columns = len(names)
        return Dialect(separator, first, [str(n) for n in range(n_columns)], False, tuple(notes))
    if not rows and len(sample) < SAMPLE:
        raise DataError(f"{path.name} must hold at least one row: it holds none.")
    fitted = _fit(names, rows)
    if rows:
        header.check_units(path.name, fitted, rows, options)
    if fitted[:1] == [ROW_NAMES] and fitted[1:] == names:
        notes.append(
            f"{path.name} has one more column than names: the first one holds names of rows, as R "
            f'writes them, and is called "{ROW_NAMES}".'
        )
    return Dialect(separator, first, fitted, True, tuple(notes))


def _sample(path: Path, encoding: str) -> tuple[int, str | None, str, str]:
    """Return number, named separator and text of the first line with cells, and what follows."""
    separator = None
    with path.open(encoding=encoding, newline=None) as file:
        number, line = 1, file.readline(MOST_NAMES)
        line = line.removeprefix("\ufeff")  # quotes begin a cell only if nothing precedes them
        if match := SEPARATOR_LINE.match(line):
            separator = match.group(1)
            number, line = 2, file.readline(MOST_NAMES)
        while line and not line.strip("\ufeff \n"):
            number, line = number + 1, file.readline(MOST_NAMES)
        if "\0" in line or not line:
            raise DataError(f"{path.name} must begin with a line of names: received {line[:50]!r}.")
        return number, separator, line, file.read(SAMPLE)


def _find_separator(path: Path, line: str, sample: str) -> str:
    """Return the separator that divides the first line and the lines after it alike."""
    best, best_share = NO_SEPARATOR, -1.0
    for separator in SEPARATORS:
        names, *rows = _records(line + sample, separator, MAX_RECORDS + 1) or [[]]
        if len(names) < 2:
            continue
        sizes = [len(row) for row in rows]
        # A separator may end all lines except the line of names, or only that line.
        alike = sum(abs(size - len(names)) <= 1 and size > 1 for size in sizes)
        same = sum(size == len(names) for size in sizes)
        share = (alike + same) / (2 * len(sizes)) if sizes else 0.0
        if share > best_share:
            best, best_share = separator, share
    if best == NO_SEPARATOR:
        _check_spaces(path, line, sample)
        _check_title(path, sample)
    return best


def _check_spaces(path: Path, line: str, sample: str) -> None:
    """Raise DataError if spaces, also several in a row, divide all lines alike."""
    n_names = len(line.split())
    rows = [row for row in sample.splitlines()[:MAX_RECORDS] if row.strip()]
    if n_names > 1 and rows and all(len(row.split()) == n_names for row in rows):
        raise DataError(
            f"The columns of {path.name} seem to be separated by spaces: "
            "separate them by commas, semicolons or tabs."
        )


def _check_title(path: Path, sample: str) -> None:
    """Raise DataError if the lines after the first one have several cells each.

    The first line has one cell here. Two cells between commas may be one number with a decimal
    comma.

    Raises:
        DataError: The first line is a title.
    """
    for separator in SEPARATORS:
        sizes = [len(row) for row in _records(sample, separator, MAX_RECORDS)]
        below = list(itertools.dropwhile(lambda size: size == 1, sizes))
        if 2 * len(below) < len(sizes):
            continue
        if len(set(below)) == 1 and below[0] > (2 if separator == "," else 1):
            raise DataError(
                f"{path.name} must begin with the names of its columns: its first line has one "
                f"cell, and lines after it have {below[0]}. Remove the lines before the names."
            )


def _records(text: str, separator: str, n_records: int) -> list[list[str]]:
    """Return the first records of a text, without the last one if it may be cut off."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    records = []
    try:
        for record in reader:
            if record:
                records.append(record)
            if len(records) == n_records:
                return records
    except csv.Error:  # a cell of more than 128 KiB
        return records
    return records if len(text) < SAMPLE or len(records) < 2 else records[:-1]


def _fit(names: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each column if there are more or fewer names than cells."""
    if not rows:
        return names
    n_cells = Counter(len(row) for row in rows).most_common(1)[0][0]
    if len(names) > n_cells and not any(names[n_cells:]):
        return names[:n_cells]  # separators at the end of only the line of names
    if len(names) < n_cells:
        extra = [cell for row in rows for cell in row[len(names) :]]
        if not any(extra):
            return [*names, *[""] * (n_cells - len(names))]
        if len(names) == n_cells - 1 and _are_row_names([row[0] for row in rows if row]):
            return [ROW_NAMES, *names]
    return names


def _are_row_names(cells: Sequence[str]) -> bool:
    """Return whether a column without a name holds the names of the rows, as R writes them."""
    is_counted = cells[0].isdigit() and list(cells) == [
        str(int(cells[0]) + number) for number in range(len(cells))
    ]
    return is_counted or (len(set(cells)) == len(cells) and not any(map(header.kind, cells)))
