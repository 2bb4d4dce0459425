"""Give every point of the pool a similar labelled one: MaxHerding.

The next point is the one that most increases Σ_y max_p k(y, p) over labelled and chosen points p,
with k(x, y) = exp(−|x − y|² / (2 bandwidth²)) of features at unit length (Bae, Noh, Sutherland
2024). This is facility location (Nemhauser, Wolsey, Fisher 1978), which
`coverage.facility_location` holds as a matrix in float32; here memory is O(n_points · n_features).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks
from collective_variables.selection.batches import _pool

BANDWIDTH = 1 / math.sqrt(2)  # the authors' exp(−|x − y|²)
TIE = 1e-12  # gains that differ by this share of the number of points are equal
N_TESTED = 64  # points whose gains are computed together, since one product serves them

Points = Float[np.ndarray, "n_points n_features"]


def max_herding(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    bandwidth: float = BANDWIDTH,
) -> Int[np.ndarray, " n_selected"]:
    """Return rows that most increase the similarity of the pool to them, one by one.

    A gain only falls as points are chosen, so that old gains tell which need not be computed again
    (Minoux 1978). The first gains take O(n_points² · n_features). The first k rows are the choice
    of k.

    Args:
        features: (n_points, n_features) features, which are scaled to unit length.
        n_selected: number of rows that are chosen, beyond those in `labelled`.
        labelled: rows that are labelled already.
        bandwidth: of the Gaussian kernel, whose default is the authors' exp(−|x − y|²).

    Also raises TypeError or ValueError if features are not a finite table, the rows that are not
    labelled are too few, labelled are not distinct rows, or the bandwidth is not above 0.

    Example:
        >>> print(max_herding([[1.0, 0.0], [3.0, 1.0], [2.0, 2.0], [-1.0, 0.0]], 2))
        [1 3]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    bandwidth = _checks.number("bandwidth", bandwidth, above=0.0)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    units = features / np.where(norms > 0, norms, 1.0)
    allowed = _pool.unlabelled(len(units), labelled)
    nearest = np.zeros(len(units))
    for rows in _pool.blocks(labelled, len(units)):
        np.maximum(nearest, _similarities(units, rows, bandwidth).max(axis=0), out=nearest)
    bounds = np.full(len(units), -np.inf)
    bounds[allowed] = _gains(units, np.flatnonzero(allowed), nearest, bandwidth)
    tie = TIE * len(units)
    chosen = []
    for _ in range(n_selected):
        is_old = allowed.copy()
        best = -np.inf
        while len(rows := np.flatnonzero(is_old & (bounds >= best - tie))):
            rows = rows[np.argsort(-bounds[rows], kind="stable")[:N_TESTED]]
            bounds[rows] = _gains(units, rows, nearest, bandwidth)
            is_old[rows] = False
            best = max(best, bounds[rows].max())
        row = _pool.first_largest(bounds, allowed & ~is_old, tie)
        np.maximum(nearest, _similarities(units, np.array([row]), bandwidth)[0], out=nearest)
        allowed[row] = False
        chosen.append(row)
    return np.array(chosen, np.int64)


def _gains(
    units: Points, rows: _pool.Rows, nearest: Float[np.ndarray, " n_points"], bandwidth: float
) -> Float[np.ndarray, " n_rows"]:
    """Return by how much each of these points increases the sum of similarities."""
    parts = []
    for part in _pool.blocks(rows, len(units)):
        gains = _similarities(units, part, bandwidth)
        gains -= nearest
        parts.append(np.maximum(gains, 0.0, out=gains).sum(axis=1))
    return np.concatenate(parts)


def _similarities(
    units: Points, rows: _pool.Rows, bandwidth: float
) -> Float[np.ndarray, "n_rows n_points"]:
    squared = _pool.squares_between(units, rows)
    squared *= -0.5 / bandwidth**2
    return np.exp(squared, out=squared)
