"""Decide whether the dates of a file have the day or the month first, and read columns of dates."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from collective_variables.data.files.lines import Place
from collective_variables.data.files.remarks import cell
from collective_variables.data.files.texts import arrow
from collective_variables.data.files.texts.dates import Dates, has_short_years, read_dates
from collective_variables.data.files.texts.number_columns import SHARE, Found, NumberCells

ORDERS = {True: "the day", False: "the month"}


class DateCells:
    """The cells of a column, read as dates."""

    def __init__(self, column: NumberCells):
        """Store the cells; markers of missing values among them do not count."""
        self.column = column
        self.cells = column.cells

    @cached_property
    def dates(self) -> Dates | None:
        """The date of each text; None if too few texts look like dates."""
        looks = self.cells.matches(r"\d{4}") & self.column.is_present
        if not self.column.n_present or 2 * self.cells.count(looks) < self.column.n_present:
            return None
        return read_dates(self.cells.distinct)

    @cached_property
    def day_first(self) -> bool | None:
        """Whether the day comes first, as days above 12 show; None without any."""
        if self.dates is None:
            return None
        is_day, is_month = ~np.isnat(self.dates.day_first), ~np.isnat(self.dates.month_first)
        days = self.column.count(self.dates.is_open & is_day & ~is_month)
        months = self.column.count(self.dates.is_open & is_month & ~is_day)
        return None if days == months == 0 else days >= months


def file_day_first(columns: Iterable[DateCells]) -> bool | None:
    """Return whether the day comes first in the columns that prove it; None if they differ."""
    proven = {column.day_first for column in columns} - {None}
    return proven.pop() if len(proven) == 1 else None


def read_date_column(
    column: DateCells, asked: bool | None, day_first: bool | None, place: Place
) -> Found | None:
    """Return a column as dates; None if few of its cells are dates.

    Args:
        column: The cells.
        asked: Whether the day comes first, as the user says.
        day_first: Whether the day comes first, as the other columns of the file prove.
        place: Gives the place of a row.
    """
    if column.dates is None:
        return _short_years(column, place)
    own = next((order for order in (asked, column.day_first, day_first) if order is not None), None)
    found = column.dates
    values = found.month_first if own is False else found.day_first
    which = ~np.isnat(values) & column.column.is_present
    refused = None
    is_ambiguous = found.is_open & which & (found.day_first != found.month_first)
    if own is None and is_ambiguous.any():
        number = int(np.flatnonzero(is_ambiguous)[0])
        refused = (
            f"{cell(column.cells.text(number))} in {place(column.cells.first_row(number))} may "
            "have the day or the month first, and no other cell decides: say which with the option "
            "day-first"
        )
    kind = "dates" if column.day_first is None else f"dates with {ORDERS[bool(own)]} first"
    with_zone = which & found.has_zone
    if with_zone.any() and (which & ~with_zone).any():
        most_have = 2 * column.cells.count(with_zone) >= column.cells.count(which)
        which = with_zone if most_have else which & ~with_zone
        kind += " with a zone" if most_have else " without a zone"
    return Found(kind, which, column.cells.count(which), arrow.shortest(values[which]), (), refused)


def _short_years(column: DateCells, place: Place) -> Found | None:
    """Return dates whose years have two digits, refused; None if few cells are such dates."""
    if not column.column.n_present:
        return None
    which = has_short_years(column.cells.distinct) & column.column.is_present
    n_cells = column.cells.count(which)
    if n_cells < SHARE * column.column.n_present:
        return None
    number = int(np.flatnonzero(which)[0])
    where = place(column.cells.first_row(number))
    refused = (
        f"{cell(column.cells.text(number))} in {where} seems to be a date whose year has two "
        "digits: write four, or name the column with the option texts"
    )
    return Found("dates", which, n_cells, np.empty(0), (), refused)
