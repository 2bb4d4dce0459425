"""Train networks on the labelled rows, and predict with them."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks, _errors
from collective_variables.ensembles import batching, execution
from collective_variables.networks import batched, parameters
from collective_variables.training import schedules

MOST_PROGRAMS = 32  # networks and settings whose compiled programs are kept
AT_ONCE = 4096  # points of a prediction
UNBOUNDED = 2**62


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """Describe how networks are trained on the labels so far.

    Adam with decoupled weight decay (Loshchilov, Hutter 2019) takes all labelled points in each
    step. The learning rate falls to 0 along a cosine. Labels are few, so without weight decay the
    networks would learn their noise.

    Args:
        n_networks: Number of networks, which differ in their initial parameters. Predictions are
            their mean, and the kernel is the mean of their kernels.
        n_epochs: Number of steps.
        learning_rate: Learning rate of the first step.
        weight_decay: Share of the parameters that a step takes off, per learning rate.

    Raises TypeError or ValueError if a value is out of range.

    Example:
        >>> import collective_variables as cv
        >>> cv.FitSettings(n_networks=1).n_epochs
        300
    """

    n_networks: int = 3
    n_epochs: int = 300
    learning_rate: float = 0.01
    weight_decay: float = 1.0

    def __post_init__(self) -> None:
        _checks.integer("n_networks", self.n_networks, minimum=1)
        _checks.integer("n_epochs", self.n_epochs, minimum=1)
        _checks.number("learning_rate", self.learning_rate, above=0.0)
        _checks.number("weight_decay", self.weight_decay, minimum=0.0)

    def optimiser(self) -> optax.GradientTransformation:
        """Return the optimiser."""
        decreasing = optax.cosine_decay_schedule(self.learning_rate, self.n_epochs)
        return optax.adamw(decreasing, weight_decay=self.weight_decay)


def initialise(
    network: nn.Module, inputs: Float[Array, "n_points ..."], keys: PRNGKeyArray, /
) -> list[PyTree[Array]]:
    """Return the initial parameters of a network for each key."""
    return [parameters.initialise(network, key, inputs) for key in keys]


def fit(
    network: nn.Module,
    inputs: Float[np.ndarray, "n_labelled ..."],
    targets: Float[np.ndarray, "n_labelled n_outputs"],
    /,
    *,
    task: str,
    initial: Sequence[PyTree[Array]],
    settings: FitSettings,
) -> list[PyTree[Array]]:
    """Train networks on all labelled points, one for each tree of initial parameters.

    The loss is the mean squared error in a regression, and the cross-entropy in a classification.
    Programs are compiled for sizes 16, 24, 32, 48, 64 and so on, so few batches compile anew.

    Also raises ComputationError if a training diverges, and ValueError if the network does not fit
    the points.

    Args:
        network: The network.
        inputs: (n_labelled, ...) labelled points.
        targets: (n_labelled, n_outputs) z-scores, or one-hot classes.
        task: "regression" or "classification".
        initial: Initial parameters of each network.
        settings: Number of steps, learning rate and weight decay.

    Returns:
        The trained parameters of each network.
    """
    every_row = np.arange(len(inputs))
    return fit_subsets(
        network,
        inputs,
        targets,
        [every_row] * len(initial),
        task=task,
        initial=initial,
        settings=settings,
    )


def fit_subsets(
    network: nn.Module,
    inputs: Float[np.ndarray, "n_points ..."],
    targets: Float[np.ndarray, "n_points n_outputs"],
    subsets: Sequence[Int[np.ndarray, " n_subset"]],
    /,
    *,
    task: str,
    initial: Sequence[PyTree[Array]],
    settings: FitSettings,
) -> list[PyTree[Array]]:
    """Train a network on each of several subsets of the points, with one compiled program.

    Arguments are those of `fit`, with one tree of initial parameters for each subset. All subsets
    are padded to the size of the largest.

    Args:
        network: The network.
        inputs: (n_points, ...) points.
        targets: (n_points, n_outputs) z-scores, or one-hot classes.
        subsets: Rows of each subset, at least one.
        task: "regression" or "classification".
        initial: Initial parameters for each subset.
        settings: Number of steps, learning rate and weight decay.

    Returns:
        The trained parameters for each subset.

    Raises:
        ComputationError: A training diverged.

    Also raises ValueError if the network does not fit the points.
    """
    _check_fit(network, inputs.shape[1:], inputs.dtype, targets.shape[1:])
    size = batching.bucket(max(map(len, subsets)), UNBOUNDED, fine=True)
    # The number of networks is not part of the program.
    train = _program(network, task, dataclasses.replace(settings, n_networks=1))
    points, labels = jnp.asarray(inputs), jnp.asarray(targets)

    def run(
        case: tuple[PyTree[Array], Int[np.ndarray, " n_subset"]], advance: Callable[[int], None]
    ) -> tuple[PyTree[Array], bool]:
        params, subset = case
        rows = np.resize(subset, size)  # the rest is padding, and does not count
        trained = train(params, points[rows], labels[rows], len(subset))
        return trained, all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))

    with execution.Progress("", len(initial), "networks") as bar:
        results = execution.run(run, list(zip(initial, subsets, strict=True)), bar)
    for (_, is_finite), subset in zip(results, subsets):
        if not is_finite:
            raise _errors.ComputationError(
                f"The training on {len(subset)} labelled points diverged with the learning rate "
                f"{settings.learning_rate:g}: lower it. Labels and rows are unchanged."
            )
    return [trained for trained, _ in results]


@lru_cache(MOST_PROGRAMS)
def _program(network: nn.Module, task: str, settings: FitSettings) -> Callable[..., PyTree[Array]]:
    """Return the compiled training of one network."""
    loss = schedules.LOSSES["cross-entropy" if task == "classification" else "mse"]
    optimiser = settings.optimiser()

    def train(
        params: PyTree[Array],
        inputs: Float[Array, "size ..."],
        targets: Float[Array, "size n_outputs"],
        n_points: Array,
    ) -> PyTree[Array]:
        def step(_: Array, state: tuple[PyTree[Array], PyTree[Array]]) -> tuple:
            params, optimiser_state = state
            _, gradient = batched.mean_loss_and_gradient(
                network, loss, params, inputs, targets, n_points
            )
            # Optax mixes integers and floats.
            with jax.numpy_dtype_promotion("standard"):
                updates, optimiser_state = optimiser.update(gradient, optimiser_state, params)
            return optax.apply_updates(params, updates), optimiser_state

        start = params, optimiser.init(params)
        return jax.lax.fori_loop(0, settings.n_epochs, step, start)[0]

    return jax.jit(train)


def outputs(
    network: nn.Module, trained: Sequence[PyTree[Array]], inputs: Float[np.ndarray, "n_points ..."]
) -> Float[np.ndarray, "n_networks n_points n_outputs"]:
    """Return the outputs of every network for all points, in blocks of points."""
    forward = _forward(network)
    starts = range(0, len(inputs), AT_ONCE)
    return np.stack(
        [
            np.concatenate(
                [np.asarray(forward(params, inputs[start : start + AT_ONCE])) for start in starts]
            )
            for params in trained
        ]
    )


@lru_cache(MOST_PROGRAMS)
def _check_fit(
    network: nn.Module, point: tuple[int, ...], dtype: np.dtype, target: tuple[int, ...]
) -> None:
    """Check that a network fits points and targets of these shapes, once in all rounds."""
    parameters.check_fit(network, np.zeros((2, *point), dtype), np.zeros((2, *target)))


@lru_cache(MOST_PROGRAMS)
def _forward(network: nn.Module) -> Callable[[PyTree[Array], Array], Array]:
    return jax.jit(lambda params, inputs: batched.forward(network, params, inputs))
