"""Subsets of a pool: at random, or by random network distillation (RND; Tovey et al. 2023, Algorithm 1)."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import checks, ensembles, networks

SEGMENTS = 10


@dataclass(frozen=True)
class Selection:
    """Chosen points of every member, in the order of choice: the first n of a row are that member's subset of n points.

    indices: (n_members, n_selected) rows of the pool, none twice in a row of the array.
    distances: (n_members, n_selected) distance D at which each point was chosen; NaN for a random choice, which has none.
    """

    indices: Int[np.ndarray, "n_members n_selected"]
    distances: Float[np.ndarray, "n_members n_selected"]


def check_budget(n_pool: int, n_selected: int, n_members: int) -> None:
    """Raise if `n_selected` or `n_members` is not a positive integer or the pool is too small."""
    checks.integer("n_members", n_members, minimum=1)
    checks.integer("n_selected", n_selected, minimum=1)
    if n_selected > n_pool:
        raise ValueError(f"n_selected must not exceed the pool: {n_selected} > {n_pool}.")


def random(n_pool: int, *, n_selected: int, key: PRNGKeyArray, n_members: int = 1) -> Selection:
    """Draw `n_selected` of `n_pool` points without replacement for every member, each subset equally likely."""
    check_budget(n_pool, n_selected, n_members)
    draw = jax.jit(jax.vmap(lambda member_key: jax.random.permutation(member_key, n_pool)[:n_selected]))
    indices = draw(ensembles.member_keys(key, n_members))
    return Selection(np.asarray(indices), np.full((n_members, n_selected), np.nan))


def rnd(
    pool: Float[Array, "n_pool ..."],
    network: nn.Module,
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    n_epochs: int = 100,
    learning_rate: float = 0.01,
    progress: str = "",
) -> Selection:
    """Choose `n_selected` points of `pool` by random network distillation, for `n_members` independent members.

    A fixed target network F and a predictor G of the same architecture start from independent random parameters. Each
    step chooses the point not chosen yet with the largest D = mean over outputs of (F(x) - G(x))^2, then trains G on
    all chosen points for `n_epochs` full-batch steps of Adam on the mean of D, keeping its weights and Adam's state
    from step to step. The first point is that of the two untrained networks.

    Member m draws F and G with the two keys of `jax.random.split(jax.random.fold_in(key, m))`. All is computed in the
    dtype of `pool`. Raises ValueError for a pool that is not finite or too small, and FloatingPointError when G diverges.
    """
    pool = jnp.asarray(pool)
    check_budget(len(pool), n_selected, n_members)
    checks.integer("n_epochs", n_epochs, minimum=0)
    checks.number("learning_rate", learning_rate, above=0.0)
    checks.finite("pool", np.asarray(pool))
    keys = ensembles.member_keys(key, n_members)
    optimiser = optax.adam(learning_rate)
    start = ensembles.over_members(partial(_start, network, optimiser, n_selected))
    advance = ensembles.over_members(partial(_advance, network, optimiser, n_epochs))
    stops = [n_selected * segment // SEGMENTS for segment in range(SEGMENTS + 1)]

    def run(members: list[int]) -> _State:
        state = start(pool, keys[np.array(members)])
        for begin, end in zip(stops, stops[1:]):
            state = advance((pool, begin, end), state)
            _check_distances(np.asarray(state.distances[:, begin:end]), members, begin, learning_rate)
            bar.advance((end - begin) * len(set(members)))
        return state

    size = min(ensembles.chunk_size(networks.n_parameters(network, pool)), n_members)
    with ensembles.Progress(progress, n_members * n_selected, "points") as bar:
        states = ensembles.run_in_threads(run, ensembles.chunks(n_members, size))
    indices, distances = (np.concatenate([getattr(state, name) for state in states]) for name in ("indices", "distances"))
    return Selection(indices[:n_members], distances[:n_members])


def distance(predicted: Float[Array, "n_points n_outputs"], representations: Float[Array, "n_points n_outputs"]) -> Array:
    """(n_points,) distance D of the predictor's outputs from the target network's: the mean squared difference."""
    return jnp.mean((predicted - representations) ** 2, axis=-1)


class _State(NamedTuple):
    """One member between two steps: F(pool), G with Adam's state, and what was chosen so far (zeros behind it)."""

    representations: Float[Array, "n_pool n_outputs"]
    predictor: PyTree[Array]
    optimiser_state: PyTree[Array]
    indices: Int[Array, " n_selected"]
    distances: Float[Array, " n_selected"]


def _start(
    network: nn.Module, optimiser: optax.GradientTransformation, n_selected: int, pool: Array, key: PRNGKeyArray
) -> _State:
    both = jax.vmap(lambda key: networks.initialise(network, key, pool))(jax.random.split(key))
    target, predictor = (jax.tree.map(lambda leaf: leaf[i], both) for i in (0, 1))
    representations = networks.forward(network, target, pool)
    indices = jnp.zeros(n_selected, jnp.int32)
    return _State(representations, predictor, optimiser.init(predictor), indices, jnp.zeros(n_selected, pool.dtype))


def _advance(
    network: nn.Module,
    optimiser: optax.GradientTransformation,
    n_epochs: int,
    shared: tuple[Array, int, int],
    state: _State,
) -> _State:
    """Choose the points number begin…end−1; the bounds are data, so that one compilation serves every segment."""
    pool, begin, end = shared

    def step(n_chosen: Array, state: _State) -> _State:
        state = _retrain(network, optimiser, n_epochs, pool, state, n_chosen)
        distances = distance(networks.forward(network, state.predictor, pool), state.representations)
        filled = jnp.arange(len(state.indices)) < n_chosen
        chosen = jnp.where(filled, state.indices, len(pool))
        point = jnp.argmax(distances.at[chosen].set(-jnp.inf, mode="drop"))
        return state._replace(
            indices=state.indices.at[n_chosen].set(point.astype(jnp.int32)),
            distances=state.distances.at[n_chosen].set(distances[point]),
        )

    return jax.lax.fori_loop(begin, end, step, state)


def _retrain(
    network: nn.Module,
    optimiser: optax.GradientTransformation,
    n_epochs: int,
    pool: Array,
    state: _State,
    n_chosen: Array,
) -> _State:
    """Train G on the first `n_chosen` points of the padded subset. No epoch without a point."""
    points, representations = pool[state.indices], state.representations[state.indices]

    def epoch(_: int, carry: tuple[PyTree[Array], PyTree[Array]]) -> tuple[PyTree[Array], PyTree[Array]]:
        predictor, optimiser_state = carry
        gradient = networks.mean_gradient(network, distance, predictor, points, representations, n_chosen)
        updates, optimiser_state = optimiser.update(gradient, optimiser_state, predictor)
        return optax.apply_updates(predictor, updates), optimiser_state

    carry = state.predictor, state.optimiser_state
    predictor, optimiser_state = jax.lax.fori_loop(0, jnp.where(n_chosen > 0, n_epochs, 0), epoch, carry)
    return state._replace(predictor=predictor, optimiser_state=optimiser_state)


def _check_distances(distances: np.ndarray, members: list[int], begin: int, learning_rate: float) -> None:
    bad = np.argwhere(~np.isfinite(distances))
    if len(bad):
        member, point = members[bad[0, 0]], begin + bad[0, 1]
        raise FloatingPointError(
            f"RND's predictor diverged: the distance of member {member}, point {point} is "
            f"{distances[tuple(bad[0])]}; expected a finite number. Lower learning_rate (now {learning_rate})."
        )
