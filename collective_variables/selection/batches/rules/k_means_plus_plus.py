"""Draw points by their squared distance from the nearest labelled or chosen one: k-means++.

Distances are those of the kernel, d(x, y)² = k(x, x) − 2 k(x, y) + k(y, y). These are the first
centres of k-means++ (Arthur, Vassilvitskii 2007). With gradients of the last layer as features it
is BADGE (Ash et al. 2020); KMeansPP of Holzmüller et al. 2023.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from collective_variables.selection.batches import _pool


def k_means_plus_plus(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    seed: int | Sequence[int] | np.ndarray,
) -> Int[np.ndarray, " n_selected"]:
    """Return rows that are drawn with probabilities proportional to their squared distance.

    With nothing labelled the first row is drawn uniformly. Where only copies of labelled and chosen
    points are left, the rest is drawn uniformly. The first k rows are the choice of k.

    `seed` is one or more integers from 0, as NumPy's `default_rng` takes them. Other arguments and
    errors are those of `max_diag.max_diag`, without the noise.

    Example:
        >>> print(k_means_plus_plus([[0.0], [0.0], [5.0]], 1, labelled=[0], seed=3))
        [2]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    generator = np.random.default_rng(seed)
    allowed = _pool.unlabelled(len(features), labelled)
    points = _pool.centred(features)
    nearest, _ = _pool.nearest_centres(points, labelled)
    chosen = []
    for _ in range(n_selected):
        is_first = not chosen and len(labelled) == 0
        weights = np.where(allowed, 1.0 if is_first else nearest, 0.0)
        if not weights.any():
            weights = allowed.astype(np.float64)
        row = int(generator.choice(len(features), p=weights / weights.sum()))
        np.minimum(nearest, _pool.squared_distances(points, row), out=nearest)
        allowed[row] = False
        chosen.append(row)
    return np.array(chosen, np.int64)
