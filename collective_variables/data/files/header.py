"""Detect whether the first line of a text file holds the names of its columns."""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from collective_variables.data._errors import DataError
from collective_variables.data.files.options import Options
from collective_variables.data.files.texts.markers import is_marker

# Cells that look like a number or a date in any format; the whole column decides what they are.
NUMBER = re.compile(
    r"^[(+\-−]?\s?[$€£]?\s?[+\-−]?(?:\d[\d.,'’ \u00a0\u202f\u2009]*|[.,]\d+)"
    r"(?:[eE][+-]?\d+)?\s?[%‰€$£]?\)?$"
)
DATE = re.compile(r"^\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?:[T ,].*)?$")
SHARE = 0.8  # of the cells in a column of numbers or dates that must look alike
YEARS = range(1900, 2101)
MAX_TITLE = 20  # lines above the line of names
N_SHOWN = 3  # names in a message


def kind(cell: str) -> str | None:
    """Return "date" or "number" if a cell looks like one, else None."""
    cell = cell.strip()
    return "date" if DATE.match(cell) else "number" if NUMBER.match(cell) else None


def check_title(file: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Raise DataError if a title stands above the line of names.

    In that case a later line has more words than the first one. One of these words stands above
    numbers or dates for which the first line has no name.

    Raises:
        DataError: A later line seems to hold the names.
    """
    n_named = sum(name != "" for name in names)
    for number, row in enumerate(rows[:MAX_TITLE]):
        words = [cell.strip() for cell in row]
        if sum(word != "" for word in words) <= n_named or any(map(kind, words)):
            continue
        for place, word in enumerate(words):
            is_unnamed = place >= len(names) or names[place] == ""
            if (
                is_unnamed
                and not is_marker(word)
                and _common_kind(_cells(rows[number + 1 :], place))
            ):
                shown = ", ".join(repr(word[:50]) for word in words[:N_SHOWN])
                raise DataError(
                    f"{file} must begin with the names of its columns: they seem to be {shown}"
                    f"{', …' if len(words) > N_SHOWN else ''} below {names[0][:50]!r}. Remove the "
                    "lines before the names."
                )


def check_units(
    file: str, names: Sequence[str], rows: Sequence[Sequence[str]], options: Options
) -> None:
    """Raise DataError if the line below the names has words above numbers, such as units.

    A single word may be an error in one cell, which concerns only its column.

    Raises:
        DataError: The line has several such words.
    """
    found = []
    for place, name in enumerate(names):
        cells = _cells(rows[1:], place)
        if name in options.texts or _common_kind(cells) is None or place >= len(rows[0]):
            continue
        word = rows[0][place].strip()
        if kind(word):
            return
        if not is_marker(word) and word not in options.missing:
            found.append((word, name))
    if len(found) > 1:
        word, name = found[0]
        raise DataError(
            f"The line below the names of {file} seems to hold units or further names, such as "
            f"{word[:50]!r} in column {name[:50]}: remove it if so, or else name its cells "
            "with the option missing."
        )


class Header(NamedTuple):
    """Whether the first line holds names, and the cell that makes this doubtful."""

    is_header: bool
    doubt: str | None = None

    def note(self, file: str) -> str:
        """Return a note for the user on a doubtful case."""
        if self.is_header:
            return (
                f"The first line of {file} was taken for names, though it holds {self.doubt!r}: "
                "if it is data, say so with the option header."
            )
        return (
            f"{file} has no line of names: its first line holds {self.doubt!r}, as the lines "
            "after it do. Its columns are called 0, 1, …; if it holds names, say so with the "
            "option header."
        )


def find_header(names: Sequence[str], rows: Sequence[Sequence[str]], asked: bool | None) -> Header:
    """Return whether the first line holds names, by a comparison with the cells below it.

    A number or a date above numbers or dates suggests data. A word above numbers or dates suggests
    names, and a word above words suggests neither. Years above other numbers, and a first line of
    numbers or dates in equal steps, may still be names.
    """
    if asked is not None:
        return Header(asked)
    data, years, n_words, has_index = [], [], 0, False
    for place, name in enumerate(names):
        cells = _cells(rows, place)
        column = _common_kind(cells)
        if column is None or (is_marker(name) and name != ""):
            continue
        if name == "":
            # A column of row numbers has no name, but no cell of it is empty either.
            has_index |= place == 0 and len(cells) == len(rows)
        elif kind(name) != column:
            n_words += 1
        elif _is_year(name) and not all(map(_is_year, cells)):
            years.append(name)
        else:
            data.append(name)
    if has_index:
        return Header(True)
    if n_words or not data:
        doubtful = data if n_words else years
        return Header(True, doubtful[0] if doubtful and not _are_steps(doubtful) else None)
    has_copies = len(set(names)) < len(names)
    return Header(not has_copies and _are_steps(data), data[0])


def _cells(rows: Sequence[Sequence[str]], place: int) -> list[str]:
    """Return the cells of a column that do not stand for a missing value."""
    cells = (row[place].strip() for row in rows if place < len(row))
    return [cell for cell in cells if not is_marker(cell)]


def _common_kind(cells: Sequence[str]) -> str | None:
    """Return the kind that most cells of a column have, else None."""
    for wanted in ("date", "number"):
        if cells and sum(kind(cell) == wanted for cell in cells) >= SHARE * len(cells):
            return wanted
    return None


def _is_year(cell: str) -> bool:
    return cell.isdigit() and int(cell) in YEARS


def _are_steps(names: Sequence[str]) -> bool:
    """Return whether several names are whole numbers in equal steps, or ascending dates.

    Two numbers are too few unless they are years or begin with 0, as pandas counts.
    """
    if len(names) < 2:
        return False
    if all(re.fullmatch(r"\d{1,9}", name) for name in names):
        steps = {int(after) - int(before) for before, after in itertools.pairwise(names)}
        are_enough = len(names) > 2 or names[0] == "0" or all(map(_is_year, names))
        return are_enough and len(steps) == 1 and min(steps) > 0
    return all(map(DATE.match, names)) and list(names) == sorted(set(names))
