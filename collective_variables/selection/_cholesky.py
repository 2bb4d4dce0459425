"""Choose the points that a kernel's predictor knows least about: pivoted Cholesky, in blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from collective_variables import _checks

CRITERIA = ("largest", "reduction")
COLUMNS = 8192  # columns of a large array that are changed at once
# A block makes this share of the choices before it. On tables, embeddings and images the measured
# share was between 0.13 and 0.45.
GROWTH = 0.2
UPDATE = 20  # choices that take as long as the update of all points after a block
ROUND_OFF = 1000  # d(x) below this many machine epsilons of the largest K(x, x) counts as 0

Rows = Int[np.ndarray, " n_rows"]
Kernel = Callable[[Rows, Rows | None], Float[np.ndarray, "n1 n2"]]
Turn = Callable[[Bool[np.ndarray, " n_pool"]], Bool[np.ndarray, " n_pool"]]


@dataclass(frozen=True)
class Rule:
    """Decide which point comes next, by the residual covariance C and its diagonal d(x) = C(x, x).

    Args:
        criterion: "largest" takes the largest d(x). "reduction" takes the largest mean over the
            pool's y of C(x, y)² / d(x), times d(x) to the power `emphasis`. By that mean the pool's
            mean d falls once x is known.
        emphasis: The power of d(x).
        n_reference: Number of other y that the mean is taken over. They are drawn anew after half
            as many choices, because the choices overfit them. The mean is exact for pools that are
            not larger.
        n_candidates: Number of points that a block chooses among: those with the largest scores
            when it begins. The block ends when another point had a larger score at that time. The
            choice is exact if there are no more points, or if no score rises; d never does.
        block_size: Largest number of choices between two updates of all points.
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
        """Return the scores of points x.

        Args:
            unknown: d(x).
            squares: The sum of C(x, y)² over the reference's y.
            in_reference: Whether x is in the reference.
            n_reference: Number of points in the reference.
            n_pool: Number of points in the pool.
        """
        if self.criterion == "largest":
            return unknown
        # A point's own share of the pool is 1 / n_pool whether it is in the reference or not.
        others = np.maximum(squares - np.where(in_reference, unknown**2, 0.0), 0.0)
        mean = (
            others / np.maximum(n_reference - in_reference, 1) * (1 - 1 / n_pool)
            + unknown**2 / n_pool
        )
        positive = np.where(unknown > 0, unknown, 1.0)
        return np.where(unknown > 0, mean * positive ** (self.emphasis - 1.0), 0.0)


class Pivots(NamedTuple):
    """Hold the chosen points in order, and d(x) of each with the pool's mean and largest d then."""

    indices: Int[np.ndarray, " n_chosen"]
    distances: Float[np.ndarray, " n_chosen"]
    mean_distances: Float[np.ndarray, " n_chosen"]
    max_distances: Float[np.ndarray, " n_chosen"]


