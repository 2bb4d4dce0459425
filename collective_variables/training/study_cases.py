"""List the cases of a scaling study: every combination of network, data and training."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

from collective_variables import _checks

Study = dict[str, object]

LEARNED = "learned"


@dataclass(frozen=True)
class Case:
    """Describe a network and its training; the fields are the axes of a study.

    Args:
        activation: Activation between the layers.
        width: Width of the hidden layers: channels of images, or features of tokens and nodes.
        depth: Number of hidden layers, residual blocks per stage, layers of a transformer, or steps
            of message passing.
        n_points: Number of points, the first ones of a member's subset.
        batch_size: Points per step of the training.
        weight_scale: Factor of all initial parameters.
        label_noise: Fraction of the train points whose labels are exchanged late in the training.
        features: "learned" by the whole network; or those of the initial network stay, as one of
            `networks.frozen.KINDS`.
    """

    activation: str
    width: int
    depth: int
    n_points: int
    batch_size: int
    weight_scale: float = 1.0
    label_noise: float = 0.0
    features: str = LEARNED

    def __post_init__(self) -> None:
        # Imported here, because reading the tables of a study does not need Flax.
        from collective_variables.networks import frozen, sequential

        _checks.choice("activation", self.activation, sequential.ACTIVATIONS)
        _checks.choice("features", self.features, (LEARNED, *frozen.KINDS))
        for name, minimum in (("width", 1), ("depth", 1), ("n_points", 2), ("batch_size", 1)):
            _checks.integer(name, getattr(self, name), minimum=minimum)
        _checks.number("weight_scale", self.weight_scale, above=0.0)
        if _checks.number("label_noise", self.label_noise, minimum=0.0) > 1:
            raise ValueError(f"label_noise must be a fraction: received {self.label_noise}.")


AXES = tuple(axis.name for axis in fields(Case))
OPTIONAL = AXES[3:]  # axes that a study may leave out


def list_cases(
    studies: dict[str, Study], /, *, n_points: int, batch_size: int | None
) -> dict[str, list[Case]]:
    """Return the cases of each study: every combination of the values of its axes.

    Args:
        studies: Axes of each study by its name, with one value or a list for each axis. Every study
            has activation, width and depth.
        n_points: Number of points of studies without this axis, and the largest of all.
        batch_size: Batch size of studies without this axis; None for all points at once.

    Raises:
        TypeError: `studies` is not a dictionary, or is empty.

    Also raises TypeError or ValueError for a study without one of the first three axes, an unknown
    axis, a value that repeats or is out of range, and more points than `n_points`.
    """
    if not isinstance(studies, dict) or not studies:
        raise TypeError(f"studies must name at least one study: received {studies!r}.")
    return {name: _cases(name, study, n_points, batch_size) for name, study in studies.items()}


def _cases(name: str, study: Study, n_points: int, batch_size: int | None) -> list[Case]:
    if not isinstance(study, dict) or not set(AXES) - set(OPTIONAL) <= set(study) <= set(AXES):
        raise ValueError(
            f"The study {name} must have activation, width and depth, and may have "
            f"{', '.join(OPTIONAL)}: received {study!r}."
        )
    study = {"n_points": n_points} | study
    values = {
        axis: study[axis] if isinstance(study[axis], list) else [study[axis]]
        for axis in AXES
        if axis in study
    }
    for axis, listed in values.items():
        _checks.unique(f"{axis} of {name}", listed)
    cases = []
    for combination in itertools.product(*values.values()):
        arguments = dict(zip(values, combination))
        try:
            case = Case(**{"batch_size": batch_size or arguments["n_points"]} | arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(f"In the study {name}, {error}") from error
        if case.n_points > n_points:
            raise ValueError(
                f"In the study {name}, n_points must not exceed the points selected: "
                f"{case.n_points} > {n_points}."
            )
        cases.append(replace(case, batch_size=min(case.batch_size, case.n_points)))
    return cases


def study_rows(recording_table: pd.DataFrame, cases: Sequence[Case], /) -> pd.DataFrame:
    """Return the rows of a recording that belong to the cases of a study, in their order."""
    keys = pd.DataFrame([asdict(case) for case in cases])
    return keys.merge(recording_table, on=list(AXES), how="left", validate="one_to_many")
