"""Forecast a selection by any method from counts of its work and rates of its parts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import jax
import numpy as np

from collective_variables.cli.forecast import (
    batches,
    cases,
    distillation,
    kernels,
    linearised,
    timing,
)
from collective_variables.selection import base, by_kernel, coverage, registry, rnd, rnd_linearised
from collective_variables.selection.batches import methods
from collective_variables.selection.by_options import distilled

STEPS = cases.STEPS
NUMBERS = cases.NUMBERS
SIMILAR = 2048  # points whose similarities are timed
DOUBLE = cases.DOUBLE
# Sums that facility location computes for each point of the pool, relative to 1 + ln n_selected,
# measured on tables and embeddings of 1000 to 5000 points.
EVALUATIONS = (0.7, 1.2)
CANDIDATES = 20_000  # at most, with which objectives are timed


def forecast(
    method: str,
    problem: registry.Problem,
    budget: registry.Budget,
    options: Mapping[str, Any],
) -> cases.Estimate:
    """Return the estimate of `registry.select_by`."""
    base.check_budget(
        len(problem.inputs), budget.n_selected, budget.n_members, options.get("labelled", ())
    )
    return METHODS[method](method, cases.Case(problem, budget, options))


def _whole(method: str, case: cases.Case) -> cases.Estimate:
    """Return the measured time of the whole selection, which is short."""
    n_numbers = 2 * len(case.problem.inputs) * case.budget.n_members
    return cases.Estimate(
        timing.exactly(timing.seconds_of(lambda: _run(method, case))), 4 * n_numbers
    )


def _run(method: str, case: cases.Case) -> np.ndarray:
    return registry.select_by(method, *case[:2], dict(case.options)).indices


def _steps(method: str, case: cases.Case) -> cases.Estimate:
    """Return the estimate from two short selections on the same points, with equal steps."""
    if case.options.get("kernel") is not None:
        return batches.forecast(method, case)
    points = case.points
    n_few = min(len(points), max(case.budget.n_selected, NUMBERS // points.shape[1]))
    ratio = len(points) / n_few

    def attempt(n_steps: int) -> Callable[[], object]:
        few = cases.few(case, n_few, case.n_labelled + n_steps)
        return lambda: _run(method, few)

    most = min(STEPS, case.n_steps)
    short = timing.Timing(timing.seconds_of(attempt(1)), timing.seconds_of(attempt(1)))
    step = max(0.0, timing.seconds_of(attempt(most)) - short.again) / max(1, most - 1)
    members = case.n_different if method != "k-means++" else case.budget.n_members
    seconds = short.once + ratio * (short.again + members * step * (case.n_steps - 1))
    return cases.Estimate(timing.exactly(seconds), DOUBLE * points.size + 4 * points.nbytes)


def _herding(method: str, case: cases.Case) -> cases.Estimate:
    """Return the estimate from the kernel mean of the pool and from equal steps."""
    n = len(case.points)
    pairs, step, median = _time_similarities("kernel-herding", case)
    seconds = median + pairs + case.n_different * step * case.n_steps
    n_bytes = DOUBLE * case.points.size + 4 * DOUBLE * min(coverage.BLOCK, n**2)
    return cases.Estimate(timing.exactly(seconds), n_bytes)


def _facility_location(method: str, case: cases.Case) -> cases.Estimate:
    """Return the estimate from the similarities of all pairs and the sums over the pool."""
    n = len(case.points)
    pairs, _, median = _time_similarities("facility-location", case)
    row = np.random.default_rng(0).random(n, dtype=np.float32)
    nearest = np.full(n, 0.5)
    gain = timing.repeat(lambda: np.maximum(row - nearest, 0.0).sum())
    n_sums = n * (1 + math.log(max(1, case.n_steps))) + 2 * case.n_steps
    ends = (median + pairs + case.n_different * share * n_sums * gain for share in EVALUATIONS)
    n_bytes = 4 * n**2 + 4 * DOUBLE * min(coverage.BLOCK, n**2) + DOUBLE * case.points.size
    return cases.Estimate(timing.Seconds(*ends), n_bytes)


def _time_similarities(method: str, case: cases.Case) -> tuple[float, float, float]:
    """Return the seconds of all pairs, a step on the whole pool, and the median distance."""
    points = case.points
    n_few = max(2, min(len(points), SIMILAR, NUMBERS // points.shape[1]))
    bandwidth = case.option("bandwidth", None)
    median = 0.0
    if bandwidth is None:
        tried = points[: min(n_few, 300)]
        median = timing.seconds_of(lambda: coverage.median_distance(tried))
        bandwidth = coverage.median_distance(tried)
        largest = min(len(points), coverage.MEDIAN_POINTS)
        median *= math.comb(largest, 2) / math.comb(len(tried), 2)
    few = cases.few(case, n_few, 1)
    few = few._replace(options={"bandwidth": bandwidth})
    most = few._replace(budget=registry.Budget(min(STEPS, n_few), 1))
    pairs = timing.time_call(lambda: _run(method, few)).again
    step = max(0.0, timing.seconds_of(lambda: _run(method, most)) - pairs)
    step /= max(1, most.budget.n_selected - 1)
    ratio = len(points) / n_few
    return pairs * ratio**2, step * ratio, median


def _linearised(method: str, case: cases.Case) -> cases.Estimate:
    names = [field.name for field in fields(rnd_linearised.LinearisedRNDSettings)]
    settings = rnd_linearised.LinearisedRNDSettings(
        **{name: case.options[name] for name in names if name in case.options}
    )
    n, n_selected = len(case.points), case.budget.n_selected
    prepared, points = timing.timed(
        lambda: rnd_linearised.network_inputs(case.problem.inputs, settings, n_selected)
    )
    draws = settings.criterion == "reduction" and settings.n_reference < n
    is_random = settings.first == "random" and not case.n_labelled
    seconds = linearised.forecast(
        points,
        settings,
        n_selected=n_selected,
        n_labelled=case.n_labelled,
        n_different=case.budget.n_members if draws or is_random else 1,
        classes=_classes(case),
    )
    n_bytes = points.dtype.itemsize * settings.numbers_held(n, n_selected, points.shape[1])
    return cases.Estimate(seconds + timing.exactly(prepared), n_bytes)


def _rnd(method: str, case: cases.Case) -> cases.Estimate:
    names = [field.name for field in fields(rnd.RNDSettings)]
    settings = rnd.RNDSettings(**{name: case.options[name] for name in names & case.options.keys()})
    network = distilled.representation(
        case.problem.network, case.options.get("layers"), case.options.get("width")
    )
    seconds = distillation.forecast(
        case.problem.inputs,
        network,
        settings,
        n_selected=case.budget.n_selected,
        n_labelled=case.n_labelled,
        n_members=case.budget.n_members,
        classes=_classes(case),
    )
    return cases.Estimate(seconds, distillation.n_bytes(case.problem.inputs, network))


def _classes(case: cases.Case) -> np.ndarray | None:
    is_needed = case.options.get("per_class", False)
    return np.argmax(case.problem.targets, axis=1) if is_needed else None


def _by_kernel(method: str, case: cases.Case) -> cases.Estimate:
    """Return the estimate from the kernel of all points and the choice, for every member."""
    points, network = case.problem.inputs, case.problem.network
    n, k = len(points), case.budget.n_selected
    kernel = kernels.forecast_kernel(network, points, is_diagonal=method == "trace")
    key = jax.random.key(case.problem.seed)
    drawn = timing.time_call(lambda: by_kernel.initialise(network, key, points[:1]))
    kernel = kernel._replace(once=kernel.once + drawn.once, each=kernel.each + drawn.again)
    members = case.budget.n_members
    if method == "trace":
        return cases.Estimate(kernel.seconds(members), kernel.n_bytes)
    few = min(n, kernels.FEW)
    block = np.eye(few) + 0.5
    ends = {
        "log-determinant": _pivots,
        "best-entropy": _entropies,
        "greedy": _greedy,
    }[method](case, block)
    n_more = 8 * (k + 128) * n if method == "log-determinant" else 0
    return cases.Estimate(kernel.seconds(members) + ends * members, kernel.n_bytes + n_more)


def _pivots(case: cases.Case, block: np.ndarray) -> timing.Seconds:
    """Return the seconds of the Cholesky factorisation, in the blocks of linearised RND."""
    return linearised.forecast_factorisation(
        len(case.points), case.n_labelled, case.budget.n_selected
    )


def _entropies(case: cases.Case, block: np.ndarray) -> timing.Seconds:
    """Return the seconds of the eigenvalues of `n_sets` subsets of every size."""
    n_sets = case.option("n_sets", 100)
    sizes = sorted({*case.option("sizes", ()), case.budget.n_selected})
    total = 0.0
    for size in sizes:
        tried = min(size, len(block))
        sets = np.tile(np.arange(tried), (min(4, n_sets), 1))
        with kernels.one_thread():
            seconds = timing.time_call(lambda: by_kernel.set_entropies(block, sets)).again
        total += seconds / len(sets) * n_sets * (size / tried) ** 3
    return timing.exactly(total)


def _greedy(case: cases.Case, block: np.ndarray) -> timing.Seconds:
    """Return the seconds of the objectives of all candidates at every size."""
    n, first = len(case.points), case.n_labelled
    n_candidates = min(n, case.option("n_candidates", n))
    # Equal numbers by broadcasting take no memory.
    kernel = np.broadcast_to(np.float32(0.5), (n, n))
    candidates = np.arange(min(n_candidates, CANDIDATES))
    sizes = sorted({max(1, first), max(1, (first + case.budget.n_selected) // 2)})
    sizes.append(max(sizes[-1] + 1, case.budget.n_selected - 1))
    seconds = []
    with kernels.one_thread():
        for size in sizes:
            chosen = list(range(min(size, n)))
            again = timing.repeat(lambda: by_kernel.with_each(kernel, chosen, candidates))
            seconds.append(again * n_candidates / len(candidates))
        pairs = timing.repeat(
            lambda: by_kernel.best_pair_scores(
                block, np.arange(len(block)), lambda entropy, _: entropy
            )
        )
    steps = np.arange(max(1, first), case.budget.n_selected)
    total = float(np.interp(steps, sizes, seconds).sum())
    if not first:
        total += pairs * (n_candidates / len(block)) ** 2
    return timing.exactly(total)


METHODS: dict[str, Callable[[str, cases.Case], cases.Estimate]] = {
    "random": _whole,
    "stratified": _steps,
    "rnd": _rnd,
    "rnd-linearised": _linearised,
    "k-center": _steps,
    "k-means++": _steps,
    "kernel-herding": _herding,
    "facility-location": _facility_location,
    "log-determinant": _by_kernel,
    "trace": _by_kernel,
    "best-entropy": _by_kernel,
    "greedy": _by_kernel,
    **dict.fromkeys(methods.METHODS, batches.forecast),
    "margin": _whole,
    "predictive-entropy": _whole,
    "ensemble-variance": _whole,
}
"""The forecast of each method of `registry.SELECTION_METHODS`."""
