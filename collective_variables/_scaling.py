"""Standardise the columns of a table to mean 0 and standard deviation 1."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array  # its import loads JAX, which NumPy tables do not need

Table = TypeVar("Table", np.ndarray, "Array")


def standardise(table: Table, reference: Table | None = None, /) -> Table:
    """Return (table − mean) / standard deviation of each column.

    Args:
        table: (n_points, ...) numbers, in a NumPy or JAX array.
        reference: (n_reference, ...) points from which mean and standard deviation are computed.
            Defaults to the table.

    Returns:
        An array of the shape and type of the table. A column that is constant over the reference is
        0 everywhere.
    """
    centred, deviation = centre(table, reference)
    return centred / deviation


def centre(table: Table, reference: Table | None = None, /) -> tuple[Table, Table]:
    """Return table − mean, and the standard deviation of each column, shape (1, ...).

    They are the numerator and denominator in `standardise`; for a constant column 0 and 1.
    """
    reference = table if reference is None else reference
    module = table.__array_namespace__()
    mean = reference.mean(axis=0, keepdims=True)
    deviation = reference.std(axis=0, keepdims=True)
    # The mean of equal numbers is rounded, so their deviation is round-off instead of 0.
    # Compare the numbers themselves.
    is_constant = reference.max(axis=0, keepdims=True) == reference.min(axis=0, keepdims=True)
    return module.where(is_constant, 0.0, table - mean), module.where(is_constant, 1.0, deviation)
