"""Forecast the rules for batches: the features of their kernel, and their choices among these.

Work is counted in numbers of features, pairs of points and factors of clusters. Its rates are
measured with points or features of the same width, of which large pools have more.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from collective_variables.cli.forecast import cases, timing
from collective_variables.cli.forecast import kernels as kernel_costs
from collective_variables.ensembles import seeding
from collective_variables.kernels.features import sketches
from collective_variables.networks import parameters
from collective_variables.selection import by_kernel
from collective_variables.selection.batches import _pool, kernels, methods
from collective_variables.selection.batches import features as pivoted
from collective_variables.selection.batches.first_batch import (
    _clusters,
    max_herding,
    prob_cover,
    typiclust,
)
from collective_variables.selection.batches.rules import (
    bait,
    frank_wolfe,
    k_means_plus_plus,
    lcmd,
    max_det,
    max_diag,
    max_dist,
)

FEW = 512  # points whose kernel is factorised
PAIRED = 1024  # points whose pairs are timed
CLUSTERED = 4096  # points that are divided into clusters
# Iterations of k-means relative to those of the clusters that are timed.
ITERATIONS = (0.5, 3.0)
UNEVEN = 4  # factor of the pairs within clusters by which these may differ in size
# Gains that MaxHerding computes for each point of the pool, relative to 1 + ln n_selected, measured
# on normal points of 3 to 50 columns: 2.1.
EVALUATIONS = (0.7, 2.5)

Features = Float[np.ndarray, "n_points n_features"]


class Work(NamedTuple):
    """Work of the features of a kernel.

    Attributes:
        once: Seconds that only the first member takes, such as those of a compilation.
        each: Seconds of the features of each network.
        n_bytes: Bytes at the peak.
        widths: Smallest and largest number of features.
    """

    once: float
    each: timing.Seconds
    n_bytes: int
    widths: tuple[int, int]


def forecast(method: str, case: cases.Case) -> cases.Estimate:
    """Return the estimate of a rule for batches, for all members that choose differently."""
    n, members = len(case.points), case.budget.n_members
    kernel, n_features = case.option("kernel", "linear"), case.option("n_features", None)
    name = kernels.check(
        case.problem.inputs,
        kernel,
        case.problem.network,
        n_features,
        has_params=case.option("params", None) is not None,
    )
    seeding_time = timing.seconds_of(lambda: _draw_seeds(case))  # most of it compiles
    work = _features(name, kernel, case)
    low, high = work.widths
    n_different = members if kernels.is_drawn(kernel) else 1
    draws = "seed" in inspect.signature(RULES[method]).parameters
    n_choices = members if draws else n_different
    tried = _Tried(case, high, is_linear=name == "linear")
    chosen = METHODS[method](method, tried)
    chosen = timing.Seconds(chosen.low * low / high, chosen.high)
    # Features, a copy in their midst, and one that is changed.
    n_bytes = 3 * cases.DOUBLE * n * high + 4 * cases.DOUBLE * _pool.BLOCK
    once = timing.exactly(work.once + seeding_time)
    seconds = once + work.each * n_different + chosen * n_choices
    return cases.Estimate(seconds, max(work.n_bytes, n_bytes))


def _draw_seeds(case: cases.Case) -> object:
    """Draw the seeds of all members, and the key of a sketch, as the selection does."""
    key = seeding.key(case.problem.seed, "selection")
    jax.random.fold_in(key, methods.SKETCH)
    return jax.random.key_data(seeding.member_keys(key, case.budget.n_members))


def _features(name: str, kernel: Any, case: cases.Case) -> Work:
    """Return the work of the features of one member; the name is "" for a matrix or a function."""
    n, points = len(case.points), case.problem.inputs
    if name == "sketch":
        return _sketch(case)
    if name == "linear":
        width = case.points.shape[1]
        return Work(0.0, timing.Seconds(), 0, (width, width))
    default = n if n <= kernels.EXACT_UP_TO else kernels.N_FEATURES
    most = min(n, case.option("n_features", default))
    few = points[:FEW]
    if name == "ntk":
        network = case.problem.network
        whole = kernel_costs.forecast_kernel(network, points)
        once, each, n_bytes = whole
        if n > kernels.EXACT_UP_TO:
            # Columns of chosen points only, but a square has half as many entries to compute.
            each *= min(1.0, 2 * most / n)
            n_bytes = points.dtype.itemsize * n * most
        most = min(most, parameters.n_parameters(network, points))
        factor = np.random.default_rng(0).standard_normal((len(few), len(few)))
        matrix = factor @ factor.T
    else:
        timed = timing.time_call(lambda: _block(name, kernel, case, few))
        matrix = _block(name, kernel, case, few)
        n_entries = n**2 if n <= kernels.EXACT_UP_TO else n * (most + kernel_costs.FEW)
        once, each = timed.once, timed.again * n_entries / len(few) ** 2
        n_bytes = 4 * cases.DOUBLE * n * min(n, most)
    n_known = min(most, len(few))
    seconds, factored = timing.timed(lambda: pivoted.from_kernel(matrix, len(few), n_known))
    rank = factored.features.shape[1]
    # A kernel whose rank is used up among few points has not many more features of all.
    widths = (rank, min(most, 2 * rank)) if rank < n_known else (max(rank, most // 2), most)
    ends = (each + seconds * n / len(few) * (width / rank) ** 2 for width in widths)
    n_bytes += 2 * cases.DOUBLE * n * widths[1]
    return Work(once, timing.Seconds(*ends), n_bytes, widths)


def _block(name: str, kernel: Any, case: cases.Case, few: np.ndarray) -> Float[np.ndarray, "n n"]:
    """Return the kernel of the first points."""
    if name == "infinite-width":
        return np.asarray(kernels.limit(case.problem.network, few))
    if callable(kernel):
        return np.asarray(kernel(few, few))
    rows = np.arange(len(few))
    return np.asarray(kernel)[np.ix_(rows, rows)]


def _sketch(case: cases.Case) -> Work:
    points, network = case.problem.inputs, case.problem.network
    width = case.option("n_features", kernels.N_SKETCHED)
    params = kernel_costs.made_parameters(network, points)
    few, key = points[:FEW], jax.random.key(0)
    timed = timing.time_call(
        lambda: sketches.ntk_features(network.apply, params, jnp.asarray(few), width, key=key)
    )
    drawn = timing.time_call(lambda: by_kernel.initialise(network, key, jnp.asarray(few[:1])))
    each = timing.exactly(timed.again * len(points) / len(few) + drawn.again)
    n_bytes = sketches.TILE_BYTES + points.dtype.itemsize * len(points) * width
    return Work(timed.once + drawn.once, each, n_bytes, (width, width))


class _Tried:
    """Hold what is chosen, and give features of few points on which a rule is timed."""

    def __init__(self, case: cases.Case, width: int, *, is_linear: bool):
        self.case = case
        self.n_points = len(case.points)
        self._width = width
        self._is_linear = is_linear

    def few(self, n_few: int) -> Features:
        """Return features of so many points, or of all if they are fewer.

        They are random numbers unless the points are the features.
        """
        n_few = min(n_few, self.n_points)
        if self._is_linear:
            return self.case.points[:n_few].astype(np.float64)
        return np.random.default_rng(0).standard_normal((n_few, self._width))

    def steps(self, rule: Callable[..., np.ndarray]) -> float:
        """Return the seconds of all steps of a rule whose steps are equal.

        Two short choices with the same labelled points are timed.
        """
        case = self.case
        n_few = max(case.budget.n_selected, cases.NUMBERS // self._width)
        features = self.few(n_few)
        labelled = list(range(case.n_labelled))
        parameters_of_rule = inspect.signature(rule).parameters
        # Arrays have a number for each of all points.
        options = {
            name: value
            for name, value in case.options.items()
            if name in parameters_of_rule and isinstance(value, int | float)
        }
        if "seed" in parameters_of_rule:
            options["seed"] = 0
        most = min(cases.STEPS, case.n_steps)
        short = timing.time_call(lambda: rule(features, 1, labelled, **options)).again
        whole = timing.seconds_of(lambda: rule(features, most, labelled, **options))
        step = max(0.0, whole - short) / max(1, most - 1)
        return (short + step * (case.n_steps - 1)) * self.n_points / len(features)

    def clusters(self) -> timing.Seconds:
        """Return the seconds of k-means with a cluster for each labelled or chosen point."""
        n_clusters = min(max(2, self.case.budget.n_selected), _clusters.MOST, self.n_points)
        features = self.few(CLUSTERED)
        tried = min(n_clusters, len(features))
        timed = timing.Timing(
            timing.seconds_of(lambda: _clusters.k_means(features, tried, 0)),
            timing.seconds_of(lambda: _clusters.k_means(features, tried, 1)),
        )
        ratio = self.n_points / len(features) * n_clusters / tried
        low, high = (timed.again * ratio * share for share in ITERATIONS)
        return timing.Seconds(timed.once + low, timed.once + high)

    def pair(self, call: Callable[[Features, np.ndarray], object]) -> float:
        """Return the seconds of each pair of points in a call for all pairs of few points."""
        features = self.few(PAIRED)
        rows = np.arange(len(features))
        return timing.repeat(lambda: call(features, rows)) / len(features) ** 2


def _step_by_step(method: str, tried: _Tried) -> timing.Seconds:
    return timing.exactly(tried.steps(RULES[method]))


def _typiclust(method: str, tried: _Tried) -> timing.Seconds:
    """Return the seconds of the clusters, and of all distances within those that are chosen."""
    n_neighbours = tried.case.option("n_neighbours", 20)
    pair = tried.pair(lambda features, _: typiclust.mean_distances(features, n_neighbours))
    n_clusters = min(tried.case.budget.n_selected, _clusters.MOST)
    even = tried.n_points**2 / n_clusters
    pairs = timing.Seconds(pair * even, pair * min(tried.n_points**2, UNEVEN * even))
    return tried.clusters() + pairs


def _prob_cover(method: str, tried: _Tried) -> timing.Seconds:
    """Return the seconds of the radius, of the counts in all balls, and of the steps."""
    rows_within = _pool.squares_between
    pair = tried.pair(lambda features, rows: (rows_within(features, rows) <= 1.0).sum(axis=0))
    has_radius = tried.case.option("radius", None) is not None
    radius = timing.Seconds() if has_radius else tried.clusters()
    # Every point is counted once, and once more when it is covered.
    n_passes = (1, 2) if has_radius else (2, 3)
    low, high = (pair * tried.n_points**2 * number for number in n_passes)
    return radius + timing.Seconds(low, high) + timing.exactly(tried.steps(max_dist.max_dist))


def _max_herding(method: str, tried: _Tried) -> timing.Seconds:
    """Return the seconds of the first gains of all points, and of those that are computed anew."""
    bandwidth = tried.case.option("bandwidth", max_herding.BANDWIDTH)

    def gains(features: Features, rows: np.ndarray) -> object:
        nearest = np.zeros(len(features))
        return max_herding._gains(features, rows, nearest, bandwidth)

    n_gains = tried.n_points * (1 + math.log(tried.case.n_steps))
    pair = tried.pair(gains)
    low, high = (pair * tried.n_points * share * n_gains for share in EVALUATIONS)
    return timing.Seconds(low, high)


RULES: dict[str, Callable[..., np.ndarray]] = {
    "max-diag": max_diag.max_diag,
    "max-det": max_det.max_det,
    "max-dist": max_dist.max_dist,
    "bait": bait.bait,
    "frank-wolfe": frank_wolfe.frank_wolfe,
    "lcmd": lcmd.lcmd,
    "k-means++": k_means_plus_plus.k_means_plus_plus,
    "typiclust": typiclust.typiclust,
    "prob-cover": prob_cover.prob_cover,
    "max-herding": max_herding.max_herding,
}
METHODS: dict[str, Callable[[str, _Tried], timing.Seconds]] = {
    **dict.fromkeys(RULES, _step_by_step),
    "typiclust": _typiclust,
    "prob-cover": _prob_cover,
    "max-herding": _max_herding,
}
"""The forecast of the choices of each rule for batches."""
