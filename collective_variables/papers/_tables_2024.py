"""Make tables of recordings for Tovey et al. 2024 (P2): networks, entropy phases, power laws."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from collective_variables.analysis import entropy_phases, power_law
from collective_variables.papers import claims_2024
from collective_variables.papers.claims_2024 import Group
from collective_variables.training import study_cases

LAWS = ("group", "epoch", "variable", "depth", "exponent", "standard_error", "r_squared")


def summary(groups: Mapping[str, Group], phase_table: pd.DataFrame, /) -> pd.DataFrame:
    """Average each network and kind of points at the first and the last epoch.

    Args:
        groups: Recordings of each group by its name.
        phase_table: The table of `phases`.

    Returns:
        One row per network and kind of points: group, network, points, n_members, entropy_first,
        entropy_last, trace_first, trace_last, loss_first, loss_last, chi_pos_first and chi_pos_last
        (NaN if not recorded), and regime. The numbers are means over members. `regime` lists the
        supported phases of the entropy in order. The loss of an agent's actor or critic is its own
        training loss.
    """
    by_network = dict(list(phase_table.groupby(["group", "network", "points"])))
    rows = []
    for name, group in groups.items():
        for network, table in claims_2024.named_networks(group, group.recording):
            for points, part in table.groupby("points", sort=False):
                row = {
                    "group": name,
                    "network": network,
                    "points": points,
                    "n_members": part["member"].nunique(),
                }
                network_phases = by_network.get((name, network, points), phase_table[:0])
                rows.append(row | _ends(part) | {"regime": _regime(part, network_phases)})
    return pd.DataFrame(rows)


def _ends(part: pd.DataFrame) -> dict[str, float]:
    ends = part[part["epoch"].isin([part["epoch"].min(), part["epoch"].max()])]
    ends = ends.reindex(columns=["epoch", "entropy", "trace", "loss", "chi_pos"])
    means = ends.groupby("epoch").mean()
    return {
        f"{variable}_{end}": means[variable].iloc[place]
        for variable in means
        for end, place in (("first", 0), ("last", -1))
    }


def _regime(part: pd.DataFrame, network_phases: pd.DataFrame) -> str:
    if len(claims_2024.finite_curves(part, "entropy")) < entropy_phases.MIN_MEMBERS:
        return "too few members"
    return entropy_phases.regime(list(network_phases.itertuples()))


def phases(
    groups: Mapping[str, Group],
    *,
    resolution: float = entropy_phases.RESOLUTION,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Find the phases of the entropy of each network and kind of points.

    Args:
        groups: Recordings of each group by its name.
        resolution: Smallest change of the entropy in nats that counts as a phase.
        confidence: Confidence of the intervals of the change, and 1 - level of the tests.

    Returns:
        One row per phase: group, network, points, phase and the fields of `entropy_phases.Phase`.
    """
    parts = []
    for name, group in groups.items():
        for network, table in claims_2024.named_networks(group, group.recording):
            part = entropy_phases.recording_phases(
                table, [], resolution=resolution, confidence=confidence
            )
            part.insert(0, "group", name)
            part.insert(1, "network", network)
            parts.append(part)
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def power_laws(groups: Mapping[str, Group]) -> pd.DataFrame:
    """Fit entropy, trace and loss of train points as powers of the width.

    Args:
        groups: Recordings of each group by its name.

    Returns:
        A table with the columns `LAWS`. Each study with at least three widths has one row per
        depth and variable at its first and at its last epoch.
    """
    rows = []
    for name, group in groups.items():
        for cases in group.studies.values():
            table = claims_2024.learned_rows(study_cases.study_rows(group.recording, cases))
            if table["width"].nunique() < 3:
                continue
            epochs = (table["epoch"].min(), table["epoch"].max())
            for depth, epoch, variable in itertools.product(
                sorted(table["depth"].unique()), epochs, ("entropy", "trace", "loss")
            ):
                part = table[(table["depth"] == depth) & (table["epoch"] == epoch)]
                law = power_law.fit_power_law(part[np.isfinite(part[variable])], "width", variable)
                rows.append((name, epoch, variable, depth, *law))
    return pd.DataFrame(rows, columns=list(LAWS))
