"""The arrays of a file by name, and the checks that all formats share."""

import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from collective_variables._extras import MissingPackageError
from collective_variables.data._errors import DataError

MAX_COLUMNS = 10_000


@dataclass(frozen=True, eq=False)
class Contents(Mapping[str, np.ndarray]):
    """Columns of a file by name, and what the user should know of how they were read.

    Attributes:
        columns: Arrays with equally many rows.
        refused: Why a column cannot be used, by its name. It is an error only for a column that is
            used.
        notes: A sentence each, such as which cells were taken for missing.
    """

    columns: Mapping[str, np.ndarray]
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def check_contents(path: Path, contents: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return `contents` if its arrays have equally many rows, at least one, and few enough columns.

    Raises DataError otherwise.
    """
    if not contents:
        raise DataError(f"{path.name} must hold at least one column: it holds none.")
    check_n_columns(path, len(contents))
    lengths = {name: len(array) if array.ndim else 0 for name, array in contents.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"The arrays of {path.name} must have as many rows: "
                f"{first} {lengths[first]}, {name} {length}."
            )
    if lengths[first] == 0:
        raise DataError(f"{path.name} must hold at least one row: it holds none.")
    return contents


def check_names(path: Path, names: list[str]) -> list[str]:
    """Return the names of columns if they are few enough, not empty and all different."""
    check_n_columns(path, len(names))
    seen = set()
    for place, name in enumerate(names):
        if not name.strip() or name in seen:
            raise DataError(
                f"Each column of {path.name} must have a name that no other column has: "
                f"column {place} is {name[:50]!r}."
            )
        seen.add(name)
    return names


def check_n_columns(path: Path, n_columns: int) -> None:
    """Raise DataError if there are more than `MAX_COLUMNS` columns."""
    if n_columns > MAX_COLUMNS:
        raise DataError(f"{path.name} must have at most {MAX_COLUMNS} columns: it has {n_columns}.")


@contextmanager
def one_line_errors(path: Path) -> Generator[None]:
    """Turn whatever a library raises for a broken file into a DataError of one line."""
    try:
        with warnings.catch_warnings():
            # A library only warns of a decompression bomb or of a header that makes no sense. What
            # it deprecates concerns its callers, not the file, and passes.
            for kind in (RuntimeWarning, UserWarning):
                warnings.simplefilter("error", kind)
            yield
    except (DataError, MemoryError, MissingPackageError):
        raise
    # Libraries raise errors of all kinds for broken files.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path.name} cannot be read: {error.strerror}.") from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path.name} is broken or not what its ending says: {reason}") from None
