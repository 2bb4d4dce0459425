"""Encode the columns to predict: numbers of a regression, or classes as one-hot rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables.data._errors import DataError
from collective_variables.data.columns import inputs, values
from collective_variables.data.files.contents import Contents

TASKS = ("auto", "regression", "classification")
MAX_CLASSES = 20  # different whole numbers that count as classes unless the task is given


class Targets(NamedTuple):
    """Columns to predict, as numbers as in `encoding.Table`, with a row of the report for each."""

    values: np.ndarray | None
    classes: tuple[str, ...]
    task: str | None
    rows: list[tuple]
    notes: tuple[str, ...] = ()


def encode_targets(contents: Contents, names: Sequence[str], task: str) -> Targets:
    """Return the encoded targets; missing labels become NaN in all outputs of their row.

    Raises:
        DataError: A column cannot be a target of the task.
    """
    if not names:
        return Targets(None, (), None, [])
    columns = {name: _check_target(name, contents) for name in names}
    chosen = choose_task(list(columns.values())) if task == "auto" else task
    if chosen != "classification":
        return _encode_numbers(columns, chosen)
    if len(columns) > 1:
        raise DataError(
            "A classification must have one target, a column of classes: "
            f"received {', '.join(names)}."
        )
    ((name, column),) = columns.items()
    encoded = _encode_classes(name, column)
    if task == "auto" and not _repeat(column):
        note = (
            f"The whole numbers of {name} are taken for classes: choose the task regression if "
            "they are quantities."
        )
        return encoded._replace(notes=(note,))
    return encoded


def choose_task(columns: Sequence[np.ndarray]) -> str | None:
    """Return the task that "auto" stands for; None if nothing is labelled yet.

    The task depends on the labels, not on the format of the file or on the dtype. A single target
    is a classification if it holds texts, truth values, one-hot rows, or at most `MAX_CLASSES`
    different whole numbers that occur twice on average. While labels are missing, whole numbers
    from 0 to `MAX_CLASSES` are also classes if each could occur twice in all rows. Any other
    target is a regression, and so are several targets.
    """
    if all(values.is_missing(column).all() for column in columns):
        return None
    return "classification" if len(columns) == 1 and _are_classes(columns[0]) else "regression"


def _are_classes(column: np.ndarray) -> bool:
    if column.ndim == 2:
        return _is_one_hot(column)
    if column.dtype.kind in "Ob":
        return True
    labels = column[~values.is_missing(column)]
    n_distinct = len(np.unique(labels))
    if not values.are_whole(labels) or n_distinct > MAX_CLASSES:
        return False
    are_codes = labels.min() >= 0 and labels.max() <= MAX_CLASSES
    return _repeat(column) or (are_codes and 2 * n_distinct <= len(column))


def _repeat(column: np.ndarray) -> bool:
    """Return whether labels occur twice on average, or cannot be numbers of a regression."""
    if column.ndim == 2 or column.dtype.kind in "Ob":
        return True
    labels = column[~values.is_missing(column)]
    return 2 * len(np.unique(labels)) <= len(labels)


def _is_one_hot(table: np.ndarray) -> bool:
    """Return whether each row of a table has a single 1 among zeros, or is missing."""
    if table.ndim != 2 or table.shape[1] < 2 or table.dtype.kind not in "biuf":
        return False
    rows = table[~values.is_missing(table).any(axis=1)]
    return len(rows) > 0 and bool(np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all())


def _check_target(name: str, contents: Contents) -> np.ndarray:
    """Return a target as a column, or as a table if it has several outputs."""
    if name in contents.refused:
        raise DataError(f"The target {name} cannot be used: {contents.refused[name]}.")
    array = contents[name]
    if infinite := inputs.find_infinite(name, array):
        raise DataError(f"{infinite}.")
    array = array.reshape(len(array), -1) if array.ndim > 2 and array[0].size == 1 else array
    if array.ndim > 2:
        raise DataError(
            f"The target {name} must be a column or a table of numbers: "
            f"received the shape {array.shape}."
        )
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _encode_numbers(columns: Mapping[str, np.ndarray], task: str | None) -> Targets:
    parts, rows = [], []
    for name, array in columns.items():
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"The target {name} of a regression must hold numbers: "
                f"it was read as {_describe_cells(array)}."
            )
        parts.append(array.astype(np.float64).reshape(len(array), -1))
        n_distinct = values.count_distinct(array.reshape(-1))
        description = (values.describe(array), values.count_missing(array), n_distinct, "z-scores")
        rows.append((name, "target", *description))
    return Targets(np.concatenate(parts, axis=1), (), task, rows)


def _encode_classes(name: str, column: np.ndarray) -> Targets:
    """Encode classes as one-hot rows, NaN where the class is missing."""
    if column.ndim == 2:
        return _encode_one_hot(name, column)
    missing = values.is_missing(column)
    labels = column[~missing]
    classes, numbers = np.unique(
        labels.astype(str) if column.dtype == object else labels, return_inverse=True
    )
    if not len(classes):
        return _encode_numbers({name: np.full(len(column), np.nan)}, "classification")
    if len(classes) == 1 and not missing.any():
        raise DataError(
            f"The target {name} must have at least two classes: all {len(column)} rows are "
            f"{values.shorten(values.name_value(classes[0]))!r}."
        )
    if len(classes) > max(1, len(column) // 2):
        raise DataError(
            f"The target {name} has {len(classes)} classes in {len(column)} rows: it was read as "
            f"{_describe_cells(column)}. Choose the task regression for numbers, or another target."
        )
    one_hot = np.full((len(column), len(classes)), np.nan)
    one_hot[~missing] = np.eye(len(classes))[numbers]
    content = values.describe(column)
    row = (name, "target", content, int(missing.sum()), len(classes), "an output for each class")
    names = tuple(values.shorten(values.name_value(label)) for label in classes)
    return Targets(one_hot, names, "classification", [row])


def _encode_one_hot(name: str, table: np.ndarray) -> Targets:
    """Return one-hot rows as they are; a row with a missing number has no class."""
    if not _is_one_hot(table):
        raise DataError(
            f"The target {name} of a classification must be a column of classes, or have a single "
            f"1 in each row: received {table.shape[1]} columns of other numbers."
        )
    one_hot = table.astype(np.float64)
    is_missing = np.isnan(one_hot).any(axis=1)
    one_hot[is_missing] = np.nan
    n_classes = int((np.nansum(one_hot, axis=0) > 0).sum())
    content = f"{table.shape[1]} columns of 0 and 1"
    row = (name, "target", content, int(is_missing.sum()), n_classes, "an output for each class")
    names = tuple(map(str, range(table.shape[1])))
    return Targets(one_hot, names, "classification", [row])


def _describe_cells(column: np.ndarray) -> str:
    """Return what a column without numbers was read as, with a cell that is not a number."""
    if column.dtype != object:
        return values.describe(column)
    is_text = ~values.is_missing(column) & np.isnan(pd.to_numeric(column, errors="coerce"))
    if not is_text.any():
        return values.describe(column)
    row = int(np.argmax(is_text))
    return f"texts, such as {values.shorten(column[row])!r} in row {row}"


def note_labels(names: Sequence[str], is_labelled: np.ndarray) -> list[str]:
    """Return a note on how many rows have a target, if some have none."""
    n_rows, n_labelled = len(is_labelled), int(is_labelled.sum())
    if n_labelled == n_rows:
        return []
    what = " and ".join(names)
    if not n_labelled:
        return [f"None of {n_rows} rows of the file has a value in {what}."]
    verbs = ("has", "counts") if n_labelled == 1 else ("have", "count")
    others = "one" if n_rows - n_labelled == 1 else n_rows - n_labelled
    return [
        f"{n_labelled} of {n_rows} rows {verbs[0]} a value in {what} and {verbs[1]} as labelled; "
        f"the other {others} can be selected, but not trained or tested on."
    ]


def note_classes(targets: Targets) -> list[str]:
    """Return notes on the number of rows of each class, and on classes with a single row."""
    if not targets.classes:
        return []
    counts = np.nansum(targets.values, axis=0).astype(int)
    each = [f"{name} {count}" for name, count in zip(targets.classes, counts, strict=True)]
    notes = [f"Rows of each class: {values.join_names(each)}."]
    n_missing = int(np.isnan(targets.values[:, 0]).sum())
    if len(targets.classes) == 1 and n_missing:
        (name,) = targets.classes
        notes.append(
            f"All {counts[0]} labels of {targets.rows[0][0]} are {name!r}, and {n_missing} are "
            "missing: if an empty cell means another class, write that class in."
        )
    single = [name for name, count in zip(targets.classes, counts, strict=True) if count == 1]
    if single:
        subject = (
            f"Class {single[0]} has"
            if len(single) == 1
            else (f"Classes {values.join_names(single)} have")
        )
        notes.append(
            f"{subject} a single row: it cannot be both in the pool and among the test points."
        )
    return notes
