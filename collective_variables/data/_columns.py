"""Encode single columns as numbers: inputs, targets, and a description of each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from collective_variables.data._errors import DataError

MAX_CATEGORIES = 50  # of a column of texts, each of which becomes an input
MAX_CLASSES = 20  # whole numbers that count as classes unless the task is given
SECONDS_OF_DAY = 86_400
CONTENT = {
    "b": "truth values",
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "numbers",
    "M": "dates",
}


class Column(NamedTuple):
    """A column of the file as columns of numbers, and its description.

    kinds: of each column of numbers, as in `encoding.Table`.
    """

    values: np.ndarray
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    content: str
    n_missing: int
    n_distinct: int | None
    treatment: str


class Targets(NamedTuple):
    """Columns to predict as numbers, and a row of the table of columns for each."""

    values: np.ndarray | None
    classes: tuple[str, ...]
    task: str
    rows: list[tuple]


def encode_input(name: str, array: np.ndarray) -> Column:
    """Encode a column, or the columns of a two-dimensional array, as inputs."""
    if array.ndim == 2:
        return _encode_array(name, array)
    return _encode_texts(name, array) if array.dtype == object else _encode_numbers(name, array)


def _encode_numbers(name: str, array: np.ndarray) -> Column:
    """Encode numbers, truth values or dates, and where values are missing in a second column."""
    missing = is_missing(array)
    values, treatment = array.astype(np.float64), "z-scores"
    if array.dtype.kind == "M":
        seconds = array.astype("datetime64[s]").astype(np.int64)
        values = np.where(missing, np.nan, seconds / SECONDS_OF_DAY)
        treatment = "days since 1970, z-scores"
    parts, names = [values], [name]
    kinds = [{"M": "date", "b": "flag"}.get(array.dtype.kind, "number")]
    if missing.any():
        parts.append(missing.astype(np.float64))
        names.append(f"{name} missing")
        kinds.append("missing")
        treatment += "; missing ones are the mean and marked in a second input"
    return _varying(parts, names, kinds, array, count_distinct(array), treatment)


def _encode_texts(name: str, array: np.ndarray) -> Column:
    """Encode each text as a column of 0 and 1; missing ones are such a text, too."""
    missing = is_missing(array)
    texts = np.where(missing, "missing", array).astype(str)
    categories = np.unique(texts)
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"Column {name} holds {len(categories)} different texts, such as "
            f"{word(categories[0])!r} and {word(categories[1])!r}, and an input for each would be "
            f"too many (at most {MAX_CATEGORIES}): ignore it, or turn it into numbers."
        )
    parts = [(texts == text).astype(np.float64) for text in categories]
    names = [f"{name}={text}" for text in categories]
    treatment = "an input for each text"
    if missing.any():
        treatment += ", and one for missing ones"
    kinds = ["category"] * len(parts)
    return _varying(parts, names, kinds, array, len(categories) - missing.any(), treatment)


def _encode_array(name: str, array: np.ndarray) -> Column:
    """Encode the columns of a two-dimensional array of numbers."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"The array {name} must hold numbers: it holds {array.dtype}.")
    columns = [
        _encode_numbers(f"{name}[{number}]", values) for number, values in enumerate(array.T)
    ]
    return Column(
        np.concatenate([column.values for column in columns], axis=1),
        tuple(part for column in columns for part in column.names),
        tuple(kind for column in columns for kind in column.kinds),
        f"{array.shape[1]} columns of numbers",
        count_missing(array),
        None,
        columns[0].treatment,
    )


def _varying(
    parts: list[np.ndarray],
    names: list[str],
    kinds: list[str],
    array: np.ndarray,
    n_distinct: int,
    treatment: str,
) -> Column:
    """Return the parts that have more than one value, described as a column of the file."""
    places = [
        place for place, part in enumerate(parts) if len(np.unique(part[~np.isnan(part)])) > 1
    ]
    values = np.empty((len(array), 0))
    if places:
        values = np.stack([parts[place] for place in places], axis=1)
    return Column(
        values,
        tuple(names[place] for place in places),
        tuple(kinds[place] for place in places),
        content(array),
        count_missing(array),
        int(n_distinct),
        treatment if places else "left out: a single value",
    )


