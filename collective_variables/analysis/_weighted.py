"""Compute ranks and correlations of many resamples of the same runs at once.

A resample is described by how often it holds each run: weights [resamples runs].
"""

import numpy as np


def ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the ranks of `values` in every resample [resamples runs p], ties at their mean."""
    result = np.empty((*weights.shape, values.shape[1]))
    for k, column in enumerate(values.T):
        order = np.argsort(column)
        below = np.pad(np.cumsum(weights[:, order], axis=1), ((0, 0), (1, 0)))
        first, last = (np.searchsorted(column[order], column, side) for side in ("left", "right"))
        result[..., k] = (below[:, first] + below[:, last] + 1) / 2
    return result


def polynomial(x: np.ndarray, degree: int) -> np.ndarray:
    """Return the Legendre polynomials 0 to `degree` of x [... runs], scaled to [-1, 1].

    They are a well-conditioned basis [... runs d].
    """
    low = x.min(axis=-1, keepdims=True)
    high = x.max(axis=-1, keepdims=True)
    return np.polynomial.legendre.legvander(
        (2 * x - low - high) / np.where(high > low, high - low, 1), degree
    )


def correlations(values: np.ndarray, basis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Pearson matrices [resamples p p] of residuals from a weighted linear fit.

    The residuals are those of `values` after weighted least squares on `basis`. They are never
    formed: their moments are the Schur complement X'WX - X'WB (B'WB)^+ B'WX.

    Args:
        values: X, [runs p] or [resamples runs p].
        basis: B, [... runs d], with a constant column.
        weights: W, [resamples runs].
    """
    values_t = values.swapaxes(-1, -2)
    basis_t = basis.swapaxes(-1, -2)
    weighted = weights[..., None] * values
    moments = values_t @ weighted
    cross = basis_t @ weighted
    gram = basis_t @ (weights[..., None] * basis)
    # The pseudo-inverse, because a resample may hold fewer distinct sizes than the polynomial has
    # coefficients.
    covariance = (
        moments - cross.swapaxes(-1, -2) @ np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ cross
    )
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    # If the basis explains a variable completely, its residual variance is rounding error only.
    variance = np.where(
        variance > 1e-12 * np.diagonal(moments, axis1=-2, axis2=-1), variance, np.nan
    )
    matrix = np.clip(covariance / np.sqrt(variance[..., :, None] * variance[..., None, :]), -1, 1)
    diagonal = np.arange(matrix.shape[-1])
    matrix[..., diagonal, diagonal] = variance / variance  # exactly 1, or NaN
    return matrix
