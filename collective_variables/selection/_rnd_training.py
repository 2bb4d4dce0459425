"""Start and re-train the predictor of random network distillation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.networks import batched, parameters
from collective_variables.selection import contrastive, distances

RESTARTS = ("warm", "cold")
REHEARSALS = ("all", "replay", "newest-first")
LOSSES = (*distances.NAMES, *contrastive.NAMES)


@dataclass(frozen=True)
class TrainingSettings:
    """Set the predictor's loss and its training; `rnd.RNDSettings` describes the fields."""

    distance: str = "mean-squared"
    order: float = 2.0
    scale: float = 1.0
    loss: str | None = None
    repulsion: float = 0.01
    confinement: float = 0.0
    n_epochs: int = 100
    learning_rate: float = 0.01
    restart: str = "warm"
    rehearsal: str = "all"
    n_replay: int = 32
    tolerance: float | None = None
    n_restarts: int = 0

    def __post_init__(self) -> None:
        _checks.choice("distance", self.distance, distances.NAMES)
        if self.loss is not None:
            _checks.choice("loss", self.loss, LOSSES)
        _checks.integer("n_epochs", self.n_epochs, minimum=0)
        _checks.number("learning_rate", self.learning_rate, above=0.0)
        _checks.choice("restart", self.restart, RESTARTS)
        _checks.choice("rehearsal", self.rehearsal, REHEARSALS)
        _checks.integer("n_replay", self.n_replay, minimum=1)
        if _checks.integer("n_restarts", self.n_restarts, minimum=0) and self.tolerance is None:
            raise ValueError(
                f"n_restarts needs a tolerance: received {self.n_restarts} without one."
            )
        if self.tolerance is not None:
            _checks.number("tolerance", self.tolerance, minimum=0.0)
        distances.check(self.distance, order=self.order, scale=self.scale)
        contrastive.check(repulsion=self.repulsion, confinement=self.confinement)


@dataclass(frozen=True)
class Trainer:
    """Hold what is compiled: the network and the settings.

    Attributes:
        network: The architecture of target and predictor.
        settings: The loss and how it is minimised.
        at_once: Number of blocks of images that go through the network together.
    """

    network: nn.Module
    settings: TrainingSettings
    at_once: int

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Adam with the learning rate of the settings."""
        return optax.adam(self.settings.learning_rate)

    def outputs(
        self, params: PyTree[Array], points: Float[Array, "n_points ..."]
    ) -> Float[Array, "n_points n_outputs"]:
        """Return the network's outputs for these parameters and points."""
        return batched.forward(self.network, params, points, at_once=self.at_once)


class State(NamedTuple):
    """Hold one member between two steps: F(pool), G with Adam's state, and the points so far.

    The history of chosen points is padded with zeros.
    """

    key: PRNGKeyArray
    representations: Float[Array, "n_pool n_outputs"]
    initial: PyTree[Array]
    predictor: PyTree[Array]
    optimiser_state: PyTree[Array]
    count: Int[Array, ""]
    stopped: Bool[Array, ""]
    indices: Int[Array, " n_selected"]
    distances: Float[Array, " n_selected"]
    mean_distances: Float[Array, " n_selected"]
    max_distances: Float[Array, " n_selected"]


class Shared(NamedTuple):
    """Hold what all members read: the points, and those of each class if classes take turns."""

    points: Float[Array, "n_pool ..."]
    classes: Bool[Array, "n_classes n_pool"] | None


def start(
    trainer: Trainer,
    n_selected: int,
    labelled: tuple[int, ...],
    shared: Shared,
    key: PRNGKeyArray,
) -> State:
    """Draw target and predictor of a member, and return its state before the first choice."""
    points = shared.points
    both = jax.vmap(lambda key: parameters.initialise(trainer.network, key, points))(
        jax.random.split(key)
    )
    target, predictor = (jax.tree.map(lambda leaf: leaf[i], both) for i in (0, 1))
    count = len(labelled)
    history = (jnp.zeros(n_selected, points.dtype).at[:count].set(jnp.nan) for _ in range(3))
    return State(
        key,
        trainer.outputs(target, points),
        predictor,
        predictor,
        trainer.optimiser.init(predictor),
        jnp.asarray(count, jnp.int32),
        jnp.zeros((), bool),
        jnp.zeros(n_selected, jnp.int32).at[:count].set(jnp.asarray(labelled, jnp.int32)),
        *history,
    )


