"""Trace and Rényi-2 rank at any number of points, from random entries of the kernel.

For points that are drawn independently, Tr K is on average n E[k(x, x)], and ‖K‖_F² is on average
n E[k(x, x)²] + n (n − 1) E[k(x, x′)²]. So (Tr K)²/‖K‖_F² tends to a constant, E[k(x, x)]²/
E[k(x, x′)²] (arXiv 2512.00860).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from collective_variables import _checks

FEWEST = 3  # groups, of which one can be left out for a standard error


class GrowthLaws(NamedTuple):
    """What kernels of random groups of points say about the kernel of n points.

    Attributes:
        trace: Tr K of n points.
        trace_error: Its standard error, from the choice of the groups.
        renyi2_rank: (Tr K)²/‖K‖_F² of n points, the Rényi-2 effective rank.
        renyi2_rank_error: Its standard error.
        limit: The Rényi-2 rank of infinitely many points.
    """

    trace: float
    trace_error: float
    renyi2_rank: float
    renyi2_rank_error: float
    limit: float


def growth_laws(kernels: Float[Array, "n_groups k k"], n_points: int) -> GrowthLaws:
    """Predict trace and Rényi-2 rank of n points from the kernels of small random groups.

    2000 groups of two points are 2000 random entries off the diagonal, and cost as much as a kernel
    of some 90 points. Standard errors are from the jackknife over groups, which must therefore be
    drawn independently. ln of the Rényi-2 rank is a lower bound of the entropy, which itself
    follows no such law.

    Args:
        kernels: (n_groups, k, k), the kernels of at least three groups of k ≥ 2 random points.
        n_points: The number n of points to predict for, at least one.

    Returns:
        The predictions and their standard errors; ranks are NaN for kernels that are 0.

    Raises:
        ValueError: The shape is another, or a value is not finite.

    Example:
        >>> import numpy as np
        >>> import collective_variables as cv
        >>> found = cv.growth_laws(np.tile(np.eye(2) + 1.0, (5, 1, 1)), 100)
        >>> print(found.trace, round(found.renyi2_rank, 2), found.limit)
        200.0 3.88 4.0
    """
    n = _checks.integer("n_points", n_points, minimum=1)
    values = np.asarray(kernels, np.float64)
    if values.ndim != 3 or values.shape[1] != values.shape[2] or values.shape[1] < 2:
        raise ValueError(
            "kernels must have the shape (n_groups, k, k) with at least 2 points in a group: "
            f"received {values.shape}."
        )
    if len(values) < FEWEST:
        raise ValueError(f"kernels must be at least {FEWEST} groups: received {len(values)}.")
    _checks.finite("kernels", values)
    diagonal = np.diagonal(values, axis1=1, axis2=2)
    k = values.shape[1]
    between = ((values**2).sum(axis=(1, 2)) - (diagonal**2).sum(axis=1)) / (k * (k - 1))
    means = np.stack([diagonal.mean(axis=1), (diagonal**2).mean(axis=1), between])
    trace, rank, limit = _predict(means.mean(axis=1), n)
    without = (means.sum(axis=1, keepdims=True) - means) / (len(values) - 1)  # each group in turn
    errors = [
        float(np.sqrt((len(values) - 1) * predictions.var()))
        for predictions in _predict(without, n)[:2]
    ]
    return GrowthLaws(float(trace), errors[0], float(rank), errors[1], float(limit))


def _predict(means: Float[np.ndarray, "3 ..."], n: int) -> tuple[np.ndarray, ...]:
    """Return trace, rank and its limit from the means of k(x, x), k(x, x)² and k(x, x′)²."""
    diagonal, squared, between = means
    with np.errstate(divide="ignore", invalid="ignore"):  # of a kernel that is 0
        rank = n * diagonal**2 / (squared + (n - 1) * between)
        return n * diagonal, rank, diagonal**2 / between
