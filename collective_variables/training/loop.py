"""Training of one network or of an ensemble on subsets of a pool, with its loss curves."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables.kernels import empirical
from collective_variables.networks import batched
from collective_variables.training import schedules


class Curves(NamedTuple):
    """Losses over the evaluations (leading axes: runs); accuracy is the fraction of test points
    with the right argmax.
    """

    train_loss: Float[Array, "*runs n_evaluations"]
    test_loss: Float[Array, "*runs n_evaluations"]
    test_accuracy: Float[Array, "*runs n_evaluations"]


class Points(NamedTuple):
    """Inputs and targets of a set of points."""

    inputs: Float[Array, "n_points ..."]
    targets: Float[Array, "n_points n_outputs"]


def train(
    network: nn.Module,
    params: PyTree[Array],
    subset: Points,
    test: Points,
    /,
    *,
    schedule: schedules.Schedule,
    key: PRNGKeyArray | None = None,
    n_points: Int[Array, ""] | int | None = None,
) -> Curves:
    """Train `network` from `params` on the first `n_points` of `subset` (default all) and return
    its curves.

    The rest of `subset` is padding and changes nothing, so that one compilation serves subsets of
    many sizes. An epoch of mini-batches is a random order of the points, cut into batches of
    `batch_size`; the last may be smaller, and each loss is the mean over its own batch. `key`
    orders the batches of epoch e by `jax.random.fold_in(key, e)`.
    """
    course = _course(
        network, subset, test, schedule, key, len(subset.inputs) if n_points is None else n_points
    )

    def to_next(state: State, first: Int[Array, ""]) -> tuple[State, Curves]:
        return course.to_next(state, first, first + schedule.evaluate_every)

    end, curves = jax.lax.scan(to_next, start(schedule, params), jnp.array(schedule.epochs[:-1]))
    return jax.tree.map(jnp.append, curves, course.at_end(end))


class State(NamedTuple):
    """Where a training is: the parameters of its network, and what its optimiser keeps."""

    params: PyTree[Array]
    optimiser_state: PyTree[Array]


def start(schedule: schedules.Schedule, params: PyTree[Array], /) -> State:
    """The state before the first epoch."""
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
    first: Int[Array, ""] | int,
    last: Int[Array, ""] | int,
    key: PRNGKeyArray | None = None,
    n_points: Int[Array, ""] | int | None = None,
    between: bool = True,
) -> tuple[State, Curves]:
    """Go on with the training of `train` from the evaluation number `first` to the evaluation
    number `last`.

    The epochs between them are the same as there, so that a training may be stopped at any
    evaluation to look at its network. The curves (n_evaluations,) are filled in on the way, without
    `between` those of `first` alone, and those of `last` only where it is the end.
    """
    course = _course(
        network, subset, test, schedule, key, len(subset.inputs) if n_points is None else n_points
    )

    def to_next(number: Int[Array, ""], at: tuple[State, Curves]) -> tuple[State, Curves]:
        epoch, until = (
            of * schedule.evaluate_every for of in (number, number + 1 if between else last)
        )
        state, found = course.to_next(at[0], epoch, until)
        return state, jax.tree.map(lambda curve, value: curve.at[number].set(value), at[1], found)

    state, curves = jax.lax.fori_loop(
        first, last if between else first + 1, to_next, (state, curves)
    )
    end = len(schedule.epochs) - 1
    at_end = jax.lax.cond(
        last == end, course.at_end, lambda _: jax.tree.map(lambda curve: curve[end], curves), state
    )
    return state, jax.tree.map(lambda curve, value: curve.at[end].set(value), curves, at_end)


class _Course(NamedTuple):
    """A training in two parts: to_next(state, first, last) gives the curves at the first epoch and
    goes to the last one.
    """

    to_next: Callable[[State, Int[Array, ""], Int[Array, ""]], tuple[State, Curves]]
    at_end: Callable[[State], Curves]


def _course(
    network: nn.Module,
    subset: Points,
    test: Points,
    schedule: schedules.Schedule,
    key: PRNGKeyArray | None,
    n_points: Int[Array, ""] | int,
) -> _Course:
    size = len(subset.inputs)
    batch_size = min(schedule.batch_size or size, size)
    if schedule.batch_size is not None and key is None:
        raise ValueError("key must be given for mini-batches: received None.")
    loss, is_point = schedules.LOSSES[schedule.loss], jnp.arange(size) < n_points

    # 0 times infinity is not 0, so the first point stands in for the padding, which may hold
    # anything.
    stand_in = jnp.where(is_point, jnp.arange(size), 0)
    subset = jax.tree.map(lambda leaf: leaf[stand_in], subset)

    def trace_of(params: PyTree[Array]) -> Float[Array, ""]:
        """Tr of the kernel of the subset; outputs of the padding are 0, whatever the parameters."""
        apply = lambda params, points: jnp.where(
            points[1][:, None], network.apply(params, points[0]), 0.0
        )
        return empirical.ntk_trace(apply, params, (subset.inputs, is_point))

    optimiser = schedule.transformation(trace_of)

    def step(
        state: State, points: Points, n_valid: Int[Array, ""] | int
    ) -> tuple[State, Float[Array, ""]]:
        value, gradient = batched.mean_loss_and_gradient(
            network, loss, state.params, *points, n_valid
        )
        updates, kept = optimiser.update(gradient, state.optimiser_state, state.params)
        return State(optax.apply_updates(state.params, updates), kept), value

    def epoch_of_batches(number: Int[Array, ""], state: State) -> State:
        n_batches = -(-size // batch_size)
        batches = jnp.resize(
            _shuffled(jax.random.fold_in(key, number), size, n_points), (n_batches, batch_size)
        )

        def batch(i: Int[Array, ""], state: State) -> State:
            points = jax.tree.map(lambda leaf: leaf[batches[i]], subset)
            return step(state, points, jnp.minimum(n_points - i * batch_size, batch_size))[0]

        return jax.lax.fori_loop(0, -(-n_points // batch_size), batch, state)

    everything = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), subset, test)

    def evaluate(params: PyTree[Array], points: Points) -> Curves:
        """Losses of the subset, if it is among the points, and of the test points, which are the
        last of them.
        """
        outputs = batched.forward(network, params, points.inputs)
        losses, n_train = loss(outputs, points.targets), len(outputs) - len(test.inputs)
        right = jnp.argmax(outputs[n_train:], axis=-1) == jnp.argmax(test.targets, axis=-1)
        train_loss = (
            jnp.sum(jnp.where(jnp.arange(n_train) < n_points, losses[:n_train], 0.0)) / n_points
        )
        return Curves(train_loss, jnp.mean(losses[n_train:]), jnp.mean(right, dtype=outputs.dtype))

    def to_next(state: State, first: Int[Array, ""], last: Int[Array, ""]) -> tuple[State, Curves]:
        if schedule.batch_size is not None:
            return jax.lax.fori_loop(first, last, epoch_of_batches, state), evaluate(
                state.params, everything
            )

        def epoch(number: Int[Array, ""], at: tuple[State, Array]) -> tuple[State, Array]:
            state, value = step(at[0], subset, n_points)
            return state, jnp.where(number == first, value, at[1])

        # The first epoch's step has the loss of the whole subset for nothing.
        curves = evaluate(state.params, test)
        state, train_loss = jax.lax.fori_loop(first, last, epoch, (state, curves.train_loss))
        return state, curves._replace(train_loss=train_loss)

    return _Course(to_next, lambda state: evaluate(state.params, everything))


def _shuffled(key: PRNGKeyArray, size: int, n_points: Int[Array, ""] | int) -> Int[Array, " size"]:
    """The rows 0…size−1, those below `n_points` first and in random order; the order does not
    depend on `size`.
    """
    rows = jnp.arange(size)
    draws = jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row)))(rows)
    return jnp.argsort(jnp.where(rows < n_points, draws, 2.0))
