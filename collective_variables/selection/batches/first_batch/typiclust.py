"""Choose the most typical point of each of the largest clusters without a label: TypiClust.

k-means divides the pool into as many clusters as points will be labelled. The most typical point of
a cluster has the smallest mean distance from its nearest neighbours within it (Hacohen, Dekel,
Weinshall 2022, with 20 neighbours and at most 500 clusters).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks
from collective_variables.selection.batches import _pool
from collective_variables.selection.batches.first_batch import _clusters

TIE = 1e-7  # mean distances that differ by this share of the largest one are equal


def typiclust(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    n_neighbours: int = 20,
    seed: int | Sequence[int] | np.ndarray,
) -> Int[np.ndarray, " n_selected"]:
    """Return the most typical rows of clusters, the largest clusters first.

    Where clusters are fewer than points to choose, those with the fewest labelled and chosen points
    have their turn, of these the largest. Clusters depend on `n_selected`, so that the choice of k
    rows need not begin the choice of more.

    Args:
        features: (n_points, n_features) features; distances between them matter. The authors scale
            them to unit length.
        n_selected: number of rows that are chosen, beyond those in `labelled`.
        labelled: rows that are labelled already.
        n_neighbours: number of nearest neighbours, at most half of the cluster.
        seed: integers from 0, as NumPy's `default_rng` takes them, for k-means.

    Also raises TypeError or ValueError if features are not a finite table, the rows that are not
    labelled are too few, labelled are not distinct rows, or n_neighbours is below 1.

    Example:
        >>> print(typiclust([[0.0], [1.0], [2.0], [50.0], [51.0]], 2, seed=0))
        [0 3]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    n_neighbours = _checks.integer("n_neighbours", n_neighbours, minimum=1)
    clusters = _clusters.k_means(features, n_selected + len(labelled), seed)
    allowed = _pool.unlabelled(len(features), labelled)
    sizes = np.bincount(clusters)
    covered = np.bincount(clusters[labelled], minlength=len(sizes))
    distances = np.full(len(features), np.nan)
    chosen = []
    for _ in range(n_selected):
        is_open = np.bincount(clusters[allowed], minlength=len(sizes)) > 0
        cluster = int(np.lexsort((-sizes, covered, ~is_open))[0])
        members = np.flatnonzero(clusters == cluster)
        if np.isnan(distances[members[0]]):
            distances[members] = mean_distances(features[members], n_neighbours)
        typical = -distances[members]
        row = members[_pool.first_largest(typical, allowed[members], TIE * -typical.min())]
        allowed[row] = False
        covered[cluster] += 1
        chosen.append(row)
    return np.array(chosen, np.int64)


def mean_distances(
    points: Float[np.ndarray, "n_points n_features"], n_neighbours: int
) -> Float[np.ndarray, " n_points"]:
    """Return the mean distance of each point from its nearest neighbours, at most half of them."""
    n_neighbours = min(n_neighbours, len(points) // 2)
    if n_neighbours == 0:
        return np.zeros(len(points))
    points = _pool.centred(points)
    means = np.empty(len(points))
    for rows in _pool.blocks(np.arange(len(points)), len(points)):
        squared = _pool.squares_between(points, rows)
        squared[np.arange(len(rows)), rows] = np.inf
        nearest = np.partition(squared, n_neighbours - 1, axis=1)[:, :n_neighbours]
        means[rows] = np.sqrt(nearest).mean(axis=1)
    return means
