"""Read the columns of a text file, through Arrow."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from collective_variables import _extras, _memory
from collective_variables.data._errors import DataError
from collective_variables.data.files.contents import UNNAMED, Parts, check_names
from collective_variables.data.files.decoding import Decoding, find_encoding
from collective_variables.data.files.dialect import Dialect, find_dialect
from collective_variables.data.files.lines import Lines, Records
from collective_variables.data.files.options import Options
from collective_variables.data.files.texts.columns import read_columns
from collective_variables.data.files.texts.totals import note_totals

if TYPE_CHECKING:
    import pyarrow

# The usual decimal sign for a separator. Between tabs it may be either.
USUAL = {",": ".", ";": ","}
MAX_NAMED = 3  # blank lines that a note names


def read_text(path: Path, options: Options) -> Parts:
    """Read the columns of a text file; all cells of a column decide what it holds."""
    with _extras.required("cli"):
        import pyarrow

    _memory.check(f"The cells of {path.name}", 8 * path.stat().st_size)
    decoding = find_encoding(path, options.encoding)
    dialect = find_dialect(path, decoding.encoding, options)
    lines = Lines(
        path, decoding.encoding, dialect.separator, dialect.first, has_names=dialect.has_names
    )
    try:
        texts = _cells(path, decoding, dialect)
    except pyarrow.ArrowInvalid:
        _check_records(path, lines, len(dialect.names))
        raise
    notes = [note for note in (decoding.note, *dialect.notes) if note]
    names, texts, unnamed = _named(path, dialect.names, texts)
    notes += unnamed
    if not texts:
        return Parts({})
    n_records = len(texts[0]) + dialect.has_names
    lines.is_regular = n_records + dialect.first - 1 == decoding.n_lines
    if not lines.is_regular:
        notes += _blank_notes(path, lines)
    texts, empty_note = _without_empty_rows(path, texts, lines)
    columns = dict(zip(names, texts, strict=True))
    del texts
    columns = read_columns(columns, options, lines, usual=USUAL.get(dialect.separator, ""))
    return Parts(columns, lines, (*notes, *empty_note, *note_totals(path.name, columns, lines)))


def _cells(path: Path, decoding: Decoding, dialect: Dialect) -> list["pyarrow.ChunkedArray"]:
    """Return all cells as texts, null where they are empty."""
    from pyarrow import csv, string

    names = [str(number) for number in range(len(dialect.names))]
    table = csv.read_csv(
        path,
        csv.ReadOptions(
            column_names=names,
            skip_rows=dialect.first - 1,
            skip_rows_after_names=int(dialect.has_names),
            encoding=decoding.encoding,
        ),
        csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
        csv.ConvertOptions(
            column_types={name: string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    return table.columns


def _named(
    path: Path, names: list[str], texts: list["pyarrow.ChunkedArray"]
) -> tuple[list[str], list["pyarrow.ChunkedArray"], list[str]]:
    """Return names and cells without the columns that have neither, and a note on unnamed ones."""
    kept = [
        number
        for number, (name, column) in enumerate(zip(names, texts, strict=True))
        if name or column.null_count < len(column)
    ]
    called = check_names(path, [names[number] or UNNAMED.format(number) for number in kept])
    unnamed = [name for number, name in zip(kept, called) if number > 0 and not names[number]]
    notes = []
    if unnamed:
        notes.append(
            f"Columns of {path.name} without a name are called {', '.join(unnamed[:MAX_NAMED])}"
            f"{' and so on' if len(unnamed) > MAX_NAMED else ''}."
        )
    return called, [texts[number] for number in kept], notes


def _without_empty_rows(
    path: Path, texts: list["pyarrow.ChunkedArray"], lines: Lines
) -> tuple[list["pyarrow.ChunkedArray"], list[str]]:
    """Return cells without the empty rows of a spreadsheet, and a note on them.

    An empty row would be least like all others, and be selected first. In a file of one column an
    empty cell is a missing value, except at the end.
    """
    has_cell = np.zeros(len(texts[0]), bool)
    for column in texts:
        has_cell |= column.is_valid().to_numpy()
    filled = np.flatnonzero(has_cell)
    end = int(filled[-1]) + 1 if len(filled) else 0
    kept = np.arange(end) if len(texts) == 1 else filled
    if len(kept) == len(has_cell):
        return texts, []
    n_empty, name = len(has_cell) - len(kept), path.name
    if len(kept) == end:
        note = f"Rows without a cell at the end of {name} are left out: {n_empty}."
        return [column.slice(0, end) for column in texts], [note]
    first = lines(int(np.argmin(has_cell)))
    lines.kept = kept
    note = f"Rows of {name} without a cell are not counted: {n_empty}, the first in {first}."
    return [column.take(kept) for column in texts], [note]


def _check_records(path: Path, lines: Lines, n_columns: int) -> None:
    """Raise DataError for the first record that has more or fewer cells than the names."""
    records = _closed(path, lines)
    wrong = np.flatnonzero(records.sizes != n_columns)
    if len(wrong):
        line, size = records.starts[wrong[0]], records.sizes[wrong[0]]
        advice = (
            "Delete it if it is not a row of data."
            if size < n_columns
            else "A cell with a separator in it must be in quotes."
        )
        raise DataError(
            f"Line {line} of {path.name} must have {n_columns} cells, as the first one has: "
            f"received {size}. {advice}"
        )


def _blank_notes(path: Path, lines: Lines) -> list[str]:
    """Return a note on blank lines between the rows, which shift rows against lines."""
    records = _closed(path, lines)
    last = records.starts[-1] if len(records.starts) else 0
    blank = records.blank[records.blank < last]
    if not len(blank):
        return []
    shown = ", ".join(map(str, blank[:MAX_NAMED]))
    more = f" and {len(blank) - MAX_NAMED} others" if len(blank) > MAX_NAMED else ""
    return [f"Blank lines of {path.name} are not counted as rows: {shown}{more}."]


def _closed(path: Path, lines: Lines) -> Records:
    """Return where the records begin.

    Raises:
        DataError: Quotes are not closed, so all lines after them are one cell.
    """
    records = lines.records()
    if records.unclosed:
        raise DataError(
            f"Line {records.unclosed} of {path.name} opens quotes that no line closes: close or "
            "remove them."
        )
    return records
