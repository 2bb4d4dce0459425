"""Choose points by RND with a linearised predictor: re-training becomes linear algebra."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks, _memory
from collective_variables.ensembles import execution, seeding
from collective_variables.kernels import infinite_width
from collective_variables.selection import _cholesky, base

FIRST = ("best", "random")
DOUBLE_UP_TO = 4096  # largest pool for which the computation is in float64
ENTRIES = 2**23  # entries of the kernel that are computed at once
NARROWEST = 64  # blocks of the kernel are padded to this and its doubles, so that few are compiled


@dataclass(frozen=True)
class LinearisedRNDSettings(_cholesky.Rule):
    """Set the network whose predictor is linearised, and the rule by which points are chosen.

    `rnd_linearised.select` describes the method. Let K be the neural tangent kernel of an
    infinitely wide network, and T the points chosen so far. The covariance that remains is
    C = K − K(:, T) K(T, T)⁻¹ K(T, :), and d(x) = C(x, x) is the distance of a point.

    Args:
        criterion: "reduction" chooses the point with the largest mean over y of C(x, y)² / d(x),
            times d(x) to the power `emphasis`. By that mean the pool's mean distance falls once x
            is known. "largest" chooses the point with the largest d(x), like Algorithm 1 of
            Tovey et al. 2023.
        emphasis: The power of d(x), at least 0.
        n_reference: Number of points y that the mean is taken over, drawn anew after half as many
            choices. The choice is exact for pools that are not larger.
        n_candidates: Number of points that a block of choices is made among: those with the best
            scores when it begins. The choice is exact for pools that are not larger.
        block_size: Largest number of choices between two updates of all points.
        depth: Number of hidden layers of the network, dense, in the "ntk" parametrisation.
        activation: One of `kernels.infinite_width.ANALYTIC_ACTIVATIONS`.
        b_std: Standard deviation of the biases; None for no biases.
        first: "best" chooses the first point by the rule, so all members have one subset if the
            choice is exact. "random" draws it for every member; like labelled points it then has no
            distance.
        normalisation: Normalisation of the points, "none", "standard" or "unit" as in
            `RNDSettings`.
        threshold: Stop before a point whose distance is at most this; None for never.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of range or not among the choices.

    Example:
        >>> import collective_variables as cv
        >>> settings = cv.LinearisedRNDSettings(depth=2, normalisation="standard")
        >>> settings.criterion, settings.is_exact(n_pool=1000)
        ('reduction', True)
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
        """Return whether each choice from a pool of this size is the best by the rule."""
        return self.criterion == "largest" or n_pool <= min(self.n_reference, self.n_candidates)

    def numbers_held(self, n_pool: int, n_selected: int, n_features: int) -> int:
        """Return how many numbers `select` holds at its peak.

        Next to `numbers_per_point` these are the points, twice, and two blocks of the kernel: one
        that is computed with the copies of its points, and that of the candidates.
        """
        n_rows = 1 << (min(self.n_reference, n_pool) - 1).bit_length()
        block = min(rows_at_once(n_pool), n_rows) * (3 * n_pool + 2 * n_features)
        n_candidates = min(self.n_candidates, n_pool)
        candidates = n_candidates * (6 * n_candidates + 2 * n_features)
        per_point = self.numbers_per_point(n_pool, n_selected)
        return n_pool * (per_point + 2 * n_features) + block + candidates

    def numbers_per_point(self, n_pool: int, n_selected: int) -> int:
        """Return how many numbers `select` holds for each point of a pool of this size.

        These are its rows of the Cholesky factor, of the reference and of a block.
        """
        return n_selected + min(self.n_reference, n_pool) + 2 * self.block_size


