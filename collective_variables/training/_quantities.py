"""Compute the quantities that are recorded for a kernel at one epoch of a training."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, PyTree

from collective_variables.networks._arguments import ApplyFunction
from collective_variables.observables import collective, spectrum
from collective_variables.training import schedules
from collective_variables.training.position import factors

Row = dict[str, float]


class Moment(NamedTuple):
    """Hold the kernel of k points at one epoch, with its targets and loss gradients.

    Attributes:
        kernel: The kernel of the points.
        initial: The kernel of the same points at the first epoch.
        targets: Their targets; None for points without targets.
        gradient: Derivative of each point's loss with respect to its outputs; None without a loss.
        others: Further kernels of these points, by name (see `KERNELS`).
        delta_loss: ‖∇_θ L‖² for the mean loss L of the points; None unless an observable needs it.
        is_mean: Whether the kernel is a mean over outputs; otherwise it is their sum.
    """

    kernel: Float[np.ndarray, "k k"]
    initial: Float[np.ndarray, "k k"]
    targets: Float[np.ndarray, "k n_outputs"] | None
    gradient: Float[np.ndarray, "k n_outputs"] | None
    others: dict[str, Float[np.ndarray, "k k"]]
    delta_loss: float | None = None
    is_mean: bool = True


class Observable(NamedTuple):
    """Describe numbers of a kernel: compute(moment) returns a value for each of `columns`.

    Attributes:
        columns: Names of the values.
        compute: Computes them.
        needs: "targets", "loss" if it is enough that each point has a loss, or nothing.
        other: Name of the kernel of `KERNELS` that it needs, if any.
    """

    columns: tuple[str, ...]
    compute: Callable[[Moment], Sequence[float]]
    needs: str = ""
    other: str | None = None


class Table(NamedTuple):
    """Describe several rows for a kernel of all points: compute(moment, n_modes) returns them."""

    columns: tuple[str, ...]
    compute: Callable[[Moment, int], list[Row]]


def _spectral(moment: Moment) -> list[float]:
    variables = spectrum.collective_variables(spectrum.eigenvalues(moment.kernel))
    return [variables[name] for name in spectrum.SPECTRAL]


def _drift(moment: Moment) -> tuple[float, ...]:
    """Return ‖K − K_0‖/‖K_0‖, the alignment ⟨K, K_0⟩/(‖K‖ ‖K_0‖), and its angle in radians."""
    cosine = collective.kernel_alignment(moment.kernel, moment.initial)
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    return collective.relative_distance(moment.kernel, moment.initial), cosine, angle


def _alignment(moment: Moment) -> list[float]:
    return [
        collective.target_alignment(moment.kernel, moment.targets, centred=centred)
        for centred in (False, True)
    ]


def _magnitude(moment: Moment) -> tuple[float, float]:
    return collective.magnitude_entropy(moment.kernel), collective.magnitude_variance(moment.kernel)


def _loss_derivative(moment: Moment) -> tuple[float]:
    """Return the mean over points of ‖∂loss/∂outputs‖."""
    return (float(np.linalg.norm(moment.gradient.astype(np.float64), axis=1).mean()),)


def _loss_kernel(moment: Moment) -> tuple[float, float]:
    eigenvalues = spectrum.eigenvalues(moment.others["loss"])
    return spectrum.entropy(eigenvalues), spectrum.trace(eigenvalues)


def _position(moment: Moment) -> tuple[float, ...]:
    """Return χ_loss, χ_net, χ_pos and δL of the mean loss (see `position.decomposition`)."""
    by_outputs = moment.gradient.astype(np.float64) / len(moment.gradient)
    n_averaged = by_outputs.shape[1] if moment.is_mean else 1
    chi_net = n_averaged * float(np.trace(moment.kernel, dtype=np.float64))
    return factors.from_slopes(float((by_outputs**2).sum()), chi_net, moment.delta_loss)


def _fisher(moment: Moment) -> tuple[float]:
    return (float(np.trace(moment.others["fisher"], dtype=np.float64)),)


SPECTRUM = Observable(spectrum.SPECTRAL, _spectral)
OBSERVABLES = {
    "drift": Observable(("drift", "initial_alignment", "rotation"), _drift),
    "alignment": Observable(
        ("target_alignment", "centred_target_alignment"), _alignment, needs="targets"
    ),
    "cosine": Observable(
        ("cosine_entropy",), lambda moment: (collective.cosine_entropy(moment.kernel),)
    ),
    "magnitude": Observable(("magnitude_entropy", "magnitude_variance"), _magnitude),
    "loss-derivative": Observable(("loss_derivative",), _loss_derivative, needs="loss"),
    "loss-kernel": Observable(
        ("loss_entropy", "loss_trace"), _loss_kernel, needs="targets", other="loss"
    ),
    "position": Observable(factors.Factors._fields, _position, needs="loss"),
    "fisher": Observable(("fisher_trace",), _fisher, needs="targets", other="fisher"),
}


def _loss_outputs(apply_fn: ApplyFunction, loss: str) -> ApplyFunction:
    """Return a function with the losses as outputs, whose kernel is that of the loss gradients."""

    def losses(params: PyTree[Array], points: tuple[Array, Array]) -> Float[Array, "k 1"]:
        return schedules.LOSSES[loss](apply_fn(params, points[0]), points[1])[:, None]

    return losses


def _fisher_outputs(apply_fn: ApplyFunction, loss: str) -> ApplyFunction:
    """Return a function whose kernel has the trace of the Fisher information matrix.

    Its outputs g satisfy Σ_c ∂g_c ∂g_cᵀ = the Fisher information matrix of a point. For
    cross-entropy they are √p_c ln p_c with the factor √p_c held fixed, since the matrix is Σ_c p_c
    ∂ln p_c ∂ln p_cᵀ. For the mean squared error the outputs are means of normal distributions of
    variance 1, so g is the outputs themselves.
    """
    if loss == "mse":
        return lambda params, points: apply_fn(params, points[0])

    def scores(params: PyTree[Array], points: tuple[Array, Array]) -> Float[Array, "k n_outputs"]:
        logarithms = jax.nn.log_softmax(apply_fn(params, points[0]))
        return jnp.exp(jax.lax.stop_gradient(logarithms) / 2) * logarithms

    return scores


KERNELS = {"loss": _loss_outputs, "fisher": _fisher_outputs}


def _class_rows(moment: Moment, n_modes: int) -> list[Row]:
    """Return a row for each class, without `second`, and one for each union of two classes.

    A union also has the mutual information of its classes.
    """
    classes = np.argmax(moment.targets, axis=1)
    points = {int(value): np.flatnonzero(classes == value) for value in np.unique(classes)}
    spectra = {value: _block_eigenvalues(moment, chosen) for value, chosen in points.items()}
    entropies = {value: spectrum.entropy(values) for value, values in spectra.items()}
    rows: list[Row] = [
        {
            "first": value,
            "n_in_classes": len(points[value]),
            "entropy": entropies[value],
            "trace": spectrum.trace(values),
        }
        for value, values in spectra.items()
    ]
    for first, second in itertools.combinations(points, 2):
        union = np.concatenate([points[first], points[second]])
        values = _block_eigenvalues(moment, union)
        entropy = spectrum.entropy(values)
        information = collective.mutual_information(entropies[first], entropies[second], entropy)
        rows.append(
            {
                "first": first,
                "second": second,
                "n_in_classes": len(union),
                "entropy": entropy,
                "trace": spectrum.trace(values),
                "mutual_information": information,
            }
        )
    return rows


def _block_eigenvalues(moment: Moment, points: np.ndarray) -> np.ndarray:
    return spectrum.eigenvalues(moment.kernel[np.ix_(points, points)])


def _mode_rows(moment: Moment, n_modes: int) -> list[Row]:
    """Return a row for each leading mode v of K_0: vᵀK_0v, vᵀKv and ‖vᵀ ∂loss/∂outputs‖.

    K_0 is the first kernel. By Tovey et al. 2023, eq. 6, the error along v should fall at a rate
    proportional to vᵀK_0v.
    """
    n = len(moment.kernel)
    initial = moment.initial.astype(np.float64)
    leading = (max(0, n - n_modes), n - 1)
    eigenvalues, vectors = scipy.linalg.eigh(initial, subset_by_index=leading)
    kernel = moment.kernel.astype(np.float64)
    now = np.einsum("ik,ij,jk->k", vectors, kernel, vectors, optimize=True)
    residuals = np.linalg.norm(vectors.T @ moment.gradient, axis=1)
    # LAPACK's order is ascending; mode 0 is the largest.
    columns = zip(eigenvalues[::-1], now[::-1], residuals[::-1])
    return [dict(zip(MODES, (number, *map(float, row)))) for number, row in enumerate(columns)]


MODES = ("mode", "eigenvalue", "eigenvalue_now", "residual")
CLASSES = ("first", "second", "n_in_classes", "entropy", "trace", "mutual_information")
TABLES = {"classes": Table(CLASSES, _class_rows), "modes": Table(MODES, _mode_rows)}
