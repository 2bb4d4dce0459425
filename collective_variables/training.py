"""Training of one network or of an ensemble on subsets of a pool, with its loss curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import checks, ensembles, keeping, networks, ntk, running, trace_scaling


def mean_squared_error(outputs: Float[Array, "n_points n_outputs"], targets: Float[Array, "n_points n_outputs"]) -> Array:
    """(n_points,) squares of the difference, averaged over the outputs."""
    return jnp.mean((outputs - targets) ** 2, axis=-1)


def cross_entropy(outputs: Float[Array, "n_points n_outputs"], targets: Float[Array, "n_points n_outputs"]) -> Array:
    """(n_points,) cross-entropy in nats between the softmax of the outputs and one-hot targets."""
    return optax.softmax_cross_entropy(outputs, targets)


FINE_FROM = 1000  # runs, whose padding costs more than the compilation of as many sizes again
MOST_IN_TURN = 8  # runs of a call; from here on its own cost is small beside theirs
CALLS_PER_WIDTH = 16  # at least, so that the cores end at about the same time

LOSSES: dict[str, Callable[[Array, Array], Array]] = {"mse": mean_squared_error, "cross-entropy": cross_entropy}


@dataclass(frozen=True)
class Schedule:
    """How a network is trained; Tovey et al. 2023 name only Adam, the rest is ours.

    loss: "mse" (mean over points and outputs; also for one-hot targets) or "cross-entropy".
    optimiser: name of any optimiser of optax that takes a learning rate, such as "adam", "sgd" or "adamw".
    n_epochs: passes over the subset. batch_size: points a step, None for all of them (full batch).
    evaluate_every: epochs between two evaluations of the losses; must divide n_epochs.
    trace_every: steps after which the learning rate is set anew, in inverse proportion to the trace of the kernel of all
    points of the subset (`trace_scaling.scale_by_trace`); None leaves it to the optimiser.
    """

    loss: str = "mse"
    optimiser: str = "adam"
    learning_rate: float = 0.005
    n_epochs: int = 500
    batch_size: int | None = None
    evaluate_every: int = 1
    trace_every: int | None = None

    def __post_init__(self) -> None:
        checks.choice("loss", self.loss, LOSSES)
        checks.number("learning_rate", self.learning_rate, above=0.0)
        checks.integer("n_epochs", self.n_epochs, minimum=1)
        checks.integer("evaluate_every", self.evaluate_every, minimum=1)
        if self.batch_size is not None:
            checks.integer("batch_size", self.batch_size, minimum=1)
        if self.trace_every is not None:
            checks.integer("trace_every", self.trace_every, minimum=1)
        if self.n_epochs % self.evaluate_every:
            raise ValueError(f"evaluate_every must divide n_epochs: received {self.evaluate_every} and {self.n_epochs}.")
        self.transformation()

    @property
    def epochs(self) -> Int[np.ndarray, " n_evaluations"]:
        """The epochs after which the losses are evaluated; 0 is before training."""
        return np.arange(0, self.n_epochs + 1, self.evaluate_every)

    def transformation(self, trace_of: trace_scaling.TraceOf | None = None) -> optax.GradientTransformation:
        """The optimiser; raises ValueError if optax has none of that name that needs a learning rate and gradients alone.

        trace_of(params): the trace of the kernel, for updates with `trace_every`; where a state begins there is no need of it.
        """
        factory = getattr(optax, self.optimiser, None) if isinstance(self.optimiser, str) else None
        try:
            made = factory(learning_rate=self.learning_rate)
            # Some want more than gradients, such as a line search the loss itself. Optax mixes integers and floats.
            with jax.numpy_dtype_promotion("standard"):
                jax.eval_shape(lambda weights: made.update(weights, made.init(weights), weights), jnp.zeros((2, 2)))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "optimiser must be one of optax's that need a learning rate and gradients alone, such as 'adam': "
                f"received {self.optimiser!r}."
            ) from error
        if self.trace_every is None:
            return made
        return optax.chain(made, trace_scaling.scale_by_trace(trace_of, every=self.trace_every))


class Curves(NamedTuple):
    """Losses over the evaluations (leading axes: runs); accuracy is the fraction of test points with the right argmax."""

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
    schedule: Schedule,
    key: PRNGKeyArray | None = None,
    n_points: Int[Array, ""] | int | None = None,
) -> Curves:
    """Train `network` from `params` on the first `n_points` of `subset` (default all) and return its curves.

    The rest of `subset` is padding and changes nothing, so that one compilation serves subsets of many sizes. An epoch
    of mini-batches is a random order of the points, cut into batches of `batch_size`; the last may be smaller, and each
    loss is the mean over its own batch. `key` orders the batches of epoch e by `jax.random.fold_in(key, e)`.
    """
    course = _course(network, subset, test, schedule, key, len(subset.inputs) if n_points is None else n_points)

    def to_next(state: State, first: Int[Array, ""]) -> tuple[State, Curves]:
        return course.to_next(state, first, first + schedule.evaluate_every)

    end, curves = jax.lax.scan(to_next, start(schedule, params), jnp.array(schedule.epochs[:-1]))
    return jax.tree.map(jnp.append, curves, course.at_end(end))


class State(NamedTuple):
    """Where a training is: the parameters of its network, and what its optimiser keeps."""

    params: PyTree[Array]
    optimiser_state: PyTree[Array]


def start(schedule: Schedule, params: PyTree[Array], /) -> State:
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
    schedule: Schedule,
    first: Int[Array, ""] | int,
    last: Int[Array, ""] | int,
    key: PRNGKeyArray | None = None,
    n_points: Int[Array, ""] | int | None = None,
    between: bool = True,
) -> tuple[State, Curves]:
    """Go on with the training of `train` from the evaluation number `first` to the evaluation number `last`.

    The epochs between them are the same as there, so that a training may be stopped at any evaluation to look at its
    network. The curves (n_evaluations,) are filled in on the way, without `between` those of `first` alone, and those of
    `last` only where it is the end.
    """
    course = _course(network, subset, test, schedule, key, len(subset.inputs) if n_points is None else n_points)

    def to_next(number: Int[Array, ""], at: tuple[State, Curves]) -> tuple[State, Curves]:
        epoch, until = (of * schedule.evaluate_every for of in (number, number + 1 if between else last))
        state, found = course.to_next(at[0], epoch, until)
        return state, jax.tree.map(lambda curve, value: curve.at[number].set(value), at[1], found)

    state, curves = jax.lax.fori_loop(first, last if between else first + 1, to_next, (state, curves))
    end = len(schedule.epochs) - 1
    at_end = jax.lax.cond(last == end, course.at_end, lambda _: jax.tree.map(lambda curve: curve[end], curves), state)
    return state, jax.tree.map(lambda curve, value: curve.at[end].set(value), curves, at_end)


class _Course(NamedTuple):
    """A training in two parts: to_next(state, first, last) gives the curves at the first epoch and goes to the last one."""

    to_next: Callable[[State, Int[Array, ""], Int[Array, ""]], tuple[State, Curves]]
    at_end: Callable[[State], Curves]


def _course(
    network: nn.Module,
    subset: Points,
    test: Points,
    schedule: Schedule,
    key: PRNGKeyArray | None,
    n_points: Int[Array, ""] | int,
) -> _Course:
    size = len(subset.inputs)
    batch_size = min(schedule.batch_size or size, size)
    if schedule.batch_size is not None and key is None:
        raise ValueError("key must be given for mini-batches: received None.")
    loss, is_point = LOSSES[schedule.loss], jnp.arange(size) < n_points

    # 0 times infinity is not 0, so the first point stands in for the padding, which may hold anything.
    stand_in = jnp.where(is_point, jnp.arange(size), 0)
    subset = jax.tree.map(lambda leaf: leaf[stand_in], subset)

    def trace_of(params: PyTree[Array]) -> Float[Array, ""]:
        """Tr of the kernel of the subset; outputs of the padding are 0, whatever the parameters."""
        apply = lambda params, points: jnp.where(points[1][:, None], network.apply(params, points[0]), 0.0)
        return ntk.trace(apply, params, (subset.inputs, is_point))

    optimiser = schedule.transformation(trace_of)

    def step(state: State, points: Points, n_valid: Int[Array, ""] | int) -> tuple[State, Float[Array, ""]]:
        value, gradient = networks.mean_loss_and_gradient(network, loss, state.params, *points, n_valid)
        updates, kept = optimiser.update(gradient, state.optimiser_state, state.params)
        return State(optax.apply_updates(state.params, updates), kept), value

    def epoch_of_batches(number: Int[Array, ""], state: State) -> State:
        n_batches = -(-size // batch_size)
        batches = jnp.resize(_shuffled(jax.random.fold_in(key, number), size, n_points), (n_batches, batch_size))

        def batch(i: Int[Array, ""], state: State) -> State:
            points = jax.tree.map(lambda leaf: leaf[batches[i]], subset)
            return step(state, points, jnp.minimum(n_points - i * batch_size, batch_size))[0]

        return jax.lax.fori_loop(0, -(-n_points // batch_size), batch, state)

    everything = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), subset, test)

    def evaluate(params: PyTree[Array], points: Points) -> Curves:
        """Losses of the subset, if it is among the points, and of the test points, which are the last of them."""
        outputs = networks.forward(network, params, points.inputs)
        losses, n_train = loss(outputs, points.targets), len(outputs) - len(test.inputs)
        right = jnp.argmax(outputs[n_train:], axis=-1) == jnp.argmax(test.targets, axis=-1)
        train_loss = jnp.sum(jnp.where(jnp.arange(n_train) < n_points, losses[:n_train], 0.0)) / n_points
        return Curves(train_loss, jnp.mean(losses[n_train:]), jnp.mean(right, dtype=outputs.dtype))

    def to_next(state: State, first: Int[Array, ""], last: Int[Array, ""]) -> tuple[State, Curves]:
        if schedule.batch_size is not None:
            return jax.lax.fori_loop(first, last, epoch_of_batches, state), evaluate(state.params, everything)

        def epoch(number: Int[Array, ""], at: tuple[State, Array]) -> tuple[State, Array]:
            state, value = step(at[0], subset, n_points)
            return state, jnp.where(number == first, value, at[1])

        # The first epoch's step has the loss of the whole subset for nothing.
        curves = evaluate(state.params, test)
        state, train_loss = jax.lax.fori_loop(first, last, epoch, (state, curves.train_loss))
        return state, curves._replace(train_loss=train_loss)

    return _Course(to_next, lambda state: evaluate(state.params, everything))


def _shuffled(key: PRNGKeyArray, size: int, n_points: Int[Array, ""] | int) -> Int[Array, " size"]:
    """The rows 0…size−1, those below `n_points` first and in random order; the order does not depend on `size`."""
    rows = jnp.arange(size)
    draws = jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row)))(rows)
    return jnp.argsort(jnp.where(rows < n_points, draws, 2.0))


class Runs(NamedTuple):
    """Which subsets to train on; a run is one network trained on the first n_points of its row of indices."""

    initialisation_keys: PRNGKeyArray
    batch_keys: PRNGKeyArray
    indices: Int[np.ndarray, "n_runs n_selected"]
    n_points: Int[np.ndarray, " n_runs"]


def runs(
    indices: Int[np.ndarray, "n_members n_selected"], n_points: Int[np.ndarray, "n_members n_sizes"], /, *, seed: int
) -> Runs:
    """One run for every member and each of its subset sizes, sizes running fastest.

    A member starts from the same network at every size and with every selection method.
    """
    n_members, n_sizes = n_points.shape
    if n_points.max() > indices.shape[1]:
        raise ValueError(f"n_points must not exceed the points selected: {n_points.max()} > {indices.shape[1]}.")
    members = np.repeat(np.arange(n_members), n_sizes)
    keys = [ensembles.member_keys(ensembles.key(seed, use), n_members)[members] for use in ("initialisation", "batches")]
    return Runs(*keys, indices[members], n_points.ravel())


def train_ensemble(
    network: networks.Network,
    pool: Points,
    test: Points,
    ensembles_of_runs: Sequence[Runs],
    /,
    *,
    schedule: Schedule,
    progress: str = "",
    store: keeping.Store | None = None,
) -> list[Curves]:
    """Train one network per run; for each of `ensembles_of_runs` the curves as (n_runs, n_evaluations) arrays.

    Every run starts from `networks.initialise` with its own key. Runs of like size share a compilation, whichever
    ensemble they belong to. A run whose loss diverges ends with NaN or infinity in its curves and stops no other run.

    store: keeps the curves of each chunk of runs as it is done, so that the same call with the same store goes on where
        one was interrupted, and ends with the same numbers. Remove what it holds when the call is done.
    """
    check(network, pool, test, ensembles_of_runs, schedule)
    pool, test = jax.tree.map(jnp.asarray, (pool, test))
    keys = [jnp.concatenate(of) for of in zip(*(of[:2] for of in ensembles_of_runs))]
    runs = Runs(*keys, *(np.concatenate(of) for of in zip(*(of[2:] for of in ensembles_of_runs))))
    # Apart from the training, which is compiled for every padded size: random numbers compile slowly.
    initialise = ensembles.over_members(partial(_initialise_runs, network))
    function = ensembles.over_members(partial(_train_runs, network, schedule))
    fingerprint = "" if store is None else keeping.fingerprint(network, schedule, *pool, *test, *runs)
    tasks = _tasks(runs.n_points, runs.indices.shape[1], networks.n_parameters(network, pool.inputs))
    kept = keeping.Results(
        store,
        tasks,
        name=lambda task: f"{fingerprint}-{task.width}-{task.rows.flat[0]}-{task.rows.size}",
        pack=Curves._asdict,
        unpack=lambda arrays: Curves(**arrays),
    )

    def train_chunk(task: _Task, advance: running.Advance) -> Curves:
        chosen = jax.tree.map(lambda leaf: leaf[task.rows], runs)
        params = initialise(pool.inputs, chosen.initialisation_keys)
        curves = function((pool, test), params, chosen._replace(indices=chosen.indices[..., : task.width]))
        curves = jax.tree.map(lambda of: np.asarray(of).reshape(-1, of.shape[-1]), curves)
        advance(task.n_runs)
        return curves

    with running.Progress(progress, len(runs.n_points), "networks") as bar:
        bar.advance(sum(tasks[place].n_runs for place in kept.known))
        curves = _gather(tasks, running.run(train_chunk, tasks, bar, kept=kept))
    ends = np.cumsum([len(of.n_points) for of in ensembles_of_runs])[:-1]
    return [Curves(*parts) for parts in zip(*(np.split(curve, ends) for curve in curves))]


def check(
    network: networks.Network, pool: Points, test: Points, ensembles_of_runs: Sequence[Runs], schedule: Schedule
) -> None:
    """Raise ValueError unless the runs of an ensemble can be trained."""
    for name, points in (("the pool", pool), ("the test points", test)):
        networks.check_fit(network, points.inputs, points.targets)
        checks.finite(f"inputs of {name}", np.asarray(points.inputs))
        checks.finite(f"targets of {name}", np.asarray(points.targets))
    if schedule.loss == "cross-entropy":
        for targets in (pool.targets, test.targets):
            _check_classes(np.asarray(targets))
    widths = sorted({of.indices.shape[1] for of in ensembles_of_runs})
    if len(widths) != 1:
        raise ValueError(f"Ensembles trained together must select equally many points: received {widths}.")
    for of in ensembles_of_runs:
        checks.rows("indices", of.indices, len(pool.inputs))


def _check_classes(targets: Float[np.ndarray, "n_points n_outputs"]) -> None:
    """Raise ValueError unless each row is a distribution over at least two classes, which a regression's are not."""
    if targets.shape[1] < 2 or targets.min() < 0 or not np.allclose(targets.sum(axis=1), 1.0, atol=1e-5):
        raise ValueError(
            "loss 'cross-entropy' needs targets that are one-hot over at least 2 classes: received "
            f"{targets.shape[1]} columns with values from {targets.min():.3g} to {targets.max():.3g}."
        )


