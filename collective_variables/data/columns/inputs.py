"""Encode columns as inputs: numbers, 0 and 1 for texts, and marks of missing values."""

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from collective_variables.data._errors import DataError
from collective_variables.data.columns import values
from collective_variables.data.files.contents import Contents

MAX_CATEGORIES = 50  # different texts of a column, each of which becomes an input
MICROSECONDS_OF_DAY = 86_400_000_000


class Column(NamedTuple):
    """A column of the file as columns of numbers, with its description.

    Attributes:
        values: (n_rows, n_columns) numbers.
        names: Names of the columns of numbers.
        kinds: Their kinds, as in `encoding.Table`.
        content: What the column of the file holds.
        n_missing: Number of missing values.
        n_distinct: Number of different values; None for an array.
        treatment: How the column was encoded.
    """

    values: np.ndarray
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    content: str
    n_missing: int
    n_distinct: int | None
    treatment: str


class Inputs(NamedTuple):
    """Inputs as numbers, as in `encoding.Table`, with a row of the report for each column."""

    values: np.ndarray
    features: tuple[str, ...]
    sources: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: list[tuple]


def encode_inputs(contents: Contents, names: Sequence[str]) -> Inputs:
    """Return the encoded inputs; an array of more than two dimensions must be the only one.

    Raises:
        DataError: No column is left to learn from, or a column cannot be an input; the message
            names all such columns with the reasons.
    """
    if not names:
        raise DataError(
            "There must be a column besides targets and ignored ones: received "
            f"{values.join_names(contents)} only. --use NAME makes an id or row numbers an input."
        )
    columns = {name: contents[name] for name in names}
    _check_inputs(columns, contents.refused)
    if any(array.ndim > 2 for array in columns.values()):
        return _encode_images(columns)
    encoded = {name: _encode_input(name, array) for name, array in columns.items()}
    features = tuple(feature for column in encoded.values() for feature in column.names)
    if not features:
        raise DataError(
            "At least one input column must have two different values: "
            "each has a single one, so that nothing is left to learn from."
        )
    return Inputs(
        np.concatenate([column.values for column in encoded.values()], axis=1),
        features,
        tuple(name for name, column in encoded.items() for _ in column.names),
        tuple(kind for column in encoded.values() for kind in column.kinds),
        [(name, "input", *column[3:]) for name, column in encoded.items()],
    )


def note_empty(contents: Contents, names: Sequence[str]) -> list[str]:
    """Return a note on rows without a value in any input, which may be selected first."""
    columns = [contents[name] for name in names]
    if not columns:
        return []
    missing = [values.is_missing(column).reshape(len(column), -1) for column in columns]
    (rows,) = np.nonzero(np.concatenate(missing, axis=1).all(axis=1))
    if not len(rows):
        return []
    verb = "row has" if len(rows) == 1 else "rows have"
    return [
        f"{len(rows)} {verb} no value in any input, such as row {rows[0]}, and may be selected "
        "first: fill them in, delete them, or name them with --exclude."
    ]


def _check_inputs(columns: Mapping[str, np.ndarray], refused: Mapping[str, str]) -> None:
    """Raise a DataError that names all columns that cannot be inputs, and how to leave them out.

    The user has to decide about each of them, and should not meet them one run at a time.

    Raises:
        DataError: A column cannot be an input.
    """
    reasons = {}
    for name, array in columns.items():
        if name in refused:
            reasons[name] = f"Column {name} cannot be used: {refused[name]}"
        elif reason := _why_not(name, array):
            reasons[name] = reason
    if not reasons:
        return
    shown = "; ".join(list(reasons.values())[: values.N_LISTED])
    if len(reasons) > values.N_LISTED:
        shown += f"; and {len(reasons) - values.N_LISTED} other columns"
    them = "it" if len(reasons) == 1 else "them"
    # Names of all columns of an array are no advice: without them there would be no input.
    named = len(reasons) < len(columns) or len(reasons) <= values.N_LISTED
    advice = f", or leave {them} out: --ignore {shlex.join(reasons)}" if named else "."
    raise DataError(f"{shown}. Change {them} in the file{advice}")


def _why_not(name: str, array: np.ndarray) -> str | None:
    """Return why a column cannot be an input; None if it can."""
    if infinite := find_infinite(name, array):
        return infinite
    if array.ndim == 2 and array.dtype.kind not in "biuf":
        return f"The array {name} must hold numbers: it holds {array.dtype}"
    if array.ndim == 1 and array.dtype == object:
        texts = np.unique(array[~values.is_missing(array)].astype(str))
        if len(texts) > MAX_CATEGORIES:
            first, second = map(values.shorten, texts[:2])
            return (
                f"Column {name} holds {len(texts)} different texts, such as {first!r} and "
                f"{second!r}, of which at most {MAX_CATEGORIES} can be inputs"
            )
    return None


