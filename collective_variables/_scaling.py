"""Standardise the columns of a table: mean 0 and standard deviation 1, or 0 where all is equal."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array  # which brings JAX, that tables of NumPy do without

Table = TypeVar("Table", np.ndarray, "Array")


def standardise(table: Table, reference: Table | None = None, /) -> Table:
    """Return (table − mean) / standard deviation of each column.

    Args:
        table: (n_points, ...) numbers, in an array of NumPy or of JAX.
        reference: (n_reference, ...) points that mean and standard deviation are taken from.
            Defaults to the table.

    Returns:
        An array like the table. A column that is constant over the reference is 0 everywhere.
    """
    centred, deviation = centre(table, reference)
    return centred / deviation


def centre(table: Table, reference: Table | None = None, /) -> tuple[Table, Table]:
    """Return table − mean, and the standard deviation of each column as (1, ...).

    Both are as in `standardise` before the division; for a constant column they are 0 and 1.
    """
    reference = table if reference is None else reference
    module = table.__array_namespace__()
    mean = reference.mean(axis=0, keepdims=True)
    deviation = reference.std(axis=0, keepdims=True)
    # The mean of equal numbers is rounded, so that their deviation is round-off instead of 0:
    # compare the numbers themselves.
    is_constant = reference.max(axis=0, keepdims=True) == reference.min(axis=0, keepdims=True)
    return module.where(is_constant, 0.0, table - mean), module.where(is_constant, 1.0, deviation)
