"""Choose always the point that is farthest from all labelled and chosen ones: k-center.

Distances are those of the kernel, d(x, y)² = k(x, x) − 2 k(x, y) + k(y, y). This is farthest-first
traversal (Gonzalez 1985; Sener, Savarese 2018; MaxDist of Holzmüller et al. 2023), which covers the
pool within twice the smallest radius possible. With nothing labelled the first point is the one
with the largest k(x, x), the farthest from the origin.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from collective_variables.selection.batches import _pool


def max_dist(
    features: ArrayLike, n_selected: int, labelled: Sequence[int] | np.ndarray = ()
) -> Int[np.ndarray, " n_selected"]:
    """Return rows that are farthest from those before them, one by one.

    Arguments and errors are those of `max_diag.max_diag`; there is no noise. The first k rows
    are the choice of k.

    Example:
        >>> print(max_dist([[0.0], [1.0], [5.0], [3.5]], 2, labelled=[0]))
        [2 3]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    allowed = _pool.unlabelled(len(features), labelled)
    points = _pool.centred(features)
    nearest, _ = _pool.nearest_centres(points, labelled)
    chosen = []
    for _ in range(n_selected):
        is_first = not chosen and len(labelled) == 0
        scores = np.vecdot(features, features) if is_first else nearest
        row = _pool.first_largest(scores, allowed)
        np.minimum(nearest, _pool.squared_distances(points, row), out=nearest)
        allowed[row] = False
        chosen.append(row)
    return np.array(chosen, np.int64)
