"""What a selection is, and the one that all others are held against: subsets at random."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from collective_variables import checks, ensembles


@dataclass(frozen=True)
class Selection:
    """Chosen points of every member, in the order of choice: the first n of a row are that member's subset of n points.

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
    checks.integer("n_members", n_members, minimum=1)
    checks.integer("n_selected", n_selected, minimum=1)
    if n_selected > n_pool:
        raise ValueError(f"n_selected must not exceed the pool: {n_selected} > {n_pool}.")


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
    """Draw `n_selected` of `n_pool` points without replacement for every member, each subset equally likely."""
    check_budget(n_pool, n_selected, n_members)
    draw = jax.jit(jax.vmap(lambda member_key: jax.random.permutation(member_key, n_pool)[:n_selected]))
    indices = draw(ensembles.member_keys(key, n_members))
    return without_distances(indices)