class _Task(NamedTuple):
    """Runs that one compiled call trains: `rows` (n_together, n_in_turn), each padded to `width` points."""

    width: int
    rows: Int[np.ndarray, "n_together n_in_turn"]

    @property
    def n_runs(self) -> int:
        """How many runs these are: one that fills up a call counts once."""
        return len(np.unique(self.rows))


def _initialise_runs(network: networks.Network, inputs: Array, keys: PRNGKeyArray) -> PyTree[Array]:
    return jax.lax.map(lambda key: networks.initialise(network, key, inputs), keys)


def _train_runs(
    network: nn.Module, schedule: Schedule, shared: tuple[Points, Points], params: PyTree[Array], runs: Runs
) -> Curves:
    """Train one network after the other; a call for each would cost as much as a short training itself."""
    pool, test = shared

    def train_one(of: tuple[PyTree[Array], Runs]) -> Curves:
        params, run = of
        subset = Points(pool.inputs[run.indices], pool.targets[run.indices])
        return train(network, params, subset, test, schedule=schedule, key=run.batch_keys, n_points=run.n_points)

    return jax.lax.map(train_one, (params, runs))


def _tasks(n_points: Int[np.ndarray, " n_runs"], largest: int, n_parameters: int) -> list[_Task]:
    """All runs, the largest first, so that no thread ends with a long call; the last of a width is filled up with its last."""
    fine = len(n_points) >= FINE_FROM
    widths = np.array([ensembles.bucket(int(n), largest, fine=fine) for n in n_points])
    tasks = []
    for width in sorted(set(widths.tolist()), reverse=True):
        members = np.flatnonzero(widths == width)
        together = ensembles.chunk_size(n_parameters, len(members))
        in_turn = int(np.clip(len(members) // (together * CALLS_PER_WIDTH), 1, MOST_IN_TURN))
        for chunk in ensembles.chunks(len(members), together * in_turn):
            tasks.append(_Task(width, members[chunk].reshape(together, in_turn)))
    return tasks


def _gather(tasks: list[_Task], results: list[Curves]) -> Curves:
    """Put the rows of all tasks back into the order of the runs."""
    members = np.concatenate([task.rows.ravel() for task in tasks])
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *results)
    _, first = np.unique(members, return_index=True)
    return jax.tree.map(lambda leaf: leaf[first], stacked)


def table(curves: Curves, n_points: Int[np.ndarray, "n_members n_sizes"], task: str, /) -> pd.DataFrame:
    """One row per run: member, n_points, smallest and last losses, largest and last test accuracy, diverged.

    The minima run over all evaluations, before training included: the minimum of the *test* loss is early stopping on
    the test points (as in Tovey et al. 2023), so it is optimistic. Accuracies are NaN for a regression. A run has
    diverged when any of its losses is not finite; its minima are those of its finite losses.
    """
    losses = np.stack([curves.train_loss, curves.test_loss])
    train_loss, test_loss = np.where(np.isfinite(losses), losses, np.inf)
    accuracy = np.asarray(curves.test_accuracy) * (1.0 if task == "classification" else np.nan)
    n_members, n_sizes = n_points.shape
    columns = {
        "member": np.repeat(np.arange(n_members), n_sizes),
        "n_points": n_points.ravel(),
        "min_test_loss": test_loss.min(axis=-1),
        "final_test_loss": test_loss[:, -1],
        "min_train_loss": train_loss.min(axis=-1),
        "final_train_loss": train_loss[:, -1],
        "max_test_accuracy": accuracy.max(axis=-1),
        "final_test_accuracy": accuracy[:, -1],
        "diverged": ~np.isfinite(losses).all(axis=(0, 2)),
    }
    return pd.DataFrame(columns)
