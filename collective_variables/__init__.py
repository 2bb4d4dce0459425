"""Collective variables of neural networks: entropy and trace of the neural tangent kernel.

The first use of a name loads its module, so the import is quick:

    import collective_variables as cv

    data = cv.load_problem("fuel")
    network = cv.build_network(["dense 32", "dense 1"], parametrisation="ntk")
"""

import importlib
from typing import Any

__version__ = "0.2.0"

# The module of each public name, grouped by subject.
_MODULES = {
    "kernels.empirical": ("empirical_ntk", "estimate_cost"),
    "kernels._traced": ("RetracingWarning",),
    "kernels.kernel_function": ("ntk_fn",),
    "kernels.products": ("kernel_product",),
    "kernels.traces.exact": ("ntk_trace",),
    "kernels.traces.probes": ("estimate_trace",),
    "kernels.features.sketches": ("ntk_features",),
    "kernels.infinite_width": ("infinite_width_ntk",),
    "observables.spectrum": ("eigenvalues", "entropy", "trace", "collective_variables"),
    "observables.collective": ("kernel_alignment",),
    "observables.growth.laws": ("growth_laws",),
    "observables.predictors": ("kernel_predictors",),
    "observables.lanczos": ("estimate_entropy",),
    "observables.measurement": ("measure_ensemble",),
    "selection.registry": ("select", "SELECTION_METHODS"),
    "selection.base": ("Selection",),
    "selection.rnd": ("RNDSettings",),
    "selection.rnd_linearised": ("LinearisedRNDSettings",),
    "selection.estimator": ("RNDSelector",),
    "networks.sequential": ("build_network", "ACTIVATIONS"),
    "networks.imported": ("load_model",),
    "training.schedules": ("Schedule",),
    "training.loop": ("train",),
    "training.ensemble_training": ("train_ensemble",),
    "training.trace_scaling": ("scale_by_trace",),
    "training.position.decomposition": ("decompose", "Decomposition"),
    "training.any_loop.recorder": ("Recorder",),
    "active_learning.learner": ("ActiveLearner",),
    "active_learning.fitting": ("FitSettings",),
    "active_learning.certificate": ("certify", "Certificate"),
    "data.problems": ("Dataset", "load_problem"),
    "data.encoding": ("read_table",),
    "experiment.composition": ("run_experiment",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    # kernels
    "empirical_ntk",
    "ntk_fn",
    "ntk_trace",
    "estimate_trace",
    "kernel_product",
    "ntk_features",
    "infinite_width_ntk",
    "estimate_cost",
    "RetracingWarning",
    # observables
    "eigenvalues",
    "entropy",
    "trace",
    "collective_variables",
    "kernel_alignment",
    "kernel_predictors",
    "growth_laws",
    "estimate_entropy",
    "measure_ensemble",
    # selection
    "select",
    "Selection",
    "SELECTION_METHODS",
    "RNDSettings",
    "LinearisedRNDSettings",
    "RNDSelector",
    # networks
    "build_network",
    "load_model",
    "ACTIVATIONS",
    # training
    "Schedule",
    "train",
    "train_ensemble",
    "scale_by_trace",
    "decompose",
    "Decomposition",
    "Recorder",
    # active learning
    "ActiveLearner",
    "FitSettings",
    "certify",
    "Certificate",
    # data
    "Dataset",
    "load_problem",
    "read_table",
    # experiment
    "run_experiment",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module and store it here.

    Args:
        name: Name of the attribute.

    Returns:
        The function, class or constant.

    Raises:
        AttributeError: The name is not public.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
