"""Predict the test loss from the training points: from their kernel, or their activations."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float

from collective_variables import _checks
from collective_variables.observables import collective, spectrum
from collective_variables.observables.spectrum import Kernel

RIDGE = 1e-3  # in units of the mean eigenvalue
NAMES = (
    "generalised_cross_validation",
    "leave_one_out_error",
    "complexity",
    "renyi2_rank",
    "condition_number",
    "target_alignment",
)


def kernel_predictors(
    kernel: Kernel, targets: Float[Array, "n_points n_outputs"], *, ridge: float = RIDGE
) -> dict[str, float]:
    """Return what regression with the kernel says about the test loss, from training points alone.

    With A = (K + δ)⁻¹ and δ the ridge times the mean eigenvalue, all means over outputs:

    - "generalised_cross_validation": n yᵀA²y / (Tr A)², an estimate of the test error of kernel
      regression (Wei, Hu, Steinhardt 2022, arXiv 2203.06176).
    - "leave_one_out_error": the mean of ((Ay)_i / A_ii)², the squared errors of the points when
      each is left out in turn (Wahba 1990, section 4.2).
    - "complexity": √(2 yᵀAy / n), which bounds the test loss of wide networks (Arora et al. 2019,
      there without a ridge).
    - "renyi2_rank": (Tr K)² / ‖K‖_F², the effective number of eigenvalues.
    - "condition_number": (λ_max + δ) / (λ_min + δ).
    - "target_alignment": as in `collective.target_alignment`.

    Also raises the errors of `spectrum.square` and `collective.target_alignment`, and TypeError or
    ValueError for a ridge that is not a positive number.

    Args:
        kernel: (n_points, n_points).
        targets: (n_points, n_outputs).
        ridge: The ridge, in units of the mean eigenvalue Tr K / n.

    Returns:
        The predictors by `NAMES`; NaN for a kernel that is zero.

    Example:
        >>> import collective_variables as cv
        >>> kernel, targets = [[1.0, 0.0], [0.0, 1.0]], [[1.0], [-1.0]]
        >>> found = cv.kernel_predictors(kernel, targets, ridge=1.0)
        >>> print(found["generalised_cross_validation"], found["renyi2_rank"])
        1.0 2.0
    """
    ridge = _checks.number("ridge", ridge, above=0.0)
    alignment = collective.target_alignment(kernel, targets)
    kernel = np.asarray(spectrum.square(kernel), np.float64)
    targets = np.asarray(targets, np.float64)
    n_points, n_outputs = targets.shape
    if (trace := np.trace(kernel)) == 0.0:
        return dict.fromkeys(NAMES, float("nan"))
    shift = ridge * trace / n_points
    values, vectors = np.linalg.eigh(kernel)
    inverse = 1.0 / (np.maximum(values, 0.0) + shift)
    solved = vectors @ (inverse[:, None] * (vectors.T @ targets))
    diagonal = np.square(vectors) @ inverse
    return {
        "generalised_cross_validation": float(
            n_points * np.sum(solved**2) / n_outputs / inverse.sum() ** 2
        ),
        "leave_one_out_error": float(np.mean((solved / diagonal[:, None]) ** 2)),
        "complexity": float(np.sqrt(2.0 * np.sum(targets * solved) / n_outputs / n_points)),
        "renyi2_rank": float(trace**2 / np.sum(kernel**2)),
        "condition_number": float(inverse[0] / inverse[-1]),
        "target_alignment": alignment,
    }


def near_score(activations: Sequence[Float[Array, "n_points width"]]) -> float:
    """Return the NEAR score of a network, the sum of the effective ranks of its layers.

    The effective rank of a matrix with singular values σ is exp(−Σ p ln p), p = σ/Σσ (Husistein,
    Reiher, Eckhoff 2024, arXiv 2408.08776). It sees the points but no targets.

    Args:
        activations: (n_points, width) values of each layer, before and after its activation.

    Returns:
        The score, between the number of matrices and the sum of their ranks.

    Raises:
        ValueError: There is no matrix, or one is not finite.

    Example:
        >>> import numpy as np
        >>> from collective_variables.observables import predictors
        >>> round(predictors.near_score([np.eye(3), np.ones((3, 2))]), 6)
        4.0
    """
    if not len(activations):
        raise ValueError("activations must hold at least one matrix: received none.")
    total = 0.0
    for values in activations:
        _checks.finite("activations", values)
        singular = np.linalg.svd(np.asarray(values, np.float64), compute_uv=False)
        shares = singular[singular > 0] / singular.sum() if singular.any() else np.ones(1)
        total += float(np.exp(-np.sum(shares * np.log(shares))))
    return total
