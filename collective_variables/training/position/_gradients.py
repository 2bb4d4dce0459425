"""The derivatives of a loss by outputs and by parameters, in blocks of points."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables import _checks, _errors
from collective_variables.kernels._derivatives import backpropagation
from collective_variables.kernels._tiles import Tiles, exact_products
from collective_variables.kernels._traced import PASS_IT, SHARED, StandIn, StandIns
from collective_variables.networks import variables
from collective_variables.networks._arguments import ApplyFunction, n_points
from collective_variables.training import schedules
from collective_variables.training.position.factors import Factors, from_slopes

LossFunction = Callable[[Array, PyTree[Array]], Array]

BLOCK_BYTES = 2**27  # of the largest array between parameters and outputs of a block of points
MOST_LOSSES = 32  # functions whose programs are kept
LOSSES = StandIns(MOST_LOSSES, is_lenient=False, advice=PASS_IT)


class Batch(NamedTuple):
    """Points and their targets."""

    x: PyTree[Array]
    targets: PyTree[Array]


class Gradients(NamedTuple):
    """A loss and its derivatives.

    Attributes:
        loss: The loss.
        by_outputs: Its derivative by all outputs, in float64.
        by_parameters: Its derivative by each array of parameters.
    """

    loss: float
    by_outputs: Float[np.ndarray, "n_points n_outputs"]
    by_parameters: list[Array]


def compute_rate(acting: Gradients, measured: Gradients, chi_net: float) -> Factors:
    """Return the rate at which the loss of a batch falls while another, or the same, acts."""
    squares = [np.vdot(each.by_outputs, each.by_outputs) for each in (acting, measured)]
    chi_loss = float(np.sqrt(squares[0] * squares[1]))
    delta_loss = float(sum(map(jnp.vdot, acting.by_parameters, measured.by_parameters)))
    return from_slopes(chi_loss, chi_net, delta_loss)


def compute_gradients(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    batch: Batch,
    loss: str | LossFunction,
    block_size: int | None = None,
) -> Gradients:
    """Return the loss of a batch and its derivatives.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: Its parameters.
        batch: Points and targets.
        loss: One of `schedules.LOSSES`, whose mean over points is taken, or a function.
        block_size: Number of points at once; None plans it from the size of the network.

    Returns:
        The derivatives.

    Also raises ValueError if the targets do not fit the outputs, or the loss is not one number.
    """
    with SHARED.traceable(apply_fn, params, batch.x) as network:
        return _compute(network, network.checked(params, batch.x), batch, loss, block_size)


def _compute(
    network: StandIn,
    params: PyTree[Array],
    batch: Batch,
    loss: str | LossFunction,
    block_size: int | None,
) -> Gradients:
    forward = network.program(("forward",), lambda: jax.jit(exact_products(network)))
    back = network.program(("pull back",), lambda: jax.jit(exact_products(_pull_back(network))))
    tiles = Tiles(lambda x: x, batch.x, block_size or _plan(network, params, batch.x), keep=False)
    parts = [forward(params, tiles.tile(place)) for place in range(len(tiles.starts))]
    # The last tile repeats points of the one before it.
    n_repeated = len(tiles.starts) * tiles.size - n_points(batch.x)
    outputs = jnp.concatenate([*parts[:-1], parts[-1][n_repeated:]])
    value, derivative = _derive(loss, outputs, batch.targets)
    signals = [derivative[start : start + tiles.size] for start in tiles.starts]
    if n_repeated:
        signals[-1] = signals[-1].at[:n_repeated].set(0.0)
    total = None
    for place, signal in enumerate(signals):
        pulled = back(params, tiles.tile(place), signal)
        total = pulled if total is None else jax.tree.map(jnp.add, total, pulled)
    return Gradients(float(value), np.asarray(derivative, np.float64), total)


def _plan(network: StandIn, params: PyTree[Array], x: PyTree[Array]) -> int:
    largest = network.program(
        ("largest signal", tuple(jax.typeof(leaf).shape[1:] for leaf in jax.tree.leaves(x))),
        lambda: backpropagation.largest_signal(network, params, x),
    )
    return max(1, BLOCK_BYTES // largest)


def _pull_back(network: StandIn) -> Callable[..., list[Array]]:
    """Return the function of parameters, points and signals that computes Σ_i J_iᵀ g_i."""

    def pull_back(
        params: PyTree[Array], x: PyTree[Array], signals: Float[Array, "n_points n_outputs"]
    ) -> list[Array]:
        function, leaves = variables.differentiable(network, params)
        _, back = jax.vjp(lambda leaves: function(leaves, x), leaves)
        return jax.tree.leaves(back(signals))

    return pull_back


def _derive(
    loss: str | LossFunction, outputs: Float[Array, "n_points n_outputs"], targets: PyTree[Array]
) -> tuple[Float[Array, ""], Float[Array, "n_points n_outputs"]]:
    """Return a loss and its derivative by the outputs."""
    function = _MEANS[loss] if isinstance(loss, str) else loss
    if isinstance(loss, str):
        targets = _fitting(loss, targets, outputs)
    with LOSSES.traceable(function, outputs, targets) as known:
        _check_number(jax.eval_shape(known, outputs, targets))
        derive = known.program(("derivative",), lambda: jax.jit(jax.value_and_grad(known)))
        return derive(outputs, targets)


def _mean(name: str) -> LossFunction:
    return lambda outputs, targets: jnp.mean(schedules.LOSSES[name](outputs, targets))


_MEANS = {name: _mean(name) for name in schedules.LOSSES}


def _fitting(
    loss: str, targets: PyTree[Array], outputs: Float[Array, "n_points n_outputs"]
) -> Float[Array, "n_points n_outputs"]:
    """Return targets in the shape of the outputs: one-hot rows for whole numbers of classes.

    Raises:
        InvalidValueError: The targets have another shape, or a class has no output.
    """
    shape, n_classes = outputs.shape, outputs.shape[1]
    array = jnp.asarray(targets)
    if loss == "cross-entropy" and _are_classes(array):
        if array.min() < 0 or array.max() >= n_classes:
            raise _errors.InvalidValueError(
                f"targets must be classes from 0 to {n_classes - 1}: received "
                f"{array.min()} to {array.max()}."
            )
        return jax.nn.one_hot(array, n_classes, dtype=outputs.dtype)
    if array.shape != shape:
        raise _errors.InvalidValueError(
            f"targets must have the shape of the outputs, {shape}: received {array.shape}."
        )
    return array.astype(outputs.dtype)


def _are_classes(targets: Array) -> bool:
    return targets.ndim == 1 and jnp.issubdtype(targets.dtype, jnp.integer)


def like_outputs(
    loss: str | LossFunction, targets: PyTree[Array], n_outputs: int
) -> Float[np.ndarray, "n_points n_outputs"] | None:
    """Return targets in the shape of the outputs for an alignment; None if they have another."""
    if not isinstance(targets, jax.Array):
        return None
    if loss == "cross-entropy" and _are_classes(targets):
        return np.eye(n_outputs)[np.asarray(targets)]
    is_alike = targets.ndim == 2 and targets.shape[1] == n_outputs
    return np.asarray(targets, np.float64) if is_alike else None


def _check_number(result: object) -> None:
    """Raise InvalidValueError unless a loss returns one real number."""
    shape = getattr(result, "shape", "of no array")
    if shape != () or not jnp.issubdtype(result.dtype, jnp.floating):
        raise _errors.InvalidValueError(
            "loss must return one real number, such as a mean over points: received the shape "
            f"{shape}."
        )


def check_alike(acting: Batch, measured: Batch) -> None:
    """Raise InvalidValueError if the points of two batches differ in shape."""
    shapes = [[leaf.shape[1:] for leaf in jax.tree.leaves(batch.x)] for batch in (acting, measured)]
    if shapes[0] != shapes[1]:
        first, second = (", ".join(map(str, points)) for points in shapes)
        raise _errors.InvalidValueError(
            f"measured x must have points shaped like those of x, {first}: received {second}."
        )


def check_batch(name: str, batch: Batch) -> None:
    """Raise ValueError if targets are not finite or differ from the points in number."""
    for leaf in jax.tree.leaves(batch.targets):
        _checks.finite(f"{name}targets", leaf)
        if jnp.shape(leaf)[:1] != (n_points(batch.x),):
            raise _errors.InvalidValueError(
                f"{name}targets must be those of {n_points(batch.x)} points: received the shape "
                f"{jnp.shape(leaf)}."
            )
