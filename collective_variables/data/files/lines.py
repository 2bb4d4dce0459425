"""Find the line of a text file that a row is in, for messages."""

import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

# The place of a row in words: "line 5" of a text file, "row 3" of any other file.
Place = Callable[[int], str]


def row_place(row: int) -> str:
    """Return the place of a row in a file without lines."""
    return f"row {row}"


class Records(NamedTuple):
    """Where the records of a text file begin, and which lines are blank.

    Attributes:
        starts: Line of each record, including that of the names, counted from 1.
        sizes: Number of cells in each record.
        blank: Lines without a cell.
        unclosed: Line of a record whose quotes are not closed, or 0.
    """

    starts: np.ndarray
    sizes: np.ndarray
    blank: np.ndarray
    unclosed: int


class Lines:
    """The lines of the rows of a text file, which is read again only if a message needs them."""

    def __init__(self, path: Path, encoding: str, separator: str, first: int, has_names: bool):
        """Store the path and the layout of the file.

        Args:
            path: Path of the file.
            encoding: Codec of the file.
            separator: Sign between cells.
            first: Line of the first record, counted from 1.
            has_names: Whether the first record holds names.
        """
        # After the mark of UTF-8, quotes would not begin a cell.
        self._encoding = "utf-8-sig" if encoding == "utf-8" else encoding
        self._path, self._separator = path, separator
        self._first, self._has_names = first, has_names
        self._records: Records | None = None
        self.is_regular = False
        self.kept: np.ndarray | None = None  # the records that are rows, without the names

    def __call__(self, row: int) -> str:
        """Return the place of a row."""
        row = row if self.kept is None else int(self.kept[row])
        if self.is_regular:
            return f"line {row + self._first + self._has_names}"
        starts = self.records().starts
        place = row + self._has_names
        return f"line {starts[place]}" if place < len(starts) else row_place(row)

    def records(self) -> Records:
        """Return where all records begin, read once."""
        if self._records is None:
            self._records = self._read()
        return self._records

    def _read(self) -> Records:
        starts, sizes, blank = [], [], []
        with self._path.open(encoding=self._encoding, newline="") as file:
            for _ in range(self._first - 1):
                file.readline()
            reader = csv.reader(file, delimiter=self._separator)
            line = self._first
            try:
                for record in reader:
                    if record:
                        starts.append(line)
                        sizes.append(len(record))
                    else:
                        blank.append(line)
                    line = self._first + reader.line_num
            except csv.Error:  # a cell of more than 128 KiB: the rest has no lines
                pass
        unclosed = starts[-1] if starts and self._is_unclosed(starts[-1]) else 0
        return Records(np.array(starts, int), np.array(sizes, int), np.array(blank, int), unclosed)

    def _is_unclosed(self, line: int) -> bool:
        """Return whether the file ends within quotes that its last record opens."""
        with self._path.open(encoding=self._encoding, newline="") as file:
            rest = itertools.islice(file, line - 1, None)
            try:
                for _ in csv.reader(rest, delimiter=self._separator, strict=True):
                    pass
            except csv.Error as error:
                return "unexpected end" in str(error)
        return False
