"""Recordings made by hand, whose changes of entropy, trace and loss are known."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from collective_variables.papers.claims_2024 import Group
from collective_variables.training.study_cases import Case

EPOCHS = (0, 1, 10, 100)
# The changes of the entropy of the members of the smallest network.
CHANGES = np.array([-0.5, -0.4, -0.6, -0.5])
NO_MODES = pd.DataFrame({"activation": [], "points": []})


def curve(member, entropy_change, trace_factor, **labels):
    """A member whose entropy, ln of the trace and ln of the loss are linear over the epochs."""
    share = np.linspace(0, 1, len(EPOCHS))
    columns = {
        "member": member,
        "points": "train",
        "epoch": EPOCHS,
        "loss": 10**-share,
        "entropy": 2 + entropy_change * share,
        "trace": 3 * trace_factor**share,
    }
    return pd.DataFrame(labels | columns)


def case_recording(case, changes, factor=np.e):
    """The recording of a case with one member for each change of the entropy."""
    return pd.concat(
        [curve(member, change, factor, **asdict(case)) for member, change in enumerate(changes)]
    )


SMALL, LARGE = (Case("relu", width, 2, 20, 20) for width in (10, 100))
RECORDING = pd.concat(
    [case_recording(SMALL, CHANGES), case_recording(LARGE, CHANGES + 1.5)], ignore_index=True
)
TEST = RECORDING.assign(points="test", entropy=-RECORDING["entropy"], trace=1 / RECORDING["trace"])
GROUP = Group(
    pd.concat([RECORDING, TEST], ignore_index=True), {"width": [LARGE, SMALL]}, NO_MODES, "dense"
)


def agents():
    """An actor whose entropy grows and a critic whose entropy falls, with a reward that grows."""
    parts = [
        curve(member, change, np.e, network=network).assign(
            points="observations", reward=EPOCHS, loss=np.nan
        )
        for network, change in (("actor", 1.0), ("critic", -1.0))
        for member in range(4)
    ]
    return Group(pd.concat(parts, ignore_index=True), {}, NO_MODES, "agent")
