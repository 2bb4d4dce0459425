"""Tables of networks, phases and power laws of recordings made by hand."""

import numpy as np
import pandas as pd
import pytest
from recordings import CHANGES, GROUP, NO_MODES, RECORDING, agents, case_recording

from collective_variables.papers import _tables_2024
from collective_variables.papers.claims_2024 import Group
from collective_variables.training.study_cases import Case


def summary(**groups):
    return _tables_2024.summary(groups, _tables_2024.phases(groups))


def test_the_summary_has_both_ends_and_the_regime():
    table = summary(fuel=GROUP, agent=agents()).set_index(["group", "network", "points"])
    small = table.loc[("fuel", "width 10", "train")]
    assert small[["entropy_first", "trace_first", "loss_first"]].tolist() == [2.0, 3.0, 1.0]
    assert small[["chi_pos_first", "chi_pos_last"]].isna().all()
    assert small[["entropy_last", "trace_last", "loss_last"]].tolist() == pytest.approx(
        [1.5, 3 * np.e, 0.1]
    )
    assert small["regime"] == "information compression" and small["n_members"] == 4
    assert table.loc[("fuel", "width 100", "train"), "regime"] == "structure formation"
    assert table.loc[("fuel", "width 100", "test"), "regime"] == "information compression"
    assert table.loc[("agent", "critic", "observations"), "regime"] == "information compression"
    few = GROUP._replace(recording=RECORDING[RECORDING["member"] < 2])
    assert set(summary(fuel=few)["regime"]) == {"too few members"}


def test_phases_are_those_of_each_network_under_its_name():
    table = _tables_2024.phases({"fuel": GROUP})
    assert table[["network", "points", "kind"]].values.tolist() == [
        ["width 10", "train", "information compression"],
        ["width 10", "test", "structure formation"],
        ["width 100", "train", "structure formation"],
        ["width 100", "test", "information compression"],
    ]
    assert table["change"].tolist() == pytest.approx([-0.5, 0.5, 1.0, -1.0])


def test_power_laws_are_fitted_for_each_depth_where_there_are_three_widths():
    cases = [Case("relu", width, depth, 20, 20) for width in (10, 30, 100) for depth in (1, 4)]
    parts = []
    for case in cases:
        table = case_recording(case, CHANGES)
        parts.append(table.assign(trace=case.width ** (0.5 * case.depth) * (1 + table["epoch"])))
    group = Group(pd.concat(parts, ignore_index=True), {"map": cases}, NO_MODES, "dense")
    table = _tables_2024.power_laws({"map": group, "fuel": GROUP})
    assert list(table.columns) == list(_tables_2024.LAWS) and set(table["group"]) == {"map"}
    exponents = table[table["variable"] == "trace"].set_index(["depth", "epoch"])["exponent"]
    assert exponents.to_dict() == pytest.approx(
        {(1, 0): 0.5, (1, 100): 0.5, (4, 0): 2.0, (4, 100): 2.0}
    )
    assert _tables_2024.power_laws({"fuel": GROUP}).empty
