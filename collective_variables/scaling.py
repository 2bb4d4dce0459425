"""Scaling study: how entropy, trace and loss through a training go with the network, its data and how it is trained."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import flax.linen as nn
import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Int

from collective_variables import architectures, checks, keeping, networks, recorded_training, recording, training

KINDS = ("dense", "conv", *architectures.ARCHITECTURES)
N_POOLINGS = 2  # of convolutional networks, each halving the image
Study = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A network and its training; the fields are the axes of a study.

    width: of the hidden layers, channels of images, or features of tokens and nodes. depth: how many hidden layers,
    residual blocks a stage, layers of a transformer, or steps of message passing. n_points: the first ones of a member's
    subset. batch_size: of the training. weight_scale: all initial parameters times this. label_noise: of this fraction
    of the train points the labels are exchanged, late in the training.
    """

    activation: str
    width: int
    depth: int
    n_points: int
    batch_size: int
    weight_scale: float = 1.0
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        checks.choice("activation", self.activation, networks.ACTIVATIONS)
        for name, minimum in (("width", 1), ("depth", 1), ("n_points", 2), ("batch_size", 1)):
            checks.integer(name, getattr(self, name), minimum=minimum)
        checks.number("weight_scale", self.weight_scale, above=0.0)
        if checks.number("label_noise", self.label_noise, minimum=0.0) > 1:
            raise ValueError(f"label_noise must be a fraction: received {self.label_noise}.")


AXES = tuple(axis.name for axis in fields(Case))
OPTIONAL = AXES[3:]  # which a study need not have


class Trained(NamedTuple):
    """The tables of `recorded_training.TABLES` with the columns of `AXES` and member in front, and how many runs diverged."""

    tables: dict[str, pd.DataFrame]
    n_diverged: int


def cases(studies: dict[str, Study], /, *, n_points: int, batch_size: int | None) -> dict[str, list[Case]]:
    """The cases of each study: every combination of the values that it has for the axes, each one or a list of them.

    activation, width and depth are in every study; n_points and batch_size are what holds for studies without these
    axes (batch_size None: all points at once). Raises TypeError or ValueError for a study that lacks one of the first
    three, an unknown axis, a value that repeats or is out of its range, and more points than `n_points`.
    """
    if not isinstance(studies, dict) or not studies:
        raise TypeError(f"studies must name at least one study: received {studies!r}.")
    return {name: _cases(name, study, n_points, batch_size) for name, study in studies.items()}


def _cases(name: str, study: Study, n_points: int, batch_size: int | None) -> list[Case]:
    if not isinstance(study, dict) or not set(AXES) - set(OPTIONAL) <= set(study) <= set(AXES):
        raise ValueError(
            f"The study {name} must have activation, width and depth, and may have {', '.join(OPTIONAL)}: received {study!r}."
        )
    study = {"n_points": n_points} | study
    values = {axis: study[axis] if isinstance(study[axis], list) else [study[axis]] for axis in AXES if axis in study}
    for axis, of_axis in values.items():
        checks.unique(f"{axis} of {name}", of_axis)
    found = []
    for combination in itertools.product(*values.values()):
        of = dict(zip(values, combination))
        try:
            case = Case(**{"batch_size": batch_size or of["n_points"]} | of)
        except (TypeError, ValueError) as error:
            raise type(error)(f"In the study {name}, {error}") from error
        if case.n_points > n_points:
            raise ValueError(f"In the study {name}, n_points must not exceed the points selected: {case.n_points} > {n_points}.")
        found.append(replace(case, batch_size=min(case.batch_size, case.n_points)))
    return found


def build(case: Case, kind: str, pool: training.Points, test: training.Points, /) -> nn.Module:
    """The network of a case for points like these; LeCun's initialisation.

    kind: "dense"; "conv", 3x3 windows with a 2x2 pooling behind each of the first two layers; or one of
    `architectures.ARCHITECTURES`.
    """
    n_outputs = pool.targets.shape[1]
    if checks.choice("kind", kind, KINDS) == "dense":
        layers = [f"dense {case.width}"] * case.depth
    elif kind == "conv":
        layers = []
        for number in range(case.depth):
            layers += [f"conv {case.width} 3x3", *(["avgpool 2x2"] if number < N_POOLINGS else [])]
    else:
        n_tokens = int(max(pool.inputs.max(), test.inputs.max()))
        options = {"transformer": {"n_tokens": n_tokens, "n_layers": case.depth}, "graph-network": {"n_steps": case.depth}}
        of_kind = options.get(kind, {"n_blocks": case.depth})
        return architectures.build(kind, n_outputs=n_outputs, width=case.width, activation=case.activation, **of_kind)
    return networks.build([*layers, f"dense {n_outputs}"], activation=case.activation)


