"""Check the values of each kind of stage with the library, before any data are read.

A check takes the stage's values and those of all stages of its group; that of Report takes all
sections. It calls what the stage will call with these values, and does not catch its errors.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import SimpleNamespace

from collective_variables import _checks
from collective_variables.analysis import statistics
from collective_variables.data import problems, scaling
from collective_variables.ensembles import subset_sizes
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.selection import registry
from collective_variables.training import (
    autoencoder,
    policy_optimisation,
    recording,
    scaling_study,
    schedules,
    study_cases,
)
from nodes import _values, active_learning

Group = Mapping[str, SimpleNamespace]
Check = Callable[[SimpleNamespace, Group], object]


def check(
    kind: str, own: SimpleNamespace, group: Group, sections: Mapping[str, Mapping[str, object]]
) -> None:
    """Raise TypeError or ValueError for a value that a stage of this kind cannot use."""
    if kind == "Report":
        _report(own, sections)
    else:
        CHECKS[kind](own, group)


def _fields(settings: type, own: SimpleNamespace) -> dict[str, object]:
    """Return the values of a stage that are fields of these settings."""
    return {
        field.name: getattr(own, field.name)
        for field in fields(settings)
        if hasattr(own, field.name)
    }


def _seed(own: SimpleNamespace) -> None:
    _checks.integer("seed", own.seed, minimum=0)


def _load_dataset(own: SimpleNamespace, group: Group) -> None:
    problem = problems.PROBLEMS[_checks.choice("problem", own.problem, problems.PROBLEMS)]
    _checks.choice("scaling", own.scaling, ("train", "all"))
    n_test = problem.n_test if own.n_test is None else own.n_test
    problems.split(
        own.problem, problem.n_rows, n_test=n_test, n_available=own.n_available, seed=own.seed
    )


def _load_file(own: SimpleNamespace, group: Group) -> None:
    _checks.choice("scaling", own.scaling, ("train", "all"))
    _checks.choice("input_scaling", own.input_scaling, scaling.SCALINGS)
    _seed(own)


def _network(own: SimpleNamespace, group: Group) -> None:
    if (own.layers is None) == (own.model is None):
        received = "neither" if own.model is None else f"{own.layers} and {own.model}"
        raise ValueError(f"A network must have layers or a model: received {received}.")
    options = {name: getattr(own, name) for name in ("activation", "padding", "b_std")}
    for name in _checks.unique("parametrisations", own.parametrisations):
        layers = own.layers if own.model is None else ["dense 1"]
        sequential.build_network(layers, parametrisation=name, **options)


def _ensemble(own: SimpleNamespace, group: Group) -> None:
    subset_sizes.draw(own.n_points, n_members=own.n_members, seed=own.seed)


def _selection(own: SimpleNamespace, group: Group) -> None:
    method = _checks.choice("method", own.method, registry.SELECTION_METHODS)
    _check_options(method, own.options)
    if settings := registry.SETTINGS.get(method):
        settings(**_fields(settings, SimpleNamespace(**own.options)))
    if (layers := own.options.get("layers")) is not None:
        sequential.build_network(layers)


def _check_options(method: str, options: Mapping[str, object]) -> None:
    known = registry.OPTIONS[method]
    if unknown := [name for name in options if name not in known]:
        raise TypeError(
            f"Options of {method} are {', '.join(known)}: received {unknown[0]}."
            f"{_values.suggestion(str(unknown[0]), known)}"
        )


def _compute_ntk(own: SimpleNamespace, group: Group) -> None:
    measurement.Settings(**_fields(measurement.Settings, own))
    network = group.get("Network")
    if own.infinite_width and network:
        if network.model is not None:
            raise ValueError(
                f"infinite_width needs a network of layers: received the model {network.model}."
            )
        names = ("parametrisations", "activation", "padding", "b_std")
        measurement.infinite_width_limit(
            network.layers, **{name: getattr(network, name) for name in names}
        )
    if own.loss is not None:
        _checks.choice("loss", own.loss, schedules.LOSSES)
    task = _task(group)
    if own.per_class and task == "regression":
        raise ValueError(f"per_class needs a problem of classification: received one of {task}.")


def _task(group: Group) -> str | None:
    """Return the task of a group's problem; None if only the file of the group determines it."""
    if own := group.get("LoadDataset"):
        return problems.PROBLEMS[own.problem].task if own.problem in problems.PROBLEMS else None
    return getattr(group.get("LoadFile"), "task", None)


def _train_model(own: SimpleNamespace, group: Group) -> None:
    schedule = schedules.Schedule(**_fields(schedules.Schedule, own))
    if own.record is not None:
        settings = _record(own.record, schedule.n_epochs, schedule.evaluate_every)
        recording.Recorder(_outputs, settings, loss=schedule.loss)


