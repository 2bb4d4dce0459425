"""Columns of one's own as a problem: what each is taken for, what is missing, and what is done
about it, in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables import _checks
from collective_variables.data import _errors, problems
from collective_variables.data.reading import Contents

MAX_CATEGORIES = 50  # of a column of texts, each of which becomes an input
MAX_CLASSES = 20  # whole numbers that are taken for classes if it isn't said
TEST_SHARE = 5  # one row in so many is a test point if it isn't said
TASKS = ("auto", "regression", "classification")
SECONDS_OF_DAY = 86_400
COLUMNS = ("column", "role", "holds", "missing", "distinct", "treatment")


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of one's own as numbers, not yet split or scaled.

    inputs (n_rows, ...): float64 columns, NaN where a number is missing, or images as they are in
    the file. targets
    (n_rows, n_outputs): float64, NaN where missing, one-hot for a classification; None without a
    target. is_labelled
    (n_rows,): whether every target of a row is there. features: a name for each input column, none
    for images. classes: what the columns of the targets stand for, none in a regression. columns: a
    row for each column of the file, with the
    columns `COLUMNS`. notes: what else is to be known, a sentence each.
    """

    inputs: np.ndarray
    targets: np.ndarray | None
    is_labelled: np.ndarray
    task: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    columns: pd.DataFrame
    notes: tuple[str, ...]


class _Column(NamedTuple):
    """A column of the file as columns of numbers, and what is said of it."""

    values: np.ndarray
    names: tuple[str, ...]
    holds: str
    n_missing: int
    n_distinct: int
    treatment: str


def encode_table(
    contents: Contents,
    /,
    targets: Sequence[str],
    *,
    ignored: Sequence[str] = (),
    task: str = "auto",
) -> Table:
    """Take columns for inputs and targets.

    targets: columns to predict; none for a choice that needs no label. ignored: columns that are
    neither. All others are inputs. Numbers are taken as they are, truth values as 0 and 1, dates as
    days; a missing one has a second column say so. A text is one of at most `MAX_CATEGORIES`, an
    input each, a missing one among them. A column with one value alone is left out. An array of
    more than two dimensions is the only input.

    task "auto": a target of texts or truth values, or of at most `MAX_CLASSES` whole numbers, is
    one of classes.

    Raises DataError for a column that there isn't, that can't be an input or a target, or holds an
    infinite number.
    """
    _checks.choice("task", task, TASKS)
    for name in (*targets, *ignored):
        if name not in contents:
            raise _errors.DataError(
                f"There is no column {name}: the file has {_listed(list(contents))}."
            )
    if both := sorted(set(targets) & set(ignored)):
        raise _errors.DataError(f"A column can't be a target and ignored: {both[0]}.")
    if len(set(targets)) < len(targets):
        raise _errors.DataError(f"A target must be named once: received {', '.join(targets)}.")
    outputs, classes, found_task, rows = _targets(contents, targets, task)
    rest = {name: array for name, array in contents.items() if name not in (*targets, *ignored)}
    inputs, features, of_inputs = _inputs(rest)
    rows += of_inputs
    rows += [
        (name, "ignored", _holds(contents[name]), _n_missing(contents[name]), None, "left out")
        for name in ignored
    ]
    order = list(contents)
    columns = pd.DataFrame(sorted(rows, key=lambda row: order.index(row[0])), columns=COLUMNS)
    is_labelled = (
        np.ones(len(inputs), bool) if outputs is None else np.isfinite(outputs).all(axis=1)
    )
    counting = [name for name, array in rest.items() if _counts(array)]
    notes = tuple(
        f"Column {name} counts the rows and is an input: ignore it, unless their order means something."
        for name in counting
    )
    notes += _notes(inputs, outputs, is_labelled, classes, targets)
    return Table(inputs, outputs, is_labelled, found_task, features, classes, columns, notes)


