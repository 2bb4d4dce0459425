"""Forecast rounds of labelling: counted trainings, tests and choices, at measured rates."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from collective_variables import _errors
from collective_variables.active_learning import choosing, fitting, labels, rounds
from collective_variables.cli.forecast import cases, kernels, operations, timing, training
from collective_variables.ensembles import batching
from collective_variables.kernels.features import sketches
from collective_variables.selection import registry

FEW = 4096  # points of the pool on which rules choose
PAIRWISE = ("typiclust", "prob-cover", "max-herding")  # their work grows with pairs of points
SLOW = 5.0  # seconds from which a choice is not timed again


class Tried(NamedTuple):
    """Hold what is timed: a split, the plan, and networks with made parameters."""

    network: nn.Module
    split: rounds.Split
    plan: rounds.Plan
    params: Sequence[PyTree[Array]]
    known: labels.Labels

    @property
    def n_batch(self) -> int:
        """The number of rows in a batch."""
        return self.plan.sizes[1] - self.plan.sizes[0]

    @property
    def n_labelled(self) -> int:
        """The number of labelled rows before the middle round."""
        return self.plan.sizes[(len(self.plan.sizes) - 1) // 2]


def forecast(
    network: nn.Module,
    splits: Sequence[rounds.Split],
    rules: Sequence[choosing.Rule],
    plan: rounds.Plan,
    task: str,
) -> cases.Estimate:
    """Return the estimate of `rounds.play`.

    Args:
        network: The network.
        splits: Pool and test points of each repeat, all equally large.
        rules: The rules.
        plan: Numbers of labelled rows, training and seed.
        task: "regression" or "classification".

    Returns:
        The estimate.
    """
    split, most, n_networks = splits[0], plan.sizes[-1], plan.settings.n_networks
    drawn, (params,) = timing.timed(
        lambda: fitting.initialise(
            network, jnp.asarray(split.inputs[:1]), jax.random.split(_key(), 1)
        )
    )
    known = labels.read_labels(split.targets[:most], most, task=task)
    tried = Tried(network, split, plan, [params] * n_networks, known)
    n_choices = len(splits) * (len(plan.sizes) - 1)
    n_tests = len(splits) * len(rules) * len(plan.sizes)
    tests = timing.time_call(lambda: fitting.outputs(network, tried.params, split.test_inputs))
    kernel = kernels.forecast_kernel(network, split.inputs[:most])
    # Kernels of every size are compiled, and all but the largest take less time.
    variables = kernel.once * len(plan.sizes) + kernel.each * n_tests * _mean_square(plan.sizes)
    seconds = drawn * n_networks * len(splits) + tests.once + tests.again * n_tests + variables
    seconds += _trainings(tried, len(splits), len(rules), task)
    sketch = None
    if any(rule.has_kernel for rule in rules):
        sketch = _Sketch(tried)
        seconds += sketch.once
    for rule in rules:
        once, each = _choice(rule, tried, sketch)
        seconds += once + each * n_choices
    n_bytes = kernel.n_bytes
    if sketch is not None:
        n_numbers = len(split.inputs) * choosing.N_FEATURES
        n_bytes = max(n_bytes, sketches.TILE_BYTES + 3 * cases.DOUBLE * n_numbers)
    return cases.Estimate(timing.exactly(seconds), n_bytes)


def _key() -> PRNGKeyArray:
    return jax.random.key(0)


def _mean_square(sizes: Sequence[int]) -> float:
    """Return the mean work of a kernel as a share of that of the largest."""
    return float(np.mean((np.asarray(sizes) / sizes[-1]) ** 2))


def _trainings(tried: Tried, n_repeats: int, n_rules: int, task: str) -> float:
    """Return the seconds of all trainings.

    The largest size is compiled and timed with a part of the steps.
    """
    sizes, settings = tried.plan.sizes, tried.plan.settings
    per_point = operations.per_point(tried.network, tried.params[0], tried.split.inputs)
    per_step = operations.BACKWARD * sizes[-1] * per_point * settings.n_networks
    few = replace(settings, n_epochs=operations.epochs(per_step, settings.n_epochs))

    def fit() -> None:
        with contextlib.suppress(_errors.ComputationError):  # as in the rounds
            fitting.fit(
                tried.network,
                tried.split.inputs[: sizes[-1]],
                tried.known.targets,
                task=task,
                initial=tried.params,
                settings=few,
            )

    timed = timing.time_call(fit)
    counts = trainings(sizes, n_repeats, n_rules)
    widest = max(counts)
    n_whole = sum(
        count * (training.FIXED + (1 - training.FIXED) * width / widest)
        for width, count in counts.items()
    )
    whole = timed.again * settings.n_epochs / few.n_epochs
    return timed.once * len(counts) + whole * n_whole


def trainings(sizes: Sequence[int], n_repeats: int, n_rules: int) -> dict[int, int]:
    """Return the number of trainings of all networks for each width of the compiled programs."""
    counts: dict[int, int] = {}
    for number, size in enumerate(sizes):
        width = batching.bucket(size, fitting.UNBOUNDED, fine=True)
        # The first rows are shared by all rules.
        counts[width] = counts.get(width, 0) + n_repeats * (n_rules if number else 1)
    return counts


class _Sketch:
    """Hold features of few points, the seconds to compile them, and those of the whole pool."""

    def __init__(self, tried: Tried) -> None:
        n_pool = len(tried.split.inputs)
        few = tried.split.inputs[: max(FEW, tried.plan.sizes[-1])]
        single = choosing.Fitted(tried.network, tried.params[:1], tried.known)
        self.first, self.features = timing.timed(
            lambda: choosing.compute_features(few, choosing.Rule(), single, _key())
        )
        again = timing.seconds_of(
            lambda: choosing.compute_features(few, choosing.Rule(), single, _key())
        )
        self.once = max(0.0, self.first - again)
        self.ratio = n_pool / len(few)
        self.each = again * self.ratio * len(tried.params)


def _choice(rule: choosing.Rule, tried: Tried, sketch: _Sketch | None) -> tuple[float, float]:
    """Return the seconds that the choices of a rule take once, and those of each choice."""
    labelled = list(range(tried.n_labelled))
    if rule.has_kernel and sketch is not None:
        each = timing.seconds_of(
            lambda: registry.select(
                sketch.features,
                tried.n_batch,
                method=rule.method,
                labelled=labelled,
                key=_key(),
                kernel="linear",
            )
        )
        return 0.0, sketch.each + each * sketch.ratio ** (1 + (rule.method in PAIRWISE))

    def choose() -> object:
        return choosing.choose(
            tried.split.inputs,
            tried.n_batch,
            rule=rule,
            labelled=labelled,
            fitted=choosing.Fitted(tried.network, tried.params, tried.known),
            key=_key(),
        )

    first = timing.seconds_of(choose)
    if first > SLOW:
        return 0.0, first
    again = timing.seconds_of(choose)
    # Random numbers are compiled for every number of rows.
    n_programs = len(tried.plan.sizes) - 1 if rule.method == "random" else 1
    return max(0.0, first - again) * n_programs, again
