"""Add the rows of a second file, which are labelled and cannot be selected."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from collective_variables import _extras
from collective_variables.cli.labels import sheets
from collective_variables.data import encoding
from collective_variables.data._errors import DataError
from collective_variables.data.columns import inputs, roles, values
from collective_variables.data.files.contents import Contents
from collective_variables.data.files.options import Options
from collective_variables.data.files.texts.columns import read_columns


class Files(NamedTuple):
    """The file to select from and the file of labelled rows, and how both are read.

    Attributes:
        path: The file to select from.
        labelled: The file of labelled rows.
        reading: Keywords of `encoding.read_contents`.
    """

    path: Path
    labelled: Path
    reading: Mapping[str, Any]


def options(reading: Mapping[str, Any], /) -> Options:
    """Return the options for the texts of single columns among keywords of `read_contents`."""
    names = ("decimal", "day_first")
    tuples = {name: tuple(reading.get(name, ())) for name in ("missing", "texts")}
    return Options(**{name: reading.get(name) for name in names}, **tuples)


def read_table(
    files: Files, outside: Contents, targets: Sequence[str], **settings: Any
) -> encoding.Table:
    """Return the table to select from, which may lack targets that the labelled rows have.

    Also raises the errors of `encoding.read_contents` and `encoding.encode_table`.

    Args:
        files: Both files.
        outside: The columns of the labelled rows.
        targets: Names of the targets.
        **settings: Further keywords of `encoding.encode_table`.

    Returns:
        The table.
    """
    contents = encoding.read_contents(files.path, **files.reading)
    absent = [name for name in targets if name in outside and name not in contents]
    n_rows = len(next(iter(contents.values())))
    columns = dict(contents.columns) | {name: np.full(n_rows, np.nan) for name in absent}
    contents = replace(contents, columns=columns)
    return encoding.encode_table(contents, targets, **settings)


def join(
    table: encoding.Table, outside: Contents, files: Files, targets: Sequence[str], task: str
) -> tuple[encoding.Table, np.ndarray, list[str]]:
    """Return a table with the labelled rows below its rows, their places in their file, and notes.

    Columns that the files do not read alike are read again from both together. Categories and
    missing values are those of both. Identities and further columns are left out.

    Args:
        table: The table to select from.
        outside: The columns of the labelled rows.
        files: Both files.
        targets: Names of the targets.
        task: "auto", "regression" or "classification".

    Returns:
        The table, the rows of the second file, and notes.

    Raises:
        DataError: The files have different columns, or no row of the second file has a target.

    Also raises the errors of the encoding.
    """
    is_input = table.columns["role"] == "input"
    names = table.columns.loc[is_input, "column"].tolist()
    _check_names(table, outside, files, [*names, *targets])
    known = [~values.is_missing(outside[name].reshape(len(outside[name]), -1)) for name in targets]
    is_labelled = np.concatenate(known, axis=1).all(axis=1)
    rows = np.flatnonzero(is_labelled)
    what = " and ".join(targets)
    if not len(rows):
        raise DataError(f"{files.labelled} must have a row with a value in {what}: none has.")
    notes = [f"{len(rows)} labelled rows of {files.labelled} are added. They cannot be selected."]
    if n_without := len(is_labelled) - len(rows):
        notes.append(f"{n_without} rows of {files.labelled} have no {what} and are left out.")
    joined = _join_columns(table.contents, outside, [*names, *targets], rows, files)
    encoded = inputs.encode_inputs(Contents(joined), names)
    both = replace(
        table,
        inputs=encoded.values,
        features=encoded.features,
        sources=encoded.sources,
        kinds=encoded.kinds,
        contents={},
        identities=None,
        identity=None,
    )
    columns = {name: joined[name] for name in targets}
    both, more = sheets.with_targets(both, columns, targets, task)
    return both, rows, [*notes, *more]


def _check_names(
    table: encoding.Table, outside: Contents, files: Files, needed: Sequence[str]
) -> None:
    """Raise DataError unless the file of labelled rows has the columns of the table."""
    missing = [name for name in needed if name not in outside]
    extra = [name for name in outside if name not in table.contents]
    told = []
    if missing:
        told.append(f"lacks {values.join_names(missing)}")
    if extra:
        told.append(f"also has {values.join_names(extra)}")
    if told:
        raise DataError(
            f"{files.labelled} must have the columns of {files.path}: it {' and '.join(told)}."
        )


def _join_columns(
    first: Mapping[str, np.ndarray],
    second: Contents,
    names: Sequence[str],
    rows: np.ndarray,
    files: Files,
) -> dict[str, np.ndarray]:
    """Return all columns of the first file, with some rows of the second below."""
    joined, unlike = {}, []
    for name in names:
        upper, lower = _adapted(first[name], second[name]), _adapted(second[name], first[name])
        if upper.shape[1:] != lower.shape[1:] or (upper.ndim > 1 and upper.dtype != lower.dtype):
            raise DataError(
                f"{name} must have one form in both files: {upper.shape[1:]} of {upper.dtype} in "
                f"{files.path}, and {lower.shape[1:]} of {lower.dtype} in {files.labelled}."
            )
        is_unlike = sheets.kind(upper) != sheets.kind(lower) or (upper.dtype == bool) != (
            lower.dtype == bool
        )
        if name in second.refused or is_unlike:
            unlike.append(name)
        else:
            joined[name] = np.concatenate([upper, lower[rows]])
    if unlike:
        joined |= _read_together(unlike, rows, files)
    return joined


def _adapted(column: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return a column, without any value as one of the kind of the other."""
    if column.ndim > 1 or other.ndim > 1 or not values.is_missing(column).all():
        return column
    return sheets.without_values(len(column), other.dtype)


def _read_together(names: Sequence[str], rows: np.ndarray, files: Files) -> dict[str, np.ndarray]:
    """Return columns whose cells in both files decide together what they hold.

    Raises:
        DataError: A column cannot be used.
    """
    with _extras.required("cli"):
        import pyarrow

    texts = [*files.reading.get("texts", ()), *names]
    settings = {**files.reading, "texts": texts}
    upper, lower = (
        encoding.read_contents(path, **settings) for path in (files.path, files.labelled)
    )
    cells = {
        name: pyarrow.array([*upper[name], *lower[name][rows]], pyarrow.string()) for name in names
    }
    n_upper = len(upper[names[0]])

    def place(row: int) -> str:
        if row < n_upper:
            return f"row {row} of {files.path}"
        return f"row {rows[row - n_upper]} of {files.labelled}"

    columns = read_columns(cells, options(files.reading), place, usual="")
    for name, column in columns.items():
        if column.refused is not None:
            raise DataError(f"Column {name} cannot be used: {column.refused}.")
    return {name: column.values for name, column in columns.items()}


def common_rows(
    table: encoding.Table, outside: Contents, rows: np.ndarray, identity: str | int | None
) -> list[int]:
    """Return the rows of a table that are also in the second file, by a column of the user."""
    name = roles.find_identity(identity, outside) if identity in outside else None
    if name is None or table.identities is None:
        return []
    others = set(values.name_values(outside[name][rows]).tolist())
    return [row for row, text in enumerate(table.identities.tolist()) if text in others]
