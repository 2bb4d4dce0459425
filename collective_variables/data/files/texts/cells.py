"""The different texts of a column, each of which is read once."""

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from collective_variables.data.files.lines import Place
from collective_variables.data.files.remarks import cell

if TYPE_CHECKING:
    import pyarrow

MAX_SHOWN = 2  # cells that a message shows


class Cells:
    """The cells of a column without surrounding blanks.

    Attributes:
        name: Name of the column.
        distinct: (n_distinct,) different texts, without the empty one.
        rows: (n_rows,) number of the text of each row, -1 where the cell is empty.
        counts: (n_distinct,) number of cells with each text.
    """

    def __init__(self, name: str, texts: "pyarrow.StringArray"):
        """Store the cells of a column, null where they are empty."""
        import pyarrow
        from pyarrow import compute

        trimmed = compute.utf8_trim_whitespace(texts)
        trimmed = compute.if_else(compute.equal(trimmed, ""), None, trimmed)
        encoded = trimmed.dictionary_encode()
        self.name = name
        self.distinct: pyarrow.StringArray = encoded.dictionary
        self.rows = compute.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        self.counts = np.bincount(self.rows[self.rows >= 0], minlength=len(self.distinct))

    @cached_property
    def n_empty(self) -> int:
        """The number of empty cells."""
        return int((self.rows < 0).sum())

    def among(self, markers: Iterable[str]) -> np.ndarray:
        """Return which of the different texts are among the markers."""
        import pyarrow
        from pyarrow import compute

        known = pyarrow.array(sorted(markers), pyarrow.string())
        return compute.is_in(self.distinct, value_set=known).to_numpy(zero_copy_only=False)

    def matches(self, pattern: str) -> np.ndarray:
        """Return which of the different texts contain a pattern."""
        from pyarrow import compute

        found = compute.match_substring_regex(self.distinct, pattern)
        return found.to_numpy(zero_copy_only=False)

    def count(self, which: np.ndarray) -> int:
        """Return the number of cells with one of the texts that a mask selects."""
        return int(self.counts[which].sum())

    def text(self, number: int) -> str:
        """Return one of the different texts."""
        return self.distinct[int(number)].as_py()

    def first_row(self, number: int) -> int:
        """Return the first row with a text."""
        return int(np.argmax(self.rows == number))

    def show(self, which: np.ndarray, place: Place) -> str:
        """Return the first few cells that a mask selects, with their places."""
        numbers = np.flatnonzero(which)[:MAX_SHOWN]
        shown = [f"{place(self.first_row(k))} is {cell(self.text(k))}" for k in numbers]
        if which.sum() > len(numbers):
            shown.append("and so on")
        return ", ".join(shown)

    def as_texts(self, missing: Iterable[int]) -> np.ndarray:
        """Return the text of each row as objects, None where it is missing or empty."""
        every = np.array([*self.distinct.to_pylist(), None], dtype=object)
        every[list(missing)] = None
        return every[self.rows]

    def spread(self, values: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the value of each row, missing where the mask does not select its text.

        Args:
            values: Values of the texts that the mask selects, int64, float64 or datetime64.
            which: (n_distinct,) bool, the mask.
        """
        is_missing = np.ones(len(which) + 1, bool)  # the last stands for the empty cell
        is_missing[:-1] = ~which
        if not is_missing[self.rows].any():
            every = np.zeros(len(which), values.dtype)
            every[which] = values
            return every[self.rows]
        kind = np.float64 if values.dtype.kind == "i" else values.dtype
        every = np.full(
            len(which) + 1, np.nan if kind == np.float64 else np.datetime64("NaT"), kind
        )
        every[:-1][which] = values
        return every[self.rows]
