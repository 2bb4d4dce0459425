"""Turn a user's table into a learning problem, and report how each column was encoded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from collective_variables import _checks
from collective_variables.data import problems, reading
from collective_variables.data import scaling as scalings
from collective_variables.data._errors import DataError
from collective_variables.data.columns import identities, inputs, report, roles, values
from collective_variables.data.columns import targets as target_columns
from collective_variables.data.files.contents import Contents

TEST_SHARE = 5  # by default one row in so many is a test point
TASKS = target_columns.TASKS
COLUMNS = report.COLUMNS


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Rows of a user's file as numbers, not yet split or scaled.

    Attributes:
        inputs: (n_rows, n_features) float64, NaN where a number is missing; or images as they are
            in the file, (n_rows, height, width, n_channels).
        targets: (n_rows, n_outputs) float64, NaN where missing, one-hot for a classification; None
            without a target.
        is_labelled: (n_rows,) bool, whether a row has all targets; true without a target.
        task: "regression" or "classification"; None if no row has a target.
        features: A name for each input column; empty for images.
        classes: The class of each target column; empty for a regression.
        columns: A row for each column of the file, with the columns `COLUMNS`. Its role is
            "target", "input", "identity" or "ignored".
        notes: Further sentences for the user.
        warnings: The notes that results depend on: columns that were left out unasked, and how
            cells were read, such as texts taken for missing values.
        sources: The column of the file behind each input column; empty for images.
        kinds: The kind of each input column: "number", "date", "flag" (a truth value), "category"
            (1 for one of the texts of its source) or "missing" (1 where its source has no value);
            empty for images.
        contents: The columns of the file as they were read.
        identities: (n_rows,) texts that tell rows apart, such as the values of the column
            `identity` or the paths of images; None without any.
        identity: The name of the column that gives the identities.
    """

    inputs: np.ndarray
    targets: np.ndarray | None
    is_labelled: np.ndarray
    task: str | None
    features: tuple[str, ...]
    classes: tuple[str, ...]
    columns: pd.DataFrame
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    contents: Mapping[str, np.ndarray] = field(default_factory=dict)
    identities: np.ndarray | None = None
    identity: str | None = None

    def __repr__(self) -> str:
        task = "" if self.task is None else f", {self.task}"
        return f"Table of {len(self.inputs)} rows, inputs {self.inputs.shape}{task}"

    def report(self) -> str:
        """Return how each column was encoded, the notes, and the number of rows."""
        # Many columns that were treated alike share a line.
        size = f"{len(self.inputs)} rows"
        if self.task is not None:
            size += f", {self.task}"
        return "\n".join((report.to_text(self.columns), *self.notes, size))