def train(
    chosen: Sequence[Case],
    kind: str,
    pool: training.Points,
    test: training.Points,
    indices: Int[np.ndarray, "n_members n_points"],
    /,
    *,
    schedule: training.Schedule,
    settings: recording.Settings,
    seed: int,
    task: str,
    noise_from: int = 0,
    progress: str = "",
    store: keeping.Store | None = None,
) -> Trained:
    """Train each of the cases once for every member, and record it; `schedule` without its batch size, one evaluation an epoch.

    task: accuracies are NaN unless it is "classification". noise_from: the epoch from which on labels are exchanged,
    where a case says so. A case that is in several studies need be here only once.
    """
    # All of them are made and checked before the first is trained.
    made = [(case, build(case, kind, pool, test), *_of_case(case, indices, schedule, noise_from, seed)) for case in chosen]
    for _, network, runs, of_schedule, _ in made:
        training.check(network, pool, test, [runs], of_schedule)
    parts, n_diverged = {name: [] for name in recorded_training.TABLES}, 0
    for number, (case, network, runs, of_schedule, changes) in enumerate(made, start=1):
        words = f"{progress}: {case.activation}, {case.depth} deep, {case.width} wide ({number} of {len(chosen)})"
        options = {"schedule": of_schedule, "settings": settings, "changes": changes, "between": False, "store": store}
        options["progress"] = progress and words
        (recorded,) = recorded_training.train_ensemble(network, pool, test, [runs], **options)
        losses = recorded.tables["recording"].pivot(index="run", columns=["points", "epoch"], values="loss")
        n_diverged += int((~np.isfinite(losses).all(axis=1)).sum())
        for name, table in recorded.tables.items():
            labels = pd.DataFrame({axis: [value] * len(table) for axis, value in asdict(case).items()})
            parts[name].append(pd.concat([labels, table.rename(columns={"run": "member"})], axis=1))
    tables = {name: pd.concat(of, ignore_index=True) for name, of in parts.items()}
    if task != "classification":
        tables["recording"]["accuracy"] = np.nan
    return Trained(tables, n_diverged)


def _of_case(
    case: Case, indices: Int[np.ndarray, "n_members n_points"], schedule: training.Schedule, noise_from: int, seed: int
) -> tuple[training.Runs, training.Schedule, recorded_training.Changes]:
    runs = training.runs(indices[:, : case.n_points], np.full((len(indices), 1), case.n_points), seed=seed)
    changes = recorded_training.Changes(case.weight_scale, case.label_noise, noise_from)
    return runs, replace(schedule, batch_size=None if case.batch_size == case.n_points else case.batch_size), changes


def of_study(recording_table: pd.DataFrame, chosen: Sequence[Case], /) -> pd.DataFrame:
    """The rows of a recording that belong to the cases of a study, in their order."""
    keys = pd.DataFrame([asdict(case) for case in chosen])
    return keys.merge(recording_table, on=list(AXES), how="left", validate="one_to_many")


class PowerLaw(NamedTuple):
    """variable ∝ axis^exponent, the standard error of the exponent, and the share of the variance that it explains."""

    exponent: float
    standard_error: float
    r_squared: float


def power_law(table: pd.DataFrame, axis: str, variable: str, /) -> PowerLaw:
    """The power law of `variable` in `axis` by least squares of logarithms, over all rows with a positive value.

    Raises ValueError for fewer than three different values of the axis.
    """
    part = table[table[variable] > 0]
    if part[axis].nunique() < 3:
        raise ValueError(f"A power law needs at least 3 values of {axis}: received {part[axis].nunique()}.")
    fit = scipy.stats.linregress(np.log(part[axis].to_numpy(float)), np.log(part[variable].to_numpy(float)))
    return PowerLaw(float(fit.slope), float(fit.stderr), float(fit.rvalue**2))
