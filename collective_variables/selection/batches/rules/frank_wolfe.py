"""Choose points whose weighted features sum up to those of the pool: Frank–Wolfe.

Let φ be the features of the posterior on labelled points (see `posterior`), r = Σ_x |φ(x)|, and
e = 0. The next point has the largest ⟨φ(x) / |φ(x)|, Σ_y φ(y) − e⟩, the sums being over points that
are not labelled. With u = r φ(x) / |φ(x)|, e moves towards u to where it is nearest to the sum:

    e ← e + γ (u − e),   γ = ⟨u − e, Σ_y φ(y) − e⟩ / |u − e|².

This is the sparse approximation of the pool by ACS-FW (Pinsler, Gordon, Nalisnick, Hernández-Lobato
2019, Algorithm 1), with points that are not chosen twice (Holzmüller et al. 2023).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from collective_variables.selection.batches import _pool, posterior

ROUND_OFF = 1e-12  # of the largest score possible


def frank_wolfe(
    features: ArrayLike,
    n_selected: int,
    labelled: Sequence[int] | np.ndarray = (),
    *,
    noise: float = 1e-3,
) -> Int[np.ndarray, " n_selected"]:
    """Return the rows whose directions are nearest to what the pool's sum still lacks.

    Arguments and errors are those of `max_diag.max_diag`. The first k rows are the choice of k.

    Example:
        >>> print(frank_wolfe([[0.0, 1.0], [2.0, 2.0], [3.0, 0.0]], 2))
        [1 2]
    """
    features, labelled = _pool.check(features, n_selected, labelled)
    features = posterior.posterior(features, labelled, noise=noise)
    allowed = _pool.unlabelled(len(features), labelled)
    norms = np.linalg.norm(features, axis=1)
    directions = features / np.where(norms > 0, norms, 1.0)[:, None]
    total = norms[allowed].sum()
    target = features[allowed].sum(axis=0)
    embedding = np.zeros_like(target)
    chosen = []
    for _ in range(n_selected):
        missing = target - embedding
        row = _pool.first_largest(directions @ missing, allowed, ROUND_OFF * total)
        step = total * directions[row] - embedding
        # Without a step, as for a point of zeros at the beginning, nothing moves.
        if np.linalg.norm(step) > ROUND_OFF * total:
            embedding += (step @ missing) / (step @ step) * step
        allowed[row] = False
        chosen.append(row)
    return np.array(chosen, np.int64)
