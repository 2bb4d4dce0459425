"""The cases of a scaling study: every combination of network, data and training."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

from collective_variables import _checks
from collective_variables.networks import sequential

Study = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A network and its training; the fields are the axes of a study.

    width: of the hidden layers, channels of images, or features of tokens and nodes. depth: how
    many hidden layers, residual blocks a stage, layers of a transformer, or steps of message
    passing. n_points: the first ones of a member's
    subset. batch_size: of the training. weight_scale: all initial parameters times this.
    label_noise: of this fraction of the train points the labels are exchanged, late in the
    training.
    """

    activation: str
    width: int
    depth: int
    n_points: int
    batch_size: int
    weight_scale: float = 1.0
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        _checks.choice("activation", self.activation, sequential.ACTIVATIONS)
        for name, minimum in (("width", 1), ("depth", 1), ("n_points", 2), ("batch_size", 1)):
            _checks.integer(name, getattr(self, name), minimum=minimum)
        _checks.number("weight_scale", self.weight_scale, above=0.0)
        if _checks.number("label_noise", self.label_noise, minimum=0.0) > 1:
            raise ValueError(f"label_noise must be a fraction: received {self.label_noise}.")


AXES = tuple(axis.name for axis in fields(Case))
OPTIONAL = AXES[3:]  # which a study need not have


def list_cases(
    studies: dict[str, Study], /, *, n_points: int, batch_size: int | None
) -> dict[str, list[Case]]:
    """The cases of each study: every combination of the values that it has for the axes, each one
    or a list of them.

    activation, width and depth are in every study; n_points and batch_size are what holds for
    studies without these
    axes (batch_size None: all points at once). Raises TypeError or ValueError for a study that
    lacks one of the first three, an unknown axis, a value that repeats or is out of its range, and
    more points than `n_points`.
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
    values = {
        axis: study[axis] if isinstance(study[axis], list) else [study[axis]]
        for axis in AXES
        if axis in study
    }
    for axis, of_axis in values.items():
        _checks.unique(f"{axis} of {name}", of_axis)
    found = []
    for combination in itertools.product(*values.values()):
        of = dict(zip(values, combination))
        try:
            case = Case(**{"batch_size": batch_size or of["n_points"]} | of)
        except (TypeError, ValueError) as error:
            raise type(error)(f"In the study {name}, {error}") from error
        if case.n_points > n_points:
            raise ValueError(
                f"In the study {name}, n_points must not exceed the points selected: {case.n_points} > {n_points}."
            )
        found.append(replace(case, batch_size=min(case.batch_size, case.n_points)))
    return found


def study_rows(recording_table: pd.DataFrame, chosen: Sequence[Case], /) -> pd.DataFrame:
    """The rows of a recording that belong to the cases of a study, in their order."""
    keys = pd.DataFrame([asdict(case) for case in chosen])
    return keys.merge(recording_table, on=list(AXES), how="left", validate="one_to_many")
