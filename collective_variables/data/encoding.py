"""Turn a user's table into a learning problem, and report how each column was encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables import _checks
from collective_variables.data import _columns, problems, reading
from collective_variables.data._errors import DataError

TEST_SHARE = 5  # one row in so many is a test point by default
TASKS = ("auto", "regression", "classification")
COLUMNS = ("column", "role", "holds", "missing", "distinct", "treatment")


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a user's file as numbers, not yet split or scaled.

    Attributes:
        inputs: (n_rows, n_features) float64, NaN where a number is missing; or images as they are
            in the file, (n_rows, height, width, n_channels).
        targets: (n_rows, n_outputs) float64, NaN where missing, one-hot for a classification; None
            without a target.
        is_labelled: (n_rows,) bool, whether a row has all its targets.
        task: "regression" or "classification".
        features: A name for each input column; empty for images.
        classes: What the columns of the targets stand for; empty for a regression.
        columns: A row for each column of the file, with the columns `COLUMNS`.
        notes: What else the user should know, a sentence each.
        sources: The column of the file that each input column comes from; empty for images.
        kinds: What each input column is: "number", "date", "flag" (a truth value), "category" (1
            for one of the texts of its source) or "missing" (1 where its source has no value);
            empty for images.
        contents: The columns of the file as they were read.
        identities: (n_rows,) texts that tell rows apart, such as those of the column `identity` or
            the paths of images; None without any.
        identity: The name of the column that the identities come from.
    """

    inputs: np.ndarray
    targets: np.ndarray | None
    is_labelled: np.ndarray
    task: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    columns: pd.DataFrame
    notes: tuple[str, ...]
    sources: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    contents: Mapping[str, np.ndarray] = field(default_factory=dict)
    identities: np.ndarray | None = None
    identity: str | None = None


def read_table(
    path: str | Path,
    /,
    targets: str | Sequence[str] = (),
    *,
    ignored: str | Sequence[str] = (),
    task: str = "auto",
    image_size: tuple[int, int] | None = None,
) -> Table:
    """Read a user's file, and encode its columns as inputs and targets.

    The file is a table (.csv, .tsv, .parquet), arrays (.npz, .npy) or a folder of images.

    Args:
        path: Of the file or folder.
        targets: Name or names of the columns to predict; none to select rows without labels.
        ignored: Name or names of the columns that are neither target nor input. All others are
            inputs: numbers as they are, truth values as 0 and 1, dates as days since 1970, and
            each text of at most 50 as a column of 0 and 1. Missing numbers are marked in a second
            column. Columns with a single value are left out.
        task: "regression", "classification" or "auto". The latter takes a target of texts, of truth
            values or of at most 20 whole numbers for classes.
        image_size: Height and width to which images are resized; by default all images must have
            one size.

    Returns:
        The rows as numbers, with a report on each column.

    Raises:
        DataError: The file cannot be read, or a column cannot be what it is meant for.
        MemoryError: The contents are larger than the free memory.
        ImportError: A package is missing: `pip install "collective-variables[cli]"`.

    Example:
        >>> import pathlib, tempfile
        >>> import collective_variables as cv
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "houses.csv"
        ...     _ = path.write_text("area,town,price\\n50,Ulm,1.5\\n80,Bonn,2.5\\n65,Ulm,2.0\\n")
        ...     table = cv.read_table(path, "price")
        >>> table.features
        ('area', 'town=Bonn', 'town=Ulm')
        >>> table.inputs.tolist()
        [[50.0, 0.0, 1.0], [80.0, 1.0, 0.0], [65.0, 0.0, 1.0]]
        >>> table.task, table.targets[:, 0].tolist()
        ('regression', [1.5, 2.5, 2.0])
    """
    contents = reading.read_file(path, image_size=image_size)
    return encode_table(contents, targets, ignored=ignored, task=task)


