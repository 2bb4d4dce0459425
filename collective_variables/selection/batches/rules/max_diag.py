"""Choose the points with the largest posterior variances, all at once.

With the posterior kernel k′ on labelled points (see `posterior`) these are the n largest k′(x, x):
active learning that ignores that a batch has several points (MaxDiag of Holzmüller et al. 2023).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from collective_variables.selection.batches import _pool, posterior

TIE = 1e-9  # variances that differ by this share of the largest one are equal


def max_diag(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    noise: float = 1e-3,
) -> Int[np.ndarray, " n_selected"]:
    """Return the rows with the largest posterior variances, in descending order.

    Args:
        features: (n_points, n_features) features, whose products are the kernel.
        n_selected: number of rows that are chosen, beyond those in `labelled`.
        labelled: rows that are labelled already.
        noise: standard deviation of the labels, in the unit of the features.

    Also raises TypeError or ValueError if features are not a finite table, the rows that are not
    labelled are too few, labelled are not distinct rows, or the noise is not above 0.

    Example:
        >>> print(max_diag([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]], 2, labelled=[0]))
        [2 1]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    conditioned = posterior.posterior(features, labelled, noise=noise)
    variances = np.vecdot(conditioned, conditioned)
    allowed = _pool.unlabelled(len(features), labelled)
    chosen = []
    for _ in range(n_selected):
        largest = variances[allowed].max()
        chosen.append(_pool.first_largest(variances, allowed, TIE * largest))
        allowed[chosen[-1]] = False
    return np.array(chosen, np.int64)
