"""Decide the format of the numbers of a file, and read columns of numbers."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from collective_variables.data.files.lines import Place
from collective_variables.data.files.remarks import Remark, cell
from collective_variables.data.files.texts import markers, numerals
from collective_variables.data.files.texts.cells import Cells

SHARE = 0.8  # of the cells that make a column one of numbers or dates
MAX_UNITS = 5  # of one quantity; words behind numbers are more varied
FEW_DIGITS = 3  # of a whole number without a sign between thousands


class NumberCells:
    """The cells of a column, split into the parts of numbers."""

    def __init__(self, cells: Cells):
        """Store the cells; markers of missing values among them do not count."""
        self.cells = cells
        self.is_present = ~cells.among(markers.AMONG_NUMBERS)
        self.n_present = cells.count(self.is_present)

    @cached_property
    def parts(self) -> numerals.Parts | None:
        """The parts of each text; None if too few texts have digits."""
        with_digits = self.cells.count(self.is_present & self.cells.matches("[0-9]"))
        if not self.n_present or 2 * with_digits < self.n_present:
            return None
        return numerals.take_apart(self.cells.distinct)

    def digits_match(self, pattern: str) -> np.ndarray:
        """Return which texts have digits that contain a pattern."""
        from pyarrow import compute

        found = compute.match_substring_regex(self.parts.digits, pattern)
        return found.to_numpy(zero_copy_only=False)

    def count(self, which: np.ndarray) -> int:
        """Return the number of cells of a mask without the markers of missing values."""
        return self.cells.count(which & self.is_present)

    @cached_property
    def is_mostly_numbers(self) -> bool:
        """Whether most cells are numbers in one of the formats."""
        if self.parts is None:
            return False
        n_numbers = self.count(self.parts.fits["."] | self.parts.fits[","])
        return n_numbers >= SHARE * self.n_present

    @cached_property
    def proven(self) -> str | None:
        """The decimal sign of a column of numbers; None if all its cells fit both formats."""
        if self.parts is None or not self.is_mostly_numbers:
            return None
        points, commas = (self.count(self.parts.shows(decimal)) for decimal in ".,")
        return None if points == commas == 0 else "." if points >= commas else ","

    @cached_property
    def ambiguous(self) -> np.ndarray:
        """The texts that are different numbers in the two formats."""
        if self.parts is None:
            return np.zeros(len(self.cells.distinct), bool)
        return self.parts.is_ambiguous() & self.is_present

    def several_units(self) -> np.ndarray | None:
        """Return the first text of each unit; None unless most cells are numbers in few units."""
        if self.parts is None or not self.is_mostly_numbers:
            return None
        fits = (self.parts.fits["."] | self.parts.fits[","]) & self.is_present
        units, first = np.unique(self.parts.units[fits].astype(str), return_index=True)
        if not 1 < len(units) <= MAX_UNITS:
            return None
        which = np.zeros(len(fits), bool)
        which[np.flatnonzero(fits)[first]] = True
        return which

    def guess(self) -> str | None:
        """Return the decimal sign that the column suggests for its ambiguous cells.

        With 987 and 2.050 in a column, the point divides thousands: decimals would not end in 0.
        The same holds for sums of money, which have no thousandths. With 1234 in the column, no
        sign divides thousands.
        """
        texts = self.cells
        sign = "." if texts.matches(r"\.")[self.ambiguous].any() else ","
        other = "," if sign == "." else "."
        units = {str(unit) for unit in self.parts.units[self.ambiguous]}
        if all(numerals.is_currency(unit) for unit in units):
            return other
        plain = texts.matches(r"^[+-]?\d+$") & self.is_present
        if (plain & texts.matches(rf"\d{{{FEW_DIGITS + 1}}}")).any():
            return sign
        ends = self.ambiguous & texts.matches(r"0\D*$")
        return other if plain.any() and ends.any() else None


class Found(NamedTuple):
    """A column read as numbers, dates or times.

    Attributes:
        kind: The kind in words.
        which: The texts of this kind.
        n_cells: Number of cells with these texts.
        values: Values of these texts.
        remarks: Remarks for the user if the values are used.
        refused: Why the values cannot be used; None if they can.
    """

    kind: str
    which: np.ndarray
    n_cells: int
    values: np.ndarray
    remarks: tuple[Remark, ...] = ()
    refused: str | None = None


def read_numbers(
    column: NumberCells, asked: str | None, decimal: str | None, usual: str, place: Place
) -> Found | None:
    """Return a column as numbers; None if few of its cells are numbers.

    Args:
        column: The cells.
        asked: The decimal sign that the user names.
        decimal: The decimal sign of the file, if its columns prove one.
        usual: The decimal sign of ambiguous cells, which are refused if they have the other one.
        place: Gives the place of a row.
    """
    if column.parts is None:
        return None
    own = asked or column.proven or decimal
    refused = None
    if own is None and column.ambiguous.any():
        own = column.guess() or (usual if usual and _has_only(column, usual) else None)
        if own is None:
            number = int(np.flatnonzero(column.ambiguous)[0])
            text, row = column.cells.text(number), column.cells.first_row(number)
            sign = column.parts.is_negative[[number]]
            one, other = (
                numerals.values(column.parts.digits.slice(number, 1), sign, decimal)[0]
                for decimal in ".,"
            )
            refused = (
                f"{cell(text)} in {place(row)} may be {one:.15g} or {other:.15g}, and no other "
                "cell decides: name the decimal sign with the option decimal"
            )
    own = own or "."
    which = column.parts.fits[own] & column.is_present
    unit, which = _one_unit(column, which)
    if not which.any():
        return None
    picked = column.parts.digits.filter(which)
    values = numerals.values(picked, column.parts.is_negative[which], own)
    remarks = tuple(_remarks(column, which, values, own, unit))
    kind = f"numbers with the unit {unit!r}" if unit else "numbers"
    return Found(kind, which, column.cells.count(which), values, remarks, refused)


def _has_only(column: NumberCells, sign: str) -> bool:
    """Return whether all ambiguous cells have this sign."""
    return bool(column.cells.matches(f"[{sign}]")[column.ambiguous].all())


def _one_unit(column: NumberCells, which: np.ndarray) -> tuple[str, np.ndarray]:
    """Return the most frequent unit, and which of the texts have it."""
    if not which.any():
        return "", which
    units, numbers = np.unique(column.parts.units[which].astype(str), return_inverse=True)
    if len(units) == 1:
        return str(units[0]), which
    unit = str(units[np.argmax(np.bincount(numbers, column.cells.counts[which]))])
    return unit, which & (column.parts.units == unit)


def _remarks(
    column: NumberCells, which: np.ndarray, values: np.ndarray, decimal: str, unit: str
) -> Iterator[Remark]:
    """Yield remarks on cells that are not plain numbers, with an example of each kind."""
    thousands = "," if decimal == "." else "."
    group = f"[{thousands}{numerals.SPACES}{numerals.APOSTROPHES}]"
    kinds = [
        ("Decimal commas are read as such", decimal == "," and column.digits_match(",")),
        ("Separators between thousands are left out", column.digits_match(group)),
        (f"The unit {unit!r} is left out", unit != "" and column.parts.units == unit),
        ("Parentheses and a minus at the end are read as negative", column.parts.has_sign),
    ]
    places = np.cumsum(which) - 1
    for sentence, found in kinds:
        numbers = np.flatnonzero(which & found)
        if len(numbers):
            text, value = column.cells.text(numbers[0]), values[places[numbers[0]]]
            example = f"{cell(text)} is {value:.15g}"
            yield Remark(sentence, column.cells.name, f"{sentence}: {example} in {{columns}}.")
