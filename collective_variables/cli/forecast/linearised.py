"""Forecast the selection by linearised RND: entries of the kernel, and blocks of choices.

The first cost is that of kernel entries, at a rate measured with points of this pool. The second is
that of linear algebra on arrays with a column for each point, timed on arrays of the same rows and
dtype. In a large pool both are measured on some of its points. If the choice is not exact, the
number of choices in a block depends on the data: see `block_sizes`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from collective_variables.cli.forecast import timing
from collective_variables.selection import _cholesky, rnd_linearised

POINTS = 16_384  # at most, on which updates are timed
CANDIDATES = 4096  # at most, among which choices are timed
CHOICES = 17  # in the block that is timed
CALL = 1e-4  # seconds of a call of the kernel, however small
BRIEFLY = 0.02  # seconds for which a short call is repeated
NUMBERS = 2**24  # in the points whose kernel entries are timed
# A block of candidates ends when another point has a larger score: see `_cholesky.GROWTH`.
GROWTH = (0.5, 0.14)
ROWS = rnd_linearised.NARROWEST


class Work(NamedTuple):
    """Counts of the work of one member.

    Attributes:
        entries: Entries of the kernel, with the padding.
        calls: Calls of the kernel.
        blocks: Points known before and choices of every block.
        references: Draws of a reference.
    """

    entries: int
    calls: int
    blocks: list[tuple[int, int]]
    references: int


def block_sizes(
    n_pool: int, n_known: int, n_selected: int, rule: _cholesky.Rule, growth: float
) -> list[int]:
    """Return the number of choices in every block, as the progress bar expects them."""
    sizes = []
    while n_known < n_selected:
        expected = _cholesky.expected_size(rule, n_pool, n_known, growth)
        size = min(expected, n_selected - n_known)
        sizes.append(size)
        n_known += size
    return sizes


def count(
    n_pool: int, n_labelled: int, sizes: Sequence[int], rule: _cholesky.Rule, n_candidates: int
) -> Work:
    """Return the counts of the work of a selection.

    Args:
        n_pool: Number of points.
        n_labelled: Number of labelled points.
        sizes: Number of choices in every block.
        rule: The rule of the choice.
        n_candidates: Candidates of each block; with classes up to twice those of the rule.

    Returns:
        The counts.
    """
    n_reference = min(rule.n_reference, n_pool)
    draws = rule.criterion == "reduction"
    entries = -(-n_pool // ROWS) * ROWS**2
    calls = -(-n_pool // ROWS)
    for start in range(0, n_labelled, rule.block_size):
        size = min(rule.block_size, n_labelled - start)
        entries += padded(size) * n_pool
        calls += 1
    blocks = []
    referred = None
    n_references = 0
    known = n_labelled
    for size in sizes:
        is_used_up = rule.n_reference < n_pool and referred is not None
        if draws and (
            referred is None or (is_used_up and 2 * (known - referred) >= rule.n_reference)
        ):
            referred = known
            n_references += 1
            entries += sum(padded(part) for part in parts(n_reference, n_pool)) * n_pool
            calls += len(parts(n_reference, n_pool))
        among = min(n_candidates, n_pool - known)
        entries += sum(padded(part) for part in parts(among, padded(among))) * padded(among)
        entries += padded(size) * n_pool
        calls += 1 + len(parts(among, padded(among)))
        blocks.append((known, size))
        known += size
    return Work(entries, calls, blocks, n_references)


def padded(n_rows: int) -> int:
    """Return the number of rows to which a block of the kernel is padded."""
    return max(ROWS, 1 << (n_rows - 1).bit_length())


def parts(n_rows: int, n_columns: int) -> list[int]:
    """Return the number of rows in each part of a kernel with these rows and columns."""
    at_once = rnd_linearised.rows_at_once(n_columns)
    return [min(at_once, n_rows - start) for start in range(0, n_rows, at_once)]


class Rates(NamedTuple):
    """Measured seconds.

    Attributes:
        compile: Compilation of the kernel for one shape of points.
        entry: Each entry of the kernel.
        call: Each call of the kernel, however small.
        block: Linear algebra of each block.
        choice: Linear algebra of each choice.
        learning: Each update of all points.
        row: Each point chosen in an update.
        product: Each pair of a point chosen in an update and a point known before.
    """

    compile: float
    entry: float
    call: float
    block: float
    choice: float
    learning: float
    row: float
    product: float


def forecast(
    points: Float[np.ndarray, "n_pool n_features"],
    settings: rnd_linearised.LinearisedRNDSettings,
    /,
    *,
    n_selected: int,
    n_labelled: int,
    n_different: int,
    classes: Int[np.ndarray, " n_pool"] | None,
) -> timing.Seconds:
    """Return the seconds of `rnd_linearised.select` after its points are normalised.

    Args:
        points: The normalised points.
        settings: Settings of the selection.
        n_selected: Number of points of each member; it counts labelled points.
        n_labelled: Number of labelled points.
        n_different: Number of members that are computed.
        classes: The class of each point; None without classes.

    Returns:
        The range of seconds.
    """
    n_pool = len(points)
    rates = measure(points, settings, classes)
    n_candidates = settings.n_candidates * (1 if classes is None else 2)
    ends = [
        _seconds(
            count(
                n_pool,
                n_labelled,
                block_sizes(n_pool, n_labelled, n_selected, settings, growth),
                settings,
                n_candidates,
            ),
            rates,
        )
        for growth in GROWTH
    ]
    n_shapes = 4 if settings.criterion == "reduction" else 3
    once = timing.exactly(n_shapes * rates.compile)
    # A threshold may stop before the second point.
    low = min(ends) if settings.threshold is None else 0.0
    return once + timing.Seconds(low, max(ends)) * n_different


def forecast_factorisation(n_pool: int, n_labelled: int, n_selected: int) -> timing.Seconds:
    """Return the seconds of the choice in `by_kernel.log_determinant`, without its kernel."""
    rule = rnd_linearised.LinearisedRNDSettings(criterion="largest")
    rates = Rates(0.0, 0.0, 0.0, *_linear_algebra(n_pool, np.dtype(np.float64), rule, None))
    ends = []
    for growth in GROWTH:
        sizes = block_sizes(n_pool, n_labelled, n_selected, rule, growth)
        ends.append(_seconds(count(n_pool, n_labelled, sizes, rule, rule.n_candidates), rates))
    return timing.Seconds(min(ends), max(ends))


def _seconds(work: Work, rates: Rates) -> float:
    n_choices = sum(size for _, size in work.blocks)
    products = sum(known * size for known, size in work.blocks)
    n_blocks = len(work.blocks)
    return (
        work.entries * rates.entry
        + work.calls * rates.call
        + n_blocks * (rates.block + rates.learning)
        + n_choices * (rates.choice + rates.row)
        + products * rates.product
    )


def measure(
    points: Float[np.ndarray, "n_pool n_features"],
    settings: rnd_linearised.LinearisedRNDSettings,
    classes: Int[np.ndarray, " n_pool"] | None,
) -> Rates:
    """Return the rates measured for this pool."""
    n_pool = len(points)
    n_rows = max(min(n_pool, ROWS), min(n_pool, POINTS, NUMBERS // points.shape[1]))
    rows = np.arange(min(ROWS, n_rows))
    kernel = rnd_linearised.build_kernel(points[:n_rows], settings)
    timed = timing.time_call(lambda: kernel(rows, None))
    entry = max(0.0, timed.again - CALL) / (padded(len(rows)) * n_rows)
    return Rates(timed.once, entry, CALL, *_linear_algebra(n_pool, points.dtype, settings, classes))


def _linear_algebra(
    n_pool: int,
    dtype: np.dtype,
    settings: rnd_linearised.LinearisedRNDSettings,
    classes: Int[np.ndarray, " n_pool"] | None,
) -> tuple[float, float, float, float, float]:
    """Return the last five rates; in a large pool they are measured on some of its points."""
    # Updates pass over all points, choices over the candidates. The passes of a choice over all
    # points are timed separately.
    n_many, n_few = min(n_pool, POINTS), min(n_pool, CANDIDATES)
    residual = _residual(n_many, dtype, settings)
    few = residual if n_few == n_many else _residual(n_few, dtype, settings)
    block, choice = _time_choices(few, settings, classes)
    reference = residual.reference
    squares = timing.repeat(lambda: np.einsum("rn,rn->n", reference, reference)) / n_many
    block += (n_pool - n_few) * squares + _sorting(n_pool) - _sorting(n_few)
    choice += _passing(n_pool, classes) - _passing(n_few, classes)
    updates = [n_pool / n_many * rate for rate in _time_updates(residual, settings)]
    return (max(0.0, block), max(0.0, choice), *updates)


def _sorting(n: int) -> float:
    """Return the seconds in which the candidates among n points are found."""
    scores = np.random.default_rng(0).random(n)
    return timing.repeat(lambda: _cholesky.best_rows(scores, scores, n), BRIEFLY)


def _passing(n: int, classes: Int[np.ndarray, " n_pool"] | None) -> float:
    """Return the seconds in which a choice is compared with n points."""
    scores, unused = np.zeros(n), np.ones(n, bool)
    turn = rnd_linearised.find_turn(None if classes is None else classes[:n], n)

    def compare() -> np.bool_:
        return (scores[turn(unused) & unused] > 1.0).any()

    return timing.repeat(compare, BRIEFLY)


def _time_choices(
    residual: _cholesky.Residual,
    settings: rnd_linearised.LinearisedRNDSettings,
    classes: Int[np.ndarray, " n_pool"] | None,
) -> tuple[float, float]:
    """Return the seconds of a block and of each of its choices."""
    n = len(residual.variances)
    turn = rnd_linearised.find_turn(None if classes is None else classes[:n], n)

    def choose(limit: int) -> Callable[[], object]:
        return lambda: _cholesky.choose_block(
            residual, settings, np.ones(n, bool), turn, limit, None
        )

    choose(1)()
    block = timing.repeat(choose(1), BRIEFLY)
    whole, (chosen, *_) = timing.timed(choose(min(CHOICES, settings.block_size, n)))
    return block, max(0.0, whole - block) / max(1, len(chosen) - 1)


def _time_updates(
    residual: _cholesky.Residual, settings: rnd_linearised.LinearisedRNDSettings
) -> tuple[float, float, float]:
    """Return the seconds of an update, of each of its points, and of each product."""
    size = settings.block_size
    rows = np.arange(len(residual.variances))

    def learn(size: int) -> float:
        return timing.seconds_of(lambda: residual.learn(rows[:size]))

    learn(size)  # touches the memory first
    one = min(learn(1), learn(1))
    few, known = learn(size), residual.n_known - size
    more = min(learn(size), learn(size))
    row = max(0.0, few - one) / max(1, size - 1)
    product = max(0.0, more - few) / (size * (residual.n_known - size - known))
    row = max(0.0, row - known * product)
    return max(0.0, one - row), row, product


def _residual(
    n: int, dtype: np.dtype, settings: rnd_linearised.LinearisedRNDSettings
) -> _cholesky.Residual:
    """Return a residual of synthetic numbers, in which blocks end at their largest size."""
    generator = np.random.default_rng(0)
    noise = 1e-3 * generator.random((ROWS, n), dtype=np.float32).astype(dtype)

    def kernel(rows: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
        block = noise[np.arange(len(rows)) % ROWS]
        return block if columns is None else block[:, columns]

    diagonal = 1.0 + 0.1 * generator.random(n).astype(dtype)
    diagonal[: settings.n_candidates] += 1.0
    residual = _cholesky.Residual(kernel, diagonal, 2 + 4 * settings.block_size)
    n_reference = min(settings.n_reference, n)
    if settings.criterion == "reduction":
        residual.refer(np.arange(n_reference))
    return residual
