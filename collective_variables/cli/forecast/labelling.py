"""Forecast a choice by trained networks: counted trainings, kernels and choices, measured rates."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from collective_variables import _machine
from collective_variables.active_learning import certificate, choosing, fitting, learner, outlook
from collective_variables.cli.forecast import cases, operations, selections, timing, training
from collective_variables.ensembles import batching
from collective_variables.kernels.features import sketches
from collective_variables.selection import registry

FEW = 2048  # points whose features are computed, and among which rules choose
DRAWS, ALL_DRAWS = (2, 7), 50  # random draws of two short certificates, and of a whole one
# Arrays of features that are held at once: a sum, a copy, and one that a rule changes.
COPIES = 3


class Work(NamedTuple):
    """Describe what is to be done.

    Attributes:
        inputs: (n_pool, ...) scaled inputs.
        targets: (n_pool, n_outputs) targets, NaN where one is unknown.
        labelled: Rows that are labelled, with or without a target.
        rule: The rule; None if networks only predict.
        n_points: Number of rows to choose.
        wants_outlook: Whether an outlook is computed.
        wants_predictions: Whether the pool is predicted.
    """

    inputs: Float[np.ndarray, "n_pool ..."]
    targets: Float[np.ndarray, "n_pool n_outputs"]
    labelled: Sequence[int]
    rule: choosing.Rule | None
    n_points: int
    wants_outlook: bool
    wants_predictions: bool

    @property
    def n_targets(self) -> int:
        """The number of rows with a target."""
        return int((~np.isnan(self.targets).any(axis=1)).sum())


def forecast(
    work: Work, network: nn.Module | Sequence[str] | None, task: str | None, seed: int
) -> cases.Estimate:
    """Return the estimate of what networks do for a choice.

    Args:
        work: What is to be done.
        network: The network, its hidden layers, or None.
        task: "regression" or "classification"; None without targets.
        seed: Random seed.

    Returns:
        The estimate.
    """
    made = {"task": task, "normalisation": "none", "seed": seed}
    tried = learner.ActiveLearner(network, **made)
    # Without targets, parameters are drawn and nothing is trained.
    nothing = np.full(work.targets.shape, np.nan)
    seconds = timing.seconds_of(lambda: tried.fit(work.inputs, nothing))
    if work.n_targets:
        per_point = operations.per_point(tried.network_, tried.params_[0], work.inputs)
        per_step = operations.BACKWARD * work.n_targets * per_point * tried.settings.n_networks
        n_few = operations.epochs(per_step, tried.settings.n_epochs)
        few = replace(tried.settings, n_epochs=n_few)
        tried = learner.ActiveLearner(network, settings=few, **made)
        seconds += _trainings(work, tried, fitting.FitSettings().n_epochs / n_few)
    fitted = choosing.Fitted(tried.network_, tried.params_, tried.labels_)
    estimate = cases.Estimate(timing.exactly(seconds), 0)
    rule = work.rule
    compares = rule is not None and (rule.needs_predictions or rule.has_committee(task))
    if fitted.is_trained and (compares or work.wants_predictions):
        estimate = _sum(estimate, _predictions(work, fitted))
    if rule is not None:
        estimate = _sum(estimate, _choice(work, rule, fitted, seed))
    return estimate


def _sum(first: cases.Estimate, second: cases.Estimate) -> cases.Estimate:
    return cases.Estimate(first.seconds + second.seconds, max(first.n_bytes, second.n_bytes))


def _trainings(work: Work, tried: learner.ActiveLearner, ratio: float) -> float:
    """Return the seconds of all trainings, from those of the first with a part of its steps.

    Args:
        work: What is to be done.
        tried: A learner with few steps.
        ratio: Number of steps of a whole training, relative to these.

    Returns:
        The seconds.
    """

    def fit() -> None:
        tried.fit(work.inputs, work.targets)

    timed = timing.Timing(timing.seconds_of(fit), timing.seconds_of(fit))
    n_networks = tried.settings.n_networks
    keys = jax.random.split(jax.random.key(0), n_networks)
    point = jnp.asarray(work.inputs[:1])
    drawn = timing.seconds_of(lambda: fitting.initialise(tried.network_, point, keys))
    whole = max(0.0, timed.again - drawn) * ratio
    seconds = timed.once + drawn + whole
    n_kinds = 0 if tried.labels_ is None else tried.labels_.n_kinds
    if not work.wants_outlook or work.n_targets < outlook.FEWEST or n_kinds < 2:
        return seconds
    shares = {1 - 1 / outlook.N_FOLDS: outlook.N_FOLDS}
    shares |= {share / outlook.N_HALVES: n * outlook.N_HALVES for share, n in shares.items()}
    width = _width(work.n_targets)
    widths = {_width(max(1, round(work.n_targets * share))): n for share, n in shares.items()}
    rounds = _rounds(n_networks)
    for trained, n_trainings in widths.items():
        size = training.FIXED + (1 - training.FIXED) * trained / width
        seconds += n_trainings * drawn + whole * size * _rounds(n_trainings * n_networks) / rounds
    return seconds + timed.once * len(widths.keys() - {width})


def _width(n_points: int) -> int:
    return batching.bucket(n_points, fitting.UNBOUNDED, fine=True)


def _rounds(n_trainings: int) -> int:
    return -(-n_trainings // _machine.n_cores())


def _predictions(work: Work, fitted: choosing.Fitted) -> cases.Estimate:
    """Return the estimate of the outputs of all networks for the pool."""
    few = work.inputs[:FEW]
    timed = timing.time_call(lambda: fitting.outputs(fitted.network, fitted.params, few))
    seconds = timed.once + timed.again * len(work.inputs) / len(few)
    n_numbers = len(work.inputs) * len(fitted.params) * work.targets.shape[1]
    return cases.Estimate(timing.exactly(seconds), 2 * cases.DOUBLE * n_numbers)


def _choice(work: Work, rule: choosing.Rule, fitted: choosing.Fitted, seed: int) -> cases.Estimate:
    """Return the estimate of the kernel, the choice in it and its certificate."""
    n_pool, n_networks = len(work.inputs), len(fitted.params)
    budget = registry.Budget(len(work.labelled) + work.n_points, 1)
    few = work.inputs[: max(FEW, budget.n_selected)]
    n_bytes = COPIES * cases.DOUBLE * n_pool * (rule.n_features or choosing.N_FEATURES)
    options = dict(rule.options)
    if isinstance(options.get("weights"), str):
        del options["weights"]  # the factors of distances take hardly any time
    if rule.has_kernel and rule.kernel != "sketch":
        options |= {"kernel": rule.kernel, "labelled": list(work.labelled)}
        options |= {} if rule.n_features is None else {"n_features": rule.n_features}
        targets = np.nan_to_num(work.targets)
        problem = registry.Problem(work.inputs, targets, "regression", fitted.network, seed)
        chosen = selections.forecast(rule.method, problem, budget, options)
        n_kernels = n_networks if rule.kernel == "ntk" else 1
        features = np.random.default_rng(0).standard_normal((len(few), choosing.N_FEATURES))
        proven = timing.exactly(_certificate(features, work))
        return cases.Estimate(chosen.seconds * n_kernels + proven, max(n_bytes, chosen.n_bytes))
    single = fitted._replace(params=fitted.params[:1])
    kernel = rule if rule.has_kernel else choosing.Rule()
    key = jax.random.key(0)
    first, features = timing.timed(lambda: choosing.compute_features(few, kernel, single, key))
    again = timing.seconds_of(lambda: choosing.compute_features(few, kernel, single, key))
    ratio = n_pool / len(few)
    seconds = max(0.0, first - again) + again * ratio * n_networks
    if rule.has_kernel:
        chosen = timing.seconds_of(
            lambda: registry.select(
                features,
                work.n_points,
                method=rule.method,
                labelled=range(len(work.labelled)),
                key=key,
                kernel="linear",
                **options,
            )
        )
        # The work of max-herding grows with pairs of points.
        seconds += chosen * ratio ** (2 if rule.method == "max-herding" else 1)
    seconds += _certificate(features, work)
    return cases.Estimate(timing.exactly(seconds), sketches.TILE_BYTES + n_bytes)


def _certificate(features: Float[np.ndarray, "n_few n_features"], work: Work) -> float:
    """Return the seconds of a certificate, from two with few random draws."""
    labelled = np.arange(len(work.labelled))
    rows = len(work.labelled) + np.arange(work.n_points)
    fewer, more = (
        timing.seconds_of(
            lambda n=n: certificate.certify(features, rows, labelled, n_random=n, seed=0)
        )
        for n in DRAWS
    )
    each = max(0.0, more - fewer) / (DRAWS[1] - DRAWS[0])
    return fewer + each * (ALL_DRAWS - DRAWS[0])
