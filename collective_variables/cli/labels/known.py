"""Gather the labelled rows of a selection and their targets, from all files that hold some."""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

from collective_variables.cli import _arguments, _rows
from collective_variables.cli.labels import sheets, tables
from collective_variables.cli.results import chosen
from collective_variables.data import encoding
from collective_variables.data._errors import DataError
from collective_variables.data.columns import roles
from collective_variables.data.files.contents import Contents

ENCODING = ("ignored", "used", "task")  # keywords of `read_table` that concern no single file


class Known(NamedTuple):
    """Hold what is known of the rows before a selection.

    Attributes:
        table: The rows of the file with all targets, and below them those of --labelled-table.
        targets: Names of the targets, in the order of the columns of `table.targets`.
        labelled: Rows that files name as labelled, with or without a target.
        excluded: Rows that cannot be labelled.
        n_rows: Number of rows of the file.
        is_complete: Whether the file has the target of every row.
        notes: Notes for the user.
    """

    table: encoding.Table
    targets: list[str]
    labelled: list[int]
    excluded: list[int]
    n_rows: int
    is_complete: bool
    notes: list[str]


def read_outside(arguments: argparse.Namespace, /) -> Contents | None:
    """Return the columns of --labelled-table, None without the argument.

    Also raises the errors of `encoding.read_contents`.

    Args:
        arguments: The parsed arguments.

    Returns:
        The columns.

    Raises:
        DataError: There is no target.
    """
    path = getattr(arguments, "labelled_table", None)
    if path is None:
        return None
    if not arguments.target:
        raise DataError("--labelled-table needs the column that holds the labels: add --target.")
    reading = dict(_reading(arguments))
    columns = encoding.read_contents(path, **{**reading, "identity": None, "texts": ()})
    # The second file need not have ids, or columns that are ignored.
    texts = [name for name in reading.get("texts", ()) if name in columns]
    identity = reading.get("identity") if reading.get("identity") in columns else None
    if texts or identity:
        columns = encoding.read_contents(path, **{**reading, "identity": identity, "texts": texts})
    return columns


def read_table(arguments: argparse.Namespace, outside: Contents | None, /) -> encoding.Table:
    """Return the table of the file, which may lack targets that the labelled rows outside have."""
    if outside is None:
        reading = _arguments.reading(arguments)
        return encoding.read_table(arguments.file, arguments.target, **reading)
    settings = {
        name: value
        for name, value in _arguments.reading(arguments).items()
        if name in (*ENCODING, "identity")
    }
    targets = roles.resolve_names(arguments.target, list(outside))
    return tables.read_table(_files(arguments), outside, targets, **settings)


def gather(
    arguments: argparse.Namespace, table: encoding.Table, outside: Contents | None, /
) -> Known:
    """Return what the files of --labelled, --labelled-table and --exclude add to a table.

    Raises DataError if a file cannot be read or contradicts the table.

    Args:
        arguments: The parsed arguments.
        table: The table of the file.
        outside: The columns of --labelled-table.

    Returns:
        The labelled rows and targets.
    """
    targets = roles.resolve_names(arguments.target, list(table.contents))
    by_identity = arguments.id is not None or chosen.holds_images(table)
    read = partial(_rows.read_rows, by_identity=by_identity)
    listed = read(arguments.labelled, table, targets)
    excluded = read(arguments.exclude, table)
    notes = list(listed.notes)
    n_rows = len(table.inputs)
    labelled = list(listed.rows)
    is_complete = bool(targets) and bool(table.is_labelled.all())
    if outside is not None:
        whole, rows, more = tables.join(table, outside, _files(arguments), targets, arguments.task)
        twice = tables.common_rows(table, outside, rows, arguments.id)
        if twice:
            verb = "is" if len(twice) == 1 else "are"
            more.append(f"{len(twice)} of them {verb} also in {arguments.file}, and labelled.")
        labelled += [row for row in twice if row not in set(labelled)]
        labelled += range(n_rows, n_rows + len(rows))
        notes += more
        table = whole
    options = tables.options(_arguments.reading(arguments))
    table, more = sheets.fill_in(table, listed.sheets, targets, arguments.task, options)
    return Known(table, targets, labelled, excluded.rows, n_rows, is_complete, [*notes, *more])


def _reading(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the keywords of `encoding.read_contents`."""
    reading = _arguments.reading(arguments)
    return {name: value for name, value in reading.items() if name not in ENCODING}


def _files(arguments: argparse.Namespace) -> tables.Files:
    return tables.Files(Path(arguments.file), arguments.labelled_table, _reading(arguments))
