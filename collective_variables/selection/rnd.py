"""Random network distillation (RND; Tovey et al. 2023, Algorithm 1): choose where a trained
predictor errs most.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution, seeding
from collective_variables.networks import batched, parameters
from collective_variables.selection import base, contrastive, distances

SEGMENTS = 10
NARROWEST = 128  # subsets are padded to this and its doubles
RESTARTS = ("warm", "cold")
REHEARSALS = ("all", "replay", "newest-first")
LOSSES = (*distances.NAMES, *contrastive.NAMES)


@dataclass(frozen=True)
class Settings:
    """How far apart target and predictor are, and how the predictor is re-trained after every
    point.

    distance, order, scale: `distances.build` says which there are.
    loss: the distance whose mean over points the re-training minimises, None for the one that
        chooses; or one of `contrastive.NAMES`, with its own `repulsion` and `confinement` and the
        same `scale`.
    n_epochs, learning_rate: full-batch epochs of Adam after every point.
    restart: "warm" goes on from the weights and Adam's state of the point before, "cold" from the
    initial weights.
    rehearsal: the points of the re-training: "all" that are chosen; "replay", the newest and those
        `n_replay` − 1 others that are fitted worst; "newest-first", `n_epochs` on the newest alone
        and then as many on all.
    tolerance: end a re-training as soon as its loss is at most this, after `n_epochs` at the
    latest; None for never.
    n_restarts: how often a predictor whose loss is still above `tolerance` then is drawn anew and
        trained again. The one with the smallest loss is kept, so that a re-training always ends.
    normalisation: of the points before they enter a network: "standard" takes every feature's mean
        and standard deviation over the pool out, "unit" scales each point to norm 1.
    threshold: stop before a point whose distance is at most this; None for never.
    """

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
    normalisation: str = "none"
    threshold: float | None = None

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
        _checks.choice("normalisation", self.normalisation, base.NORMALISATIONS)
        for name in ("tolerance", "threshold"):
            if getattr(self, name) is not None:
                _checks.number(name, getattr(self, name), minimum=0.0)
        distances.check(self.distance, order=self.order, scale=self.scale)
        contrastive.check(repulsion=self.repulsion, confinement=self.confinement)


def select(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    settings: Settings = Settings(),
    /,
    *,
    n_selected: int | None = None,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
    classes: Int[np.ndarray, " n_pool"] | None = None,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> base.Selection:
    """Choose points of `pool` by random network distillation, for `n_members` independent members.

    A fixed target network F and a predictor G of the same architecture start from independent
    random parameters. Each step re-trains G on the points chosen so far and their F(x), then
    chooses the point not chosen yet with the largest distance D(G(x), F(x)). The first point is
    that of the two untrained networks.

    n_selected: points of each member; None, with a threshold, for the whole pool at most. Where the
        threshold stops a member before, the rest of its row is −1.
    labelled: rows of the pool that are in every subset already; they come first, without a
    distance.
    classes: choose equally many points of each class, as long as it has some: each is from the
    class with the fewest.
    store: keeps what is computed as it goes, so that the same call with the same store goes on
        where one was interrupted, and ends with the same points. Remove what it holds when the call
        is done.

    Exact copies of a point have equal distances, so the one with the smallest row is chosen first,
    and another only when the distance of both is the largest again. Member m draws F and G with the
    two keys of `jax.random.split(jax.random.fold_in(key, m))`. All is computed in the dtype of
    `pool`. Raises ValueError for a pool that is not finite or too small, and FloatingPointError
    when G diverges.
    """
    pool, labelled = jnp.asarray(pool), [int(row) for row in labelled]
    n_selected = base.budget(len(pool), n_selected, n_members, labelled, settings.threshold)
    _checks.finite("pool", np.asarray(pool))
    points = base.normalise(pool, settings.normalisation)
    shared = _Shared(
        points, None if classes is None else jnp.asarray(base.membership(classes, len(pool)))
    )
    keys = seeding.member_keys(key, n_members)
    form = _Form(network, settings, at_once=2 if n_members == 1 else 1)
    start = batching.over_members(
        partial(_start, form, n_selected, tuple(labelled)), runs_once=True
    )
    segments = _segments(len(labelled), n_selected)
    advance = {
        width: batching.over_members(partial(_advance, form, width))
        for width in {of[2] for of in segments}
    }
    chunks = batching.chunks(
        n_members, batching.chunk_size(parameters.n_parameters(network, pool), n_members)
    )
    decisive = network, settings, n_selected, labelled, pool, classes, key
    fingerprint = "" if store is None else checkpoints.fingerprint(*decisive)

    def name_of(members: list[int]) -> str:
        return f"{fingerprint}-{'-'.join(map(str, members))}"

    def choose(members: list[int], moved_on: _types.Advance) -> _Chosen:
        state, name = start(shared, keys[np.array(members)]), f"{name_of(members)}-unfinished"
        done, state = (0, state) if between.store is None else _restore(between.store, name, state)
        for number, (begin, end, width) in enumerate(segments):
            if number >= done:
                state = advance[width]((shared, begin, end), state)
                _check_distances(
                    np.asarray(state.distances[:, begin:end]),
                    members,
                    begin,
                    settings.learning_rate,
                )
                if between.store is not None and number + 1 < len(segments):
                    between.store[name] = _stored(number + 1, state)
            moved_on((end - begin) * len(set(members)))
        return _Chosen(*(np.asarray(getattr(state, field)) for field in _Chosen._fields))

    between = checkpoints.LocalStore(store)
    kept = checkpoints.Results(
        store, chunks, name=name_of, pack=_Chosen._asdict, unpack=lambda arrays: _Chosen(**arrays)
    )
    n_steps = n_selected - len(labelled)
    with execution.Progress(progress, n_members * n_steps, "points") as bar:
        bar.advance(sum(len(set(chunks[place])) for place in kept.known) * n_steps)
        chosen = execution.run(choose, chunks, bar, kept=kept)
    counts, indices, *history = (
        np.concatenate(of_chunks)[:n_members] for of_chunks in zip(*chosen)
    )
    chosen = np.arange(n_selected) < counts[:, None]
    return base.Selection(
        np.where(chosen, indices, -1), *(np.where(chosen, of, np.nan) for of in history)
    )


@dataclass(frozen=True)
class _Form:
    """What is compiled: the network, the settings, and how many blocks of images go through the
    network at once.
    """

    network: nn.Module
    settings: Settings
    at_once: int

    @property
    def optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.settings.learning_rate)

    def outputs(
        self, params: PyTree[Array], points: Float[Array, "n_points ..."]
    ) -> Float[Array, "n_points n_outputs"]:
        return batched.forward(self.network, params, points, at_once=self.at_once)


class _Shared(NamedTuple):
    """What all members read: the points, and who is in which class if these take turns."""

    points: Float[Array, "n_pool ..."]
    classes: Bool[Array, "n_classes n_pool"] | None


class _Chosen(NamedTuple):
    """What was chosen of the members of a chunk, as in `_State`."""

    count: Int[np.ndarray, " n_together"]
    indices: Int[np.ndarray, "n_together n_selected"]
    distances: Float[np.ndarray, "n_together n_selected"]
    mean_distances: Float[np.ndarray, "n_together n_selected"]
    max_distances: Float[np.ndarray, "n_together n_selected"]


class _State(NamedTuple):
    """One member between two steps: F(pool), G with Adam's state, and what was chosen so far (zeros
    behind it).
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


