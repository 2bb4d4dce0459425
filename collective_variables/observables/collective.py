"""Collective variables of a kernel that its spectrum does not determine, and those of classes."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Int

from collective_variables import _checks
from collective_variables.observables import spectrum
from collective_variables.observables.spectrum import Kernel

KernelFunction = Callable[[Int[np.ndarray, " k"]], Float[Array, "k k"]]


def kernel_variables(
    kernel: Kernel,
    targets: Float[Array, "n_points n_outputs"] | None = None,
    *,
    eigenvalues: Float[Array, " n_points"] | None = None,
) -> dict[str, float]:
    """Compute `spectrum.collective_variables` of a kernel, its cosine and magnitude entropies.

    Also raises the errors of `spectrum.decompose` and `target_alignment`.

    Args:
        kernel: (n_points, n_points).
        targets: (n_points, n_outputs) targets to align with.
        eigenvalues: (n_points,) eigenvalues of the kernel, if they are known.

    Returns:
        The variables by name. With `targets` also "target_alignment" and, with both kernels
        centred, "centred_target_alignment".
    """
    values = spectrum.eigenvalues(kernel) if eigenvalues is None else eigenvalues
    variables = spectrum.collective_variables(values) | {
        "cosine_entropy": cosine_entropy(kernel),
        "magnitude_entropy": magnitude_entropy(kernel),
    }
    if targets is None:
        return variables
    return variables | {
        "target_alignment": target_alignment(kernel, targets),
        "centred_target_alignment": target_alignment(kernel, targets, centred=True),
    }


def cosine(kernel: Kernel) -> Float[np.ndarray, "n_points n_points"]:
    """Compute K_ij/√(K_ii K_jj), the cosines between the gradients of points, in float64.

    Args:
        kernel: (n_points, n_points).

    Returns:
        (n_points, n_points) cosines. A point without a gradient has the cosine 0 with every point.
    """
    kernel = _float64(kernel)
    norms = np.sqrt(np.maximum(np.diag(kernel), 0.0))
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return kernel * inverse[:, None] * inverse


def cosine_entropy(kernel: Kernel) -> float:
    """Compute the von Neumann entropy, in nats, of the cosine kernel.

    It depends on the directions of the gradients only.

    Args:
        kernel: (n_points, n_points).

    Returns:
        The entropy.
    """
    # The dtype of the kernel determines how negative an eigenvalue may be by round-off.
    cosines = cosine(kernel).astype(np.result_type(kernel, np.float32))
    return spectrum.entropy(spectrum.eigenvalues(cosines))


def magnitude_entropy(kernel: Kernel) -> float:
    """Compute the Shannon entropy of the lengths of the gradients, √K_ii over their sum.

    Args:
        kernel: (n_points, n_points).

    Returns:
        The entropy in nats; NaN for a kernel that is zero.
    """
    return spectrum.entropy(_lengths(kernel))


def magnitude_variance(kernel: Kernel) -> float:
    """Compute the variance of the lengths of the gradients, √K_ii, over their squared mean.

    Args:
        kernel: (n_points, n_points).

    Returns:
        The relative variance; NaN for a kernel that is zero.
    """
    lengths = _lengths(kernel)
    return float(np.var(lengths / lengths.mean())) if lengths.any() else float("nan")


def mutual_information(first: float, second: float, union: float) -> float:
    """Compute 2 (S_a + S_b − S_ab)/(S_a + S_b), the normalised "neural mutual information".

    The definition is the authors'. The blocks of a kernel are not its marginals, so this is not a
    mutual information in the strict sense. It is 1 for the same set twice, but 1 − ln 2/ln n for
    two sets of n orthogonal gradients of one length, which have nothing in common.

    Args:
        first: Entropy S_a of the kernel of one set of points.
        second: Entropy S_b of the kernel of another set.
        union: Entropy S_ab of the kernel of both sets.

    Returns:
        The information; NaN for two sets without entropy.
    """
    return 2.0 * (first + second - union) / (first + second) if first + second > 0 else float("nan")


def target_alignment(
    kernel: Kernel, targets: Float[Array, "n_points n_outputs"], *, centred: bool = False
) -> float:
    """Compute the kernel-target alignment ⟨K, YYᵀ⟩/(‖K‖ ‖YYᵀ‖) (Cristianini et al. 2001).

    The norm is Frobenius'. Also raises the errors of `spectrum.square`, and ValueError for targets
    that are not finite.

    Args:
        kernel: (n_points, n_points).
        targets: Targets Y, (n_points, n_outputs).
        centred: Whether to centre both kernels in feature space first, which removes the mean of
            targets and gradients (Cortes, Mohri, Rostamizadeh 2012).

    Returns:
        The alignment, between 0 and 1; NaN if a kernel is zero (if centred: if all targets are
        equal).

    Raises:
        ValueError: The targets have another shape.
    """
    kernel = _float64(kernel)
    targets = np.asarray(targets, dtype=np.float64)
    if targets.ndim != 2 or len(targets) != len(kernel):
        raise ValueError(
            f"targets must be ({len(kernel)}, n_outputs): received the shape {targets.shape}."
        )
    _checks.finite("targets", targets)
    if centred:
        kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
        targets = targets - targets.mean(axis=0)
    # Without forming the kernel of the targets: ⟨K, YYᵀ⟩ = tr YᵀKY and ‖YYᵀ‖ = ‖YᵀY‖.
    norms = np.linalg.norm(kernel) * np.linalg.norm(targets.T @ targets)
    return _bounded(np.sum(targets * (kernel @ targets)) / norms) if norms > 0 else float("nan")


def kernel_alignment(kernel: Kernel, other: Kernel) -> float:
    """Compute the alignment of two kernels of the same points.

    ⟨K, L⟩/(‖K‖ ‖L‖) in the Frobenius norm (Cristianini et al. 2001). It does not depend on the
    scale of either kernel. Raises ValueError if a kernel is not one finite square matrix, or if the
    two differ in size.

    Args:
        kernel: (n_points, n_points).
        other: (n_points, n_points), a kernel of the same points in the same order.

    Returns:
        The alignment: between 0 and 1 for positive semi-definite kernels, 1 if one is a multiple of
        the other, NaN if one is zero.

    Example:
        >>> import collective_variables as cv
        >>> round(cv.kernel_alignment([[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]), 3)
        0.894
    """
    kernel, other = _same_points(kernel, other)
    norms = np.linalg.norm(kernel) * np.linalg.norm(other)
    return _bounded(np.vdot(kernel, other) / norms) if norms > 0 else float("nan")


def relative_distance(kernel: Kernel, reference: Kernel) -> float:
    """Compute ‖K − L‖/‖L‖ in the Frobenius norm.

    Also raises the errors of `kernel_alignment`.

    Args:
        kernel: K, (n_points, n_points).
        reference: L, (n_points, n_points).

    Returns:
        The distance; NaN if L is zero.
    """
    kernel, reference = _same_points(kernel, reference)
    norm = np.linalg.norm(reference)
    return float(np.linalg.norm(kernel - reference) / norm) if norm > 0 else float("nan")


def class_variables(
    kernel_function: KernelFunction, classes: Int[Array, " n_points"]
) -> list[dict[str, float]]:
    """Compute `kernel_variables` of the points of each class.

    Args:
        kernel_function: Function that returns the kernel of the points in given rows. The kernel of
            all points is not needed.
        classes: (n_points,) class of each point.

    Returns:
        A row per class, which also has the class and its number of points, n_in_class.
    """
    classes = np.asarray(classes)
    members = {int(value): np.flatnonzero(classes == value) for value in np.unique(classes)}
    return [
        {"class": value, "n_in_class": len(rows), **kernel_variables(kernel_function(rows))}
        for value, rows in members.items()
    ]


def _bounded(alignment: float) -> float:
    """Return an alignment without the round-off by which it may leave its range."""
    return float(np.clip(alignment, -1.0, 1.0))


def _lengths(kernel: Kernel) -> Float[np.ndarray, " n_points"]:
    """Return the lengths of the gradients, √K_ii."""
    return np.sqrt(np.maximum(np.diag(_float64(kernel)), 0.0))


def _same_points(first: Kernel, second: Kernel) -> list[Float[np.ndarray, "n_points n_points"]]:
    """Return two checked kernels in float64, or raise ValueError if they differ in size."""
    kernels = [_float64(first), _float64(second)]
    if kernels[0].shape != kernels[1].shape:
        raise ValueError(
            f"Both kernels must be of the same points: {len(kernels[0])} != {len(kernels[1])}."
        )
    return kernels


def _float64(kernel: Kernel) -> Float[np.ndarray, "n_points n_points"]:
    """Return a checked kernel in float64."""
    return np.asarray(spectrum.square(kernel), dtype=np.float64)