def split_table(
    of: Table,
    name: str,
    /,
    *,
    n_test: int | None = None,
    seed: int = 0,
    scaling: str = "train",
    n_available: int | None = None,
) -> problems.Dataset:
    """The labelled rows of a table as pool and test points, split and scaled as
    `problems.load_problem` does it.

    n_test: by default one row in `TEST_SHARE`. A missing number becomes the mean of those that are
    there in the rows that the scaling is taken from. Images of bytes are divided by 255. `index`
    and `test_index` are rows of the file.
    """
    if of.targets is None:
        raise _errors.DataError("A problem must have a target: received none.")
    rows = np.flatnonzero(of.is_labelled)
    _checks.choice("scaling", scaling, ("train", "all"))
    n_test = max(1, len(rows) // TEST_SHARE) if n_test is None else n_test
    test, pool = problems.split(name, len(rows), n_test=n_test, n_available=n_available, seed=seed)
    reference = pool if scaling == "train" else np.concatenate([test, pool])
    inputs, targets = scale_inputs(of.inputs[rows], reference), of.targets[rows]
    if of.task == "regression":
        targets = problems.z_score(targets, reference)
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)
    return problems.Dataset(
        inputs[pool],
        targets[pool],
        inputs[test],
        targets[test],
        of.task,
        rows[pool],
        rows[test],
        name,
    )


def scale_inputs(inputs: np.ndarray, reference: np.ndarray, /) -> np.ndarray:
    """Inputs without unit, by the rows `reference`: bytes divided by 255, all else by z-scores,
    missing numbers their mean.
    """
    if inputs.dtype == np.uint8:
        return np.divide(inputs, 255, dtype=np.float32)
    means = [
        column[np.isfinite(column)].mean() if np.isfinite(column).any() else 0.0
        for column in inputs[reference].reshape(len(reference), -1).T
    ]
    means = np.reshape(means, inputs.shape[1:])
    return problems.z_score(np.where(np.isnan(inputs), means, inputs), reference)


def _targets(
    contents: Contents, names: Sequence[str], task: str
) -> tuple[np.ndarray | None, tuple[str, ...], str, list[tuple]]:
    """Targets, classes, task, and what is said of each column."""
    if not names:
        return None, (), "regression" if task == "auto" else task, []
    for name in names:
        array = contents[name]
        if array.ndim > 2:
            raise _errors.DataError(
                f"The target {name} must be a column or a table of numbers: received the shape {array.shape}."
            )
        _check_finite(name, array)
    if task == "auto":
        task = (
            "classification"
            if len(names) == 1 and _looks_like_classes(contents[names[0]])
            else "regression"
        )
    if task == "regression":
        for name in names:
            if contents[name].dtype.kind not in "biuf":
                raise _errors.DataError(
                    f"The target {name} of a regression must hold numbers: it holds {_holds(contents[name])}."
                )
        parts = [
            contents[name].astype(np.float64).reshape(len(contents[name]), -1) for name in names
        ]
        rows = [
            (
                name,
                "target",
                _holds(contents[name]),
                _n_missing(contents[name]),
                _n_distinct(contents[name]),
                "z-scores",
            )
            for name in names
        ]
        return np.concatenate(parts, axis=1), (), task, rows
    if len(names) > 1 or contents[names[0]].ndim > 1:
        raise _errors.DataError(
            f"A classification must have one target, a column of classes: received {', '.join(names)}."
        )
    (name,) = names
    values, is_missing = contents[name], _is_missing(contents[name])
    classes, number = np.unique(
        values[~is_missing].astype(str) if values.dtype == object else values[~is_missing],
        return_inverse=True,
    )
    if len(classes) < 2:
        raise _errors.DataError(
            f"The target {name} must have two classes at least: received {_listed(classes)}."
        )
    if len(classes) > len(values) // 2:
        raise _errors.DataError(
            f"The target {name} has {len(classes)} classes in {len(values)} rows: ask for a regression, or take another."
        )
    one_hot = np.full((len(values), len(classes)), np.nan)
    one_hot[~is_missing] = np.eye(len(classes))[number]
    rows = [(name, "target", _holds(values), int(is_missing.sum()), len(classes), "a class each")]
    return one_hot, tuple(map(_word, classes)), task, rows


