"""What a selection is, and the one that all others are held against: subsets at random."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.ensembles import seeding

NORMALISATIONS = ("none", "standard", "unit")


@dataclass(frozen=True)
class Selection:
    """Chosen points of every member, in the order of choice: the first n of a row are that member's
    subset of n points.

    indices: (n_members, n_selected) rows of the pool, none twice in a row of the array.
    distances: (n_members, n_selected) distance D at which each point was chosen.
    mean_distances, max_distances: of the whole pool when that point was chosen.
    Distances are NaN where a method has none.
    """

    indices: Int[np.ndarray, "n_members n_selected"]
    distances: Float[np.ndarray, "n_members n_selected"]
    mean_distances: Float[np.ndarray, "n_members n_selected"]
    max_distances: Float[np.ndarray, "n_members n_selected"]


def without_distances(indices: Int[np.ndarray, "n_members n_selected"]) -> Selection:
    """The selection of a method that has no distances."""
    return Selection(np.asarray(indices), *(np.full(np.shape(indices), np.nan) for _ in range(3)))


def check_budget(n_pool: int, n_selected: int, n_members: int) -> None:
    """Raise if `n_selected` or `n_members` is not a positive integer or the pool is too small."""
    _checks.integer("n_members", n_members, minimum=1)
    _checks.integer("n_selected", n_selected, minimum=1)
    if n_selected > n_pool:
        raise ValueError(f"n_selected must not exceed the pool: {n_selected} > {n_pool}.")


def budget(
    n_pool: int,
    n_selected: int | None,
    n_members: int,
    labelled: Sequence[int],
    threshold: float | None,
) -> int:
    """The points of a member: `n_selected`, or the whole pool where only a threshold is given;
    errors as those of `rnd.select`.
    """
    if n_selected is None and threshold is None:
        raise ValueError("n_selected or threshold must be given: received None for both.")
    n_selected = n_pool if n_selected is None else n_selected
    check_budget(n_pool, n_selected, n_members)
    _checks.rows("labelled", np.asarray(labelled, int), n_pool)
    if len(set(labelled)) < len(labelled):
        raise ValueError(f"labelled must not repeat a row: received {list(labelled)}.")
    if len(labelled) >= n_selected:
        raise ValueError(
            f"n_selected must exceed the points already labelled: {n_selected} <= {len(labelled)}."
        )
    return n_selected


def membership(
    classes: Int[np.ndarray, " n_pool"], n_pool: int
) -> Bool[np.ndarray, "n_classes n_pool"]:
    """Whether each point is in each class, classes without a point left out; an error unless every
    point has a class.
    """
    classes = np.asarray(classes)
    if (
        classes.shape != (n_pool,)
        or not np.issubdtype(classes.dtype, np.integer)
        or classes.min() < 0
    ):
        raise ValueError(
            f"classes must be an integer from 0 for each of the {n_pool} points: received the shape {classes.shape} "
            f"and dtype {classes.dtype}."
        )
    return np.unique(classes)[:, None] == classes


def in_turn(
    membership: Bool[Array, "n_classes n_pool"], unused: Bool[Array, " n_pool"]
) -> Bool[Array, " n_pool"]:
    """The unused points of the class with the fewest used ones among those that have others; of
    several the first.

    Of arrays of NumPy or, under a transformation too, of JAX.
    """
    left = (membership & unused[None, :]).sum(axis=1)
    used = membership.sum(axis=1) - left
    return membership[(used + (left == 0) * len(unused)).argmin()] & unused


def normalise(pool: Float[Array, "n_pool ..."], how: str) -> Float[Array, "n_pool ..."]:
    """The pool in one of `NORMALISATIONS` (see `rnd.Settings`); a constant feature and a zero point
    become 0.
    """
    if how == "none":
        return pool
    flat = pool.reshape(len(pool), -1)
    if how == "standard":
        flat, scale = flat - flat.mean(axis=0)[None, :], flat.std(axis=0)[None, :]
    else:
        scale = jnp.linalg.norm(flat, axis=1)[:, None]
    return (flat / jnp.where(scale > 0, scale, 1.0)).reshape(pool.shape)


def check_whole(chosen: Selection) -> None:
    """Raise ValueError if a threshold stopped a member before its last point."""
    counts = (chosen.indices >= 0).sum(axis=1)
    short = np.flatnonzero(counts < chosen.indices.shape[1])
    if len(short):
        raise ValueError(
            f"Every member must choose {chosen.indices.shape[1]} points: member {short[0]} was within the threshold after "
            f"{counts[short[0]]}. Lower the threshold or the subset sizes."
        )


def random(n_pool: int, *, n_selected: int, key: PRNGKeyArray, n_members: int = 1) -> Selection:
    """Draw `n_selected` of `n_pool` points without replacement for every member, each subset
    equally likely.
    """
    check_budget(n_pool, n_selected, n_members)
    draw = jax.jit(
        jax.vmap(lambda member_key: jax.random.permutation(member_key, n_pool)[:n_selected])
    )
    indices = draw(seeding.member_keys(key, n_members))
    return without_distances(indices)
