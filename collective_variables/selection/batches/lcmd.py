"""Choose the farthest point of the largest cluster: largest cluster, maximum distance (LCMD).

Every point belongs to the nearest centre among labelled and chosen points, in the kernel's distance
d(x, y)² = k(x, x) − 2 k(x, y) + k(y, y). The weight of a cluster is the sum of its squared
distances. The next point is the farthest one of the heaviest cluster (Holzmüller et al. 2023).
With nothing labelled the first is the one with the largest k(x, x).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from collective_variables.selection.batches import _pool


def lcmd(
    features: ArrayLike, n_selected: int, labelled: Sequence[int] | np.ndarray = ()
) -> Int[np.ndarray, " n_selected"]:
    """Return the farthest points of the heaviest clusters, one by one.

    A point at the same distance from two centres belongs to the first: labelled rows in ascending
    order, then chosen ones. Of clusters with the same weight the first counts. Where only copies of
    centres are left, the lowest row is next. The first k rows are the choice of k.

    Arguments and errors are those of `max_diag.max_diag`; there is no noise.

    Example:
        >>> print(lcmd([[0.0], [3.0], [3.0], [3.0], [10.0], [14.5]], 1, labelled=[0, 4]))
        [1]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    allowed = _pool.unlabelled(len(features), labelled)
    points = _pool.centred(features)
    nearest, clusters = _pool.nearest_centres(points, labelled)
    n_centres = len(labelled)
    chosen = []
    while len(chosen) < n_selected:
        if n_centres == 0:
            row = _pool.first_largest(np.vecdot(features, features), allowed)
        else:
            weights = np.bincount(clusters, nearest, minlength=n_centres)
            heaviest = clusters == np.argmax(weights)
            # A cluster with a weight has points that are no centres; without weights any row may
            # be next.
            among = allowed & heaviest if weights.any() else allowed
            row = _pool.first_largest(nearest, among)
        squared = _pool.squared_distances(points, row)
        clusters[squared < nearest] = n_centres
        np.minimum(nearest, squared, out=nearest)
        allowed[row] = False
        chosen.append(row)
        n_centres += 1
    return np.array(chosen, np.int64)