class Residual:
    """Hold the residual kernel C = K − K(:, T) K(T, T)⁻¹ K(T, :), where T are the known points.

    The points T have rows of the Cholesky factor F of K(T, T), continued over the pool, so that
    C = K − FᵀF. They take n_selected · n_pool numbers in the dtype of `diagonal`. A point that
    equals a known point, up to round-off, adds a row of zeros.

    Args:
        kernel: kernel(rows, columns) returns K as a new array; None stands for the whole pool.
        diagonal: K(x, x).
        n_selected: Largest number of known points.

    Attributes:
        factor: F, in the first `n_known` rows.
        variances: C(x, x), which is d(x) of the rule.
        reference: C(rows, pool) of the rows last passed to `refer`.
    """

    def __init__(self, kernel: Kernel, diagonal: Float[np.ndarray, " n_pool"], n_selected: int):
        self._kernel = kernel
        self._dtype = diagonal.dtype
        self.factor = np.empty((n_selected, len(diagonal)), self._dtype)
        self.n_known = 0
        self.variances = diagonal.copy()
        self.floor = ROUND_OFF * np.finfo(self._dtype).eps * diagonal.max()
        self.refer(np.empty(0, np.int64))

    def refer(self, rows: Rows) -> None:
        """Make these rows the reference: hold C between them and the pool from now on."""
        self.in_reference = np.zeros(len(self.variances), bool)
        self.in_reference[rows] = True
        self._reference_rows = rows
        # The old array is dropped first: with many points nothing else is as large.
        self.reference = np.empty((0, len(self.variances)), self._dtype)
        if len(rows):
            reference = self._kernel(rows, None)
            self.reference = np.require(reference, self._dtype, ["C", "W", "O"])
            self._subtract(self.factor[: self.n_known])

    def _subtract(self, factor: Float[np.ndarray, "n_rows n_pool"]) -> None:
        """Subtract the product of these rows of the factor from the reference."""
        reference_factor = factor[:, self._reference_rows].T
        for start in range(0, factor.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            self.reference[:, columns] -= reference_factor @ factor[:, columns]

    def left(self, variances: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return these variances with 0 in place of those that are only round-off."""
        return np.where(variances > self.floor, variances, 0.0)

    def among(self, rows: Rows) -> Float[np.ndarray, "n_rows n_rows"]:
        """Return C between these rows of the pool."""
        known = self.factor[: self.n_known, rows]
        return np.array(self._kernel(rows, rows), self._dtype) - known.T @ known

    def learn(self, rows: Rows) -> Float[np.ndarray, "n_rows n_pool"]:
        """Add these points to T, and return how much each of them lowers all variances."""
        known = self.factor[: self.n_known]
        new = self.factor[self.n_known : self.n_known + len(rows)]
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
    known: Sequence[int] = (),
    turn: Turn = lambda unused: unused,
    threshold: float | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Pivots:
    """Choose points one after another, each by what the predictor has not learnt from the others.

    The predictor interpolates with the kernel K. After the points T its error for a function h is
    h(x) − K(x, T) K(T, T)⁻¹ h(T). C is the covariance of this error over all h of a Gaussian
    process with the kernel K, and d(x) = C(x, x) is its mean square.

    The rule "largest" gives the Cholesky factorisation with pivoting (Fine, Scheinberg 2001), which
    increases ln det K(T, T) most in every step. The rule "reduction" with the emphasis 0 gives the
    greedy Nyström approximation (Farahat et al. 2011) and the active learning of Cohn (1996). With
    the emphasis 1 it takes the column of C with the largest norm.

    Args:
        kernel: K between rows of the pool, as in `Residual`.
        diagonal: K(x, x); its dtype is that of the computation.
        rule: Which point comes next.
        n_selected: Number of points, `known` included.
        generator: Draws the references, unless they are the whole pool.
        known: The first points, which are not chosen; their distances are NaN.
        turn: turn(unused) returns the unused points that may be chosen next, at least one. Among
            points with the same kernel the first row is chosen.
        threshold: Stop before a point whose d(x) is at most this; None for never.
        advance: advance(count) is called after `count` more choices.

    Returns:
        The chosen points and their distances.
    """
    residual = Residual(kernel, diagonal, n_selected)
    unused = np.ones(len(diagonal), bool)
    unused[list(known)] = False
    for start in range(0, len(known), rule.block_size):
        residual.learn(np.array(known[start : start + rule.block_size]))
    indices = list(known)
    history = [np.full((len(known), 3), np.nan)]
    is_stopped = False
    n_referred = None
    while len(indices) < n_selected and not is_stopped:
        if rule.criterion == "reduction" and _is_used_up(
            rule, len(diagonal), n_referred, len(indices)
        ):
            residual.refer(_reference(rule, len(diagonal), generator))
            n_referred = len(indices)
        limit = min(rule.block_size, n_selected - len(indices))
        rows, distances, is_stopped = choose_block(residual, rule, unused, turn, limit, threshold)
        if rows:
            before = residual.variances
            pool = _pool_history(before, residual.learn(np.array(rows)))
            history.append(np.column_stack([distances, pool]))
            indices += rows
            advance(len(rows))
    return Pivots(np.array(indices, np.int64), *np.concatenate(history).T)


def expected_size(rule: Rule, n_pool: int, n_known: int, growth: float = GROWTH) -> int:
    """Return how many choices a block is expected to make: fewer if fewer points are known."""
    if n_pool <= rule.n_candidates:
        return rule.block_size
    return min(rule.block_size, max(1, int(growth * n_known)))


def expected_work(rule: Rule, n_pool: int, first: int, n_selected: int) -> Callable[[int], float]:
    """Return the work of the first choices after `first`, in units of one choice."""
    known = np.arange(first, n_selected)
    sizes = [expected_size(rule, n_pool, int(number)) for number in known]
    work = np.concatenate([[0.0], np.cumsum(1.0 + UPDATE / np.array(sizes, float))])
    return lambda count: float(work[count])


def _pool_history(
    before: Float[np.ndarray, " n_pool"], falls: Float[np.ndarray, "n_rows n_pool"]
) -> Float[np.ndarray, "n_rows 2"]:
    """Return the pool's mean and largest d at the moment when each point of a block was chosen."""
    fallen = np.zeros(len(before))
    history = np.empty((len(falls), 2))
    for number, fall in enumerate(falls):
        left = np.maximum(before - fallen, 0.0)
        history[number] = left.mean(), left.max()
        fallen += fall
    return history


def _is_used_up(rule: Rule, n_pool: int, n_referred: int | None, n_chosen: int) -> bool:
    """Return whether a reference must be drawn, given the choices when the last one was drawn."""
    return n_referred is None or (
        rule.n_reference < n_pool and 2 * (n_chosen - n_referred) >= rule.n_reference
    )


def _reference(rule: Rule, n_pool: int, generator: np.random.Generator) -> Rows:
    if rule.n_reference >= n_pool:
        return np.arange(n_pool)
    return np.sort(generator.choice(n_pool, rule.n_reference, replace=False))


def choose_block(
    residual: Residual,
    rule: Rule,
    unused: Bool[np.ndarray, " n_pool"],
    turn: Turn,
    limit: int,
    threshold: float | None,
) -> tuple[list[int], list[float], bool]:
    """Return at most `limit` chosen points, which are marked as used, and d(x) of each.

    The last value tells whether the threshold stopped the choice.
    """
    squares = np.einsum("rn,rn->n", residual.reference, residual.reference)
    sizes = len(residual.reference), len(unused)
    scores = rule.scores(residual.variances, squares, residual.in_reference, *sizes)
    candidates = best_rows(
        np.where(turn(unused), scores, -np.inf),
        np.where(unused, scores, -np.inf),
        rule.n_candidates,
    )
    outside = unused.copy()
    outside[candidates] = False
    in_reference = residual.in_reference[candidates]
    # In float64 from here on, because within a block sums of squares fall by differences.
    unknown = residual.among(candidates).astype(np.float64)
    reference = residual.reference[:, candidates].astype(np.float64)
    variances = residual.variances[candidates].astype(np.float64)
    squares = np.einsum("rn,rn->n", reference, reference)
    # Rows of the factor, as in Residual, for the candidates and the reference.
    learnt = np.zeros((limit, len(candidates)))
    learnt_reference = np.zeros((limit, len(reference)))
    rows = []
    distances = []
    while len(rows) < limit:
        may_follow = turn(unused)
        if not may_follow[candidates].any():
            break
        candidate_scores = rule.scores(variances, squares, in_reference, *sizes)
        candidate_scores = np.where(may_follow[candidates], candidate_scores, -np.inf)
        best = int(np.argmax(candidate_scores))
        step = len(rows)
        # The first choice is the best of all points. It must not be compared with those outside: if
        # round-off stopped it, the next block would begin with it again.
        if rows and (scores[outside & may_follow] > candidate_scores[best]).any():
            break
        if threshold is not None and variances[best] <= threshold:
            return rows, distances, True
        # Round-off must not decide between points that cannot be told apart, such as copies: take
        # the first row.
        residual_row = unknown[best] - learnt[:step, best] @ learnt[:step]
        apart = variances + variances[best] - 2.0 * residual_row
        apart[best] = 0.0  # exactly, because the kernel's own round-off may exceed the floor
        best = int(np.argmax(may_follow[candidates] & (apart <= residual.floor)))
        rows.append(int(candidates[best]))
        distances.append(float(variances[best]))
        unused[rows[-1]] = False
        if variances[best] > 0:
            scale = 1.0 / np.sqrt(variances[best])
            before = learnt[:step, best]
            row = scale * (unknown[best] - before @ learnt[:step])
            reference_row = scale * (reference[:, best] - before @ learnt_reference[:step])
            learnt[step] = row
            learnt_reference[step] = reference_row
            # The sum of (C − reference_row rowᵀ)² over the reference, without forming C.
            product = (
                reference_row @ reference
                - (learnt_reference[:step] @ reference_row) @ learnt[:step]
            )
            squares = np.maximum(
                squares - 2.0 * row * product + (reference_row @ reference_row) * row**2, 0.0
            )
            variances = residual.left(variances - row**2)
    return rows, distances, False


def best_rows(next_scores: np.ndarray, scores: np.ndarray, n_candidates: int) -> Rows:
    """Return the best rows by either score, ascending, so that ties go to the first row."""
    best_next = np.argsort(-next_scores, kind="stable")[:n_candidates]
    best = np.argsort(-scores, kind="stable")[:n_candidates]
    rows = np.union1d(best_next, best)
    return rows[np.isfinite(scores[rows])]