def _looks_like_classes(array: np.ndarray) -> bool:
    if array.ndim > 1:
        return False
    return array.dtype.kind in "Ob" or (
        array.dtype.kind in "iu" and _n_distinct(array) <= MAX_CLASSES
    )


def _inputs(columns: Contents) -> tuple[np.ndarray, tuple[str, ...], list[tuple]]:
    """Inputs, their names, and what is said of each column."""
    if not columns:
        raise _errors.DataError(
            "There must be a column besides targets and ignored ones: received none."
        )
    for name, array in columns.items():
        _check_finite(name, array)
    large = [name for name, array in columns.items() if array.ndim > 2]
    # The paths of a folder's images tell rows apart and are nothing to learn from.
    others = [name for name in columns if name not in large and not (large and name == "file")]
    if large:
        if len(large) > 1 or others:
            raise _errors.DataError(
                f"An array of more than two dimensions must be the only input: ignore all but one of {_listed([*large, *others])}."
            )
        array = columns[large[0]]
        if _n_missing(array):
            raise _errors.DataError(
                f"No number of {large[0]} may be missing: {_n_missing(array)} are NaN."
            )
        array = array[..., None] if array.ndim == 3 else array
        is_bytes = array.dtype == np.uint8
        row = (
            large[0],
            "input",
            f"arrays {array.shape[1:]} of {array.dtype}",
            0,
            None,
            "divided by 255" if is_bytes else "z-scores",
        )
        files = [
            (name, "ignored", "texts", 0, None, "left out") for name in columns if name == "file"
        ]
        return array if is_bytes else array.astype(np.float64), (), [row, *files]
    rows, parts, names = [], [], []
    for name, array in columns.items():
        column = (
            _of_table(name, array)
            if array.ndim == 2
            else _of_texts(name, array)
            if array.dtype == object
            else _of_numbers(name, array)
        )
        rows.append((name, "input", *column[2:]))
        parts.append(column.values)
        names += column.names
    if not names:
        raise _errors.DataError(
            "Every column that is no target has one value alone: nothing is left to learn from."
        )
    return np.concatenate(parts, axis=1), tuple(names), rows


def _of_numbers(name: str, array: np.ndarray) -> _Column:
    """Numbers, truth values or dates: a column, and another one where values are missing."""
    is_missing, treatment = _is_missing(array), "z-scores"
    values = array.astype(np.float64)
    if array.dtype.kind == "M":
        values = np.where(
            is_missing, np.nan, array.astype("datetime64[s]").astype(np.int64) / SECONDS_OF_DAY
        )
        treatment = "days since 1970, z-scores"
    parts, names = [values], [name]
    if is_missing.any():
        parts.append(is_missing.astype(np.float64))
        names.append(f"{name} missing")
        treatment += "; the mean where missing, and a column that says so"
    return _varying(
        parts, names, _holds(array), int(is_missing.sum()), _n_distinct(array), treatment
    )


def _of_texts(name: str, array: np.ndarray) -> _Column:
    """A column for each text, one of them for what is missing."""
    is_missing = _is_missing(array)
    texts = np.where(is_missing, "missing", array).astype(str)
    found = np.unique(texts)
    if len(found) > MAX_CATEGORIES:
        example = f"such as {_word(found[0])!r} and {_word(found[1])!r}"
        raise _errors.DataError(
            f"Column {name} holds {len(found)} different texts, {example}, and an input for each would be too many (at most "
            f"{MAX_CATEGORIES}): ignore it, or make numbers of it."
        )
    parts = [(texts == text).astype(np.float64) for text in found]
    treatment = "an input for each text" + (
        ", one of them for missing ones" if is_missing.any() else ""
    )
    return _varying(
        parts,
        [f"{name}={text}" for text in found],
        _holds(array),
        int(is_missing.sum()),
        len(found) - is_missing.any(),
        treatment,
    )


