"""Find rows at the end of a spreadsheet that hold totals of the rows above."""

from collections.abc import Mapping

import numpy as np

from collective_variables.data._errors import DataError
from collective_variables.data.files.contents import Column
from collective_variables.data.files.lines import Place
from collective_variables.data.files.remarks import cell, name_columns

WORDS = {"total", "totals", "grand total", "subtotal", "sum", "average", "mean"}
WORDS |= {"summe", "gesamt", "gesamtsumme", "insgesamt", "mittelwert", "durchschnitt"}
WORDS |= {"totale", "total général", "somme", "moyenne", "suma", "media", "média"}
N_LAST = 3  # rows that are searched for totals
MIN_ROWS = 10  # above them


def note_totals(file: str, columns: Mapping[str, Column], place: Place) -> list[str]:
    """Return a note on each of the last rows that a word calls a total.

    Raises:
        DataError: The numbers of a row are sums of those above. Such a row teaches nothing true,
            and it is unlike all others, so it would be selected.
    """
    usable = {name: column.values for name, column in columns.items() if column.values.ndim == 1}
    n_rows = min(map(len, usable.values()), default=0)
    notes = []
    for row in range(max(MIN_ROWS, n_rows - N_LAST), n_rows):
        if summed := _find_sums(usable, row):
            value = usable[summed[0]][row]
            raise DataError(
                f"The last row of {file}, {place(row)}, holds sums of the rows above it, such as "
                f"{value:.15g} in {name_columns(summed[:1])}: delete it."
            )
        for name, array in usable.items():
            if array.dtype == object and _is_called_total(array, row):
                notes.append(
                    f"{place(row).capitalize()} of {file} seems to hold totals of the rows above "
                    f"it, by {cell(array[row])} in column {name[:50]}: if so, delete it."
                )
    return notes


def _find_sums(columns: Mapping[str, np.ndarray], row: int) -> list[str]:
    """Return the columns whose number in a row is the sum of the numbers above.

    The list is empty unless half of the columns of numbers are sums; years and shares are not.
    """
    n_numbers, summed = 0, []
    for name, array in columns.items():
        if array.dtype.kind not in "iuf" or np.isnan(array[row]):
            continue
        above = array[:row].astype(np.float64)
        # A few numbers other than 0 may add up to another one by chance.
        above = above[np.isfinite(above) & (above != 0)]
        n_numbers += 1
        if len(above) < MIN_ROWS:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            is_sum = np.isclose(array[row], above.sum(), rtol=1e-9, atol=0)
        if is_sum and abs(float(array[row])) > np.abs(above).max():
            summed.append(name)
    return summed if 2 * len(summed) >= n_numbers else []


def _is_called_total(array: np.ndarray, row: int) -> bool:
    """Return whether a word in this row, and in no other, says that it holds totals."""
    text = array[row]
    if text is None or text.strip(" :").casefold() not in WORDS:
        return False
    return sum(cell == text for cell in array) == 1