def _start(
    form: _Form, n_selected: int, labelled: tuple[int, ...], shared: _Shared, key: PRNGKeyArray
) -> _State:
    points = shared.points
    both = jax.vmap(lambda key: parameters.initialise(form.network, key, points))(
        jax.random.split(key)
    )
    target, predictor = (jax.tree.map(lambda leaf: leaf[i], both) for i in (0, 1))
    count = len(labelled)
    history = (jnp.zeros(n_selected, points.dtype).at[:count].set(jnp.nan) for _ in range(3))
    return _State(
        key,
        form.outputs(target, points),
        predictor,
        predictor,
        form.optimiser.init(predictor),
        jnp.asarray(count, jnp.int32),
        jnp.zeros((), bool),
        jnp.zeros(n_selected, jnp.int32).at[:count].set(jnp.asarray(labelled, jnp.int32)),
        *history,
    )


def _advance(
    form: _Form, width: int, bounds: tuple[_Shared, Array, Array], state: _State
) -> _State:
    """Choose the points number begin…end−1 ≤ width; the bounds are data, so that segments share a
    compilation.
    """
    shared, begin, end = bounds

    def goes_on(carry: tuple[Array, _State]) -> Bool[Array, ""]:
        number, state = carry
        # Without a threshold members go on in step, and nothing of their states need be selected.
        return number < end if form.settings.threshold is None else (number < end) & ~state.stopped

    def step(carry: tuple[Array, _State]) -> tuple[Array, _State]:
        number, state = carry
        trained = _retrain(form, width, shared.points, state, number)
        return number + 1, _choose(form, shared, trained)

    return jax.lax.while_loop(goes_on, step, (begin, state))[1]


