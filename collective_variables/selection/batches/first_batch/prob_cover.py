"""Cover as many points as possible by balls around the chosen ones: ProbCover.

The next point is the one with the most points within a radius δ that no ball of a labelled or
chosen point covers yet: the greedy choice of a maximum cover (Yehuda, Dekel, Hacohen, Weinshall
2022). δ is the largest radius for which 95 % of all balls are pure, that is, hold points of one
cluster of k-means only.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks
from collective_variables.selection.batches import _pool
from collective_variables.selection.batches.first_batch import _clusters
from collective_variables.selection.batches.rules import max_dist

PURITY = 0.95  # share of the balls that hold one cluster only
INSIDE = 1e-9  # share of the radius at which a point of another cluster would be reached

Points = Float[np.ndarray, "n_points n_features"]


def prob_cover(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    radius: float | None = None,
    seed: int | Sequence[int] | np.ndarray,
) -> Int[np.ndarray, " n_selected"]:
    """Return rows whose balls cover the most points that are not covered yet, one by one.

    Once every point is covered, the others are the farthest from all labelled and chosen points, by
    `max_dist`. The first k rows are the choice of k for the same radius. Pairs of points take
    O(n_points² · n_features).

    Args:
        features: (n_points, n_features) features; distances between them matter. The authors scale
            them to unit length.
        n_selected: number of rows that are chosen, beyond those in `labelled`.
        labelled: rows that are labelled already.
        radius: radius δ of the balls. None for `pure_radius` with as many clusters as points will
            be labelled, at least 2.
        seed: integers from 0, as NumPy's `default_rng` takes them, for the k-means of that radius.

    Also raises TypeError or ValueError if features are not a finite table, the rows that are not
    labelled are too few, labelled are not distinct rows, or the radius is not above 0.

    Example:
        >>> print(prob_cover([[0.0], [1.0], [2.0], [5.0], [6.0]], 2, radius=1.0, seed=0))
        [1 3]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    points = _pool.centred(features)
    if radius is None:
        radius = pure_radius(points, max(2, n_selected + len(labelled)), seed)
    else:
        radius = _checks.number("radius", radius, above=0.0)
    allowed = _pool.unlabelled(len(points), labelled)
    nearest, _ = _pool.nearest_centres(points, labelled)
    limit = radius**2 + _pool.SAME * np.vecdot(points, points).max()
    uncovered = nearest > limit
    counts = _counts(points, np.flatnonzero(uncovered), limit)
    chosen = []
    while len(chosen) < n_selected and uncovered.any():
        row = _pool.first_largest(counts, allowed)
        covers = uncovered & (_pool.squared_distances(points, row) <= limit)
        counts -= _counts(points, np.flatnonzero(covers), limit)
        uncovered &= ~covers
        allowed[row] = False
        chosen.append(row)
    if len(chosen) < n_selected:
        taken = [*labelled.tolist(), *chosen]
        chosen += max_dist.max_dist(features, n_selected - len(chosen), taken).tolist()
    return np.array(chosen, np.int64)


def pure_radius(
    features: ArrayLike, n_clusters: int, seed: int | Sequence[int] | np.ndarray
) -> float:
    """Return the largest radius for which at least 95 % of the balls around points are pure.

    A ball is pure up to the distance of its nearest point in another cluster of k-means. Without
    another cluster, as for copies of one point, the radius is infinite.
    """
    points = _pool.centred(_pool.check_features(features))
    clusters = _clusters.k_means(points, _checks.integer("n_clusters", n_clusters, minimum=1), seed)
    nearest = np.empty(len(points))
    for rows in _pool.blocks(np.arange(len(points)), len(points)):
        squared = _pool.squares_between(points, rows)
        squared[clusters[rows, None] == clusters] = np.inf
        nearest[rows] = squared.min(axis=1)
    n_impure = int((1 - PURITY) * len(points) + 1e-9)  # 0.05 · 20 is 1.0000000000000009
    return float(np.sqrt(np.sort(nearest)[n_impure]) * (1 - INSIDE))


def _counts(
    points: Points, covered: Int[np.ndarray, " n_covered"], limit: float
) -> Int[np.ndarray, " n_points"]:
    """Return how many of these points lie in the ball of each point."""
    counts = np.zeros(len(points), np.int64)
    for rows in _pool.blocks(covered, len(points)):
        inside: Bool[np.ndarray, "n_rows n_points"] = _pool.squares_between(points, rows) <= limit
        counts += inside.sum(axis=0)
    return counts
