"""Choose points by random network distillation (RND; Tovey et al. 2023, Algorithm 1)."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution, seeding
from collective_variables.networks import parameters
from collective_variables.selection import _rnd_training, base

SEGMENTS = 10
NARROWEST = 128  # subsets are padded to this and its doubles


@dataclass(frozen=True)
class RNDSettings(_rnd_training.TrainingSettings):
    """Set the distance between target and predictor, and how the predictor is re-trained.

    The predictor is re-trained after every chosen point, by Algorithm 1 of Tovey et al. 2023.

    Args:
        distance: One of `distances.NAMES`, the distance D(G(x), F(x)) by which points are chosen;
            `distances.build` gives the formulas.
        order: The power of the distance "power", or the p of the norms in "lp" and "hypersphere".
        scale: The scale of the distance "exponential" and of the contrastive losses.
        loss: A distance or contrastive loss whose mean over points the re-training minimises; None
            for the distance that chooses.
        repulsion: Weight of the repulsion in the loss "isolated-potential".
        confinement: Weight of the confinement in that loss.
        n_epochs: Full-batch epochs of Adam after every point.
        learning_rate: Learning rate of Adam.
        restart: "warm" continues with the weights and Adam's state after the point before; "cold"
            begins with the initial weights.
        rehearsal: The points of the re-training. "all" takes all chosen points. "replay" takes the
            newest and the `n_replay` − 1 others with the largest losses. "newest-first" trains
            `n_epochs` on the newest point, then as many on all.
        n_replay: Number of points of "replay".
        tolerance: End a re-training as soon as its loss is at most this, after `n_epochs` at the
            latest; None for never.
        n_restarts: How often a predictor whose loss is then still above `tolerance` is drawn anew
            and trained again. The one with the smallest loss remains.
        normalisation: Normalisation of the points before they enter a network. "standard" subtracts
            the mean of every feature over the pool and divides by its standard deviation, "unit"
            scales each point to norm 1, "none" does nothing.
        threshold: Stop before a point whose distance is at most this; None for never.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of range or not among the choices.

    Example:
        >>> import collective_variables as cv
        >>> settings = cv.RNDSettings(n_epochs=50, normalisation="standard")
        >>> settings.distance, settings.learning_rate
        ('mean-squared', 0.01)
    """

    normalisation: str = "none"
    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.choice("normalisation", self.normalisation, base.NORMALISATIONS)
        if self.threshold is not None:
            _checks.number("threshold", self.threshold, minimum=0.0)


def select(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    settings: RNDSettings = RNDSettings(),
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
    chooses the unused point with the largest distance D(G(x), F(x)). The first point is that of the
    two untrained networks.

    Args:
        pool: (n_pool, ...) points. Their dtype is that of the computation.
        network: The network of target and predictor.
        settings: Settings of distance and re-training.
        n_selected: Number of points of each member, labelled ones included; None, with a threshold,
            for the whole pool at most.
        key: A JAX key. Member m draws F and G with the two keys of
            `jax.random.split(jax.random.fold_in(key, m))`.
        n_members: Number of members.
        labelled: Rows of the pool that are in every subset already. They come first, without a
            distance.
        classes: (n_pool,) integers from 0. Each point is then from the class with the fewest chosen
            points that has any left.
        progress: Text in front of a progress bar; "" for no bar.
        store: Keeps intermediate results, so that the same call with the same store resumes after
            an interruption and ends with the same points. Delete its content when the call is done.

    Returns:
        The selection. Where a threshold stopped a member, the rest of its row is −1. Exact copies
        of a point have equal distances: the smallest row is chosen first, and another copy only
        when their distance is the largest again.

    Raises ValueError for a pool that is not finite or too small, and FloatingPointError if G
    diverges.
    """
    pool = pool if isinstance(pool, jax.Array) else np.asarray(pool)
    n_selected = base.size_of_subsets(len(pool), n_selected, settings.threshold)
    labelled = base.check_budget(len(pool), n_selected, n_members, labelled)
    _checks.finite("pool", np.asarray(pool))
    points = jnp.asarray(base.normalise(pool, settings.normalisation))
    membership = None if classes is None else jnp.asarray(base.membership(classes, len(pool)))
    trainer = _rnd_training.Trainer(network, settings, at_once=2 if n_members == 1 else 1)
    start = partial(_rnd_training.start, trainer, n_selected, tuple(labelled))
    segments = plan_segments(len(labelled), n_selected)
    decisive = network, settings, n_selected, labelled, points, classes, key
    run = _Run(
        shared=_rnd_training.Shared(points, membership),
        keys=seeding.member_keys(key, n_members),
        start=batching.over_members(start, runs_once=True),
        advance={
            width: batching.over_members(partial(advance, trainer, width))
            for width in {width for _, _, width in segments}
        },
        segments=segments,
        learning_rate=settings.learning_rate,
        local=checkpoints.LocalStore(store),
        fingerprint="" if store is None else checkpoints.fingerprint(*decisive),
    )
    together = batching.chunk_size(parameters.n_parameters(network, points), n_members)
    chunks = batching.chunks(n_members, together)
    results = checkpoints.Results(
        store,
        chunks,
        name=run.name,
        pack=_Chosen._asdict,
        unpack=lambda arrays: _Chosen(**arrays),
    )
    n_steps = n_selected - len(labelled)
    work = partial(_work, segments, settings.n_epochs, n_members)
    with execution.Progress(progress, n_members * n_steps, "points", work) as bar:
        bar.advance(sum(len(set(chunks[place])) for place in results.known) * n_steps)
        parts = execution.run(run, chunks, bar, checkpoint=results)
    return _join(parts, n_members)