def distance(
    settings: TrainingSettings, state: State, name: str | None = None
) -> distances.Distance:
    """Return the distance of the settings, or the one called `name`."""
    name = name or settings.distance
    covariance = distances.covariance(state.representations) if name == "mahalanobis" else None
    return distances.build(name, order=settings.order, scale=settings.scale, covariance=covariance)


def _loss(settings: TrainingSettings, state: State) -> contrastive.Loss:
    """Return the function whose mean the re-training minimises."""
    name = settings.loss or settings.distance
    if name in contrastive.NAMES:
        weights = {"repulsion": settings.repulsion, "confinement": settings.confinement}
        return contrastive.build(name, scale=settings.scale, **weights)
    # A distance gives each point a loss that does not depend on the others.
    single = distance(settings, state, name)
    return lambda predicted, representations, n_points: single(predicted, representations)


def _mean(losses: Float[Array, " width"], n_points: Int[Array, ""]) -> Float[Array, ""]:
    """Return the mean of the first `n_points` losses, or 0 without a point."""
    total = jnp.sum(jnp.where(jnp.arange(len(losses)) < n_points, losses, 0.0))
    return total / jnp.maximum(n_points, 1).astype(total.dtype)


def retrain(
    trainer: Trainer, width: int, points: Array, state: State, n_points: Int[Array, ""]
) -> State:
    """Train G on the chosen points; without any, G stays as it is.

    Args:
        trainer: The network and the settings.
        width: Number of slots that the chosen points are padded to.
        points: The pool.
        state: A member before the training.
        n_points: The number of chosen points of every member that has not stopped. Because all
            members share it, XLA need not select between old and new values of every weight.

    Returns:
        The member with the trained predictor.
    """
    settings = trainer.settings
    if settings.restart == "cold":
        state = state._replace(
            predictor=state.initial, optimiser_state=trainer.optimiser.init(state.initial)
        )
    slots = jnp.arange(width)
    newest = jnp.maximum(n_points - 1, 0)
    if settings.rehearsal == "newest-first":
        state = _fit(trainer, points, state, newest[None], jnp.minimum(n_points, 1))
    if settings.rehearsal == "replay":
        rows = state.indices[:width]
        outputs = trainer.outputs(state.predictor, points[rows])
        errors = _loss(settings, state)(outputs, state.representations[rows], n_points)
        errors = jnp.where(slots < n_points, errors, -jnp.inf).at[newest].set(jnp.inf)
        n_replay = min(settings.n_replay, width)
        slots = jax.lax.top_k(errors, n_replay)[1]
        n_points = jnp.minimum(n_points, n_replay)
    return _fit(trainer, points, state, slots, n_points)


class _Fit(NamedTuple):
    predictor: PyTree[Array]
    optimiser_state: PyTree[Array]
    loss: Float[Array, ""]


