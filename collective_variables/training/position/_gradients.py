"""The derivatives of a loss by outputs and by parameters, in blocks of points."""

from collections.abc import Callable, Hashable
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


class Started(NamedTuple):
    """The arrays of `Gradients`, which JAX may still be computing."""

    loss: Float[Array, ""]
    by_outputs: Float[Array, "n_points n_outputs"]
    by_parameters: list[Array]
    delta_loss: Float[Array, ""]

    def wait(self) -> "Gradients":
        """Return the gradients once they are computed."""
        loss, by_outputs, delta_loss = jax.device_get((self.loss, self.by_outputs, self.delta_loss))
        by_outputs = by_outputs.astype(np.float64)
        return Gradients(float(loss), by_outputs, self.by_parameters, float(delta_loss))


class Gradients(NamedTuple):
    """A loss and its derivatives.

    Attributes:
        loss: The loss.
        by_outputs: Its derivative by all outputs, in float64.
        by_parameters: Its derivative by each array of parameters.
        delta_loss: The sum of their squares.
    """

    loss: float
    by_outputs: Float[np.ndarray, "n_points n_outputs"]
    by_parameters: list[Array]
    delta_loss: float


def compute_rate(acting: Gradients, measured: Gradients, chi_net: float) -> Factors:
    """Return the rate at which the loss of a batch falls while another, or the same, acts."""
    squares = [np.vdot(batch.by_outputs, batch.by_outputs) for batch in (acting, measured)]
    chi_loss = float(np.sqrt(squares[0] * squares[1]))
    delta_loss = acting.delta_loss
    if measured is not acting:
        delta_loss = float(_products(acting.by_parameters, measured.by_parameters))
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
        params = network.checked(params, batch.x)
        return start(network, params, batch, loss, block_size).wait()


def start(
    network: StandIn,
    params: PyTree[Array],
    batch: Batch,
    loss: str | LossFunction,
    block_size: int | None = None,
) -> Started:
    """Start `compute_gradients` with the stand-in of a network and its checked parameters."""
    x = batch.x
    leaves, structure = jax.tree.flatten((params, x))
    outputs = network.program(
        ("outputs", structure, tuple(map(jax.typeof, leaves))),
        lambda: jax.eval_shape(network, params, x),
    )
    known = loss if isinstance(loss, str) else None
    targets = batch.targets if known is None else fit_targets(loss, batch.targets, outputs)
    if known is not None:
        return _start(network, params, x, targets, _MEANS[loss], known, block_size)
    with LOSSES.traceable(loss, outputs, targets) as stand_in:
        return _start(network, params, x, targets, stand_in, stand_in, block_size)


def _start(
    network: StandIn,
    params: PyTree[Array],
    x: PyTree[Array],
    targets: PyTree[Array],
    loss: LossFunction,
    name: Hashable,
    block_size: int | None,
) -> Started:
    """Start the gradients of a loss, whose programs are kept by its name."""
    at_once = block_size or _plan(network, params, x)
    if n_points(x) <= at_once:
        derive = network.program(
            ("gradients", name), lambda: _compiled(_loss_gradients(network, loss))
        )
        return Started(*derive(params, x, targets))
    value, signals, by_parameters = _in_tiles(network, params, x, targets, loss, name, at_once)
    return Started(value, signals, by_parameters, _products(by_parameters, by_parameters))


def _in_tiles(
    network: StandIn,
    params: PyTree[Array],
    x: PyTree[Array],
    targets: PyTree[Array],
    loss: LossFunction,
    name: Hashable,
    at_once: int,
) -> tuple[Array, Array, list[Array]]:
    """Return loss and derivatives, with `at_once` points at a time in the network."""
    forward = network.program(("forward",), lambda: _compiled(network))
    back = network.program(("pull back",), lambda: _compiled(_pull_back(network)))
    derive = network.program(("loss", name), lambda: _compiled(_value_and_gradient(loss)))
    tiles = Tiles(lambda part: part, x, at_once, keep=False)
    parts = [forward(params, tiles.tile(place)) for place in range(len(tiles.starts))]
    # The last tile repeats points of the one before it.
    n_repeated = len(tiles.starts) * tiles.size - n_points(x)
    value, derivative = derive(jnp.concatenate([*parts[:-1], parts[-1][n_repeated:]]), targets)
    signals = [derivative[start : start + tiles.size] for start in tiles.starts]
    signals[-1] = signals[-1].at[:n_repeated].set(0.0)
    total = None
    for place, signal in enumerate(signals):
        pulled = back(params, tiles.tile(place), signal)
        total = pulled if total is None else jax.tree.map(jnp.add, total, pulled)
    return value, derivative, total


def _compiled(function: Callable[..., PyTree[Array]]) -> Callable[..., PyTree[Array]]:
    return jax.jit(exact_products(function))


@jax.jit
def _products(first: list[Array], second: list[Array]) -> Float[Array, ""]:
    """Return the product of two gradients."""
    return sum(map(jnp.vdot, first, second))


def _loss_gradients(network: StandIn, loss: LossFunction) -> Callable[..., tuple]:
    """Return the function that computes a loss, its derivatives, and δL."""
    derive = _value_and_gradient(loss)

    def gradients(
        params: PyTree[Array], x: PyTree[Array], targets: PyTree[Array]
    ) -> tuple[Array, Array, list[Array], Array]:
        function, leaves = variables.differentiable(network, params)
        outputs, back = jax.vjp(lambda leaves: function(leaves, x), leaves)
        value, signals = derive(outputs, targets)
        by_parameters = jax.tree.leaves(back(signals))
        return value, signals, by_parameters, _products(by_parameters, by_parameters)

    return gradients


def _value_and_gradient(loss: LossFunction) -> Callable[..., tuple[Array, Array]]:
    """Return the function of outputs and targets that computes a loss and its derivative."""

    def derive(outputs: Array, targets: PyTree[Array]) -> tuple[Array, Array]:
        _check_number(jax.eval_shape(loss, outputs, targets))
        return jax.value_and_grad(loss)(outputs, targets)

    return derive


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


def _mean(name: str) -> LossFunction:
    return lambda outputs, targets: jnp.mean(schedules.LOSSES[name](outputs, targets))


_MEANS = {name: _mean(name) for name in schedules.LOSSES}


def fit_targets(
    loss: str, targets: PyTree[Array], outputs: Array | jax.ShapeDtypeStruct
) -> Float[Array, "n_points n_outputs"]:
    """Return targets in the shape of outputs: one-hot rows for whole numbers of classes.

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
        advice = " For classes, choose the loss cross-entropy." if _are_classes(array) else ""
        raise _errors.InvalidValueError(
            f"targets must have the shape of the outputs, {shape}: received {array.shape}.{advice}"
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