class _Chosen(NamedTuple):
    """Hold the choices of the members of a chunk, as in `State`."""

    count: Int[np.ndarray, " n_together"]
    indices: Int[np.ndarray, "n_together n_selected"]
    distances: Float[np.ndarray, "n_together n_selected"]
    mean_distances: Float[np.ndarray, "n_together n_selected"]
    max_distances: Float[np.ndarray, "n_together n_selected"]


@dataclass(frozen=True, eq=False)
class _Run:
    """Run a chunk of members, segment by segment; an interrupted run resumes."""

    shared: _rnd_training.Shared
    keys: PRNGKeyArray
    start: Callable[..., _rnd_training.State]
    advance: dict[int, Callable[..., _rnd_training.State]]
    segments: list[tuple[int, int, int]]
    learning_rate: float
    local: checkpoints.LocalStore
    fingerprint: str

    def name(self, members: list[int]) -> str:
        """Return the name of a chunk's results in the store."""
        return f"{self.fingerprint}-{'-'.join(map(str, members))}"

    def __call__(self, members: list[int], moved_on: _types.Advance) -> _Chosen:
        state = self.start(self.shared, self.keys[np.array(members)])
        name = f"{self.name(members)}-unfinished"
        store = self.local.store
        n_done, state = (0, state) if store is None else _restore(store, name, state)
        for number, (begin, end, width) in enumerate(self.segments):
            if number >= n_done:
                state = self.advance[width]((self.shared, begin, end), state)
                distances = np.asarray(state.distances[:, begin:end])
                _check_distances(distances, members, begin, self.learning_rate)
                if store is not None and number + 1 < len(self.segments):
                    store[name] = _pack_state(number + 1, state)
            moved_on((end - begin) * len(set(members)))
        return _Chosen(*(np.asarray(getattr(state, field)) for field in _Chosen._fields))


def _join(parts: list[_Chosen], n_members: int) -> base.Selection:
    counts, indices, *history = (np.concatenate(arrays)[:n_members] for arrays in zip(*parts))
    is_chosen = np.arange(indices.shape[1]) < counts[:, None]
    return base.Selection(
        np.where(is_chosen, indices, -1), *(np.where(is_chosen, array, np.nan) for array in history)
    )


