"""Greedy choice of the points that a kernel's predictor knows least of: a pivoted Cholesky
factorisation, in blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from collective_variables import _checks

CRITERIA = ("largest", "reduction")
COLUMNS = 8192  # of a large array that is changed at once
ROUND_OFF = 1000  # machine epsilons of the largest K(x, x) below which nothing is left to know

Rows = Int[np.ndarray, " n_rows"]
Kernel = Callable[[Rows, Rows | None], Float[np.ndarray, "n1 n2"]]
Turn = Callable[[Bool[np.ndarray, " n_pool"]], Bool[np.ndarray, " n_pool"]]


@dataclass(frozen=True)
class Rule:
    """Which point comes next, from d(x), what is not known of x, and C(x, y), what is not known of
    x and y together.

    criterion: "largest", the largest d(x); "reduction", the largest mean over the pool's y of C(x,
        y)² / d(x), by which the pool's mean d falls once x is known, times d(x) to the power
        `emphasis`.
    n_reference: the mean over the pool's other y is one over that many of them, drawn anew after
        half as many choices, as these are made to fit them; exact if there are no more.
    n_candidates: each block of choices is among that many points, those of the largest scores when
        it begins, and ends where another one's was larger then. Exact if there are no more points,
        or if no score rises, as d never does.
    block_size: choices between which what is known of all points is brought up to date, at most.
    """

    criterion: str = "reduction"
    emphasis: float = 0.0
    n_reference: int = 1024
    n_candidates: int = 1024
    block_size: int = 64

    def __post_init__(self) -> None:
        _checks.choice("criterion", self.criterion, CRITERIA)
        _checks.number("emphasis", self.emphasis, minimum=0.0)
        for name in ("n_reference", "n_candidates", "block_size"):
            _checks.integer(name, getattr(self, name), minimum=1)

    def scores(
        self,
        unknown: Float[np.ndarray, " n"],
        squares: Float[np.ndarray, " n"],
        in_reference: Bool[np.ndarray, " n"],
        n_reference: int,
        n_pool: int,
    ) -> Float[np.ndarray, " n"]:
        """The scores of points x from d(x), the sum of C(x, y)² over the reference's y, and whether
        x is one of those.
        """
        if self.criterion == "largest":
            return unknown
        # A point's own share of the pool is 1 / n_pool whether it is in the reference or not.
        of_others = np.maximum(squares - np.where(in_reference, unknown**2, 0.0), 0.0)
        mean = (
            of_others / np.maximum(n_reference - in_reference, 1) * (1 - 1 / n_pool)
            + unknown**2 / n_pool
        )
        positive = np.where(unknown > 0, unknown, 1.0)
        return np.where(unknown > 0, mean * positive ** (self.emphasis - 1.0), 0.0)


class Pivots(NamedTuple):
    """The chosen points in order, d(x) of each when it was chosen, and the pool's mean and largest
    d at that time.
    """

    indices: Int[np.ndarray, " n_chosen"]
    distances: Float[np.ndarray, " n_chosen"]
    mean_distances: Float[np.ndarray, " n_chosen"]
    max_distances: Float[np.ndarray, " n_chosen"]


class Residual:
    """The residual kernel C = K − K(:, T) K(T, T)⁻¹ K(T, :) of the points T that are known, as far
    as it is needed.

    kernel(rows, columns): K between rows of the pool; None stands for the whole pool. diagonal:
    K(x, x).
    variances: C(x, x), d(x) of the rule. reference: C(rows, pool) of the rows last passed to
    `refer`.

    Of T rows of the Cholesky factor F of K(T, T) are held over the pool, C = K − FᵀF: n_selected
    n_pool numbers in the dtype of `diagonal`. A point that can't be told from those known, to
    round-off, adds a row of zeros.
    """

    def __init__(self, kernel: Kernel, diagonal: Float[np.ndarray, " n_pool"], n_selected: int):
        self._kernel, self._dtype = kernel, diagonal.dtype
        self._factor, self.n_known = np.empty((n_selected, len(diagonal)), self._dtype), 0
        self.variances = diagonal.copy()
        self.floor = ROUND_OFF * np.finfo(self._dtype).eps * diagonal.max()
        self.refer(np.empty(0, np.int64))

    def refer(self, rows: Rows) -> None:
        """Hold C between these rows and the pool from now on."""
        self.in_reference = np.zeros(len(self.variances), bool)
        self.in_reference[rows] = True
        self._reference_rows, self.reference = (
            rows,
            np.empty((len(rows), len(self.variances)), self._dtype),
        )
        if len(rows):
            self.reference[:] = self._kernel(rows, None)
            self._subtract(self._factor[: self.n_known])

    def _subtract(self, factor: Float[np.ndarray, "n_rows n_pool"]) -> None:
        """Take the product of these rows of the factor out of the reference."""
        of_reference = factor[:, self._reference_rows].T
        for start in range(0, factor.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            self.reference[:, columns] -= of_reference @ factor[:, columns]

    def left(self, variances: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """These with 0 for what is nothing but round-off."""
        return np.where(variances > self.floor, variances, 0.0)

    def among(self, rows: Rows) -> Float[np.ndarray, "n_rows n_rows"]:
        """C between these rows of the pool."""
        known = self._factor[: self.n_known, rows]
        return np.array(self._kernel(rows, rows), self._dtype) - known.T @ known

    def learn(self, rows: Rows) -> Float[np.ndarray, "n_rows n_pool"]:
        """Add these points to T, and return by how much each lets all variances fall."""
        known = self._factor[: self.n_known]
        new = self._factor[self.n_known : self.n_known + len(rows)]
        new[:] = self._kernel(rows, None) - known[:, rows].T @ known
        for number, row in enumerate(rows):
            new[number] -= new[:number, row] @ new[:number]
            new[number] *= 1.0 / np.sqrt(new[number, row]) if new[number, row] > self.floor else 0.0
        if len(self.reference):
            self._subtract(new)
        falls = new**2
        self.variances = self.left(self.variances - falls.sum(axis=0))
        self.n_known += len(rows)
        return falls


def pivots(
    kernel: Kernel,
    diagonal: Float[np.ndarray, " n_pool"],
    rule: Rule = Rule(),
    /,
    *,
    n_selected: int,
    generator: np.random.Generator,
    given: Sequence[int] = (),
    turn: Turn = lambda unused: unused,
    threshold: float | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Pivots:
    """Choose points of a pool one after another, each by what the kernel's predictor has not learnt
    from those before.

    The predictor interpolates: of a function h it leaves h(x) − K(x, T) K(T, T)⁻¹ h(T). C is the
    covariance of what it leaves, over all h of a Gaussian process with the kernel K, and d(x) =
    C(x, x) the mean square. By the rule "largest" this is the Cholesky factorisation with pivoting
    (Fine, Scheinberg 2001), the largest increase of ln det K(T, T) in every step; by "reduction"
    with the emphasis 0 the greedy Nyström approximation (Farahat et al. 2011) and the active
    learning of Cohn (1996), with 1 the column of C of the largest norm.

    kernel, diagonal: see `Residual`; the dtype of all is that of `diagonal`.
    generator: draws the references, unless they are the whole pool.
    given: the first points; what is not known of them doesn't matter and is NaN.
    turn(unused): which of the unused points may be chosen next, some at least. Of points with the
        same kernel the first row is.
    threshold: stop before a point whose d(x) is at most this.
    advance(count): called when so many more are chosen.
    """
    residual = Residual(kernel, diagonal, n_selected)
    unused = np.ones(len(diagonal), bool)
    unused[list(given)] = False
    for start in range(0, len(given), rule.block_size):
        residual.learn(np.array(given[start : start + rule.block_size]))
    indices, history = list(given), [np.full((len(given), 3), np.nan)]
    stopped, n_referred = False, None
    while len(indices) < n_selected and not stopped:
        if rule.criterion == "reduction" and _is_used_up(
            rule, len(diagonal), n_referred, len(indices)
        ):
            residual.refer(_reference(rule, len(diagonal), generator))
            n_referred = len(indices)
        limit = min(rule.block_size, n_selected - len(indices))
        rows, distances, stopped = _block(residual, rule, unused, turn, limit, threshold)
        if rows:
            before = residual.variances
            falls = np.cumsum(residual.learn(np.array(rows)), axis=0, dtype=np.float64)
            left = np.maximum(before - np.concatenate([np.zeros_like(falls[:1]), falls[:-1]]), 0.0)
            history.append(np.stack([distances, left.mean(axis=1), left.max(axis=1)], axis=1))
            indices += rows
            advance(len(rows))
    return Pivots(np.array(indices, np.int64), *np.concatenate(history).T)


def _is_used_up(rule: Rule, n_pool: int, n_referred: int | None, n_chosen: int) -> bool:
    """Whether a reference must be drawn, `n_referred` points having been chosen when the last one
    was.
    """
    return n_referred is None or (
        rule.n_reference < n_pool and 2 * (n_chosen - n_referred) >= rule.n_reference
    )


def _reference(rule: Rule, n_pool: int, generator: np.random.Generator) -> Rows:
    if rule.n_reference >= n_pool:
        return np.arange(n_pool)
    return np.sort(generator.choice(n_pool, rule.n_reference, replace=False))


def _block(
    residual: Residual,
    rule: Rule,
    unused: Bool[np.ndarray, " n_pool"],
    turn: Turn,
    limit: int,
    threshold: float | None,
) -> tuple[list[int], list[float], bool]:
    """At most `limit` further points, now used, d(x) of each, and whether the threshold stopped
    them.
    """
    squares = np.einsum("rn,rn->n", residual.reference, residual.reference)
    sizes = len(residual.reference), len(unused)
    scores = rule.scores(residual.variances, squares, residual.in_reference, *sizes)
    candidates = _candidates(
        np.where(turn(unused), scores, -np.inf),
        np.where(unused, scores, -np.inf),
        rule.n_candidates,
    )
    outside = unused.copy()
    outside[candidates] = False
    in_reference = residual.in_reference[candidates]
    # In float64 from here on, because within a block sums of squares fall by differences.
    parts = (
        residual.among(candidates),
        residual.reference[:, candidates],
        residual.variances[candidates],
    )
    unknown, reference, variances = (part.astype(np.float64) for part in parts)
    squares = np.einsum("rn,rn->n", reference, reference)
    # What the choices of this block teach of candidates and of the reference: rows of the factor,
    # as in Residual.
    learnt, of_reference = (np.zeros((limit, size)) for size in (len(candidates), len(reference)))
    rows, distances = [], []
    while len(rows) < limit:
        may_follow = turn(unused)
        if not may_follow[candidates].any():
            break
        of_candidates = rule.scores(variances, squares, in_reference, *sizes)
        of_candidates = np.where(may_follow[candidates], of_candidates, -np.inf)
        best, step = int(np.argmax(of_candidates)), len(rows)
        # The first is the best of all; were it chosen by round-off, the next block would begin with
        # it again.
        if rows and (scores[outside & may_follow] > of_candidates[best]).any():
            break
        if threshold is not None and variances[best] <= threshold:
            return rows, distances, True
        # Of points that can't be told apart, as copies, round-off would choose one: the first row
        # is.
        apart = (
            variances
            + variances[best]
            - 2.0 * (unknown[best] - learnt[:step, best] @ learnt[:step])
        )
        apart[best] = (
            0.0  # not to round-off, which may exceed the floor where the kernel's own does
        )
        best = int(np.argmax(may_follow[candidates] & (apart <= residual.floor)))
        rows.append(int(candidates[best]))
        distances.append(float(variances[best]))
        unused[rows[-1]] = False
        if variances[best] > 0:
            scale, before = 1.0 / np.sqrt(variances[best]), learnt[:step, best]
            row = learnt[step] = scale * (unknown[best] - before @ learnt[:step])
            of_row = of_reference[step] = scale * (
                reference[:, best] - before @ of_reference[:step]
            )
            # (C − of_row rowᵀ)² summed over the reference, without forming it.
            product = of_row @ reference - (of_reference[:step] @ of_row) @ learnt[:step]
            squares = np.maximum(squares - 2.0 * row * product + (of_row @ of_row) * row**2, 0.0)
            variances = residual.left(variances - row**2)
    return rows, distances, False


def _candidates(next_scores: np.ndarray, scores: np.ndarray, n_candidates: int) -> Rows:
    """The best rows by either score, so that some of them may be next, in ascending order, so that
    ties go to the first.
    """
    either = [np.argsort(-of, kind="stable")[:n_candidates] for of in (next_scores, scores)]
    rows = np.union1d(*either)
    return rows[np.isfinite(scores[rows])]
