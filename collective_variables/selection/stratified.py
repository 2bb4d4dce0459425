"""Stratified random subsets: every class, or every range of targets, gets its share of the
points.
"""

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.ensembles import seeding
from collective_variables.selection import base

TASKS = ("classification", "regression")


def stratified(
    targets: Float[Array, "n_pool n_outputs"],
    *,
    n_selected: int,
    key: PRNGKeyArray,
    n_members: int = 1,
    task: str = "classification",
    allocation: str = "proportional",
    n_strata: int = 10,
) -> base.Selection:
    """Draw points uniformly without replacement within strata that take turns.

    For a classification with one-hot targets the strata are the classes. For a regression they are
    at most `n_strata` quantile bins of the first principal component of the standardised targets;
    equal points share a bin.

    The "proportional" allocation (Tijdeman 1980, "The chairman assignment problem") holds, for
    every n, the count of each of K strata within 1 − 1 / (2 K − 2) of its quota, n times its share
    of the pool; to serve always the stratum that lags most can miss a quota by more than one point.
    The "equal" allocation serves the stratum with the fewest points chosen that has any left. Ties
    are broken at random for every member.

    Raises ValueError for targets that are too few, not finite, or not one-hot, and for a class
    without a point.
    """
    targets = np.asarray(targets)
    base.check_budget(len(targets), n_selected, n_members)
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
        members, counts, indices = (
            [order[strata[order] == k] for k in range(len(sizes))],
            np.zeros_like(sizes),
            [],
        )
        for step in range(1, n_selected + 1):
            turns = turn(sizes, counts, step)
            tied = np.flatnonzero(turns == turns.min())
            stratum = tied[generator.integers(len(tied))]
            indices.append(members[stratum][counts[stratum]])
            counts[stratum] += 1
        return indices

    seeds = np.asarray(jax.random.key_data(seeding.member_keys(key, n_members)))
    return base.without_distances(np.array([choose(seed) for seed in seeds]))


def _proportional(
    sizes: np.ndarray, counts: np.ndarray, step: int
) -> Float[np.ndarray, " n_strata"]:
    """The step at which each stratum would lag too far, in units of n_pool; infinite if a point now
    would be too early.

    In integers up to the last division, so that ties are exact.
    """
    n_pool, inverse_slack = sizes.sum(), max(2 * len(sizes) - 2, 1)
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
            f"targets must be one-hot for a classification: point {wrong[0]} has {targets[wrong[0]].tolist()}."
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
    scales = targets.std(axis=0)
    standardised = (targets - targets.mean(axis=0)) / np.where(scales > 0, scales, 1.0)
    direction = np.linalg.eigh(standardised.T @ standardised)[1][:, -1]
    direction *= np.sign(direction[np.argmax(np.abs(direction))])  # LAPACK leaves the sign open
    return (standardised * direction).sum(axis=1)