def read_table(
    path: str | Path,
    /,
    targets: roles.Names = (),
    *,
    ignored: roles.Names = (),
    used: roles.Names = (),
    identity: str | int | None = None,
    task: str = "auto",
    image_size: tuple[int, int] | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    day_first: bool | None = None,
    header: bool | None = None,
    missing: str | Sequence[str] = (),
    texts: str | Sequence[str] = (),
) -> Table:
    r"""Read a user's file, and encode its columns as inputs and targets.

    The file is a table (.csv, .tsv, .parquet), arrays (.npz, .npy) or a folder of images.

    Columns that tell rows apart rather than describe them are not inputs: ids, row numbers, indices
    of a table, texts that nearly all differ, and the paths of images. Neither is the class of
    images without a target. Notes name these columns.

    Raises DataError if the file cannot be read or a column cannot have its role. Raises MemoryError
    if the contents are larger than the free memory. Raises ImportError if a package is missing:
    `pip install "collective-variables[cli]"`.

    Args:
        path: Path of the file or folder.
        targets: Name or names of the columns to predict; none to select rows without labels.
        ignored: Name or names of the columns that are neither target nor input. All others are
            inputs: numbers as they are, truth values as 0 and 1, and dates as days since 1970. Each
            of at most 50 different texts becomes a column of 0 and 1. A further column marks
            missing values. Columns with a single value are left out.
        used: Name or names of columns that are inputs though they look like ids or row numbers.
        identity: Column whose values tell rows apart; it is not an input. Defaults to the first
            column that was left out and has a different value in each row, ids before row numbers.
        task: "regression", "classification" or "auto". With "auto", texts, truth values, one-hot
            rows and at most 20 whole numbers that repeat are classes (`targets.choose_task`).
        image_size: Height and width to which images are resized. By default all images must have
            one size, with at most 2²⁰ pixels (1024 x 1024).
        encoding: Encoding of a text file; by default detected.
        decimal: Decimal sign, "." or ","; by default detected.
        day_first: Whether 01/02/2020 is in February; by default detected.
        header: Whether the first line of a text file holds names; by default detected.
        missing: Further cells that stand for missing values.
        texts: Columns that are texts whatever they hold.

    Returns:
        The rows as numbers, with a report on each column.

    Example:
        >>> import pathlib, tempfile
        >>> import collective_variables as cv
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "houses.csv"
        ...     _ = path.write_text("area,town,price\n50,Ulm,1.5\n80,Bonn,2.5\n65,Ulm,2.0\n")
        ...     table = cv.read_table(path, "price")
        >>> table.features
        ('area', 'town=Bonn', 'town=Ulm')
        >>> table.inputs.tolist()
        [[50.0, 0.0, 1.0], [80.0, 1.0, 0.0], [65.0, 0.0, 1.0]]
        >>> table.task, table.targets[:, 0].tolist()
        ('regression', [1.5, 2.5, 2.0])
    """
    contents = read_contents(
        path,
        identity=identity,
        image_size=image_size,
        encoding=encoding,
        decimal=decimal,
        day_first=day_first,
        header=header,
        missing=missing,
        texts=texts,
    )
    return encode_table(contents, targets, ignored=ignored, used=used, identity=identity, task=task)


def read_contents(
    path: str | Path,
    /,
    *,
    identity: str | int | None = None,
    texts: str | Sequence[str] = (),
    **options: Any,
) -> Contents:
    """Read a file as `reading.read_file`, identities as they are written.

    Args:
        path: Path of the file or folder.
        identity: Column whose values tell rows apart.
        texts: Columns that are texts whatever they hold.
        **options: Further options of `reading.read_file`.

    Returns:
        The columns.
    """
    read = partial(reading.read_file, path, **options)
    texts = [texts] if isinstance(texts, str) else list(texts)
    contents = read(texts=texts)
    if (name := roles.find_identity(identity, contents)) is not None:
        contents = _keep_identity(contents, name, lambda: read(texts=[*texts, name]))
    return contents


def _keep_identity(contents: Contents, name: str, read_as_text: Callable[[], Contents]) -> Contents:
    """Return contents with identities as written, such as 007, or A1 among numbers."""
    is_refused = name in contents.refused
    if not is_refused and contents[name].dtype.kind != "i":
        return contents
    written = read_as_text()
    return written if is_refused or identities.has_leading_zeros(written[name]) else contents


def encode_table(
    contents: Mapping[str, np.ndarray],
    /,
    targets: roles.Names = (),
    *,
    ignored: roles.Names = (),
    used: roles.Names = (),
    identity: str | int | None = None,
    task: str = "auto",
) -> Table:
    """Return the columns of a file encoded as inputs and targets, as in `read_table`.

    An array of more than two dimensions must be the only input. Raises DataError if a column does
    not exist, cannot be an input or a target, or holds an infinite number.
    """
    _checks.choice("task", task, TASKS)
    if not isinstance(contents, Contents):
        contents = Contents(contents)
    role = roles.assign_roles(
        contents, predicted=targets, ignored=ignored, used=used, identity=identity
    )
    outputs = target_columns.encode_targets(contents, role.targets, task)
    encoded = inputs.encode_inputs(contents, role.inputs)
    order = {name: place for place, name in enumerate(contents)}
    rows = [*outputs.rows, *encoded.rows, *_ignored_rows(contents, role)]
    is_labelled = np.ones(len(encoded.values), bool)
    if outputs.values is not None:
        is_labelled = np.isfinite(outputs.values).all(axis=1)
    readings = (
        *contents.notes_on({*role.targets, *role.inputs}),
        *inputs.note_empty(contents, role.inputs),
    )
    notes = (
        *target_columns.note_labels(role.targets, is_labelled),
        *readings,
        *outputs.notes,
        *target_columns.note_classes(outputs),
        *role.warnings,
        *role.notes,
        *_note_copies(encoded.values),
    )
    return Table(
        encoded.values,
        outputs.values,
        is_labelled,
        outputs.task,
        encoded.features,
        outputs.classes,
        report.tabulate(sorted(rows, key=lambda row: order[row[0]])),
        notes,
        (*readings, *role.warnings),
        encoded.sources,
        encoded.kinds,
        contents.columns,
        role.identities,
        role.identity,
    )


