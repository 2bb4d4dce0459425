"""Find the rows that can be selected: those that are neither labelled nor excluded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from collective_variables.data._errors import DataError
from collective_variables.data.encoding import Table


class Pool(NamedTuple):
    """Rows of a table to select from, with the labelled ones.

    Attributes:
        table: The table without the excluded rows.
        rows: (n_rows,) numbers of its rows in the file.
        labelled: Labelled rows of `table`, including those with all targets.
        notes: Notes for the user.
    """

    table: Table
    rows: np.ndarray
    labelled: list[int]
    notes: list[str]


def pool_of_table(
    table: Table,
    n_points: int,
    /,
    *,
    listed: Sequence[int] = (),
    excluded: Sequence[int] = (),
    is_complete: bool = False,
) -> Pool:
    """Return the rows to select `n_points` from.

    A row with all targets is labelled. If every row of the file has them, nothing is left to label,
    and rows are chosen to train on. Excluded rows are removed unless they are labelled. Raises
    DataError if there are not enough other rows.

    Args:
        table: The whole file.
        n_points: Number of rows to select.
        listed: Rows that the user names as labelled.
        excluded: Rows that cannot be labelled.
        is_complete: Whether every row of the file has all targets.

    Returns:
        The pool.
    """
    n_rows = len(table.inputs)
    labelled = list(listed)
    targets = target_names(table)
    notes = []
    if is_complete:
        notes.append(
            f"All {n_rows} rows have {_a(targets)}, so rows to train on are selected, whatever "
            "their label."
        )
    elif targets:
        # A note of the table reports these rows.
        known = np.flatnonzero(table.is_labelled)
        labelled += known[~np.isin(known, np.asarray(listed, int))].tolist()
    without = set(excluded) - set(labelled)
    rows = np.array([row for row in range(n_rows) if row not in without], int)
    _check_size(n_points, n_rows, len(labelled), len(without))
    place = {int(row): number for number, row in enumerate(rows)}
    kept = table if not without else take(table, rows)
    return Pool(kept, rows, [place[row] for row in labelled], notes)


def _check_size(n_points: int, n_rows: int, n_labelled: int, n_excluded: int) -> None:
    if n_points < 1:
        raise DataError(f"--n-points must be at least 1: received {n_points}.")
    n_left = n_rows - n_labelled - n_excluded
    if n_labelled == n_rows:
        raise DataError(f"There is nothing to select: all rows are labelled ({n_rows} of them).")
    if n_left == 0:
        raise DataError("There is nothing to select: all rows are labelled or excluded.")
    if n_points > n_left:
        counts = [(n_labelled, "labelled"), (n_excluded, "excluded")]
        gone = " and ".join(f"{number} {what}" for number, what in counts if number)
        left = f"{n_left} of {n_rows} rows that are left, with {gone}" if gone else f"{n_rows} rows"
        raise DataError(f"--n-points must not exceed the {left}: received {n_points}.")


def take(table: Table, rows: np.ndarray, /) -> Table:
    """Return a table with only the given rows."""
    return replace(
        table,
        inputs=table.inputs[rows],
        targets=None if table.targets is None else table.targets[rows],
        is_labelled=table.is_labelled[rows],
        contents={name: array[rows] for name, array in table.contents.items()},
        identities=None if table.identities is None else table.identities[rows],
    )


def target_names(table: Table, /) -> list[str]:
    """Return the columns that are targets."""
    return table.columns.loc[table.columns["role"] == "target", "column"].tolist()


def _a(targets: Sequence[str]) -> str:
    return f"a value of {' and '.join(targets)}"
