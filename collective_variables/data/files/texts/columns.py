"""Decide what each column of texts holds, from the evidence of the whole file."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from collective_variables.data.files.contents import Column
from collective_variables.data.files.lines import Place
from collective_variables.data.files.options import Options
from collective_variables.data.files.remarks import Remark, cell
from collective_variables.data.files.texts import arrow, markers
from collective_variables.data.files.texts.cells import Cells
from collective_variables.data.files.texts.date_columns import (
    DateCells,
    file_day_first,
    read_date_column,
)
from collective_variables.data.files.texts.number_columns import (
    SHARE,
    Found,
    NumberCells,
    read_numbers,
)
from collective_variables.data.files.texts.times import read_times

if TYPE_CHECKING:
    import pyarrow

MAX_CATEGORIES = 50  # different texts that may be classes, though they look like numbers
MOST_DISTINCT = 0.9  # of the cells; texts that differ more tell rows apart
NOTED_SHARE = 0.5  # of numbers or dates in a column of texts that a note mentions
# A number whose point must be a decimal point, because thousands would be divided elsewhere.
WITH_POINT = r"^[+-]?0\d*\.|[eE]|\.\d{0,2}$|\.\d{4}|\d{4}\.|^[+-]?\."
HEAD = 1000  # rows that are searched for such a number first


def read_columns(
    texts: dict[str, "pyarrow.StringArray"], options: Options, place: Place, *, usual: str
) -> dict[str, Column]:
    """Return columns of texts, each read as numbers, dates or texts.

    Cells that stand for missing values are set aside. A column holds numbers if all other cells are
    numbers in the format that the columns of the file prove together. Otherwise it holds dates if
    all other cells are dates. If most of them (`SHARE`) are numbers or dates, the column is
    refused, and the message shows the others. In all other cases it holds texts.

    Args:
        texts: The cells of each column, null where they are empty. The dictionary is emptied.
        options: The user's options.
        place: Gives the place of a row for messages.
        usual: The decimal sign of 1.234 or 1,234 if no cell proves one: "." or ",", or "" if both
            are usual. Cells with the other sign are refused.
    """
    names = list(texts)
    done: dict[str, Column] = {}
    points = Points()
    numbers: dict[str, NumberCells] = {}
    for name in names:
        column = arrow.whole(texts.pop(name))
        if options.missing:
            column = arrow.without(column, options.missing)
        plain = None if name in options.texts else arrow.plain(column)
        if plain is not None:
            done[name] = Column(plain.values, None, tuple(_zero_remarks(name, column, plain)))
            if plain.has_parts:
                points.enter(name, column, options.decimal)
        elif name in options.texts:
            done[name] = Column(Cells(name, column).as_texts(()))
        else:
            numbers[name] = NumberCells(Cells(name, column))
    decimal, usual = _decimal(numbers, points, options.decimal, usual)
    done |= _read(numbers, options, decimal, usual, place)
    return {name: done[name] for name in names}


class Points:
    """Columns that are numbers if a point is the decimal sign.

    Attributes:
        is_proven: Whether the first rows of a column prove the point.
        others: Cells of the columns whose first rows prove nothing.
    """

    def __init__(self) -> None:
        """Start without a column."""
        self.is_proven = False
        self.others: dict[str, pyarrow.StringArray] = {}

    def enter(self, name: str, column: "pyarrow.StringArray", asked: str | None) -> None:
        """Enter a column; its cells are kept if it proves nothing or the user asks for a comma."""
        if asked != "," and arrow.contains(column.slice(0, HEAD), WITH_POINT):
            self.is_proven = True
        else:
            self.others[name] = column


def _zero_remarks(name: str, column: "pyarrow.StringArray", plain: arrow.Plain) -> Iterator[Remark]:
    """Yield a remark if codes such as 01067 were read as numbers."""
    if plain.has_parts or plain.values.dtype.kind == "M":
        return
    if (code := arrow.first_with_zero(column)) is not None:
        sentence = f"Zeros in front are left out: {cell(code)} is {int(code)} in {{columns}}."
        yield Remark("zeros", name, f"{sentence} The option texts keeps them.")


def _decimal(
    numbers: dict[str, NumberCells], points: Points, asked: str | None, usual: str
) -> tuple[str | None, str]:
    """Return the decimal sign of the file, and the sign of cells that may have either, or "".

    Columns of `points` move to `numbers` if a point may not be their decimal sign.
    """
    proven = {column.proven for column in numbers.values()} - {None}
    is_unclear = any(
        column.is_mostly_numbers and column.proven is None and column.ambiguous.any()
        for column in numbers.values()
    )
    if asked != "." and (usual != "." or is_unclear or asked or "," in proven):
        with_point = {
            name for name, column in points.others.items() if arrow.contains(column, WITH_POINT)
        }
        proven |= {"."} if with_point or points.is_proven else set()
        if asked or proven != {"."}:
            for name in set(points.others) - (set() if asked else with_point):
                numbers[name] = NumberCells(Cells(name, points.others[name]))
    decimal = asked or (next(iter(proven)) if len(proven) == 1 else None)
    return decimal, "" if len(proven) > 1 else usual


def _read(
    numbers: dict[str, NumberCells],
    options: Options,
    decimal: str | None,
    usual: str,
    place: Place,
) -> dict[str, Column]:
    """Return the columns that are not plain numbers or dates."""
    done, found = {}, {}
    for name, column in numbers.items():
        found[name] = read_numbers(column, options.decimal, decimal, usual, place)
        if _is_whole(found[name], column):
            done[name] = _as_found(column, found[name], place)
    dates = {name: DateCells(column) for name, column in numbers.items() if name not in done}
    day_first = file_day_first(dates.values())
    for name, dated in dates.items():
        column = numbers[name]
        found_dates = read_date_column(dated, options.day_first, day_first, place)
        found_times = read_times(column)
        if _is_whole(found_dates, column):
            done[name] = _as_found(column, found_dates, place)
        elif found_times is not None:
            done[name] = _as_found(column, found_times, place)
        else:
            done[name] = _mixed(column, [found[name], found_dates], place)
    return done


def _is_whole(found: Found | None, column: NumberCells) -> bool:
    """Return whether all cells that are not missing were found to be of one kind."""
    if found is None:
        return column.n_present == 0
    return found.n_cells == column.n_present


def _as_found(column: NumberCells, found: Found | None, place: Place) -> Column:
    """Return a column of numbers or dates."""
    cells = column.cells
    missing = tuple(_missing(cells, ~column.is_present, place, kept=False))
    if found is None:
        return Column(np.full(len(cells.rows), np.nan), None, missing)
    if found.refused is not None:
        return Column(cells.as_texts(()), found.refused)
    return Column(cells.spread(found.values, found.which), None, (*found.remarks, *missing))


def _mixed(column: NumberCells, found: list[Found | None], place: Place) -> Column:
    """Return a column of texts, refused if most of its cells are numbers or dates."""
    cells = column.cells
    best = max((cells for cells in found if cells), key=lambda cells: cells.n_cells, default=None)
    share = best.n_cells / column.n_present if best else 0.0
    # Many texts, some of which repeat, can be neither an input nor an identity.
    is_useless = MAX_CATEGORIES < len(cells.distinct) <= MOST_DISTINCT * column.n_present
    if best and (share >= SHARE or (share >= NOTED_SHARE and is_useless)):
        which = column.is_present & ~best.which
        advice = (
            "delete that line if it is not a row of data, " if _is_no_data(cells, which) else ""
        )
        return Column(
            cells.as_texts(()),
            f"{best.n_cells} of {column.n_present} cells are {best.kind}, but "
            f"{cells.show(which, place)}: {advice}correct them, name them with the option missing, "
            "or name the column with the option texts",
        )
    if len(cells.distinct) > MAX_CATEGORIES and (units := column.several_units()) is not None:
        shown = cells.show(units, place)
        return Column(
            cells.as_texts(()),
            f"its numbers have different units ({shown}): write all in one unit, or name "
            "the column with the option texts",
        )
    remarks = []
    if best and share >= NOTED_SHARE:
        number = int(np.flatnonzero(column.is_present & ~best.which)[0])
        example = f"{cell(cells.text(number))} in {place(cells.first_row(number))}"
        sentence = f"Most cells are {best.kind}, but not all, such as {example}: "
        remarks.append(
            Remark(("mixed", best.kind), cells.name, sentence + "{columns} holds texts.")
        )
    words = cells.among(markers.WORDS)
    missing = cells.among(markers.ERRORS)
    if not cells.n_empty:
        missing |= words
    remarks += _missing(cells, missing, place, kept=False, is_text=True)
    remarks += _missing(cells, words & ~missing, place, kept=True)
    remarks += _capitals(cells)
    return Column(cells.as_texts(np.flatnonzero(missing)), None, tuple(remarks))


def _is_no_data(cells: Cells, which: np.ndarray) -> bool:
    """Return whether a single cell is in a row of units or footnotes, or repeats the name."""
    if cells.count(which) != 1:
        return False
    number = int(np.argmax(which))
    is_at_end = cells.first_row(number) in (0, len(cells.rows) - 1)
    return is_at_end or cells.text(number) == cells.name


def _capitals(cells: Cells) -> Iterator[Remark]:
    """Yield a remark if texts differ only in capitals, as people type yes and Yes."""
    if len(cells.distinct) > MAX_CATEGORIES:
        return
    alike: dict[str, list[str]] = {}
    for text in cells.distinct.to_pylist():
        alike.setdefault(text.casefold(), []).append(text)
    for texts in alike.values():
        if len(texts) > 1:
            yield Remark(
                ("capitals", cells.name),
                cells.name,
                f"Texts that differ only in capitals count as different, such as {cell(texts[0])} "
                f"and {cell(texts[1])} in {{columns}}: write them alike if they mean the same.",
            )
            return


def _missing(
    cells: Cells, which: np.ndarray, place: Place, *, kept: bool, is_text: bool = False
) -> Iterator[Remark]:
    """Yield remarks on cells taken for missing values, or kept although they might be missing."""
    for number in np.flatnonzero(which):
        text = cells.text(number)
        first = f"{cell(text)}, the first in {place(cells.first_row(number))}, in {{columns}}"
        if kept:
            sentence = (
                f"Cells kept as texts, since empty cells are missing: {{count}} of {first}. "
                "The option missing makes them missing."
            )
        else:
            sentence = f"Cells taken for missing values: {{count}} of {first}."
            sentence += " The option texts keeps them as texts." if is_text else ""
        count = int(cells.counts[number])
        yield Remark(("missing", text, kept, is_text), cells.name, sentence, count)