def advance(
    trainer: _rnd_training.Trainer,
    width: int,
    bounds: tuple[_rnd_training.Shared, Array, Array],
    state: _rnd_training.State,
) -> _rnd_training.State:
    """Return the state after choosing the points number begin…end−1 ≤ width.

    The bounds are data, so that segments share a compilation.
    """
    shared, begin, end = bounds

    def continues(carry: tuple[Array, _rnd_training.State]) -> Bool[Array, ""]:
        number, state = carry
        if trainer.settings.threshold is None:
            # Members then continue in step, so no state need be selected.
            return number < end
        return (number < end) & ~state.stopped

    def step(carry: tuple[Array, _rnd_training.State]) -> tuple[Array, _rnd_training.State]:
        number, state = carry
        state = _rnd_training.retrain(trainer, width, shared.points, state, number)
        return number + 1, _choose(trainer, shared, state)

    return jax.lax.while_loop(continues, step, (begin, state))[1]


def _choose(
    trainer: _rnd_training.Trainer, shared: _rnd_training.Shared, state: _rnd_training.State
) -> _rnd_training.State:
    """Add the point with the largest distance, unless it is within the threshold."""
    threshold = trainer.settings.threshold
    distance = _rnd_training.distance(trainer.settings, state)
    values = distance(trainer.outputs(state.predictor, shared.points), state.representations)
    slots = jnp.where(jnp.arange(len(state.indices)) < state.count, state.indices, len(values))
    unused = jnp.ones(len(values), bool).at[slots].set(False, mode="drop")
    if shared.classes is not None:
        unused = base.in_turn(shared.classes, unused)
    point = jnp.argmax(jnp.where(unused, values, -jnp.inf)).astype(jnp.int32)
    stopped = jnp.zeros((), bool) if threshold is None else values[point] <= threshold
    # A slot behind the last one writes nothing.
    slot = jnp.where(stopped, len(state.indices), state.count)
    entries = {
        "indices": point,
        "distances": values[point],
        "mean_distances": jnp.mean(values),
        "max_distances": jnp.max(values),
    }
    history = {
        name: getattr(state, name).at[slot].set(value, mode="drop")
        for name, value in entries.items()
    }
    return state._replace(count=state.count + ~stopped, stopped=stopped, **history)


def plan_segments(first: int, n_selected: int) -> list[tuple[int, int, int]]:
    """Return (begin, end, padded width) of the parts of a run, between which it can be stored."""
    widths = [min(NARROWEST, n_selected)]
    while widths[-1] < n_selected:
        widths.append(min(2 * widths[-1], n_selected))
    tenths = {first + (n_selected - first) * part // SEGMENTS for part in range(SEGMENTS + 1)}
    stops = sorted(stop for stop in tenths | set(widths) if first <= stop <= n_selected)
    return [
        (begin, end, next(width for width in widths if width >= end))
        for begin, end in itertools.pairwise(stops)
    ]


def _work(segments: list[tuple[int, int, int]], n_epochs: int, n_members: int, count: int) -> float:
    """Return the work of the first `count` choices of members that keep step."""
    # It grows with the width that the points of a re-training are padded to.
    work = 0.0
    for begin, end, width in segments:
        done = min(count / n_members, end - begin)
        work += done * (1 + n_epochs * width)
        count -= int(n_members * done)
    return work


def _check_distances(
    distances: np.ndarray, members: list[int], begin: int, learning_rate: float
) -> None:
    bad = np.argwhere(~np.isfinite(distances))
    if len(bad):
        member = members[bad[0, 0]]
        point = begin + bad[0, 1]
        raise FloatingPointError(
            f"RND's predictor diverged: the distance of member {member}, point {point} is "
            f"{distances[tuple(bad[0])]}; expected a finite number. "
            f"Lower learning_rate (now {learning_rate})."
        )


def _pack_state(n_done: int, state: _rnd_training.State) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))
    return {"n_done": np.asarray(n_done)} | {
        f"leaf_{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)
    }


def _restore(
    store: checkpoints.Store, name: str, state: _rnd_training.State
) -> tuple[int, _rnd_training.State]:
    """Return how many segments of this task the store has, and the state after them."""
    if name not in store:
        return 0, state
    arrays = store[name]
    leaves = [jnp.asarray(arrays[f"leaf_{number}"]) for number in range(len(arrays) - 1)]
    state = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return int(arrays["n_done"]), state._replace(key=jax.random.wrap_key_data(state.key))
