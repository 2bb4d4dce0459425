"""Describe a selection, check the arguments that all methods share, and draw random subsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpy.typing import ArrayLike

from collective_variables import _checks, _scaling
from collective_variables.ensembles import seeding

NORMALISATIONS = ("none", "standard", "unit")


@dataclass(frozen=True)
class Selection:
    """Hold the chosen points of every member of an ensemble, in the order of choice.

    The first n points of a row are that member's subset of n points, so subsets of all sizes are
    nested.

    Attributes:
        indices: (n_members, n_selected) rows of the pool. No member has a point twice. Where a
            threshold stopped a member, the rest of its row is −1.
        distances: (n_members, n_selected) distance of each point from those chosen before it, when
            it was chosen. NaN where there is no distance: for the first point of some methods, and
            for all points of methods that choose without distances.
        mean_distances: (n_members, n_selected) mean distance of the whole pool at that time.
        max_distances: (n_members, n_selected) largest distance of the whole pool at that time.

    Example:
        >>> import collective_variables as cv, jax, numpy as np
        >>> pool = np.array([[0.0], [1.0], [5.0]])
        >>> chosen = cv.select(pool, 2, method="k-center", labelled=[0], key=jax.random.key(0))
        >>> print(chosen.indices, chosen.distances)
        [[2 1]] [[5. 1.]]
    """

    indices: Int[np.ndarray, "n_members n_selected"]
    distances: Float[np.ndarray, "n_members n_selected"]
    mean_distances: Float[np.ndarray, "n_members n_selected"]
    max_distances: Float[np.ndarray, "n_members n_selected"]


def without_distances(indices: Int[np.ndarray, "n_members n_selected"]) -> Selection:
    """Return the selection of a method that has no distances."""
    return Selection(np.asarray(indices), *(np.full(np.shape(indices), np.nan) for _ in range(3)))


def check_pool(pool: ArrayLike) -> Float[Array, "n_pool ..."]:
    """Return the pool as an array of floats, or raise TypeError."""
    points = pool if isinstance(pool, jax.Array) else np.asarray(pool)
    is_whole = points.dtype.kind in "biu"
    if points.ndim == 0 or not (is_whole or jnp.issubdtype(points.dtype, jnp.floating)):
        raise TypeError(
            f"pool must be an array (n_pool, ...) of numbers: "
            f"received the shape {points.shape} and dtype {points.dtype}."
        )
    if is_whole:
        points = np.asarray(points).astype(np.result_type(points.dtype, np.float32))
    return points


def check_budget(
    n_pool: int, n_selected: int, n_members: int, labelled: Sequence[int] = ()
) -> list[int]:
    """Return the rows `labelled` as integers, or raise if the pool cannot serve the request.

    Args:
        n_pool: Number of points in the pool.
        n_selected: Number of points of each member; it counts the labelled points.
        n_members: Number of members.
        labelled: Rows of the pool that are labelled already.

    Raises:
        ValueError: The pool is too small, or the labelled points leave nothing to choose.

    Also raises the errors of `check_labelled`, and TypeError or ValueError for counts that are not
    positive integers.
    """
    _checks.integer("n_members", n_members, minimum=1)
    _checks.integer("n_selected", n_selected, minimum=1)
    if n_selected > n_pool:
        raise ValueError(f"n_selected must not exceed the pool: {n_selected} > {n_pool}.")
    rows = check_labelled(labelled, n_pool)
    if len(rows) >= n_selected:
        raise ValueError(
            f"n_selected must exceed the points already labelled: {n_selected} <= {len(rows)}."
        )
    return rows


def check_labelled(labelled: Sequence[int], n_pool: int) -> list[int]:
    """Return the rows `labelled` as integers.

    Raises:
        ValueError: They are not distinct rows of a pool, or a mask.

    Also raises TypeError for numbers that are not integers.
    """
    if np.asarray(labelled).dtype == bool:
        raise ValueError(
            f"labelled must be numbers of rows: received a mask of {np.size(labelled)} truth "
            "values. Give numpy.flatnonzero(mask)."
        )
    rows = [_checks.integer("labelled", row) for row in np.atleast_1d(labelled).tolist()]
    _checks.rows("labelled", np.asarray(rows, int), n_pool)
    if len(set(rows)) < len(rows):
        raise ValueError(f"labelled must not repeat a row: received {rows}.")
    return rows


def size_of_subsets(n_pool: int, n_selected: int | None, threshold: float | None) -> int:
    """Return `n_selected`; without it a threshold allows the whole pool."""
    if n_selected is None and threshold is None:
        raise ValueError("n_selected or threshold must be given: received None for both.")
    return n_pool if n_selected is None else n_selected


def membership(
    classes: Int[np.ndarray, " n_pool"], n_pool: int
) -> Bool[np.ndarray, "n_classes n_pool"]:
    """Return whether each point is in each class; classes without a point are left out.

    Args:
        classes: (n_pool,) class of each point, an integer from 0.
        n_pool: Number of points in the pool.

    Raises:
        ValueError: A point has no class.
    """
    classes = np.asarray(classes)
    if (
        classes.shape != (n_pool,)
        or not np.issubdtype(classes.dtype, np.integer)
        or classes.min() < 0
    ):
        raise ValueError(
            f"classes must be an integer from 0 for each of the {n_pool} points: "
            f"received the shape {classes.shape} and dtype {classes.dtype}."
        )
    return np.unique(classes)[:, None] == classes


def in_turn(
    membership: Bool[Array, "n_classes n_pool"], unused: Bool[Array, " n_pool"]
) -> Bool[Array, " n_pool"]:
    """Return which unused points belong to the class with the fewest used points.

    Only classes with unused points count, and ties go to the first class. Arrays can be NumPy's or,
    also inside a transformation, JAX's.
    """
    left = (membership & unused[None, :]).sum(axis=1)
    used = membership.sum(axis=1) - left
    return membership[(used + (left == 0) * len(unused)).argmin()] & unused


def normalise(pool: Float[Array, "n_pool ..."], how: str) -> Float[Array, "n_pool ..."]:
    """Return the pool in one of `NORMALISATIONS` (see `rnd.RNDSettings`).

    A constant feature and a point of zeros become 0. The computation is in float64, since a large
    offset of a feature would leave few digits. The result has the precision of the pool, or float64
    for a pool of whole numbers.
    """
    if how == "none":
        return pool
    flat = np.asarray(pool).astype(np.float64).reshape(len(pool), -1)
    if how == "standard":
        flat = _scaling.standardise(flat)
    else:
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        flat = flat / np.where(norms > 0, norms, 1.0)
    points = flat.reshape(pool.shape)
    if isinstance(pool, jax.Array):
        return jnp.asarray(points, pool.dtype)
    return points.astype(pool.dtype) if jnp.issubdtype(pool.dtype, jnp.floating) else points


def check_whole(selection: Selection) -> None:
    """Raise ValueError if a threshold stopped a member before its last point."""
    counts = (selection.indices >= 0).sum(axis=1)
    short = np.flatnonzero(counts < selection.indices.shape[1])
    if len(short):
        raise ValueError(
            f"Every member must choose {selection.indices.shape[1]} points: member {short[0]} was "
            f"within the threshold after {counts[short[0]]}. Lower the threshold or the subset "
            f"sizes."
        )


@partial(jax.jit, static_argnums=(1, 2))
def _draw(keys: PRNGKeyArray, n_pool: int, n_selected: int) -> Int[Array, "n_members n_selected"]:
    # Compiled here, so that all calls of one size share a compilation.
    return jax.vmap(lambda key: jax.random.permutation(key, n_pool)[:n_selected])(keys)


def random(
    n_pool: int,
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
) -> Selection:
    """Draw `n_selected` of `n_pool` points without replacement for every member.

    Each subset is equally likely.

    Args:
        n_pool: Number of points in the pool.
        n_selected: Number of points of each member; it counts the labelled points.
        key: A JAX key, from which the key of each member follows.
        n_members: Number of members.
        labelled: Rows that count as chosen. They come first and are not drawn again; the others are
            drawn in the same order as without them.

    Returns:
        The selection, without distances.

    Raises the errors of `check_budget`.
    """
    labelled = check_budget(n_pool, n_selected, n_members, labelled)
    rows = np.asarray(_draw(seeding.member_keys(key, n_members), n_pool, n_selected))
    if labelled:
        subsets = [[*labelled, *row[~np.isin(row, labelled)]][:n_selected] for row in rows]
        rows = np.array(subsets, rows.dtype)
    return without_distances(rows)
