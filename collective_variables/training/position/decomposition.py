"""Decompose the fall of a loss into the sizes of loss, network, and spectral position.

With g the derivative of the loss by all outputs of all points, and Θ the kernel over points and
outputs with eigenvalues λ_k and eigenvectors q_k, a small step along the gradient lowers the loss
at the rate (Nikolaou et al. 2026, "Spectral Reach")

    δL = ‖∇_θ L‖² = gᵀ Θ g = χ_loss χ_net χ_pos,

where χ_loss = ‖g‖², χ_net = Tr Θ, and χ_pos = Σ_k (g · q_k)²/‖g‖² · λ_k/Tr Θ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from collective_variables import _checks, _errors, _keys
from collective_variables.kernels import empirical
from collective_variables.kernels.traces import exact, probes
from collective_variables.networks._arguments import (
    ApplyFunction,
    checked_points,
    n_points,
)
from collective_variables.training import schedules
from collective_variables.training.position import _gradients
from collective_variables.training.position._gradients import Batch, LossFunction


class Modes(NamedTuple):
    """The eigenvectors of the kernel over points and outputs, from the largest eigenvalue on.

    Attributes:
        eigenvalues: λ_k.
        shares: p_k = λ_k/Tr Θ, which add up to 1.
        squared_overlaps: γ_k² = (g · q_k)²/‖g‖², which add up to 1.
    """

    eigenvalues: Float[np.ndarray, " n_modes"]
    shares: Float[np.ndarray, " n_modes"]
    squared_overlaps: Float[np.ndarray, " n_modes"]


class Decomposition(NamedTuple):
    """What the rate δL at which a loss falls is made of.

    For a batch that acts and another that is measured, `chi_loss` and `chi_net` are the geometric
    means of both.

    Attributes:
        loss: The loss, of the batch that is measured.
        chi_loss: χ_loss = ‖g‖², the squared derivative of the loss by the outputs.
        chi_net: χ_net = Tr Θ, the trace of the kernel, summed over points and outputs.
        chi_pos: χ_pos, the spectral position, between 0 and 1: near 1 the loss falls along the
            leading modes, and near 0 along the tail. Between two batches it may be negative. NaN
            where χ_loss or χ_net is 0.
        delta_loss: δL = ‖∇_θ L‖²; between two batches, the product of their gradients.
        chi_net_error: Standard error of `chi_net`; 0 for an exact trace.
        chi_pos_error: Standard error of `chi_pos`.
        n_points: Number of points, the geometric mean of both batches.
        modes: The modes, if they were asked for.

    Example:
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> found = cv.decompose(linear, jnp.zeros((2, 1)), jnp.eye(2), jnp.ones((2, 1)))
        >>> print(found.loss, found.chi_loss_per_point, found.chi_net_per_point, found.chi_pos)
        1.0 4.0 1.0 0.5
    """

    loss: float
    chi_loss: float
    chi_net: float
    chi_pos: float
    delta_loss: float
    chi_net_error: float
    chi_pos_error: float
    n_points: float
    modes: Modes | None

    @property
    def chi_loss_per_point(self) -> float:
        """χ_loss times the number of points, which is free of it for a loss that is a mean."""
        return self.n_points * self.chi_loss

    @property
    def chi_net_per_point(self) -> float:
        """χ_net over the number of points."""
        return self.chi_net / self.n_points


def decompose(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    targets: PyTree[Array],
    loss: str | LossFunction = "mse",
    *,
    measured: tuple[PyTree[Array], PyTree[Array]] | None = None,
    modes: bool = False,
    n_probes: int | None = None,
    key: PRNGKeyArray | None = None,
    block_size: int | None = None,
) -> Decomposition:
    """Return the decomposition δL = χ_loss χ_net χ_pos of the rate at which a loss falls.

    δL = ‖∇_θ L‖² takes one gradient, and χ_loss = ‖g‖² the derivative of the loss by the outputs.
    χ_net = Tr Θ sums squared gradients of single outputs layer by layer, so no kernel is needed
    (Nikolaou et al. 2026, "Spectral Reach", there in PyTorch). The size of χ_loss and χ_net depends
    on the number of points; `Decomposition` has forms that do not.

    A network with many outputs takes less time with `n_probes`, and has standard errors then. The
    numbers are computed at once, so the call cannot stand inside `jax.jit`.
    Values that are not finite, as of a training that diverged, give NaN.

    Raises ValueError in the same cases as `empirical_ntk`, for targets that do not fit the outputs,
    a loss that does not return one number, and modes of two batches or together with probes. Raises
    MemoryError if the kernel for `modes` does not fit the free memory.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs). It must treat every
            point separately, so batch normalisation has fixed statistics, and dropout is off.
        params: The parameters, an array or a tree of arrays.
        x: The points, an array or a tree of arrays with points along their first axes.
        targets: Their targets, an array or a tree of arrays. "cross-entropy" takes one-hot rows or
            whole numbers (n_points,).
        loss: "mse", the mean over points and outputs; "cross-entropy", the mean over points, in
            nats; or a function loss(outputs, targets) that returns a number.
        measured: Points and targets of another batch, whose loss is measured while (x, targets)
            acts: δL is then the product of both gradients.
        modes: Whether to compute the modes. The kernel over points and outputs is formed and
            decomposed, in (n_points · n_outputs)² memory.
        n_probes: Number of random probes for χ_net, as in `estimate_trace`; None for the exact
            trace, for which every output goes back through the network.
        key: A JAX key, for the probes.
        block_size: Number of points at once; None plans it from the size of the network.

    Returns:
        The decomposition.

    Example:
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> x, targets = jnp.eye(2), jnp.array([[2.0], [0.0]])
        >>> found = cv.decompose(linear, jnp.zeros((2, 1)), x, targets)
        >>> print(found.delta_loss, found.chi_loss, found.chi_net, found.chi_pos)
        4.0 4.0 2.0 0.5
    """
    _check_options(loss, measured, modes, n_probes, key, block_size)
    batches = [_checked_batch("", x, targets)]
    if measured is not None:
        batches.append(_checked_batch("measured ", *measured))
        _gradients.check_alike(*batches)
    first, *others = [
        _gradients.compute_gradients(apply_fn, params, batch, loss, block_size) for batch in batches
    ]
    last = others[0] if others else first
    if modes:
        found = _modes(apply_fn, params, batches[0].x, first.by_outputs)
        rate = _gradients.compute_rate(first, last, float(found.eigenvalues.sum()))
        # The spectrum gives the position without δL, so that both can be compared.
        rate, error = rate._replace(chi_pos=float(found.shares @ found.squared_overlaps)), 0.0
    else:
        traces = [
            _trace(apply_fn, params, batch.x, n_probes, key, place)
            for place, batch in enumerate(batches)
        ]
        chi_net = float(np.sqrt(traces[0].trace * traces[-1].trace))
        found, rate = None, _gradients.compute_rate(first, last, chi_net)
        error = _relative_error(traces)
    return Decomposition(
        last.loss,
        *rate,
        rate.chi_net * error,
        abs(rate.chi_pos) * error,
        float(np.sqrt(n_points(batches[0].x) * n_points(batches[-1].x))),
        found,
    )


def _check_options(
    loss: object,
    measured: object,
    modes: bool,
    n_probes: int | None,
    key: PRNGKeyArray | None,
    block_size: int | None,
) -> None:
    """Raise TypeError or ValueError for options that are wrong or do not go together."""
    if not callable(loss):
        _checks.choice("loss", loss, schedules.LOSSES)
    if block_size is not None:
        _checks.integer("block_size", block_size, minimum=1)
    if n_probes is not None:
        _checks.integer("n_probes", n_probes, minimum=2)
        _keys.check_key(key)
    if modes and (measured is not None or n_probes is not None):
        what = "n_probes" if measured is None else "measured"
        raise _errors.InvalidValueError(
            f"modes are those of one batch and its exact kernel: leave out {what}."
        )


def _checked_batch(name: str, x: PyTree[Array], targets: PyTree[Array]) -> Batch:
    """Return points and targets as JAX arrays, or raise ValueError."""
    batch = Batch(checked_points(f"{name}x", x), jax.tree.map(jnp.asarray, targets))
    _gradients.check_batch(name, batch)
    return batch


def _trace(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    n_probes: int | None,
    key: PRNGKeyArray | None,
    place: int,
) -> probes.TraceEstimate:
    """Return the trace of the kernel over points and outputs, exact without probes."""
    if n_probes is None:
        trace = float(exact.ntk_trace(apply_fn, params, x, outputs="sum"))
        return probes.TraceEstimate(trace, 0.0)
    own_key = jax.random.fold_in(key, place)
    return probes.estimate_trace(apply_fn, params, x, n_probes, key=own_key, outputs="sum")


def _relative_error(traces: list[probes.TraceEstimate]) -> float:
    """Return the relative standard error of the geometric mean of one or two traces."""
    errors = [
        estimate.standard_error / estimate.trace if estimate.trace > 0 else 0.0
        for estimate in traces
    ]
    return float(np.linalg.norm(errors) / len(traces))


def _modes(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    by_outputs: Float[np.ndarray, "n_points n_outputs"],
) -> Modes:
    """Return the modes of the kernel over points and outputs."""
    kernel = np.asarray(empirical.empirical_ntk(apply_fn, params, x, outputs="full"), np.float64)
    if not np.isfinite(kernel).all():
        nothing = np.full(len(kernel), np.nan)
        return Modes(nothing, nothing, nothing)
    eigenvalues, vectors = np.linalg.eigh(kernel)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0.0), vectors[:, ::-1]
    overlaps = (vectors.T @ by_outputs.reshape(-1)) ** 2
    with np.errstate(invalid="ignore"):  # 0/0 is NaN: without a loss or a kernel there are none
        return Modes(eigenvalues, eigenvalues / eigenvalues.sum(), overlaps / overlaps.sum())
