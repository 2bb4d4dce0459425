"""Choose the point that most lowers the posterior variance of all points: forward BAIT.

With the posterior kernel k′ after all labelled and chosen points T, the next point is

    argmax_x Σ_y k′(x, y)² / (k′(x, x) + s²),

by which Σ_y k′(y, y) over the pool and the labelled points falls. It is the greedy form of BAIT
(Ash, Goel, Krishnamurthy, Kakade 2021) without its backward steps, BAIT-F of Holzmüller et al.
2023; with rank-1 updates each choice takes O(n_points · n_features).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from collective_variables.selection.batches.rules import max_det


def bait(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    noise: float = 1e-3,
) -> Int[np.ndarray, " n_selected"]:
    """Return rows that most lower the sum of all posterior variances, one by one.

    Arguments and errors are those of `max_diag.max_diag`. The first k rows are the choice of k.

    Example:
        >>> print(bait([[3.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], 2))
        [1 0]
    """
    return max_det.choose(
        features,
        n_selected,
        labelled,
        noise,
        lambda known: known.squares / (known.variances + noise**2),
        with_squares=True,
    )
