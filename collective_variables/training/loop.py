"""Train one network on a subset and follow its losses."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables.kernels.traces import exact
from collective_variables.networks import batched
from collective_variables.training import schedules

Count = Int[Array, ""] | int


class Curves(NamedTuple):
    """Hold the losses at each evaluation (leading axes: runs).

    test_accuracy is the fraction of test points whose largest output is the right one.
    """

    train_loss: Float[Array, "*runs n_evaluations"]
    test_loss: Float[Array, "*runs n_evaluations"]
    test_accuracy: Float[Array, "*runs n_evaluations"]


class Points(NamedTuple):
    """Hold inputs and targets of a set of points."""

    inputs: Float[Array, "n_points ..."]
    targets: Float[Array, "n_points n_outputs"]


class State(NamedTuple):
    """Hold the parameters of a network in training, and the state of its optimiser."""

    params: PyTree[Array]
    optimiser_state: PyTree[Array]


def train(
    network: nn.Module,
    params: PyTree[Array],
    subset: Points,
    test: Points,
    /,
    *,
    schedule: schedules.Schedule,
    key: PRNGKeyArray | None = None,
    n_points: Count | None = None,
) -> Curves:
    """Train a network on a subset and return its loss curves.

    An epoch of mini-batches is a random order of the points, cut into batches of
    `schedule.batch_size`. The last batch may be smaller, and each loss is the mean over its batch.
    The function can be compiled and batched over networks (`jax.jit`, `jax.vmap`).

    Args:
        network: A network, as `build_network` makes it.
        params: Its initial parameters.
        subset: Inputs (n, ...) and targets (n, n_outputs) to train on.
        test: Inputs and targets to test on.
        schedule: Loss, optimiser, epochs and batch size.
        key: Random key of the order of mini-batches; epoch e uses `jax.random.fold_in(key, e)`.
            Full batches do not need it.
        n_points: Train on the first `n_points` of `subset` only (default: all). The other points
            are padding and change nothing, so one compilation serves subsets of many sizes.

    Returns:
        `train_loss`, `test_loss` and `test_accuracy`, each with one value per evaluation: at the
        epochs `schedule.epochs`, of which the first is 0, before training.

    Raises ValueError if the schedule has mini-batches and `key` is None.

    Example:
        >>> import jax
        >>> import collective_variables as cv
        >>> data = cv.load_problem("fuel")
        >>> network = cv.build_network(["dense 16", "dense 1"])
        >>> params = network.init(jax.random.key(0), data.inputs[:1])
        >>> subset = data.inputs[:50], data.targets[:50]
        >>> test = data.test_inputs, data.test_targets
        >>> schedule = cv.Schedule(learning_rate=0.01, n_epochs=100, evaluate_every=50)
        >>> curves = cv.train(network, params, subset, test, schedule=schedule)
        >>> [f"{loss:.2f}" for loss in curves.train_loss]
        ['0.95', '0.07', '0.05']
    """
    subset = Points(*subset)
    size = len(subset.inputs) if n_points is None else n_points
    plan = _Plan(network, subset, Points(*test), schedule, key, size)

    def to_next(state: State, first: Int[Array, ""]) -> tuple[State, Curves]:
        return plan.to_next(state, first, first + schedule.evaluate_every)

    last, curves = jax.lax.scan(to_next, start(schedule, params), jnp.array(schedule.epochs[:-1]))
    return jax.tree.map(jnp.append, curves, plan.at_end(last))


def start(schedule: schedules.Schedule, params: PyTree[Array], /) -> State:
    """Return the state before the first epoch."""
    return State(params, schedule.transformation().init(params))


def advance(
    network: nn.Module,
    state: State,
    curves: Curves,
    subset: Points,
    test: Points,
    /,
    *,
    schedule: schedules.Schedule,
    first: Count,
    last: Count,
    key: PRNGKeyArray | None = None,
    n_points: Count | None = None,
    between: bool = True,
) -> tuple[State, Curves]:
    """Continue a training of `train` from evaluation number `first` to evaluation number `last`.

    The epochs in between are those of `train`, so a training can stop at any evaluation to look at
    its network.

    Args:
        network: The network.
        state: Its state at `first`.
        curves: (n_evaluations,) curves, which are filled in on the way.
        subset: Inputs and targets to train on.
        test: Inputs and targets to test on.
        schedule: Loss, optimiser, epochs and batch size.
        first: Number of the evaluation to start from.
        last: Number of the evaluation to stop at.
        key: Random key of the order of mini-batches, as in `train`.
        n_points: Number of points to train on, as in `train`.
        between: Whether to evaluate between `first` and `last`. Otherwise only the values at
            `first` are computed. Those at `last` are computed only at the end of the training.

    Returns:
        The state at `last`, and the curves.
    """
    size = len(subset.inputs) if n_points is None else n_points
    plan = _Plan(network, subset, test, schedule, key, size)

    def to_next(number: Int[Array, ""], progress: tuple[State, Curves]) -> tuple[State, Curves]:
        epoch = number * schedule.evaluate_every
        until = (number + 1 if between else last) * schedule.evaluate_every
        state, values = plan.to_next(progress[0], epoch, until)
        return state, _insert(progress[1], number, values)

    stop = last if between else first + 1
    state, curves = jax.lax.fori_loop(first, stop, to_next, (state, curves))
    end = len(schedule.epochs) - 1

    def unchanged(_: State) -> Curves:
        return jax.tree.map(lambda curve: curve[end], curves)

    at_end = jax.lax.cond(last == end, plan.at_end, unchanged, state)
    return state, _insert(curves, end, at_end)


def _insert(curves: Curves, number: Count, values: Curves) -> Curves:
    return jax.tree.map(lambda curve, value: curve.at[number].set(value), curves, values)


class _Plan:
    """Hold the steps and evaluations of one training."""

    def __init__(
        self,
        network: nn.Module,
        subset: Points,
        test: Points,
        schedule: schedules.Schedule,
        key: PRNGKeyArray | None,
        n_points: Count,
    ):
        size = len(subset.inputs)
        if schedule.batch_size is not None and key is None:
            raise ValueError("key must be given for mini-batches: received None.")
        self._network = network
        self._test = test
        self._schedule = schedule
        self._key = key
        self._n_points = n_points
        self._batch_size = min(schedule.batch_size or size, size)
        self._loss = schedules.LOSSES[schedule.loss]
        self._is_point = jnp.arange(size) < n_points
        # 0 times infinity is not 0, so the first point replaces the padding, which may hold
        # anything.
        replacement = jnp.where(self._is_point, jnp.arange(size), 0)
        self._subset = jax.tree.map(lambda leaf: leaf[replacement], subset)
        self._optimiser = schedule.transformation(self._trace)
        self._all_points = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), self._subset, test)

    def to_next(self, state: State, first: Count, last: Count) -> tuple[State, Curves]:
        """Evaluate at the epoch `first`, then train up to the epoch `last`."""
        if self._schedule.batch_size is not None:
            trained = jax.lax.fori_loop(first, last, self._epoch_of_batches, state)
            return trained, self.at_end(state)

        def epoch(number: Int[Array, ""], progress: tuple[State, Array]) -> tuple[State, Array]:
            state, value = self._step(progress[0], self._subset, self._n_points)
            return state, jnp.where(number == first, value, progress[1])

        # The step of the first epoch computes the loss of the whole subset anyway.
        curves = self._evaluate(state.params, self._test)
        state, train_loss = jax.lax.fori_loop(first, last, epoch, (state, curves.train_loss))
        return state, curves._replace(train_loss=train_loss)

    def at_end(self, state: State) -> Curves:
        """Evaluate without further training."""
        return self._evaluate(state.params, self._all_points)

    def _trace(self, params: PyTree[Array]) -> Float[Array, ""]:
        """Return the trace of the subset's kernel; the outputs of the padding are set to 0."""

        def apply(params: PyTree[Array], points: tuple[Array, Array]) -> Array:
            return jnp.where(points[1][:, None], self._network.apply(params, points[0]), 0.0)

        return exact.ntk_trace(apply, params, (self._subset.inputs, self._is_point))

    def _step(self, state: State, points: Points, n_valid: Count) -> tuple[State, Float[Array, ""]]:
        value, gradient = batched.mean_loss_and_gradient(
            self._network, self._loss, state.params, *points, n_valid
        )
        updates, optimiser_state = self._optimiser.update(
            gradient, state.optimiser_state, state.params
        )
        return State(optax.apply_updates(state.params, updates), optimiser_state), value

    def _epoch_of_batches(self, number: Int[Array, ""], state: State) -> State:
        size, batch_size, n_points = len(self._is_point), self._batch_size, self._n_points
        order = _shuffled(jax.random.fold_in(self._key, number), size, n_points)
        batches = jnp.resize(order, (-(-size // batch_size), batch_size))

        def batch(i: Int[Array, ""], state: State) -> State:
            points = jax.tree.map(lambda leaf: leaf[batches[i]], self._subset)
            return self._step(state, points, jnp.minimum(n_points - i * batch_size, batch_size))[0]

        return jax.lax.fori_loop(0, -(-n_points // batch_size), batch, state)

    def _evaluate(self, params: PyTree[Array], points: Points) -> Curves:
        """Return the losses of the test points, and of the subset if `points` begins with it."""
        test, n_points = self._test, self._n_points
        outputs = batched.forward(self._network, params, points.inputs)
        losses = self._loss(outputs, points.targets)
        n_train = len(outputs) - len(test.inputs)
        right = jnp.argmax(outputs[n_train:], axis=-1) == jnp.argmax(test.targets, axis=-1)
        train_losses = jnp.where(jnp.arange(n_train) < n_points, losses[:n_train], 0.0)
        return Curves(
            jnp.sum(train_losses) / n_points,
            jnp.mean(losses[n_train:]),
            jnp.mean(right, dtype=outputs.dtype),
        )


def _shuffled(key: PRNGKeyArray, size: int, n_points: Count) -> Int[Array, " size"]:
    """Return the rows 0…size−1, those below `n_points` first and in random order."""
    # A draw for each row, so that the order does not depend on `size`.
    rows = jnp.arange(size)
    draws = jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row)))(rows)
    return jnp.argsort(jnp.where(rows < n_points, draws, 2.0))