def _choose(form: _Form, shared: _Shared, state: _State) -> _State:
    """Add the point with the largest distance, unless it is within the threshold."""
    threshold = form.settings.threshold
    found = _distance(form.settings, state)(
        form.outputs(state.predictor, shared.points), state.representations
    )
    slots = jnp.where(jnp.arange(len(state.indices)) < state.count, state.indices, len(found))
    unused = jnp.ones(len(found), bool).at[slots].set(False, mode="drop")
    if shared.classes is not None:
        unused = base.in_turn(shared.classes, unused)
    point = jnp.argmax(jnp.where(unused, found, -jnp.inf)).astype(jnp.int32)
    stopped = jnp.zeros((), bool) if threshold is None else found[point] <= threshold
    slot = jnp.where(stopped, len(state.indices), state.count)
    added = {
        "indices": point,
        "distances": found[point],
        "mean_distances": jnp.mean(found),
        "max_distances": jnp.max(found),
    }
    written = {
        name: getattr(state, name).at[slot].set(value, mode="drop") for name, value in added.items()
    }
    return state._replace(count=state.count + ~stopped, stopped=stopped, **written)


def _distance(settings: Settings, state: _State, name: str | None = None) -> distances.Distance:
    name = name or settings.distance
    covariance = distances.covariance(state.representations) if name == "mahalanobis" else None
    return distances.build(name, order=settings.order, scale=settings.scale, covariance=covariance)


def _loss(settings: Settings, state: _State) -> contrastive.Loss:
    """What the re-training minimises the mean of; of a distance each point has its own, whatever
    the others are.
    """
    name = settings.loss or settings.distance
    if name in contrastive.NAMES:
        weights = {"repulsion": settings.repulsion, "confinement": settings.confinement}
        return contrastive.build(name, scale=settings.scale, **weights)
    distance = _distance(settings, state, name)
    return lambda predicted, representations, n_points: distance(predicted, representations)


def _mean(of_points: Float[Array, " width"], n_points: Int[Array, ""]) -> Float[Array, ""]:
    """Mean of the first `n_points`; 0 without a point, when there is nothing to fit."""
    total = jnp.sum(jnp.where(jnp.arange(len(of_points)) < n_points, of_points, 0.0))
    return total / jnp.maximum(n_points, 1).astype(total.dtype)


def _retrain(
    form: _Form, width: int, points: Array, state: _State, n_points: Int[Array, ""]
) -> _State:
    """Train G on what is chosen, the first `n_points` of `width` slots. No epoch without a point.

    It is the count of every member that goes on; as a number that all share it spares XLA a
    selection of every weight.
    """
    settings = form.settings
    if settings.restart == "cold":
        state = state._replace(
            predictor=state.initial, optimiser_state=form.optimiser.init(state.initial)
        )
    slots, newest = jnp.arange(width), jnp.maximum(n_points - 1, 0)
    if settings.rehearsal == "newest-first":
        state = _fit(form, points, state, newest[None], jnp.minimum(n_points, 1))
    if settings.rehearsal == "replay":
        rows = state.indices[:width]
        outputs = form.outputs(state.predictor, points[rows])
        errors = _loss(settings, state)(outputs, state.representations[rows], n_points)
        errors = jnp.where(slots < n_points, errors, -jnp.inf).at[newest].set(jnp.inf)
        n_replay = min(settings.n_replay, width)
        slots, n_points = jax.lax.top_k(errors, n_replay)[1], jnp.minimum(n_points, n_replay)
    return _fit(form, points, state, slots, n_points)


class _Fit(NamedTuple):
    predictor: PyTree[Array]
    optimiser_state: PyTree[Array]
    loss: Float[Array, ""]


def _fit(
    form: _Form, points: Array, state: _State, slots: Int[Array, " width"], n_points: Array
) -> _State:
    """Train G on the first `n_points` of these slots of the subset, with as many attempts as the
    settings allow.
    """
    settings, optimiser, loss = form.settings, form.optimiser, _loss(form.settings, state)
    rows = state.indices[slots]
    inputs, representations = points[rows], state.representations[rows]
    n_epochs = jnp.where(n_points > 0, settings.n_epochs, 0)

    def epoch(carry: tuple[Array, Array, _Fit]) -> tuple[Array, Array, _Fit]:
        number, _, fit = carry
        value, gradient = _loss_and_gradient(
            form, loss, fit.predictor, inputs, representations, n_points
        )
        updates, optimiser_state = optimiser.update(gradient, fit.optimiser_state, fit.predictor)
        updated = _Fit(optax.apply_updates(fit.predictor, updates), optimiser_state, value)
        if settings.tolerance is None:
            return number + 1, jnp.zeros((), bool), updated
        reached = value <= settings.tolerance
        return (
            number + 1,
            reached,
            jax.tree.map(partial(jnp.where, reached), fit._replace(loss=value), updated),
        )

    def train(fit: _Fit) -> _Fit:
        def goes_on(carry: tuple[Array, Array, _Fit]) -> Bool[Array, ""]:
            number, reached, _ = carry
            return (
                number < n_epochs if settings.tolerance is None else (number < n_epochs) & ~reached
            )

        return jax.lax.while_loop(
            goes_on, epoch, (jnp.zeros_like(n_epochs), jnp.zeros((), bool), fit)
        )[2]

    def loss_of(predictor: PyTree[Array]) -> Float[Array, ""]:
        return _mean(loss(form.outputs(predictor, inputs), representations, n_points), n_points)

    fit = train(_Fit(state.predictor, state.optimiser_state, jnp.zeros((), points.dtype)))
    if settings.n_restarts:
        fit = _restarted(form, points, state, train, loss_of, fit)
    return state._replace(predictor=fit.predictor, optimiser_state=fit.optimiser_state)


