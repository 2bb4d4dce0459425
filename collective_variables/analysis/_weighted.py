"""Ranks and correlations of many resamples at once, each given by how often it holds each run:
weights [resamples runs].
"""

import numpy as np


def ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ranks, ties at their mean, of `values` [runs p] in resamples that hold run i weights[r, i]
    times: [r runs p].
    """
    result = np.empty((*weights.shape, values.shape[1]))
    for k, column in enumerate(values.T):
        order = np.argsort(column)
        below = np.pad(np.cumsum(weights[:, order], axis=1), ((0, 0), (1, 0)))
        first, last = (np.searchsorted(column[order], column, side) for side in ("left", "right"))
        result[..., k] = (below[:, first] + below[:, last] + 1) / 2
    return result


def polynomial(x: np.ndarray, degree: int) -> np.ndarray:
    """Legendre polynomials 0 to `degree` of x [... runs], scaled to [-1, 1]: a well-conditioned
    basis [... runs d].
    """
    low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    return np.polynomial.legendre.legvander(
        (2 * x - low - high) / np.where(high > low, high - low, 1), degree
    )


def correlations(values: np.ndarray, basis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson matrices [resamples p p] of the residuals of `values` after weighted least squares on
    `basis`.

    The residuals are never formed: their moments are the Schur complement X'WX - X'WB (B'WB)^+ B'WX
    for values X ([runs p] or [resamples runs p]), basis B ([... runs d], with a constant column)
    and weights W.
    """
    values_t, basis_t, of_runs = (
        values.swapaxes(-1, -2),
        basis.swapaxes(-1, -2),
        weights[..., None] * values,
    )
    moments, cross, gram = (
        values_t @ of_runs,
        basis_t @ of_runs,
        basis_t @ (weights[..., None] * basis),
    )
    # The pseudo-inverse, because a resample may hold fewer distinct sizes than the polynomial has
    # coefficients.
    covariance = (
        moments - cross.swapaxes(-1, -2) @ np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ cross
    )
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    # What round-off leaves of a variable that the basis explains in full is no variance.
    variance = np.where(
        variance > 1e-12 * np.diagonal(moments, axis1=-2, axis2=-1), variance, np.nan
    )
    matrix = np.clip(covariance / np.sqrt(variance[..., :, None] * variance[..., None, :]), -1, 1)
    diagonal = np.arange(matrix.shape[-1])
    matrix[..., diagonal, diagonal] = variance / variance  # exactly 1, or NaN
    return matrix
