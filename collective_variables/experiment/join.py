"""Join the tables of an experiment into one table of runs."""

from collections.abc import Mapping

import pandas as pd

KEYS = ["parametrisation", "method", "member", "n_points"]


def label_tables(tables: Mapping[str, pd.DataFrame], /) -> pd.DataFrame:
    """Return one table of those by "parametrisation/method", with these two as first columns."""
    parts = []
    for label, table in tables.items():
        parametrisation, _, method = label.partition("/")
        parts.append(table.assign(parametrisation=parametrisation, method=method))
    result = pd.concat(parts, ignore_index=True)
    others = result.columns.drop(["parametrisation", "method"])
    return result[["parametrisation", "method", *others]]


def join_runs(
    variables: pd.DataFrame | None, losses: pd.DataFrame, /, *, group: str
) -> pd.DataFrame:
    """Return one row per run, with the variables of its kernel and its losses.

    Args:
        variables: The variables of the kernels; None leaves them out.
        losses: The losses. Both tables have the columns `KEYS`, by which they are matched.
        group: Content of the first column.
    """
    runs = losses.copy()
    if variables is not None:
        runs = variables.merge(losses, on=KEYS, validate="one_to_one")
    runs.insert(0, "group", group)
    return runs
