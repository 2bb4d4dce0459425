"""Read files that list rows: texts in any encoding, tables, JSON and arrays."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from collective_variables.cli.results import chosen, files
from collective_variables.data._errors import DataError, MissingFileError
from collective_variables.data.files import text as text_files
from collective_variables.data.files.contents import one_line_errors
from collective_variables.data.files.decoding import NO_TEXTS

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # These precede the marks of UTF-16, which are their beginning.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SEPARATORS = ",;\t"
LISTED = ""  # the name of the only column of a file without names


class Line(NamedTuple):
    """A line of a file that lists rows.

    Attributes:
        place: The place where the row is listed, such as "Line 3 of rows.txt".
        cells: The cells by column.
        decimal: The usual decimal sign of such a file, "." or ","; "" if both are usual.
    """

    place: str
    cells: dict[str, str]
    decimal: str = ""


def read_lines(
    path: Path, keys: Collection[str], names_row: Callable[[str], bool], /
) -> list[Line]:
    """Return the lines of a file that lists rows; empty lines are left out.

    The file may have a row on each line, which then is the column `LISTED`. It may also be a table
    with a column of rows, or the output of `select --json`. A list of rows may be JSON or an array
    of NumPy. Also raises DataError if the file cannot be read or has other columns.

    Args:
        path: Path of the file.
        keys: Columns that may hold the rows.
        names_row: Returns whether a text names a row; such a first line does not hold names.

    Returns:
        One line or more.

    Raises:
        DataError: The file lists no row.
    """
    data = _read_bytes(path)
    if data.startswith(np.lib.format.MAGIC_PREFIX):
        lines = _array_lines(path, data)
    else:
        text = _decoded(path, data)
        lines = _json_lines(path, text) or _text_lines(path, text, keys, names_row)
    if not lines:
        raise DataError(_empty(path))
    return lines


def _empty(path: Path) -> str:
    if files.is_standard_output(path):
        return (
            f"{path} lists no rows: `> {path}` empties the file before it is read. "
            f"Append to it with `>> {path}`, or write to another file."
        )
    return f"{path} lists no rows: leave the argument out until there are some."


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _array_lines(path: Path, data: bytes) -> list[Line]:
    """Return the rows that an array of NumPy lists."""
    with one_line_errors(path.name):
        array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.ndim == 0 or array.size != len(array) or array.dtype.kind not in "iufU":
        raise DataError(
            f"{path} must be a list of row numbers or identities: received an array "
            f"{array.shape} of {array.dtype}. numpy.flatnonzero gives the numbers of a mask."
        )
    return [
        Line(f"Entry {number} of {path}", {LISTED: str(entry)})
        for number, entry in enumerate(array.reshape(-1).tolist())
    ]


def _decoded(path: Path, data: bytes) -> str:
    """Return the text in UTF-8, UTF-16, UTF-32 or Windows-1252."""
    for mark, reason in NO_TEXTS.items():
        if data.startswith(mark):
            raise DataError(f"{path} is not a text file but {reason}.")
    encodings = [name for mark, name in MARKS.items() if data.startswith(mark)][:1]
    if not encodings and b"\0" in data:
        # This is UTF-16 without a mark: one of the two bytes of a digit is 0.
        encodings = ["utf-16-be" if data.startswith(b"\0") else "utf-16-le"]
    for encoding in encodings or ["utf-8", "cp1252"]:
        try:
            return data.decode(encoding)
        except UnicodeError:
            continue
    raise DataError(f"{path} must be a text in UTF-8 or UTF-16, with a row on each line.")


def _json_lines(path: Path, text: str) -> list[Line]:
    """Return the rows in JSON, as `select --json` writes them or in a list; none for other texts.

    Raises:
        DataError: The output of `select` is not whole, or a list holds anything but rows.
    """
    is_output = text.lstrip().startswith("{")
    try:
        listed = json.loads(text)
        if is_output:
            return [
                Line(
                    f"Choice {number} of {path}",
                    {name: _json_cell(value) for name, value in row.items()},
                )
                for number, row in enumerate(listed["chosen"], start=1)
            ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if is_output:
            raise DataError(f"{path} must be the whole output of `select --json`.") from None
        return []
    entries = listed if isinstance(listed, list) else []
    if not all(type(entry) in (int, float, str) for entry in entries):
        raise DataError(f"{path} must list row numbers or identities: received {text[:50]!r}.")
    return [
        Line(f"Entry {number} of {path}", {LISTED: str(entry)})
        for number, entry in enumerate(entries)
    ]


def _json_cell(value: object) -> str:
    return "" if value is None else str(value)


def _text_lines(
    path: Path, text: str, keys: Collection[str], names_row: Callable[[str], bool]
) -> list[Line]:
    stream = io.StringIO(text, newline="")
    first = next((line for line in stream if line.strip()), "").strip()
    if told := re.match(r"sep=(.)$", first):  # as Excel writes it
        first = next(stream, "").strip()
    separator = (
        told[1] if told else max(SEPARATORS, key=lambda separator: len(_cells(first, separator)))
    )
    names = [chosen.unescaped(name.strip()) for name in _cells(first, separator)]
    if set(keys) & set(names):
        # In a single column, separators are a part of the texts.
        separator = separator if len(names) > 1 else "\0"
        n_before = len(text[: stream.tell()].splitlines())
        reader = csv.reader(stream, delimiter=separator)
        numbered = [(n_before + reader.line_num, cells) for cells in reader]
    elif len(names) < 2 or names_row(first):
        names = [LISTED]
        texts = re.split(r"\r\n|\r|\n", text)
        numbered = [(number, [line]) for number, line in enumerate(texts, start=1)]
    else:
        raise DataError(
            f"{path} must have a row on each line or a column {' or '.join(keys)}: "
            f"received {', '.join(names[:9])}{' …' if len(names) > 9 else ''}."
        )
    decimal = text_files.USUAL.get(separator, "")
    lines = [
        Line(f"Line {number} of {path}", dict(zip(names, map(str.strip, cells))), decimal)
        for number, cells in numbered
    ]
    return [line for line in lines if any(line.cells.values())]


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])
