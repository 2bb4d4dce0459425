"""Condition a kernel on labelled points: features of the posterior of a Gaussian process.

With K = Φ Φᵀ, the labelled rows L and the noise s the posterior covariance is

    K′ = K − K(·, L) (K(L, L) + s²)⁻¹ K(L, ·) = s² Φ (s² + Φ_Lᵀ Φ_L)⁻¹ Φᵀ = Φ′ Φ′ᵀ

(Rasmussen, Williams 2006, eq. 2.24). With the singular
values σ and right singular vectors V of Φ_L, Φ′ is Φ with the factor s / √(s² + σ²) along V.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks
from collective_variables.selection import base
from collective_variables.selection.batches import _pool

# A variance that has lost all but this share by differences has too few digits left.
WORN = 1e-3


def posterior(
    features: ArrayLike, labelled: Sequence[int] | np.ndarray, /, *, noise: float = 1e-3
) -> Float[np.ndarray, "n_points n_features"]:
    """Return the features of the posterior on labelled rows, in float64.

    No square of Φ_L is formed, so that small noises keep their digits. The features of a posterior
    on the same rows again count each label twice: the noise of both is then s / √2.

    Args:
        features: (n_points, n_features) features Φ, whose products are the kernel.
        labelled: rows L that are known up to the noise.
        noise: standard deviation s of the labels, in the unit of the features.

    Also raises TypeError or ValueError if features are not a finite table, labelled are not
    distinct rows of it, or the noise is not above 0.

    Example:
        >>> print(posterior([[3.0, 0.0], [1.0, 2.0]], [0], noise=4.0))
        [[2.4 0. ]
         [0.8 2. ]]
    """
    features = _pool.check_features(features)
    noise = _checks.number("noise", noise, above=0.0)
    rows = base.check_labelled(labelled, len(features))
    _, values, directions = np.linalg.svd(features[rows], full_matrices=False)
    lost = 1.0 - noise / np.hypot(noise, values)
    return features - (features @ directions.T * lost) @ directions


class Conditioned:
    """Hold the posterior kernel k while points become known, one after another.

    variances: k(x, x) of every x.
    squares: Σ_y k(x, y)² of every x, over all points y; only if they are asked for.

    Between two refreshes the features Φ stay, and k = Φ M Φᵀ. A point z that becomes known takes
    v vᵀ / (k(z, z) + s²) from M, with v = M φ(z): the formula of Sherman and Morrison. Then
    variances and squares fall by products of Φ with two vectors.
    """

    def __init__(
        self,
        features: Float[np.ndarray, "n_points n_features"],
        known: Int[np.ndarray, " n_known"],
        noise: float,
        *,
        with_squares: bool,
    ):
        self._prior = features
        self._known = known.tolist()
        self._noise = noise
        self._with_squares = with_squares
        self.refresh()

    def refresh(self) -> None:
        """Compute everything anew from the prior: the differences so far have cost digits."""
        self._features = posterior(self._prior, self._known, noise=self._noise)
        self._inner = np.eye(self._features.shape[1])
        self.variances = np.vecdot(self._features, self._features)
        if self._with_squares:
            self._moment = self._features.T @ self._features
            self.squares = np.vecdot(self._features @ self._moment, self._features)
        else:
            self.squares = np.ones(len(self._features))
        self._first = self.variances.copy(), self.squares.copy()

    def is_worn(self, row: int) -> bool:
        """Return whether the numbers of this point need a refresh before they are believed."""
        variances, squares = self._first
        return bool(
            self.variances[row] < WORN * variances[row]
            or self.squares[row] < WORN**2 * squares[row]
        )

    def learn(self, row: int) -> None:
        """Make a point known, up to the noise."""
        self._known.append(row)
        vector = self._inner @ self._features[row]
        scale = 1.0 / (self._features[row] @ vector + self._noise**2)
        if self._with_squares:
            moment = self._moment @ vector
            pair = np.column_stack([vector, self._inner @ moment])
            covariances, products = (self._features @ pair).T  # k(x, z), Σ_y k(x, y) k(y, z)
            falls = scale * covariances * (2.0 * products - scale * (vector @ moment) * covariances)
            self.squares = np.maximum(self.squares - falls, 0.0)
        else:
            covariances = self._features @ vector
        self.variances = np.maximum(self.variances - scale * covariances**2, 0.0)
        self._inner -= scale * np.outer(vector, vector)