def select(
    pool: Float[Array, "n_pool ..."],
    settings: LinearisedRNDSettings = LinearisedRNDSettings(),
    /,
    *,
    n_selected: int | None = None,
    key: PRNGKeyArray,
    n_members: int = 1,
    labelled: Sequence[int] = (),
    classes: Int[np.ndarray, " n_pool"] | None = None,
    progress: str = "",
) -> base.Selection:
    """Choose points by random network distillation with a linearised predictor of infinite width.

    Gradient descent changes the outputs of an infinitely wide network like those of its
    linearisation (Jacot et al. 2018; Lee et al. 2019), with the neural tangent kernel K. Draw a
    target F and a predictor G from that linearisation with independent Gaussian parameters, and
    train G to the end on the chosen points T. The distance of a point x is the squared difference
    of F and G. Its mean over all pairs of such networks, or over infinitely many outputs of one
    pair, is twice the variance that a Gaussian process with the kernel K has at x given T (He,
    Lakshminarayanan, Teh 2020). `distances` are those variances. Nothing is trained or drawn, and
    each further point costs one row of a Cholesky factor.

    Args:
        pool: (n_pool, ...) points, which are flattened.
        settings: The network and the rule.
        n_selected: Number of points of each member, labelled ones included; None, with a threshold,
            for the whole pool at most.
        key: A JAX key. It draws what differs between members: the first point if it is random, and
            the reference of a pool with more points than `n_reference`.
        n_members: Number of members.
        labelled: Rows of the pool that count as chosen. They come first, without a distance.
        classes: (n_pool,) integers from 0; classes then take turns, as in `rnd.select`.
        progress: Text in front of a progress bar, which also says whether the choice is exact; ""
            for no bar.

    Returns:
        The selection. Exact copies of a point have the distance 0 once one of them is chosen. The
        computation is in float64 for pools of up to 4096 points, and in float32 for larger ones.

    Raises ValueError for a pool that is not finite or too small, and MemoryError if the numbers of
    `numbers_per_point` do not fit the free memory.
    """
    points = np.asarray(pool)
    n_selected = base.size_of_subsets(len(points), n_selected, settings.threshold)
    labelled = base.check_budget(len(points), n_selected, n_members, labelled)
    points = network_inputs(points, settings, n_selected)
    turn = find_turn(classes, len(points))
    kernel = build_kernel(points, settings)
    diagonal = _diagonal(kernel, len(points), points.dtype)
    begins_at_random = settings.first == "random" and not labelled
    draws_references = settings.criterion == "reduction" and settings.n_reference < len(points)
    # Members that draw nothing are equal, so only one of them is computed.
    n_different = n_members if begins_at_random or draws_references else 1
    member_keys = np.asarray(jax.random.key_data(seeding.member_keys(key, n_different)))
    description = progress and f"{progress} ({_exactness(settings, len(points))})"
    n_steps = n_different * (n_selected - len(labelled))
    work = _work(settings, len(points), n_steps // n_different, n_selected)
    with execution.Progress(description, n_steps, "points", work) as bar:

        def choose(member_key: Int[np.ndarray, " words"]) -> _cholesky.Pivots:
            generator = np.random.default_rng(member_key)
            known = [int(generator.integers(len(points)))] if begins_at_random else labelled
            bar.advance(len(known) - len(labelled))
            return _cholesky.pivots(
                kernel,
                diagonal,
                settings,
                n_selected=n_selected,
                generator=generator,
                known=known,
                turn=turn,
                threshold=settings.threshold,
                advance=bar.advance,
            )

        members = [choose(member_key) for member_key in member_keys]
    return _stack(members * (n_members // n_different), n_selected)


def _work(
    settings: LinearisedRNDSettings, n_pool: int, n_steps: int, n_selected: int
) -> execution.Work:
    """Return the work of the first choices of all members, one after another."""
    single = _cholesky.expected_work(settings, n_pool, n_selected - n_steps, n_selected)
    whole = single(n_steps)
    return lambda count: count // n_steps * whole + single(count % n_steps)


def network_inputs(
    points: Float[np.ndarray, "n_pool ..."], settings: LinearisedRNDSettings, n_selected: int
) -> Float[np.ndarray, "n_pool n_features"]:
    """Return the points flattened and normalised, in the dtype of the computation.

    Raises the errors of `select`.
    """
    _checks.finite("pool", points)
    dtype = np.dtype(np.float64 if len(points) <= DOUBLE_UP_TO else np.float32)
    n_numbers = settings.numbers_per_point(len(points), n_selected) * len(points)
    _memory.check(f"Selecting {n_selected} of {len(points)} points", n_numbers * dtype.itemsize)
    with jax.enable_x64(dtype == np.float64):
        # In float64 first: in float32 a large offset would leave few digits.
        flat = points.reshape(len(points), -1).astype(np.float64)
        flat = np.asarray(base.normalise(flat, settings.normalisation)).astype(dtype)
        infinite_width.check_range(
            "pool",
            flat,
            n_hidden=settings.depth,
            activation=settings.activation,
            b_std=settings.b_std,
        )
    return flat


def find_turn(classes: Int[np.ndarray, " n_pool"] | None, n_pool: int) -> _cholesky.Turn:
    """Return the function that finds the points which may be chosen next."""
    if classes is None:
        return lambda unused: unused
    return partial(base.in_turn, base.membership(classes, n_pool))


def _exactness(settings: LinearisedRNDSettings, n_pool: int) -> str:
    if settings.is_exact(n_pool):
        return "exact"
    return f"{settings.n_candidates} candidates, {settings.n_reference} references"


def build_kernel(
    points: Float[np.ndarray, "n_pool n_features"], settings: LinearisedRNDSettings
) -> _cholesky.Kernel:
    """Return K between rows of the pool, computed in blocks of few different shapes."""
    layers = ["dense 1"] * (settings.depth + 1)  # the limit has no widths
    kernel_function = infinite_width.infinite_width_kernel(
        layers, activation=settings.activation, b_std=settings.b_std
    )

    def padded(rows: np.ndarray) -> Float[np.ndarray, "n_padded n_features"]:
        size = max(NARROWEST, 1 << (len(rows) - 1).bit_length())
        return points[np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])]

    def kernel(rows: np.ndarray, columns: np.ndarray | None) -> Float[np.ndarray, "n1 n2"]:
        n2 = len(points) if columns is None else len(columns)
        result = np.empty((len(rows), n2), points.dtype)
        with jax.enable_x64(points.dtype == np.float64):
            x2 = jnp.asarray(points if columns is None else padded(columns))
            at_once = rows_at_once(len(x2))
            for start in range(0, len(rows), at_once):
                part = rows[start : start + at_once]
                # Points with many features are large, so they are not copied without need.
                is_same = columns is rows and len(part) == len(rows)
                block = kernel_function(x2 if is_same else jnp.asarray(padded(part)), x2)
                result[start : start + at_once] = block[: len(part), :n2]
        return result

    return kernel


def rows_at_once(n_columns: int) -> int:
    """Return how many rows of the kernel are computed together, for this number of columns."""
    return max(NARROWEST, 1 << max(ENTRIES // n_columns, 1).bit_length() - 1)


def _diagonal(
    kernel: _cholesky.Kernel, n_pool: int, dtype: np.dtype
) -> Float[np.ndarray, " n_pool"]:
    starts = range(0, n_pool, NARROWEST)
    blocks = [np.arange(start, min(start + NARROWEST, n_pool)) for start in starts]
    return np.concatenate([np.diag(kernel(rows, rows)) for rows in blocks]).astype(dtype)


def _stack(members: Sequence[_cholesky.Pivots], n_selected: int) -> base.Selection:
    """Return all members; −1 and NaN follow the last point of a member that stopped."""
    shape = len(members), n_selected
    arrays = [np.full(shape, -1, np.int64), *(np.full(shape, np.nan) for _ in range(3))]
    for number, member in enumerate(members):
        for array, values in zip(arrays, member):
            array[number, : len(values)] = values
    return base.Selection(*arrays)