def _loss_and_gradient(
    form: _Form,
    loss: contrastive.Loss,
    predictor: PyTree[Array],
    inputs: Float[Array, "width ..."],
    representations: Float[Array, "width n_outputs"],
    n_points: Int[Array, ""],
) -> tuple[Float[Array, ""], PyTree[Array]]:
    def mean_and_gradient(of_points: distances.Distance, targets: Float[Array, "width n_outputs"]):
        return batched.mean_loss_and_gradient(
            form.network, of_points, predictor, inputs, targets, n_points, at_once=form.at_once
        )

    if form.settings.loss not in contrastive.NAMES:
        return mean_and_gradient(partial(loss, n_points=n_points), representations)  # pyrefly: ignore[unexpected-keyword]

    def mean_of(outputs: Float[Array, "width n_outputs"]) -> Float[Array, ""]:
        return _mean(loss(outputs, representations, n_points), n_points)

    def along(
        outputs: Float[Array, "n n_outputs"], slopes: Float[Array, "n n_outputs"]
    ) -> Float[Array, " n"]:
        return jnp.asarray(n_points, slopes.dtype) * jnp.sum(slopes * outputs, axis=-1)

    # The loss needs the outputs of all points at once; their derivatives by the weights can still
    # come block by block, as those of Σ slope · output.
    value, slopes = jax.value_and_grad(mean_of)(form.outputs(predictor, inputs))
    return value, mean_and_gradient(along, slopes)[1]


def _restarted(
    form: _Form,
    points: Array,
    state: _State,
    train: Callable[[_Fit], _Fit],
    loss_of: Callable[[PyTree[Array]], Array],
    fit: _Fit,
) -> _Fit:
    """The best of this fit and of those from new initial parameters, drawn until one reaches the
    tolerance.
    """

    def goes_on(carry: tuple[Array, _Fit]) -> Bool[Array, ""]:
        attempt, best = carry
        return (attempt < form.settings.n_restarts) & (best.loss > form.settings.tolerance)

    def again(carry: tuple[Array, _Fit]) -> tuple[Array, _Fit]:
        attempt, best = carry
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.count), attempt)
        predictor = parameters.initialise(form.network, key, points)
        new = train(_Fit(predictor, form.optimiser.init(predictor), best.loss))
        new = new._replace(loss=loss_of(new.predictor))
        return attempt + 1, jax.tree.map(partial(jnp.where, new.loss < best.loss), new, best)

    first = fit._replace(loss=loss_of(fit.predictor))
    return jax.lax.while_loop(goes_on, again, (jnp.zeros((), jnp.int32), first))[1]


def _segments(first: int, n_selected: int) -> list[tuple[int, int, int]]:
    """(begin, end, padded width) of the parts of a run, between which its state can be kept."""
    widths = [min(NARROWEST, n_selected)]
    while widths[-1] < n_selected:
        widths.append(min(2 * widths[-1], n_selected))
    tenths = {first + (n_selected - first) * part // SEGMENTS for part in range(SEGMENTS + 1)}
    stops = sorted(stop for stop in tenths | set(widths) if first <= stop <= n_selected)
    return [
        (begin, end, next(width for width in widths if width >= end))
        for begin, end in itertools.pairwise(stops)
    ]


def _check_distances(
    found: np.ndarray, members: list[int], begin: int, learning_rate: float
) -> None:
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        member, point = members[bad[0, 0]], begin + bad[0, 1]
        raise FloatingPointError(
            f"RND's predictor diverged: the distance of member {member}, point {point} is "
            f"{found[tuple(bad[0])]}; expected a finite number. Lower learning_rate (now {learning_rate})."
        )


def _stored(n_done: int, state: _State) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))
    return {"n_done": np.asarray(n_done)} | {
        f"leaf_{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)
    }


def _restore(store: checkpoints.Store, name: str, state: _State) -> tuple[int, _State]:
    """How many segments the store has of this task, and the state after them; the given one if
    none.
    """
    if name not in store:
        return 0, state
    kept = store[name]
    leaves = [jnp.asarray(kept[f"leaf_{number}"]) for number in range(len(kept) - 1)]
    restored = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return int(kept["n_done"]), restored._replace(key=jax.random.wrap_key_data(restored.key))
