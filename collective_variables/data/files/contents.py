"""The arrays of a file by name, and the checks that all formats share."""

import warnings
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from collective_variables._extras import MissingPackageError
from collective_variables.data._errors import DataError
from collective_variables.data.files.lines import Place, row_place
from collective_variables.data.files.options import Options
from collective_variables.data.files.remarks import MAX_NAMED, Remark, sentences

MAX_COLUMNS = 10_000
UNNAMED = "Unnamed: {}"  # the names that pandas gives to columns without one
# Largest size: standard deviations need squares, and those of larger numbers nearly overflow.
MAX_NUMBER = 1e150


class Column(NamedTuple):
    """A column that has been read.

    Attributes:
        values: Numbers, dates, texts as objects, or an array of more dimensions.
        refused: Why the column cannot be used; None if it can.
        remarks: Remarks for the user.
    """

    values: np.ndarray
    refused: str | None = None
    remarks: tuple[Remark, ...] = ()


class Parts(NamedTuple):
    """The result of a reader of one format.

    Attributes:
        columns: Columns by name.
        place: Gives the place of a row for messages.
        notes: Notes on the whole file.
    """

    columns: Mapping[str, Column]
    place: Place = row_place
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Contents(Mapping[str, np.ndarray]):
    """Columns of a file by name, with notes on how they were read.

    Attributes:
        columns: Arrays with equally many rows.
        refused: Why a column cannot be used, by its name, in words that follow "cannot be used:".
            This is an error only for a column that is used.
        notes: Sentences, for example on which cells were taken for missing.
        remarks: The notes that concern single columns.
    """

    columns: Mapping[str, np.ndarray]
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def notes_on(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the notes on the whole file and on the named columns."""
        on_columns = sentences(self.remarks)
        on_file = [note for note in self.notes if note not in on_columns]
        return (*on_file, *sentences(remark for remark in self.remarks if remark.column in names))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def unusable(n_rows: int, reason: str) -> Column:
    """Return a column that cannot be used, with the reason."""
    return Column(np.full(n_rows, None, dtype=object), reason)


def finish(path: Path, parts: Parts, options: Options) -> Contents:
    """Return the contents of a file after the checks that all formats share.

    Raises:
        DataError: The file has no row, no column or too many columns, or the option texts names a
            column that does not exist.
    """
    columns = parts.columns
    if not columns:
        raise DataError(f"{path.name} must hold at least one column: it holds none.")
    check_n_columns(path, len(columns))
    columns = _same_rows(path, columns)
    for name in options.texts:
        if name not in columns:
            raise DataError(f"The option texts names {name!r}, and {path.name} has no such column.")
    columns = {
        name: _checked(name, column, parts.place, options) for name, column in columns.items()
    }
    remarks = tuple(remark for column in columns.values() for remark in column.remarks)
    return Contents(
        {name: column.values for name, column in columns.items()},
        {name: column.refused for name, column in columns.items() if column.refused is not None},
        (*parts.notes, *sentences(remarks)),
        remarks,
    )


def _same_rows(path: Path, columns: Mapping[str, Column]) -> Mapping[str, Column]:
    """Return columns with equally many rows; the few with another number are refused."""
    lengths = {name: len(c.values) if c.values.ndim else 0 for name, c in columns.items()}
    # Single values and empty arrays do not count, such as the name of a model with its embeddings.
    filled = [length for length in lengths.values() if length] or [0]
    n_rows, n_alike = Counter(filled).most_common(1)[0]
    if n_alike < len(filled) >= 2 * n_alike:
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:MAX_NAMED])
        raise DataError(f"The arrays of {path.name} must have equally many rows: {shown}.")
    if n_rows == 0:
        raise DataError(f"{path.name} must hold at least one row: it holds none.")
    return {
        name: column
        if lengths[name] == n_rows
        else unusable(n_rows, f"it has {lengths[name]} rows, and other columns have {n_rows}")
        for name, column in columns.items()
    }


def _checked(name: str, column: Column, place: Place, options: Options) -> Column:
    """Return a column with its missing numbers as NaN, refused if a number is too large.

    A column of numbers that the option `texts` names becomes texts.
    """
    values = column.values
    if values.dtype == object or column.refused is not None:
        return column
    if name in options.texts:
        return Column(_as_texts(values), None, column.remarks)
    if values.dtype.kind in "iuf" and values.ndim == 1:
        values = _without(values, options.missing)
    if values.dtype.kind == "f":
        # In float16 and float32 only infinity is too large. Comparisons with NaN are False.
        limit = MAX_NUMBER if values.itemsize >= 8 else np.finfo(values.dtype).max
        is_large = (values > limit) | (values < -limit)
        if is_large.any():
            row = np.argwhere(is_large)[0]
            reason = (
                f"{place(int(row[0]))} is {values[tuple(row)]:.6g}, and numbers must be at most "
                f"{MAX_NUMBER:g} in size: correct it, or scale the column"
            )
            return Column(values, reason, column.remarks)
    return column._replace(values=values)


def _as_texts(values: np.ndarray) -> np.ndarray:
    is_missing = np.isnat(values) if values.dtype.kind == "M" else values != values
    texts = values.astype(str).astype(object)
    texts[is_missing] = None
    return texts


def _without(values: np.ndarray, markers: tuple[str, ...]) -> np.ndarray:
    """Return numbers with NaN, in float64, where one equals a marker; unchanged if none does."""
    numbers = []
    for marker in markers:
        with suppress(ValueError):
            numbers.append(float(marker))
    is_missing = np.isin(values, numbers)
    return np.where(is_missing, np.nan, values) if is_missing.any() else values


def check_names(path: Path, names: Sequence[str]) -> list[str]:
    """Return the names of columns without surrounding blanks.

    A column without a name becomes "Unnamed: " with its number from 0, as in pandas.

    Raises:
        DataError: There are too many columns, or two have the same name.
    """
    check_n_columns(path, len(names))
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        name = " ".join(name.split()) or UNNAMED.format(place)
        if name in places:
            raise DataError(
                f"Each column of {path.name} must have a name that no other column has: "
                f"columns {places[name] + 1} and {place + 1} are {name[:50]!r}."
            )
        places[name] = place
    return list(places)


def check_n_columns(path: Path, n_columns: int) -> None:
    """Raise DataError if there are more than `MAX_COLUMNS` columns."""
    if n_columns > MAX_COLUMNS:
        raise DataError(f"{path.name} must have at most {MAX_COLUMNS} columns: it has {n_columns}.")


@contextmanager
def one_line_errors(name: str) -> Generator[None]:
    """Turn any error of a library about the file `name` into a DataError of one line."""
    try:
        with warnings.catch_warnings():
            # Libraries only warn of a decompression bomb or of a senseless header. Deprecations
            # concern the callers of a library, not the file, and pass.
            for kind in (RuntimeWarning, UserWarning):
                warnings.simplefilter("error", kind)
            yield
    except (DataError, MemoryError, MissingPackageError):
        raise
    # Libraries raise errors of all kinds for broken files.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{name} cannot be read: {error.strerror}.") from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name} is broken or not what its ending says: {reason}") from None