def encode_table(
    contents: Mapping[str, np.ndarray],
    /,
    targets: str | Sequence[str],
    *,
    ignored: str | Sequence[str] = (),
    task: str = "auto",
) -> Table:
    """Encode the columns of a file as inputs and targets, as `read_table` describes.

    An array of more than two dimensions must be the only input.

    Raises:
        DataError: A column does not exist, cannot be an input or a target, or holds an infinite
            number.
    """
    targets, ignored = _names(targets), _names(ignored)
    _checks.choice("task", task, TASKS)
    _check_names(contents, targets, ignored)
    outputs = _columns.encode_targets(contents, targets, task)
    rest = {name: array for name, array in contents.items() if name not in (*targets, *ignored)}
    inputs = _encode_inputs(rest)
    ignored_rows = [_ignored_row(name, contents[name]) for name in ignored]
    order = list(contents)
    rows = sorted(
        outputs.rows + inputs.rows + ignored_rows,
        key=lambda row: order.index(row[0]),
    )
    is_labelled = np.ones(len(inputs.values), bool)
    if outputs.values is not None:
        is_labelled = np.isfinite(outputs.values).all(axis=1)
    notes = (
        *_row_number_notes(rest),
        *_label_notes(targets, is_labelled),
        *_class_notes(outputs),
        *_copy_notes(inputs.values),
    )
    return Table(
        inputs.values,
        outputs.values,
        is_labelled,
        outputs.task,
        inputs.features,
        outputs.classes,
        pd.DataFrame(rows, columns=COLUMNS),
        notes,
        inputs.sources,
        inputs.kinds,
        contents,
    )


def _names(names: str | Sequence[str]) -> list[str]:
    """Return a name or several as a list."""
    return [names] if isinstance(names, str) else list(names)


def _check_names(
    contents: Mapping[str, np.ndarray], targets: list[str], ignored: list[str]
) -> None:
    """Raise DataError unless all names are columns, and each has one role only."""
    for name in (*targets, *ignored):
        if name not in contents:
            raise DataError(
                f"There is no column {name}: the file has {_columns.listed(list(contents))}."
            )
    if both := sorted(set(targets) & set(ignored)):
        raise DataError(f"A column cannot be a target and ignored: {both[0]}.")
    if len(set(targets)) < len(targets):
        raise DataError(f"A target must be named once: received {', '.join(targets)}.")


def _ignored_row(name: str, array: np.ndarray) -> tuple:
    description = (_columns.content(array), _columns.count_missing(array), None, "left out")
    return (name, "ignored", *description)


class Inputs(NamedTuple):
    """Inputs as numbers, as in `Table`, and a row of the table of columns for each column."""

    values: np.ndarray
    features: tuple[str, ...]
    sources: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: list[tuple]


def _encode_inputs(columns: Mapping[str, np.ndarray]) -> Inputs:
    if not columns:
        raise DataError("There must be a column besides targets and ignored ones: received none.")
    for name, array in columns.items():
        _columns.check_finite(name, array)
    if any(array.ndim > 2 for array in columns.values()):
        return _encode_images(columns)
    encoded = {name: _columns.encode_input(name, array) for name, array in columns.items()}
    rows = [(name, "input", *column[3:]) for name, column in encoded.items()]
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
        rows,
    )


def _encode_images(columns: Mapping[str, np.ndarray]) -> Inputs:
    """Return images, or another array of more than two dimensions, as the only input."""
    large = [name for name, array in columns.items() if array.ndim > 2]
    # The paths of images tell rows apart, but nothing can be learned from them.
    others = [name for name in columns if name not in (*large, "file")]
    if len(large) > 1 or others:
        inputs = [*large, *others]
        raise DataError(
            "Images, or arrays of more than two dimensions, must be the only input: "
            f"received {_columns.listed(inputs)}. Ignore the others, or make one the target."
        )
    name, array = large[0], columns[large[0]]
    if n_missing := _columns.count_missing(array):
        raise DataError(f"No number of {name} may be missing: {n_missing} are NaN.")
    array = array[..., None] if array.ndim == 3 else array
    is_bytes = array.dtype == np.uint8
    content = f"arrays {array.shape[1:]} of {array.dtype}"
    treatment = "divided by 255" if is_bytes else "z-scores"
    rows = [(name, "input", content, 0, None, treatment)]
    if "file" in columns:
        rows.append(("file", "ignored", "texts", 0, None, "left out"))
    return Inputs(array if is_bytes else array.astype(np.float64), (), (), (), rows)


