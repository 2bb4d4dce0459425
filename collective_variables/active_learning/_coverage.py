"""Compute how much labelled and chosen rows leave open: posterior variances and distances."""

import numpy as np
from jaxtyping import Bool, Float

from collective_variables.selection.batches import _pool, posterior
from collective_variables.selection.batches.rules import max_det

FURTHER = 4  # further points that are tried for each labelled or chosen one
FEWEST_FURTHER, MOST_FURTHER = 100, 500

PerPoint = Float[np.ndarray, " n_evaluated"]
Allowed = Bool[np.ndarray, " n_evaluated"]


class Pool:
    """Hold the rows that are needed, as they are before some of them are chosen."""

    def __init__(
        self, features: _pool.Features, evaluated: _pool.Rows, labelled: _pool.Rows, noise: float
    ):
        self._features = features
        self._evaluated = evaluated
        self._labelled = labelled
        self._noise = noise
        prior = features[evaluated]
        self._scale = float(np.vecdot(prior, prior).mean()) or 1.0
        self._conditioned = posterior.posterior(features, labelled, noise=noise)
        self._among = self._conditioned[evaluated]
        self._variances = np.vecdot(self._among, self._among)
        self._centred = _pool.centred(features)  # distances are the same, with more digits
        self._points = self._centred[evaluated]
        self._norms = np.vecdot(self._points, self._points)
        self._nearest = self._nearest_squares(labelled)

    def left(self, chosen: _pool.Rows) -> tuple[float, float, float]:
        """Return mean and largest variance left, and the covering radius."""
        among = self._conditioned[chosen]
        covariances = among @ self._among.T
        factor = np.linalg.cholesky(among @ among.T + self._noise**2 * np.eye(len(chosen)))
        solved = np.linalg.solve(factor, covariances)
        variances = np.maximum(self._variances - np.einsum("ij,ij->j", solved, solved), 0.0)
        nearest = np.minimum(self._nearest, self._nearest_squares(chosen))
        return (
            float(variances.mean()) / self._scale,
            float(variances.max()) / self._scale,
            float(np.sqrt(nearest.max())),
        )

    def further(self, chosen: _pool.Rows) -> tuple[int | None, int | None, int]:
        """Return how many further rows halve mean variance and radius, and how many may."""
        known = np.concatenate([self._labelled, chosen])
        allowed = ~np.isin(self._evaluated, known)
        n_further = min(max(FURTHER * len(known), FEWEST_FURTHER), MOST_FURTHER, int(allowed.sum()))
        nearest = np.minimum(self._nearest, self._nearest_squares(chosen))
        return (
            self._n_to_halve_variance(known, allowed.copy(), n_further),
            self._n_to_halve_radius(nearest, allowed, n_further),
            n_further,
        )

    def _nearest_squares(self, centres: _pool.Rows) -> PerPoint:
        """Return the squared distance of each evaluated row from its nearest centre."""
        others = self._centred[centres]
        norms = np.vecdot(others, others)
        squared = -2.0 * others @ self._points.T
        squared += norms[:, None]
        nearest = squared.min(axis=0, initial=np.inf) + self._norms
        round_off = _pool.SAME * (self._norms + norms.max(initial=0.0))
        return np.where(nearest <= round_off, 0.0, nearest)

    def _n_to_halve_variance(
        self, known: _pool.Rows, allowed: Allowed, n_further: int
    ) -> int | None:
        conditioned = posterior.posterior(self._features, known, noise=self._noise)
        among = conditioned[self._evaluated]
        kernel = among @ among.T
        variances = kernel.diagonal().copy()
        goal = variances.mean() / 2
        factor = np.empty((n_further, len(variances)))
        for step in range(n_further):
            if variances.mean() <= goal:
                return step
            largest = variances[allowed].max()
            row = _pool.first_largest(variances, allowed, max_det.TIE * largest)
            covariances = kernel[row] - factor[:step, row] @ factor[:step]
            factor[step] = covariances / np.sqrt(variances[row] + self._noise**2)
            variances = np.maximum(variances - factor[step] ** 2, 0.0)
            allowed[row] = False
        return n_further if variances.mean() <= goal else None

    def _n_to_halve_radius(self, nearest: PerPoint, allowed: Allowed, n_further: int) -> int | None:
        if np.isinf(nearest).all():
            return None
        squares = _pool.squares_between(self._points, np.arange(len(self._points)))
        goal = nearest.max() / 4
        for step in range(n_further):
            if nearest.max() <= goal:
                return step
            row = _pool.first_largest(nearest, allowed)
            nearest = np.minimum(nearest, squares[row])
            nearest[row] = 0.0
            allowed[row] = False
        return n_further if nearest.max() <= goal else None
