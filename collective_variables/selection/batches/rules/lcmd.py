"""Choose the farthest point of the largest cluster: largest cluster, maximum distance (LCMD).

Every point belongs to the nearest centre among labelled and chosen points, in the kernel's distance
d(x, y)² = k(x, x) − 2 k(x, y) + k(y, y). The weight of a cluster is the sum of its squared
distances. The next point is the farthest one of the heaviest cluster (Holzmüller et al. 2023).
With nothing labelled the first is the one with the largest k(x, x).

Weights w(x) multiply the distances: w(x)² d² replaces d² in sums and comparisons of points. If w is
the standard deviation of a committee's predictions, the rule prefers points on which the networks
disagree. This is ours.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors
from collective_variables.selection.batches import _pool


def lcmd(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    weights: ArrayLike | None = None,
) -> Int[np.ndarray, " n_selected"]:
    """Return the farthest points of the heaviest clusters, one by one.

    A point at the same distance from two centres belongs to the first: labelled rows in ascending
    order, then chosen ones. Of clusters with the same weight the first counts. Where only copies of
    centres are left, the lowest row is next. The first k rows are the choice of k.

    Arguments and errors are those of `max_diag.max_diag`; there is no noise. `weights` (n_points,)
    are finite and not negative; None stands for 1. Points of weight 0 come last.

    Example:
        >>> print(lcmd([[0.0], [3.0], [3.0], [3.0], [10.0], [14.5]], 1, labelled=[0, 4]))
        [1]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    allowed = _pool.unlabelled(len(features), labelled)
    squared_weights = _squared_weights(weights, len(features))
    points = _pool.centred(features)
    nearest, clusters = _pool.nearest_centres(points, labelled)
    n_centres = len(labelled)
    chosen = []
    while len(chosen) < n_selected:
        if n_centres == 0:
            scores = squared_weights * np.vecdot(features, features)
            row = _pool.first_largest(scores, allowed)
        else:
            scores = squared_weights * nearest
            sums = np.bincount(clusters, scores, minlength=n_centres)
            heaviest = clusters == np.argmax(sums)
            # A cluster with a sum has points that are no centres; without sums any row may be next.
            among = allowed & heaviest if sums.any() else allowed
            row = _pool.first_largest(scores, among)
        squared = _pool.squared_distances(points, row)
        clusters[squared < nearest] = n_centres
        np.minimum(nearest, squared, out=nearest)
        allowed[row] = False
        chosen.append(row)
        n_centres += 1
    return np.array(chosen, np.int64)


def _squared_weights(weights: ArrayLike | None, n_points: int) -> Float[np.ndarray, " n_points"]:
    """Return w(x)² with the largest w = 1, or raise.

    Raises:
        InvalidValueError: There is not one weight for each point, or one is negative.
    """
    if weights is None:
        return np.ones(n_points)
    array = np.asarray(weights, np.float64)
    if array.shape != (n_points,):
        raise _errors.InvalidValueError(
            f"weights must be a number for each of the {n_points} points: received the shape "
            f"{array.shape}."
        )
    _checks.finite("weights", array)
    if array.min() < 0:
        raise _errors.InvalidValueError(f"weights must be at least 0: received {array.min()}.")
    return (array / array.max()) ** 2 if array.any() else np.ones(n_points)
