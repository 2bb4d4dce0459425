"""Collective variables that follow from the kernel itself and not from its spectrum alone, and
those of single classes.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Int

from collective_variables import _checks
from collective_variables.observables import spectrum


def kernel_variables(
    kernel: Float[Array, "n_points n_points"],
    targets: Float[Array, "n_points n_outputs"] | None = None,
    *,
    eigenvalues: Float[Array, " n_points"] | None = None,
) -> dict[str, float]:
    """`spectrum.collective_variables` of `kernel`, and its `cosine_entropy` and
    `magnitude_entropy`.

    With `targets` also `target_alignment` and, with both kernels centred,
    `centred_target_alignment`.
    eigenvalues: those of the kernel, where they are known.
    """
    found = spectrum.collective_variables(
        spectrum.eigenvalues(kernel) if eigenvalues is None else eigenvalues
    ) | {
        "cosine_entropy": cosine_entropy(kernel),
        "magnitude_entropy": magnitude_entropy(kernel),
    }
    if targets is None:
        return found
    return found | {
        "target_alignment": target_alignment(kernel, targets),
        "centred_target_alignment": target_alignment(kernel, targets, centred=True),
    }


def cosine(kernel: Float[Array, "n_points n_points"]) -> Float[np.ndarray, "n_points n_points"]:
    """K_ij/√(K_ii K_jj) in float64: the cosines between the gradients of points; 0 where one of
    them has none.
    """
    kernel = _square(kernel)
    norms = np.sqrt(np.maximum(np.diag(kernel), 0.0))
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return kernel * inverse[:, None] * inverse


def cosine_entropy(kernel: Float[Array, "n_points n_points"]) -> float:
    """Von Neumann entropy of the cosine kernel, in nats: that of the directions of the gradients
    alone.
    """
    # In the digits of the kernel, which say how much of a negative eigenvalue is round-off.
    cosines = cosine(kernel).astype(np.result_type(kernel, np.float32))
    return spectrum.entropy(spectrum.eigenvalues(cosines))


def magnitude_entropy(kernel: Float[Array, "n_points n_points"]) -> float:
    """Shannon entropy, in nats, of the lengths of the gradients, √K_ii over their sum; NaN for a
    kernel that is zero.
    """
    return spectrum.entropy(np.sqrt(np.maximum(np.diag(_square(kernel)), 0.0)))


def magnitude_variance(kernel: Float[Array, "n_points n_points"]) -> float:
    """Variance of the lengths of the gradients, √K_ii, over their squared mean; NaN for a kernel
    that is zero.
    """
    lengths = np.sqrt(np.maximum(np.diag(_square(kernel)), 0.0))
    return float(np.var(lengths / lengths.mean())) if lengths.any() else float("nan")


def mutual_information(first: float, second: float, union: float) -> float:
    """2 (S_a + S_b − S_ab)/(S_a + S_b) from the entropies of the kernels of two sets of points and
    of their union.

    The authors' normalised "neural mutual information"; the blocks of a kernel are not its
    marginals, so that it is none in the proper sense. 1 for the same set twice; 1 − ln 2/ln n for
    two sets of n orthogonal gradients of one length, which have nothing in common. NaN for two sets
    without entropy.
    """
    return 2.0 * (first + second - union) / (first + second) if first + second > 0 else float("nan")


def target_alignment(
    kernel: Float[Array, "n_points n_points"],
    targets: Float[Array, "n_points n_outputs"],
    *,
    centred: bool = False,
) -> float:
    """Kernel-target alignment ⟨K, YYᵀ⟩/(‖K‖ ‖YYᵀ‖) in the Frobenius norm, between 0 and 1
    (Cristianini et al. 2001).

    centred: with both kernels centred in feature space (Cortes, Mohri, Rostamizadeh 2012), which
    takes out the mean of targets and gradients. NaN where a kernel is zero (all targets equal, if
    centred).
    """
    kernel, targets = _square(kernel), np.asarray(targets, dtype=np.float64)
    if targets.ndim != 2 or len(targets) != len(kernel):
        raise ValueError(
            f"targets must be ({len(kernel)}, n_outputs): received the shape {targets.shape}."
        )
    _checks.finite("targets", targets)
    if centred:
        kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
        targets = targets - targets.mean(axis=0)
    # The norms without the kernel of the targets: ⟨K, YYᵀ⟩ = tr YᵀKY and ‖YYᵀ‖ = ‖YᵀY‖.
    norms = np.linalg.norm(kernel) * np.linalg.norm(targets.T @ targets)
    return float(np.sum(targets * (kernel @ targets)) / norms) if norms > 0 else float("nan")


def kernel_alignment(
    kernel: Float[Array, "n_points n_points"], other: Float[Array, "n_points n_points"]
) -> float:
    """⟨K, L⟩/(‖K‖ ‖L‖) in the Frobenius norm, 1 where one is a multiple of the other; NaN where one
    is zero.
    """
    kernel, other = _squares(kernel, other)
    norms = np.linalg.norm(kernel) * np.linalg.norm(other)
    return float(np.vdot(kernel, other) / norms) if norms > 0 else float("nan")


def relative_distance(
    kernel: Float[Array, "n_points n_points"], reference: Float[Array, "n_points n_points"]
) -> float:
    """‖K − L‖/‖L‖ in the Frobenius norm, with the reference L; NaN where that is zero."""
    kernel, reference = _squares(kernel, reference)
    norm = np.linalg.norm(reference)
    return float(np.linalg.norm(kernel - reference) / norm) if norm > 0 else float("nan")


def class_variables(
    kernel_of: Callable[[Int[np.ndarray, " k"]], Float[Array, "k k"]],
    classes: Int[Array, " n_points"],
) -> list[dict[str, float]]:
    """`of_kernel` of the points of each class among themselves: a row per class, with its number of
    points n_in_class.

    kernel_of(rows) gives the kernel of the points `rows`, so that no kernel of all points is
    needed.
    """
    classes = np.asarray(classes)
    rows = {int(value): np.flatnonzero(classes == value) for value in np.unique(classes)}
    return [
        {"class": value, "n_in_class": len(chosen), **kernel_variables(kernel_of(chosen))}
        for value, chosen in rows.items()
    ]


def _squares(first: Array, second: Array) -> list[Float[np.ndarray, "n_points n_points"]]:
    kernels = [_square(first), _square(second)]
    if kernels[0].shape != kernels[1].shape:
        raise ValueError(
            f"Both kernels must be of the same points: {len(kernels[0])} != {len(kernels[1])}."
        )
    return kernels


def _square(kernel: Float[Array, "n_points n_points"]) -> Float[np.ndarray, "n_points n_points"]:
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.size == 0:
        raise ValueError(
            f"kernel must be a square matrix of at least one point: received the shape {kernel.shape}."
        )
    _checks.finite("kernel", kernel)
    return kernel