def _scaling_study(own: SimpleNamespace, group: Group) -> None:
    scaling_study.check_kind(own.kind, own.parametrisation)
    schedule = schedules.Schedule(**_fields(schedules.Schedule, own))
    _checks.integer("noise_from", own.noise_from, minimum=0)
    settings = _record(own.record, schedule.n_epochs, 1)
    recording.Recorder(_outputs, settings, loss=schedule.loss)
    if ensemble := group.get("Ensemble"):
        n_points = subset_sizes.largest(ensemble.n_points)
        study_cases.list_cases(own.studies, n_points=n_points, batch_size=own.batch_size)


def _train_autoencoder(own: SimpleNamespace, group: Group) -> None:
    schedule = autoencoder.Schedule(**_fields(autoencoder.Schedule, own))
    settings = _record(own.record, schedule.n_epochs, schedule.evaluate_every)
    recording.Recorder(_outputs, settings, loss=_losses)


def _train_agent(own: SimpleNamespace, group: Group) -> None:
    policy_optimisation.PPO(**_fields(policy_optimisation.PPO, own))
    _checks.integer("n_members", own.n_members, minimum=1)
    _seed(own)
    settings = _record(own.record, own.n_updates, 1)
    recording.Recorder(_outputs, policy_optimisation.without_positions(settings))


def _record(record: dict, n_epochs: int, evaluate_every: int) -> recording.Settings:
    """Return the settings of a recording, checked for this number of epochs."""
    known = [field.name for field in fields(recording.Settings)]
    if unknown := [name for name in record if name not in known]:
        raise TypeError(
            f"record must have names among {', '.join(known)}: received {unknown[0]}."
            f"{_values.suggestion(str(unknown[0]), known)}"
        )
    settings = recording.Settings(**record)
    recording.recorded_epochs(settings.epochs, n_epochs, evaluate_every=evaluate_every)
    return settings


def _outputs(params: object, inputs: object) -> object:
    """Stand for a network, which a check of settings does not call."""
    return inputs


def _losses(outputs: object, inputs: object, context: object) -> object:
    """Stand for the losses of points without targets."""
    return outputs


def _correlation_analysis(own: SimpleNamespace, group: Group) -> None:
    for name in ("n_bands", "n_resamples", "degree"):
        _checks.integer(name, getattr(own, name), minimum=1)
    statistics.tail_probability(own.confidence)
    _seed(own)


def _active_learning(own: SimpleNamespace, group: Group) -> None:
    for rule in active_learning.read_rules(own.methods).values():
        _check_options(rule.method, rule.options)
    for name in ("n_start", "n_batch", "n_rounds", "n_repeats"):
        _checks.integer(name, getattr(own, name), minimum=1)
    if own.n_pool is not None:
        _checks.integer("n_pool", own.n_pool, minimum=1)
    plan = active_learning.make_plan(own, 0)
    known = [n for n in (own.n_pool, _n_pool(group)) if n is not None]
    if known and plan.sizes[-1] > min(known):
        raise ValueError(
            f"n_start + n_rounds * n_batch must not exceed the pool: "
            f"{plan.sizes[-1]} > {min(known)}."
        )


def _n_pool(group: Group) -> int | None:
    """Return the size of the pool of a group; None if only the file of the group determines it."""
    own = group.get("LoadDataset")
    if own is None or own.problem not in problems.PROBLEMS:
        return None
    problem = problems.PROBLEMS[own.problem]
    n_rows = problem.n_rows if own.n_available is None else own.n_available
    return n_rows - (problem.n_test if own.n_test is None else own.n_test)


def _findings(own: SimpleNamespace, group: Group) -> None:
    _checks.number("resolution", own.resolution, above=0.0)
    statistics.tail_probability(own.confidence)


def _report(own: SimpleNamespace, sections: Mapping[str, Mapping[str, object]]) -> None:
    for name in ("n_resamples", "n_permutations", "degree"):
        _checks.integer(name, getattr(own, name), minimum=1)
    statistics.tail_probability(own.confidence)
    _seed(own)
    _checks.choice("algorithm", own.algorithm, _method_names(sections))


def _method_names(sections: Mapping[str, Mapping[str, object]]) -> set[str]:
    """Return the names of methods in the tables of all groups, and those of all known methods."""
    named = {name.partition("SelectSubset-")[2] for name in sections if "SelectSubset-" in name}
    return named | set(registry.SELECTION_METHODS)


CHECKS: dict[str, Check] = {
    "LoadDataset": _load_dataset,
    "LoadFile": _load_file,
    "Network": _network,
    "Ensemble": _ensemble,
    "RNDSelect": _selection,
    "SelectSubset": _selection,
    "ComputeNTK": _compute_ntk,
    "TrainModel": _train_model,
    "CorrelationAnalysis": _correlation_analysis,
    "ActiveLearning": _active_learning,
    "ScalingStudy": _scaling_study,
    "TrainAutoencoder": _train_autoencoder,
    "TrainAgent": _train_agent,
    "Findings": _findings,
}