def encode_targets(contents: Mapping[str, np.ndarray], names: Sequence[str], task: str) -> Targets:
    """Encode the columns to predict: numbers of a regression, or classes as one-hot rows.

    task "auto" chooses by what the columns hold.
    """
    if not names:
        return Targets(None, (), "regression" if task == "auto" else task, [])
    for name in names:
        array = contents[name]
        if array.ndim > 2:
            raise DataError(
                f"The target {name} must be a column or a table of numbers: "
                f"received the shape {array.shape}."
            )
        check_finite(name, array)
    if task == "auto":
        has_classes = len(names) == 1 and _looks_like_classes(contents[names[0]])
        task = "classification" if has_classes else "regression"
    if task == "regression":
        return _encode_numeric_targets(contents, names)
    if len(names) > 1 or contents[names[0]].ndim > 1:
        raise DataError(
            "A classification must have one target, a column of classes: "
            f"received {', '.join(names)}."
        )
    return _encode_classes(names[0], contents[names[0]])


def _looks_like_classes(array: np.ndarray) -> bool:
    if array.ndim > 1:
        return False
    is_whole = array.dtype.kind in "iu"
    return array.dtype.kind in "Ob" or (is_whole and count_distinct(array) <= MAX_CLASSES)


def _encode_numeric_targets(contents: Mapping[str, np.ndarray], names: Sequence[str]) -> Targets:
    parts, rows = [], []
    for name in names:
        array = contents[name]
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"The target {name} of a regression must hold numbers: it holds {content(array)}."
            )
        parts.append(array.astype(np.float64).reshape(len(array), -1))
        description = (content(array), count_missing(array), count_distinct(array), "z-scores")
        rows.append((name, "target", *description))
    return Targets(np.concatenate(parts, axis=1), (), "regression", rows)


def _encode_classes(name: str, values: np.ndarray) -> Targets:
    """Encode a column of classes as one-hot rows, NaN where the class is missing."""
    missing = is_missing(values)
    labels = values[~missing]
    classes, numbers = np.unique(
        labels.astype(str) if values.dtype == object else labels, return_inverse=True
    )
    if len(classes) < 2:
        raise DataError(
            f"The target {name} must have at least two classes: received {listed(classes)}."
        )
    if len(classes) > len(values) // 2:
        raise DataError(
            f"The target {name} has {len(classes)} classes, such as {word(classes[0])!r}, in "
            f"{len(values)} rows: choose the task regression for numbers, or another target."
        )
    one_hot = np.full((len(values), len(classes)), np.nan)
    one_hot[~missing] = np.eye(len(classes))[numbers]
    description = (content(values), int(missing.sum()), len(classes), "an output for each class")
    rows = [(name, "target", *description)]
    return Targets(one_hot, tuple(map(word, classes)), "classification", rows)


def counts_rows(array: np.ndarray) -> bool:
    """Return whether a column numbers the rows from the first to the last."""
    is_whole = array.ndim == 1 and array.dtype.kind == "i"
    return is_whole and len(array) > 2 and bool((np.diff(array) == 1).all())


def is_missing(array: np.ndarray) -> np.ndarray:
    """Return where a value is None, NaN or NaT."""
    if array.dtype == object:
        return np.array([value is None for value in array])
    if array.dtype.kind == "M":
        return np.isnat(array)
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def count_missing(array: np.ndarray) -> int:
    """Return the number of missing values."""
    return int(is_missing(array).sum())


def count_distinct(array: np.ndarray) -> int:
    """Return the number of different values, without missing ones."""
    values = array[~is_missing(array)]
    return len(set(values)) if array.dtype == object else len(np.unique(values))


def content(array: np.ndarray) -> str:
    """Return in a word what a column holds."""
    return CONTENT.get(array.dtype.kind, "texts")


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise DataError if a column holds an infinite number."""
    if array.dtype.kind == "f" and np.isinf(array).any():
        row = int(np.argwhere(np.isinf(array))[0][0])
        raise DataError(
            f"Column {name} must hold finite numbers: it has {int(np.isinf(array).sum())} "
            f"infinite ones, the first in row {row}."
        )


def word(value: object) -> str:
    """Return a value for a message, cut if it is long."""
    return str(value)[:50]


def listed(names: Sequence[object]) -> str:
    """Return names for a message, the first few of many."""
    first = ", ".join(map(word, names[:10]))
    return f"{first} and {len(names) - 10} others" if len(names) > 10 else first