def _fit(
    trainer: Trainer, points: Array, state: State, slots: Int[Array, " width"], n_points: Array
) -> State:
    """Train G on the first `n_points` of these slots, in as many attempts as the settings allow."""
    settings = trainer.settings
    optimiser = trainer.optimiser
    loss = _loss(settings, state)
    rows = state.indices[slots]
    inputs = points[rows]
    representations = state.representations[rows]
    n_epochs = jnp.where(n_points > 0, settings.n_epochs, 0)

    def epoch(carry: tuple[Array, Array, _Fit]) -> tuple[Array, Array, _Fit]:
        number, _, fit = carry
        value, gradient = _loss_and_gradient(
            trainer, loss, fit.predictor, inputs, representations, n_points
        )
        updates, optimiser_state = optimiser.update(gradient, fit.optimiser_state, fit.predictor)
        updated = _Fit(optax.apply_updates(fit.predictor, updates), optimiser_state, value)
        if settings.tolerance is None:
            return number + 1, jnp.zeros((), bool), updated
        reached = value <= settings.tolerance
        result = jax.tree.map(partial(jnp.where, reached), fit._replace(loss=value), updated)
        return number + 1, reached, result

    def continues(carry: tuple[Array, Array, _Fit]) -> Bool[Array, ""]:
        number, reached, _ = carry
        if settings.tolerance is None:
            return number < n_epochs
        return (number < n_epochs) & ~reached

    def train(fit: _Fit) -> _Fit:
        start = jnp.zeros_like(n_epochs), jnp.zeros((), bool), fit
        return jax.lax.while_loop(continues, epoch, start)[2]

    def mean_loss(predictor: PyTree[Array]) -> Float[Array, ""]:
        return _mean(loss(trainer.outputs(predictor, inputs), representations, n_points), n_points)

    fit = train(_Fit(state.predictor, state.optimiser_state, jnp.zeros((), points.dtype)))
    if settings.n_restarts:
        fit = _restart(trainer, points, state, train, mean_loss, fit)
    return state._replace(predictor=fit.predictor, optimiser_state=fit.optimiser_state)


def _loss_and_gradient(
    trainer: Trainer,
    loss: contrastive.Loss,
    predictor: PyTree[Array],
    inputs: Float[Array, "width ..."],
    representations: Float[Array, "width n_outputs"],
    n_points: Int[Array, ""],
) -> tuple[Float[Array, ""], PyTree[Array]]:
    def mean_and_gradient(losses: distances.Distance, targets: Float[Array, "width n_outputs"]):
        return batched.mean_loss_and_gradient(
            trainer.network, losses, predictor, inputs, targets, n_points, at_once=trainer.at_once
        )

    if trainer.settings.loss not in contrastive.NAMES:
        losses = partial(loss, n_points=n_points)  # pyrefly: ignore[unexpected-keyword]
        return mean_and_gradient(losses, representations)

    def mean_loss(outputs: Float[Array, "width n_outputs"]) -> Float[Array, ""]:
        return _mean(loss(outputs, representations, n_points), n_points)

    def along(
        outputs: Float[Array, "n n_outputs"], slopes: Float[Array, "n n_outputs"]
    ) -> Float[Array, " n"]:
        return jnp.asarray(n_points, slopes.dtype) * jnp.sum(slopes * outputs, axis=-1)

    # The loss needs the outputs of all points at once. Their derivatives by the weights can still
    # be computed block by block, as the derivatives of Σ slope · output.
    value, slopes = jax.value_and_grad(mean_loss)(trainer.outputs(predictor, inputs))
    return value, mean_and_gradient(along, slopes)[1]


def _restart(
    trainer: Trainer,
    points: Array,
    state: State,
    train: Callable[[_Fit], _Fit],
    mean_loss: Callable[[PyTree[Array]], Array],
    fit: _Fit,
) -> _Fit:
    """Draw new initial parameters until a fit reaches the tolerance, and return the best fit."""

    def continues(carry: tuple[Array, _Fit]) -> Bool[Array, ""]:
        attempt, best = carry
        return (attempt < trainer.settings.n_restarts) & (best.loss > trainer.settings.tolerance)

    def again(carry: tuple[Array, _Fit]) -> tuple[Array, _Fit]:
        attempt, best = carry
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.count), attempt)
        predictor = parameters.initialise(trainer.network, key, points)
        new = train(_Fit(predictor, trainer.optimiser.init(predictor), best.loss))
        new = new._replace(loss=mean_loss(new.predictor))
        return attempt + 1, jax.tree.map(partial(jnp.where, new.loss < best.loss), new, best)

    first = fit._replace(loss=mean_loss(fit.predictor))
    return jax.lax.while_loop(continues, again, (jnp.zeros((), jnp.int32), first))[1]
