"""Every way to choose a subset, by its name and with the same arguments."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.ensembles import checkpoints, seeding
from collective_variables.networks import parameters, sequential
from collective_variables.selection import (
    base,
    by_kernel,
    coverage,
    rnd,
    rnd_linearised,
    stratified,
)


class Problem(NamedTuple):
    """What is known of a pool: its points, their targets for methods that use labels, and the
    network to be trained.

    seed: of everything random, the same networks as in training included.
    """

    inputs: Float[Array, "n_pool ..."]
    targets: Float[Array, "n_pool n_outputs"]
    task: str
    network: sequential.Network
    seed: int


class Budget(NamedTuple):
    """Points of a member, and members; how to show and where to keep what is done."""

    n_selected: int
    n_members: int
    progress: str = ""
    store: checkpoints.Store | None = None


def select_by(
    method: str, problem: Problem, budget: Budget, options: dict[str, Any], /
) -> base.Selection:
    """Choose subsets by one of `METHODS`, with the options of its function.

    random                  uniformly (`base.random`)
    stratified              at random within classes or ranges of targets (`stratified.stratified`)
    rnd                     random network distillation in its best form, with a linearised predictor (`rnd_linearised.select`)
    paper                   random network distillation as in Tovey et al. 2023, with a trained predictor (`rnd.select`)
    k-center, k-means++, kernel-herding, facility-location   cover the pool in input space (`coverage`)
    log-determinant, trace, best-entropy, greedy   by the kernel of each member's own network (`kernel_selection`)

    rnd and paper take the fields of their `Settings`, `labelled`, rows that are labelled already,
    and `per_class`, for equally many points of each class. paper also takes `layers`, a network of
    its own for target and predictor, or `width`, the outputs of the task's network in place of its
    own: the representation.

    Raises TypeError for an option that the method doesn't have, ValueError for a network that can't
    be trained on the problem, and the errors of its function.
    """
    parameters.check_fit(problem.network, problem.inputs, problem.targets)
    function = METHODS[_checks.choice("method", method, METHODS)]
    if not isinstance(options, dict):
        raise TypeError(f"options must be a dictionary: received {options!r}.")
    unknown = [name for name in options if name not in OPTIONS[method]]
    if unknown:
        known = ", ".join(OPTIONS[method]) or "none"
        raise TypeError(f"Options of {method} are {known}: received {unknown[0]}.")
    return function(problem, budget, **options)


def classes_of(problem: Problem) -> Int[np.ndarray, " n_pool"]:
    """The class of every point; ValueError for a regression."""
    if problem.task != "classification":
        raise ValueError(f"per_class needs a classification: received a {problem.task}.")
    return np.argmax(problem.targets, axis=1)


def _key(problem: Problem, purpose: str) -> PRNGKeyArray:
    return seeding.key(problem.seed, purpose)


def _size(budget: Budget) -> dict[str, int]:
    return {"n_selected": budget.n_selected, "n_members": budget.n_members}


def _random(problem: Problem, budget: Budget) -> base.Selection:
    return base.random(len(problem.inputs), key=_key(problem, "subsets"), **_size(budget))


def _stratified(problem: Problem, budget: Budget, **options: Any) -> base.Selection:
    key = _key(problem, "selection")
    return stratified.stratified(
        problem.targets, task=problem.task, key=key, **_size(budget), **options
    )


def _rnd(
    problem: Problem,
    budget: Budget,
    *,
    labelled: Sequence[int] = (),
    per_class: bool = False,
    **settings: Any,
) -> base.Selection:
    return rnd_linearised.select(
        problem.inputs,
        rnd_linearised.Settings(**settings),
        key=_key(problem, "rnd"),
        labelled=labelled,
        classes=classes_of(problem) if per_class else None,
        progress=budget.progress,
        **_size(budget),
    )


def _paper(
    problem: Problem,
    budget: Budget,
    *,
    labelled: Sequence[int] = (),
    per_class: bool = False,
    layers: Sequence[str] | None = None,
    width: int | None = None,
    **settings: Any,
) -> base.Selection:
    return rnd.select(
        problem.inputs,
        _representation(problem.network, layers, width),
        rnd.Settings(**settings),
        key=_key(problem, "rnd"),
        labelled=labelled,
        classes=classes_of(problem) if per_class else None,
        progress=budget.progress,
        store=budget.store,
        **_size(budget),
    )


def _representation(
    network: sequential.Network, layers: Sequence[str] | None, width: int | None
) -> sequential.Network:
    """The task's network, or one of other layers or with another number of outputs; these need a
    network of layers.
    """
    if layers is not None and width is not None:
        raise ValueError(
            f"layers and width must not both be given: received {list(layers)} and {width}."
        )
    if not isinstance(network, sequential.Network) and (layers is not None or width is not None):
        raise ValueError(
            f"layers and width are of a network of layers: received {network} and one of them."
        )
    if layers is not None:
        names = ("activation", "parametrisation", "padding", "b_std")
        return sequential.build_network(layers, **{name: getattr(network, name) for name in names})
    if width is None:
        return network
    last = sequential.Layer("dense", width=_checks.integer("width", width, minimum=1))
    return network.clone(layers=(*network.layers[:-1], last))


def _of_inputs(function: Callable[..., base.Selection]) -> Callable[..., base.Selection]:
    def choose(problem: Problem, budget: Budget, **options: Any) -> base.Selection:
        return function(problem.inputs, key=_key(problem, "selection"), **_size(budget), **options)

    return choose


def _of_kernels(function: Callable[..., base.Selection]) -> Callable[..., base.Selection]:
    def choose(problem: Problem, budget: Budget, **options: Any) -> base.Selection:
        keys = seeding.member_keys(_key(problem, "initialisation"), budget.n_members)
        return function(
            problem.inputs,
            problem.network,
            n_selected=budget.n_selected,
            key=_key(problem, "selection"),
            initialisation_keys=keys,
            **options,
        )

    return choose


_COVERAGE = {
    "k-center": coverage.k_center,
    "k-means++": coverage.k_means_plus_plus,
    "kernel-herding": coverage.kernel_herding,
    "facility-location": coverage.facility_location,
}
_KERNELS = {
    "log-determinant": by_kernel.log_determinant,
    "trace": by_kernel.largest_trace,
    "best-entropy": by_kernel.best_entropy,
    "greedy": by_kernel.greedy,
}
METHODS: dict[str, Callable[..., base.Selection]] = {
    "random": _random,
    "stratified": _stratified,
    "rnd": _rnd,
    "paper": _paper,
    **{name: _of_inputs(function) for name, function in _COVERAGE.items()},
    **{name: _of_kernels(function) for name, function in _KERNELS.items()},
}


def _options(function: Callable[..., base.Selection]) -> list[str]:
    """The keywords of a function but for those that the budget gives."""
    given = ("n_selected", "n_members", "key", "initialisation_keys", "task")
    parameters = inspect.signature(function).parameters.values()
    return [of.name for of in parameters if of.kind is of.KEYWORD_ONLY and of.name not in given]


OPTIONS: dict[str, list[str]] = {
    "random": [],
    "stratified": _options(stratified.stratified),
    "rnd": [*(of.name for of in fields(rnd_linearised.Settings)), *_options(_rnd)],
    "paper": [*(of.name for of in fields(rnd.Settings)), *_options(_paper)],
    **{name: _options(function) for name, function in (_COVERAGE | _KERNELS).items()},
}
