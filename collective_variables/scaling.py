"""Scaling study: how entropy, trace and loss go with width, depth and activation of a network, through its training."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Int

from collective_variables import checks, keeping, networks, recorded_training, recording, training

AXES = ("activation", "width", "depth")
KINDS = ("dense", "conv")
Study = dict[str, object]


@dataclass(frozen=True)
class Shape:
    """A network by its activation, the width of its hidden layers, and their number."""

    activation: str
    width: int
    depth: int

    def layers(self, kind: str, n_outputs: int) -> list[str]:
        """As `networks.build` reads them: "dense", or "conv" with 3x3 windows and a 2x2 pooling behind each of the first two."""
        if kind == "dense":
            return [*[f"dense {self.width}"] * self.depth, f"dense {n_outputs}"]
        pooled = [[f"conv {self.width} 3x3", *(["avgpool 2x2"] if number < 2 else [])] for number in range(self.depth)]
        return [*itertools.chain(*pooled), f"dense {n_outputs}"]


class Trained(NamedTuple):
    """A table with the columns of `AXES`, member, points, epoch and those of the recording, and how many runs diverged."""

    recording: pd.DataFrame
    n_diverged: int


def shapes(studies: dict[str, Study], /) -> dict[str, list[Shape]]:
    """The networks of each study: every combination of its activations, widths and depths, each a value or a list.

    Raises TypeError or ValueError for a study that has not all three, a value that repeats, an unknown activation, or a
    width or depth below 1.
    """
    if not isinstance(studies, dict) or not studies:
        raise TypeError(f"studies must name at least one study: received {studies!r}.")
    return {name: _shapes(name, study) for name, study in studies.items()}


def _shapes(name: str, study: Study) -> list[Shape]:
    if not isinstance(study, dict) or set(study) != set(AXES):
        raise ValueError(f"The study {name} must have activation, width and depth: received {study!r}.")
    values = [study[axis] if isinstance(study[axis], list) else [study[axis]] for axis in AXES]
    for axis, of_axis in zip(AXES, values):
        checks.unique(f"{axis} of {name}", of_axis)
    for activation in values[0]:
        checks.choice(f"activation of {name}", activation, networks.ACTIVATIONS)
    for axis, of_axis in zip(AXES[1:], values[1:]):
        for value in of_axis:
            checks.integer(f"{axis} of {name}", value, minimum=1)
    return [Shape(*combination) for combination in itertools.product(*values)]


def train(
    chosen: Sequence[Shape],
    kind: str,
    pool: training.Points,
    test: training.Points,
    indices: Int[np.ndarray, "n_members n_points"],
    /,
    *,
    schedule: training.Schedule,
    settings: recording.Settings,
    seed: int,
    progress: str = "",
    store: keeping.Store | None = None,
) -> Trained:
    """Train each of the networks once for every member, on all of its points, and record it; LeCun's initialisation.

    A network that is in several studies need be here only once.
    """
    checks.choice("kind", kind, KINDS)
    n_points = np.full((len(indices), 1), indices.shape[1])
    runs = training.runs(indices, n_points, seed=seed)
    # All of them, before the first is trained.
    built = [networks.build(of.layers(kind, pool.targets.shape[1]), activation=of.activation) for of in chosen]
    for network in built:
        training.check(network, pool, test, [runs], schedule)
    tables, n_diverged = [], 0
    for number, (shape, network) in enumerate(zip(chosen, built), start=1):
        words = f"{progress}: {shape.activation}, {shape.depth} layers of {shape.width} ({number} of {len(chosen)})"
        options = {"schedule": schedule, "settings": settings, "store": store, "progress": progress and words}
        (recorded,) = recorded_training.train_ensemble(network, pool, test, [runs], **options)
        losses = np.stack([recorded.curves.train_loss, recorded.curves.test_loss])
        n_diverged += int((~np.isfinite(losses).all(axis=(0, 2))).sum())
        table = recorded.tables["recording"].rename(columns={"run": "member"})
        labels = pd.DataFrame({axis: [getattr(shape, axis)] * len(table) for axis in AXES})
        tables.append(pd.concat([labels, table], axis=1))
    return Trained(pd.concat(tables, ignore_index=True), n_diverged)


def of_study(recording_table: pd.DataFrame, chosen: Sequence[Shape], /) -> pd.DataFrame:
    """The rows of a recording that belong to the networks of a study, in their order."""
    keys = pd.DataFrame([[getattr(shape, axis) for axis in AXES] for shape in chosen], columns=list(AXES))
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
