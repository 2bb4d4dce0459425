"""RND with a predictor in its linear regime: re-training is linear algebra, and every target
network counts at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks, _memory
from collective_variables.ensembles import execution, seeding
from collective_variables.kernels import infinite_width
from collective_variables.selection import _cholesky, base

FIRST = ("best", "random")
DOUBLE_UP_TO = 4096  # points of a pool, for which all is computed in float64
ENTRIES = 2**23  # of the kernel, computed at once
NARROWEST = 64  # blocks of the kernel are padded to this and its doubles, so that few are compiled


@dataclass(frozen=True)
class Settings(_cholesky.Rule):
    """The network whose predictor is linearised, and the rule by which points are chosen (see
    `_cholesky.Rule`).

    depth, activation, b_std: hidden layers of a dense network in the "ntk" parametrisation,
    infinitely wide.
    first: the first point is the "best" by the rule, which gives all members one subset where the
        choice is exact, or "random" for every member, and then, like labelled points, without a
        distance.
    normalisation: of the points, as in `rnd.Settings`.
    threshold: stop before a point whose distance is at most this; None for never.
    """

    depth: int = 3
    activation: str = "relu"
    b_std: float | None = None
    first: str = "best"
    normalisation: str = "none"
    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.integer("depth", self.depth, minimum=1)
        _checks.choice("activation", self.activation, infinite_width.ANALYTIC_ACTIVATIONS)
        if self.b_std is not None:
            _checks.number("b_std", self.b_std, minimum=0.0)
        _checks.choice("first", self.first, FIRST)
        _checks.choice("normalisation", self.normalisation, base.NORMALISATIONS)
        if self.threshold is not None:
            _checks.number("threshold", self.threshold, minimum=0.0)

    def is_exact(self, n_pool: int) -> bool:
        """Whether every point is the best of such a pool by the rule, and not by a sample of it."""
        return self.criterion == "largest" or n_pool <= min(self.n_reference, self.n_candidates)

    def held(self, n_pool: int, n_selected: int) -> int:
        """Numbers that `select` holds for each point of such a pool: its rows of the factor, of a
        reference and a block.
        """
        return n_selected + min(self.n_reference, n_pool) + 2 * self.block_size


def select(
    pool: Float[Array, "n_pool ..."],
    settings: Settings = Settings(),
    /,
    *,
    n_selected: int | None = None,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
    classes: Int[np.ndarray, " n_pool"] | None = None,
    progress: str = "",
) -> base.Selection:
    """Choose points of `pool` by random network distillation with a linearised predictor of
    infinite width.

    Of an infinitely wide network gradient descent changes the outputs as that of its linearisation
    does (Jacot et al. 2018; Lee et al. 2019), with the neural tangent kernel K. Let target F and
    predictor G be drawn from that linearisation with independent Gaussian parameters, and G be
    trained to the end on the chosen points T. Then the distance of a point x, the squared
    difference of F and G, is on average over all pairs of such networks, as over infinitely many
    outputs of one pair, twice the variance that a Gaussian process with the kernel K leaves at x
    given T (He, Lakshminarayanan, Teh 2020); `distances` are those variances. Nothing is trained
    and nothing drawn, and each further point costs a row of a Cholesky factor. The criterion
    "largest" chooses like Algorithm 1 of Tovey et al. 2023 the point of the largest distance.

    n_selected, labelled, classes: as in `rnd.select`. Exact copies of a point have the distance 0
    once one is chosen. All is computed in float64 for pools up to 4096 points, in float32 above.
    Members differ in their random numbers: the first point if it is random, and the reference of a
    pool with more points. The progress says whether it is exact.

    Raises ValueError for a pool that is not finite or too small, MemoryError if n_selected times
    the pool doesn't fit.
    """
    points, labelled = np.asarray(pool), [int(row) for row in labelled]
    n_selected = base.budget(len(points), n_selected, n_members, labelled, settings.threshold)
    _checks.finite("pool", points)
    dtype = np.dtype(np.float64 if len(points) <= DOUBLE_UP_TO else np.float32)
    held = settings.held(len(points), n_selected) * len(points)
    _memory.check(f"Selecting {n_selected} of {len(points)} points", held * dtype.itemsize)
    with jax.enable_x64(dtype == np.float64):
        points = np.asarray(
            base.normalise(points.reshape(len(points), -1).astype(dtype), settings.normalisation)
        )
    turn = (
        {}
        if classes is None
        else {"turn": partial(base.in_turn, base.membership(classes, len(points)))}
    )
    kernel = _kernel(points, settings)
    diagonal = _diagonal(kernel, len(points), dtype)
    begins_at_random = settings.first == "random" and not labelled
    differ = begins_at_random or (
        settings.criterion == "reduction" and settings.n_reference < len(points)
    )
    member_keys = np.asarray(
        jax.random.key_data(seeding.member_keys(key, n_members if differ else 1))
    )
    how = (
        "exact"
        if settings.is_exact(len(points))
        else f"{settings.n_candidates} candidates, {settings.n_reference} references"
    )
    with execution.Progress(
        progress and f"{progress} ({how})",
        len(member_keys) * (n_selected - len(labelled)),
        "points",
    ) as bar:

        def run(member_key: Int[np.ndarray, " words"]) -> _cholesky.Pivots:
            generator = np.random.default_rng(member_key)
            given = [int(generator.integers(len(points)))] if begins_at_random else labelled
            bar.advance(len(given) - len(labelled))
            return _cholesky.pivots(
                kernel,
                diagonal,
                settings,
                n_selected=n_selected,
                generator=generator,
                given=given,
                **turn,
                threshold=settings.threshold,
                advance=bar.advance,
            )

        found = [run(member_key) for member_key in member_keys]
    return _joined(found * (1 if differ else n_members), n_selected)


def _kernel(points: Float[np.ndarray, "n_pool n_features"], settings: Settings) -> _cholesky.Kernel:
    """K between rows of the pool, in blocks of few different shapes."""
    layers = ["dense 1"] * (settings.depth + 1)  # the limit has no widths
    of_points = infinite_width.infinite_width_kernel(
        layers, activation=settings.activation, b_std=settings.b_std
    )

    def padded(rows: np.ndarray) -> Float[np.ndarray, "n_padded n_features"]:
        size = max(NARROWEST, 1 << (len(rows) - 1).bit_length())
        return points[np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])]

    def kernel(rows: np.ndarray, columns: np.ndarray | None) -> Float[np.ndarray, "n1 n2"]:
        x2, n2 = (points, len(points)) if columns is None else (padded(columns), len(columns))
        at_once = max(NARROWEST, 1 << max(ENTRIES // len(x2), 1).bit_length() - 1)
        result = np.empty((len(rows), n2), points.dtype)
        with jax.enable_x64(points.dtype == np.float64):
            for start in range(0, len(rows), at_once):
                part = rows[start : start + at_once]
                block = of_points(padded(part), x2)
                result[start : start + at_once] = block[: len(part), :n2]
        return result

    return kernel


def _diagonal(
    kernel: _cholesky.Kernel, n_pool: int, dtype: np.dtype
) -> Float[np.ndarray, " n_pool"]:
    starts = range(0, n_pool, NARROWEST)
    blocks = [np.arange(start, min(start + NARROWEST, n_pool)) for start in starts]
    return np.concatenate([np.diag(kernel(rows, rows)) for rows in blocks]).astype(dtype)


def _joined(found: Sequence[_cholesky.Pivots], n_selected: int) -> base.Selection:
    """All members; behind the last point of one that stopped before are −1 and NaN."""
    shape = len(found), n_selected
    joined = [np.full(shape, -1, np.int64), *(np.full(shape, np.nan) for _ in range(3))]
    for member, of_member in enumerate(found):
        for array, values in zip(joined, of_member):
            array[member, : len(values)] = values
    return base.Selection(*joined)