def _row_number_notes(columns: Mapping[str, np.ndarray]) -> list[str]:
    return [
        f'Column "{name}" looks like a row number but is used as an input: '
        "ignore it unless the order of the rows matters."
        for name, array in columns.items()
        if _columns.counts_rows(array)
    ]


def _label_notes(targets: list[str], is_labelled: np.ndarray) -> list[str]:
    n_unlabelled = int((~is_labelled).sum())
    if not n_unlabelled:
        return []
    return [
        f"{n_unlabelled} of {len(is_labelled)} rows have no {' or '.join(targets)}: "
        "they can be selected, but not trained or tested on."
    ]


def _class_notes(outputs: _columns.Targets) -> list[str]:
    if not outputs.classes:
        return []
    counts = np.nansum(outputs.values, axis=0).astype(int)
    each = (f"{name} {count}" for name, count in zip(outputs.classes, counts))
    notes = [f"Rows of each class: {', '.join(each)}."]
    if counts.min() < 2:
        notes.append(
            f"Class {outputs.classes[int(counts.argmin())]} has a single row: "
            "it cannot be both in the pool and among the test points."
        )
    return notes


def _copy_notes(inputs: np.ndarray) -> list[str]:
    if inputs.ndim != 2:
        return []
    n_copies = len(inputs) - len(np.unique(np.nan_to_num(inputs), axis=0))
    return [f"{n_copies} rows have the same inputs as another row."] if n_copies else []


def split_table(
    table: Table,
    name: str,
    /,
    *,
    n_test: int | None = None,
    seed: int = 0,
    scaling: str = "train",
    n_available: int | None = None,
) -> problems.Dataset:
    """Split the labelled rows of a table into pool and test points, and scale them.

    Both work as in `problems.load_problem`. By default one row in `TEST_SHARE` is a test point. A
    missing number becomes the mean of the others, in the rows that the scaling is taken from.
    Images of bytes are divided by 255. `index` and `test_index` are rows of the file.

    Raises:
        DataError: The table has no target, or no row with one.
        ValueError: The sizes do not fit the number of labelled rows.
    """
    if table.targets is None:
        raise DataError("A problem must have a target: received none.")
    rows = np.flatnonzero(table.is_labelled)
    if len(rows) == 0:
        raise DataError("At least one row must have a target, to train or test on: none has.")
    _checks.choice("scaling", scaling, ("train", "all"))
    n_test = max(1, len(rows) // TEST_SHARE) if n_test is None else n_test
    test, pool = problems.split(name, len(rows), n_test=n_test, n_available=n_available, seed=seed)
    reference = pool if scaling == "train" else np.concatenate([test, pool])
    inputs = scale_inputs(table.inputs[rows], reference).astype(np.float32)
    targets = table.targets[rows]
    if table.task == "regression":
        targets = problems.z_score(targets, reference)
    targets = targets.astype(np.float32)
    return problems.Dataset(
        inputs[pool],
        targets[pool],
        inputs[test],
        targets[test],
        table.task,
        rows[pool],
        rows[test],
        name,
    )


def scale_inputs(inputs: np.ndarray, reference: np.ndarray, /) -> np.ndarray:
    """Scale inputs by the rows `reference`: bytes are divided by 255, all else becomes z-scores.

    Missing numbers become the mean of the others.
    """
    if inputs.dtype == np.uint8:
        return np.divide(inputs, 255, dtype=np.float32)
    means = [
        column[np.isfinite(column)].mean() if np.isfinite(column).any() else 0.0
        for column in inputs[reference].reshape(len(reference), -1).T
    ]
    means = np.reshape(means, inputs.shape[1:])
    return problems.z_score(np.where(np.isnan(inputs), means, inputs), reference)
