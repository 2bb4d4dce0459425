"""Describe the values of a column: their kind, and how many are missing or different."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

N_LISTED = 10  # names in a message, before "and 5 others"
CONTENT = {
    "b": "truth values",
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "numbers",
    "M": "dates",
}


def is_missing(array: np.ndarray) -> np.ndarray:
    """Return where a value is None, NaN or NaT."""
    return np.asarray(pd.isna(array))


def count_missing(array: np.ndarray) -> int:
    """Return the number of missing values."""
    return int(is_missing(array).sum())


def count_distinct(array: np.ndarray) -> int:
    """Return the number of different values, without missing ones."""
    return len(pd.unique(array[~is_missing(array)]))


def describe(array: np.ndarray) -> str:
    """Return in words what a column holds."""
    return CONTENT.get(array.dtype.kind, "texts")


def are_whole(numbers: np.ndarray) -> bool:
    """Return whether all values are whole numbers, in any dtype."""
    if numbers.dtype.kind in "iu":
        return True
    return numbers.dtype.kind == "f" and bool((numbers == np.floor(numbers)).all())


def name_value(value: object) -> str:
    """Return a value as text, whole numbers without a decimal point in any dtype."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, np.datetime64):
        time = str(value.astype("datetime64[us]"))
        # Midnight and parts of a second that are 0 are left out.
        return time.rstrip("0").rstrip(".").removesuffix("T00:00:00")
    return str(value)


def name_values(array: np.ndarray) -> np.ndarray:
    """Return the values of a column as texts, in an array of objects."""
    if array.dtype.kind in "iu":
        return array.astype(str).astype(object)
    return np.array(list(map(name_value, array)), dtype=object)


def shorten(value: object) -> str:
    """Return a value for a message, cut if it is long."""
    return str(value)[:50]


def join_names(names: Iterable[object]) -> str:
    """Return names for a message; of many names the first few."""
    texts: Sequence[str] = list(map(shorten, names))
    first = ", ".join(texts[:N_LISTED])
    return f"{first} and {len(texts) - N_LISTED} others" if len(texts) > N_LISTED else first
