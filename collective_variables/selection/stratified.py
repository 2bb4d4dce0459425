"""Draw stratified random subsets: every class or range of targets gets its share of the points."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy.typing import ArrayLike

from collective_variables import _checks, _scaling
from collective_variables.ensembles import seeding
from collective_variables.selection import base

TASKS = ("classification", "regression")


def stratified(
    targets: Float[Array, "n_pool n_outputs"],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
    task: str = "classification",
    allocation: str = "proportional",
    n_strata: int = 10,
) -> base.Selection:
    """Draw points uniformly without replacement within strata that take turns.

    For a classification with one-hot targets the strata are the classes. For a regression they are
    at most `n_strata` quantile bins of the first principal component of the standardised targets;
    equal points share a bin.

    The "proportional" allocation is that of Tijdeman (1980, "The chairman assignment problem"). For
    every n it keeps the count of each of K strata within 1 − 1 / (2 K − 2) of its quota, which is n
    times its share of the pool. Always serving the stratum that lags most can miss a quota by more
    than one point. The "equal" allocation serves the stratum with the fewest chosen points that has
    any left. Ties are broken at random for every member.

    Args:
        targets: (n_pool, n_outputs) targets of all points.
        n_selected: Number of points of each member; it counts labelled points.
        key: A JAX key, from which the key of each member follows.
        n_members: Number of members.
        labelled: Rows that count as chosen in their strata. They come first. Quotas that they
            exceed or miss are met as soon as other points can make up for it.
        task: "classification" or "regression".
        allocation: "proportional" or "equal".
        n_strata: Largest number of strata of a regression.

    Returns:
        The selection, without distances.

    Raises:
        ValueError: The targets do not have two axes, are not one-hot, or leave a class without a
            point.

    Also raises the errors of `base.check_budget`, and ValueError for targets that are not finite or
    options that are not allowed.
    """
    targets = np.asarray(targets)
    labelled = base.check_budget(len(targets), n_selected, n_members, labelled)
    _checks.choice("task", task, TASKS)
    turn = ALLOCATIONS[_checks.choice("allocation", allocation, ALLOCATIONS)]
    _checks.integer("n_strata", n_strata, minimum=1)
    _checks.finite("targets", targets)
    if targets.ndim != 2:
        raise ValueError(
            f"targets must have the shape (n_pool, n_outputs): received {targets.shape}."
        )
    strata = _classes(targets) if task == "classification" else _quantile_bins(targets, n_strata)
    sizes = np.bincount(strata)

    def choose(seed: Int[np.ndarray, " words"]) -> list[int]:
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(strata))
        order = order[~np.isin(order, labelled)]
        queues = [iter(order[strata[order] == k].tolist()) for k in range(len(sizes))]
        counts = np.bincount(strata[labelled], minlength=len(sizes))
        indices = list(labelled)
        for step in range(len(labelled) + 1, n_selected + 1):
            turns = turn(sizes, counts, step)
            tied = np.flatnonzero(turns == turns.min())
            stratum = tied[generator.integers(len(tied))]
            indices.append(next(queues[stratum]))
            counts[stratum] += 1
        return indices

    seeds = np.asarray(jax.random.key_data(seeding.member_keys(key, n_members)))
    return base.without_distances(np.array([choose(seed) for seed in seeds]))


def learning_problem(
    targets: ArrayLike | None, task: str | None, n_pool: int
) -> tuple[np.ndarray | None, str | None]:
    """Return targets as (n_pool, n_outputs), one-hot for classes, and the task.

    Args:
        targets: (n_pool,) or (n_pool, n_outputs) targets, or None.
        task: One of `TASKS`. None takes whole numbers or texts in one column, and rows that are
            one-hot, for classes.
        n_pool: Number of points.

    Raises:
        ValueError: The targets do not have one row for each point.

    Also raises TypeError or ValueError for an unknown task.
    """
    if task is not None:
        _checks.choice("task", task, TASKS)
    if targets is None:
        return None, task
    table = np.asarray(targets)
    if table.ndim not in (1, 2) or len(table) != n_pool:
        raise ValueError(
            f"targets must have a row for each of the {n_pool} points: "
            f"received the shape {table.shape}."
        )
    table = table.reshape(n_pool, -1)
    if task is None:
        task = "classification" if _are_classes(table) else "regression"
    if task == "classification" and table.shape[1] == 1:
        classes, numbers = np.unique(table[:, 0], return_inverse=True)
        table = np.eye(len(classes))[numbers]
    return table, task


def _are_classes(targets: np.ndarray) -> bool:
    if targets.shape[1] == 1:
        return targets.dtype.kind in "biuUS"
    return bool(np.isin(targets, (0, 1)).all() and (targets.sum(axis=1) == 1).all())


def _proportional(
    sizes: np.ndarray, counts: np.ndarray, step: int
) -> Float[np.ndarray, " n_strata"]:
    """Return the step at which each stratum would lag too far, in units of n_pool.

    It is infinite for a stratum to which a point now would come too early. All numbers are integers
    up to the last division, so that ties are exact.
    """
    n_pool = sizes.sum()
    inverse_slack = max(2 * len(sizes) - 2, 1)
    lags = step * sizes - counts * n_pool
    return np.where(
        inverse_slack * lags >= n_pool, (inverse_slack * (counts + 1) - 1) / sizes, np.inf
    )


def _equal(sizes: np.ndarray, counts: np.ndarray, step: int) -> Float[np.ndarray, " n_strata"]:
    return np.where(counts < sizes, counts, np.inf)


ALLOCATIONS = {"proportional": _proportional, "equal": _equal}


def _classes(targets: np.ndarray) -> Int[np.ndarray, " n_pool"]:
    wrong = np.flatnonzero(
        ((targets != 0) & (targets != 1)).any(axis=1) | (targets.sum(axis=1) != 1)
    )
    if len(wrong):
        raise ValueError(
            f"targets must be one-hot for a classification: point {wrong[0]} has "
            f"{targets[wrong[0]].tolist()}."
        )
    empty = np.flatnonzero(~targets.any(axis=0))
    if len(empty):
        raise ValueError(
            f"Class {empty[0]} has no point in the pool, so it cannot be stratified: "
            f"expected points of all {targets.shape[1]} classes."
        )
    return np.argmax(targets, axis=1)


def _quantile_bins(targets: np.ndarray, n_strata: int) -> Int[np.ndarray, " n_pool"]:
    scores = _first_component(targets.astype(np.float64))
    edges = np.quantile(scores, np.arange(1, n_strata) / n_strata)
    return np.unique(np.searchsorted(edges, scores, side="right"), return_inverse=True)[1]


def _first_component(targets: np.ndarray) -> Float[np.ndarray, " n_pool"]:
    standardised = _scaling.standardise(targets)
    direction = np.linalg.eigh(standardised.T @ standardised)[1][:, -1]
    direction *= np.sign(direction[np.argmax(np.abs(direction))])  # LAPACK leaves the sign open
    return (standardised * direction).sum(axis=1)