def _of_table(name: str, array: np.ndarray) -> _Column:
    """The columns of a two-dimensional array of numbers."""
    if array.dtype.kind not in "biuf":
        raise _errors.DataError(f"The array {name} must hold numbers: it holds {array.dtype}.")
    columns = [_of_numbers(f"{name}[{number}]", values) for number, values in enumerate(array.T)]
    names = tuple(word for column in columns for word in column.names)
    values = np.concatenate([column.values for column in columns], axis=1)
    return _Column(
        values,
        names,
        f"{array.shape[1]} columns of numbers",
        _n_missing(array),
        None,
        columns[0].treatment,
    )


def _varying(
    parts: list[np.ndarray],
    names: list[str],
    holds: str,
    n_missing: int,
    n_distinct: int,
    treatment: str,
) -> _Column:
    """Those of the columns that have more than one value."""
    kept = [place for place, part in enumerate(parts) if len(np.unique(part[~np.isnan(part)])) > 1]
    values = (
        np.stack([parts[place] for place in kept], axis=1) if kept else np.empty((len(parts[0]), 0))
    )
    treatment = treatment if kept else "left out: one value alone"
    return _Column(
        values, tuple(names[place] for place in kept), holds, n_missing, int(n_distinct), treatment
    )


def _notes(
    inputs: np.ndarray,
    targets: np.ndarray | None,
    is_labelled: np.ndarray,
    classes: tuple[str, ...],
    names: Sequence[str],
) -> tuple[str, ...]:
    notes = []
    if n_missing := int((~is_labelled).sum()):
        notes.append(
            f"{n_missing} of {len(inputs)} rows have no {' or '.join(names)}: they are no part of a training."
        )
    if classes:
        counts = np.nansum(targets, axis=0).astype(int)
        notes.append(
            "Rows of each class: "
            + ", ".join(f"{of} {count}" for of, count in zip(classes, counts))
            + "."
        )
        if counts.min() < 2:
            notes.append(
                f"Class {classes[int(counts.argmin())]} has one row alone: it can't be in the pool and among the test points."
            )
    if inputs.ndim == 2:
        n_copies = len(inputs) - len(np.unique(np.nan_to_num(inputs), axis=0))
        if n_copies:
            notes.append(f"{n_copies} rows have the inputs of another row.")
    return tuple(notes)


def _counts(array: np.ndarray) -> bool:
    """Whether a column numbers the rows from the first to the last."""
    return (
        array.ndim == 1
        and array.dtype.kind == "i"
        and len(array) > 2
        and bool((np.diff(array) == 1).all())
    )


def _is_missing(array: np.ndarray) -> np.ndarray:
    """Where a value is None, NaN or NaT."""
    if array.dtype.kind in "fM":
        return np.isnat(array) if array.dtype.kind == "M" else np.isnan(array)
    return (
        np.array([value is None for value in array])
        if array.dtype == object
        else np.zeros(array.shape, bool)
    )


def _n_missing(array: np.ndarray) -> int:
    return int(_is_missing(array).sum())


def _n_distinct(array: np.ndarray) -> int:
    values = array[~_is_missing(array)]
    return len(set(values)) if array.dtype == object else len(np.unique(values))


def _holds(array: np.ndarray) -> str:
    """What is in a column, in a word."""
    return {
        "b": "truth values",
        "i": "whole numbers",
        "u": "whole numbers",
        "f": "numbers",
        "M": "dates",
    }.get(array.dtype.kind, "texts")


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and np.isinf(array).any():
        row = int(np.argwhere(np.isinf(array))[0][0])
        raise _errors.DataError(
            f"Column {name} must hold finite numbers: it has {int(np.isinf(array).sum())} infinite ones, the first in row {row}."
        )


def _word(value: object) -> str:
    return str(value)[:50]


def _listed(names: Sequence[object]) -> str:
    """Names in words, the first few of many."""
    shown = ", ".join(map(_word, names[:10]))
    return f"{shown} and {len(names) - 10} others" if len(names) > 10 else shown