def _ignored_rows(contents: Contents, role: roles.Roles) -> list[tuple]:
    """Return the rows of the report on columns that are neither target nor input."""
    rows = []
    for name, why in role.ignored.items():
        is_identity = name == role.identity
        description = (values.describe(contents[name]), values.count_missing(contents[name]))
        if name in contents.refused:
            description = ("not read", None)
        rows.append((name, "identity" if is_identity else "ignored", *description, None, why))
    return rows


def _note_copies(points: np.ndarray) -> list[str]:
    if points.ndim != 2:
        return []
    # Hashes of 64 bits take less time and memory than sorted rows; 0.0 makes -0.0 equal to 0.
    n_copies = len(points) - len({hash((point + 0.0).tobytes()) for point in points})
    if not n_copies:
        return []
    verb = "row has" if n_copies == 1 else "rows have"
    return [f"{n_copies} {verb} the same inputs as another row."]


def split_table(
    table: Table,
    name: str,
    /,
    *,
    n_test: int | None = None,
    seed: int = 0,
    scaling: str = "train",
    n_available: int | None = None,
    input_scaling: str = scalings.DEFAULT,
) -> problems.Dataset:
    """Return the labelled rows of a table, split into pool and test points and scaled.

    The targets of a regression become z-scores. Raises DataError if the table has no target, if no
    row has one, or if all labelled rows are of one class. Raises ValueError if the sizes do not fit
    the number of labelled rows, or for an unknown scaling.

    Args:
        table: The rows.
        name: Name of the problem.
        n_test: Number of test points; by default one row in `TEST_SHARE`.
        seed: Seed of the split, as in `problems.load_problem`.
        scaling: The rows that give ranks, means and deviations: "train" for the pool, or "all".
        n_available: Number of labelled rows to split; by default all.
        input_scaling: How inputs are scaled, one of `scaling.SCALINGS`.

    Returns:
        Pool and test points; `index` and `test_index` are rows of the file.
    """
    rows, targets = _labelled(table)
    _checks.choice("scaling", scaling, ("train", "all"))
    n_test = max(1, len(rows) // TEST_SHARE) if n_test is None else n_test
    test, pool = problems.split(name, len(rows), n_test=n_test, n_available=n_available, seed=seed)
    reference = pool if scaling == "train" else np.concatenate([test, pool])
    inputs = scalings.scale_table(table, rows[reference], scaling=input_scaling)
    inputs = inputs[rows].astype(np.float32)
    if table.task == "regression":
        targets = problems.z_score(targets, reference)
    targets = targets.astype(np.float32)
    return problems.Dataset(
        inputs[pool],
        targets[pool],
        inputs[test],
        targets[test],
        table.task or "regression",
        rows[pool],
        rows[test],
        name,
    )


def _labelled(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that have a target, and their targets."""
    if table.targets is None:
        raise DataError(
            "A problem must have a target: received none. Name its column with --target."
        )
    rows = np.flatnonzero(table.is_labelled)
    if len(rows) == 0:
        raise DataError("At least one row must have a target, to train or test on: none has.")
    targets = table.targets[rows]
    if table.classes and (targets == targets[0]).all():
        raise DataError(
            "Rows of two classes must be labelled, to train or test on: "
            f"all {len(rows)} are of class {table.classes[int(targets[0].argmax())]}."
        )
    return rows, targets