def find_infinite(name: str, array: np.ndarray) -> str | None:
    """Return where a column holds infinite numbers; None without any."""
    if array.dtype.kind != "f" or not (is_infinite := np.isinf(array)).any():
        return None
    row, n_infinite = int(np.argwhere(is_infinite)[0][0]), int(is_infinite.sum())
    ones = "one" if n_infinite == 1 else "ones"
    return (
        f"Column {name} must hold finite numbers: it has {n_infinite} infinite {ones}, "
        f"the first in row {row}"
    )


def _encode_input(name: str, array: np.ndarray) -> Column:
    """Return a column, or the columns of a two-dimensional array, as inputs."""
    if array.ndim == 2:
        return _encode_array(name, array)
    return _encode_texts(name, array) if array.dtype == object else _encode_numbers(name, array)


def _encode_numbers(name: str, array: np.ndarray) -> Column:
    """Return numbers, truth values or dates, with a second column that marks missing values."""
    missing = values.is_missing(array)
    numbers, treatment = array.astype(np.float64), "scaled"
    if array.dtype.kind == "M":
        since = array.astype("datetime64[us]").astype(np.int64)
        numbers = np.where(missing, np.nan, since / MICROSECONDS_OF_DAY)
        treatment = "days since 1970, scaled"
    parts, names = [numbers], [name]
    kinds = [{"M": "date", "b": "flag"}.get(array.dtype.kind, "number")]
    if missing.any():
        treatment += "; missing ones are filled in and marked in a second input"
    return _varying(name, array, parts, names, kinds, treatment)


def _encode_texts(name: str, array: np.ndarray) -> Column:
    """Return a column of 0 and 1 for each text, and a further one that marks missing texts."""
    missing = values.is_missing(array)
    categories, numbers = np.unique(array[~missing].astype(str), return_inverse=True)
    one_hot = np.zeros((len(array), len(categories)))
    one_hot[np.flatnonzero(~missing), numbers] = 1
    treatment = "an input for each text"
    if missing.any():
        treatment += ", and one for missing ones"
    names = [f"{name}={text}" for text in categories]
    return _varying(name, array, list(one_hot.T), names, ["category"] * len(names), treatment)


def _encode_array(name: str, array: np.ndarray) -> Column:
    """Return the encoded columns of a two-dimensional array of numbers."""
    columns = [_encode_numbers(f"{name}[{number}]", part) for number, part in enumerate(array.T)]
    n_missing = values.count_missing(array)
    marked = "; missing ones are filled in and marked in further inputs" if n_missing else ""
    return Column(
        np.concatenate([column.values for column in columns], axis=1),
        tuple(part for column in columns for part in column.names),
        tuple(kind for column in columns for kind in column.kinds),
        f"{array.shape[1]} columns of numbers",
        n_missing,
        None,
        f"scaled{marked}",
    )


def _varying(
    name: str,
    array: np.ndarray,
    parts: list[np.ndarray],
    names: list[str],
    kinds: list[str],
    treatment: str,
) -> Column:
    """Return the parts and the marks of missing values that have more than one value."""
    missing = values.is_missing(array)
    candidates = [
        *zip(parts, names, kinds, strict=True),
        (missing.astype(np.float64), f"{name} missing", "missing"),
    ]
    kept = [candidate for candidate in candidates if _varies(candidate[0])]
    if not kept:
        treatment = "left out: no value" if missing.all() else "left out: a single value"
    return Column(
        np.stack([part for part, *_ in kept], axis=1) if kept else np.empty((len(array), 0)),
        tuple(name for _, name, _ in kept),
        tuple(kind for *_, kind in kept),
        values.describe(array),
        int(missing.sum()),
        values.count_distinct(array),
        treatment,
    )


def _varies(part: np.ndarray) -> bool:
    present = part[~np.isnan(part)]
    return len(present) > 0 and present.min() < present.max()


def _encode_images(columns: Mapping[str, np.ndarray]) -> Inputs:
    """Return images, or another array of more than two dimensions, as the only input."""
    large = [name for name, array in columns.items() if array.ndim > 2]
    others = [name for name in columns if name not in large]
    if len(large) > 1 or others:
        raise DataError(
            "Images, or arrays of more than two dimensions, must be the only input: received "
            f"{values.join_names([*large, *others])}. Make one the target, or leave others out: "
            f"--ignore {shlex.join([*large[1:], *others])}"
        )
    name, array = large[0], columns[large[0]]
    if n_missing := values.count_missing(array):
        raise DataError(f"No number of {name} may be missing: {n_missing} are NaN.")
    array = array[..., None] if array.ndim == 3 else array
    is_bytes = array.dtype == np.uint8
    content = f"arrays {array.shape[1:]} of {array.dtype}"
    treatment = "divided by 255" if is_bytes else "z-scores"
    rows = [(name, "input", content, 0, None, treatment)]
    return Inputs(array if is_bytes else array.astype(np.float64), (), (), (), rows)
