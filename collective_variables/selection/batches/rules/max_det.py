"""Choose the batch with the largest determinant, greedily: pivoted Cholesky with noise.

The next point increases ln det(K(T, T) + s²) most, T being all labelled and chosen points: it has
the largest posterior variance k′(x, x) after T (MaxDet of Holzmüller et al. 2023). For a Gaussian
process this is the mutual information of the labels and the function, and the greedy form of
BatchBALD (Kirsch, van Amersfoort, Gal 2019).
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks
from collective_variables.selection.batches import _pool, posterior

TIE = 1e-9  # scores that differ by this share of the largest one are equal


def max_det(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    noise: float = 1e-3,
) -> Int[np.ndarray, " n_selected"]:
    """Return rows that increase the determinant of the kernel with noise most, one by one.

    Arguments and errors are those of `max_diag.max_diag`. The first k rows are the choice of k.

    Example:
        >>> print(max_det([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]], 3))
        [0 2 1]
    """
    return choose(features, n_selected, labelled, noise, lambda known: known.variances)


def choose(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray,
    noise: float,
    score: Callable[[posterior.Conditioned], Float[np.ndarray, " n_points"]],
    *,
    with_squares: bool = False,
) -> Int[np.ndarray, " n_selected"]:
    """Return the rows with the largest scores, each after those before it have become known."""
    features, labelled = _pool.check(features, n_selected, labelled)
    noise = _checks.number("noise", noise, above=0.0)
    known = posterior.Conditioned(features, labelled, noise, with_squares=with_squares)
    allowed = _pool.unlabelled(len(features), labelled)
    chosen = []
    while len(chosen) < n_selected:
        scores = score(known)
        row = _pool.first_largest(scores, allowed, TIE * scores[allowed].max())
        if known.is_worn(row):
            known.refresh()
            continue
        known.learn(row)
        allowed[row] = False
        chosen.append(row)
    return np.array(chosen, np.int64)
