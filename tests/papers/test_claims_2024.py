"""Findings on recordings made by hand, whose effects are known."""

import numpy as np
import pandas as pd
import pytest
from recordings import (
    CHANGES,
    GROUP,
    LARGE,
    NO_MODES,
    RECORDING,
    SMALL,
    agents,
    case_recording,
)
from scipy import stats

from collective_variables.papers import claims, claims_2024
from collective_variables.papers.claims_2024 import FINDINGS, Group
from collective_variables.training.study_cases import Case


def evidence(**groups):
    return claims_2024.evidence(groups).set_index(["claim", "group", "parametrisation"])


def test_effects_are_means_over_members_with_students_interval_and_test():
    table = evidence(fuel=GROUP)
    for row, values in {
        ("F1", "fuel", "width 10"): CHANGES,
        ("F2", "fuel", "width 100"): CHANGES + 1.5,
    }.items():
        test = stats.ttest_1samp(values, 0.0)
        expected = [values.mean(), *test.confidence_interval(0.95), test.pvalue, 4]
        assert table.loc[
            row, ["effect", "lower", "upper", "p_value", "n"]
        ].tolist() == pytest.approx(expected)
    difference = table.loc[("F3", "fuel", "width 100 − width 10")]
    assert difference["effect"] == pytest.approx(1.5) and difference["lower"] == pytest.approx(1.5)
    assert table.loc["F4", "effect"].tolist() == pytest.approx([-1.0, -1.0])
    assert table.loc["F5", "effect"].tolist() == pytest.approx([1.0, 1.0])
    assert set(table["verdict"]) == {"supported"} and not table.index.duplicated().any()


def test_a_finding_that_does_not_hold_is_not_supported():
    swapped = pd.concat(
        [case_recording(SMALL, CHANGES + 1.5, 0.7), case_recording(LARGE, CHANGES, 0.5)],
        ignore_index=True,
    )
    judgements = claims.judge_claims(
        claims_2024.evidence({"fuel": GROUP._replace(recording=swapped)}), FINDINGS
    ).set_index("claim")
    assert judgements["verdict"].to_dict() == dict.fromkeys(
        ("F1", "F2", "F3", "F4", "F5"), "not supported"
    ) | {"F6": "undecided"}
    assert judgements.loc["F6", "why"] == "No runs available."


def test_a_change_below_the_resolution_supports_nothing_however_significant():
    flat = pd.concat(
        [case_recording(SMALL, CHANGES / 100), case_recording(LARGE, -CHANGES / 100)],
        ignore_index=True,
    )
    table = evidence(fuel=GROUP._replace(recording=flat))
    assert (table.loc["F1", "p_value"] < 0.01).all()
    assert table.loc[["F1", "F2", "F3"], "verdict"].tolist() == ["not supported"] * 3


def test_members_that_diverged_and_networks_without_three_others_are_left_out():
    broken = RECORDING.copy()
    broken.loc[
        (broken["width"] == 10) & (broken["member"] == 0) & (broken["epoch"] == 10),
        ["entropy", "trace"],
    ] = np.nan
    broken.loc[
        (broken["width"] == 100) & (broken["member"] < 2) & (broken["epoch"] == 1),
        ["entropy", "trace"],
    ] = np.nan
    table = evidence(fuel=GROUP._replace(recording=broken))
    assert table.loc[("F1", "fuel", "width 10"), "n"] == 3
    assert table.loc[("F1", "fuel", "width 10"), "effect"] == pytest.approx(CHANGES[1:].mean())
    assert ("F2", "fuel", "width 100") not in table.index and (
        "F5",
        "fuel",
        "width 100",
    ) not in table.index


def test_a_constant_trace_goes_with_nothing():
    constant = GROUP._replace(recording=RECORDING.assign(trace=1.0))
    table = evidence(fuel=constant)
    assert "F4" not in table.index and table.loc["F5", "verdict"].tolist() == ["not supported"] * 2


def test_a_map_has_the_ends_of_each_row_and_column():
    cases = [Case("relu", width, depth, 20, 20) for width in (10, 30, 100) for depth in (1, 4)]
    table = pd.concat(
        [case_recording(case, CHANGES * case.depth / case.width) for case in cases],
        ignore_index=True,
    )
    table = evidence(map=Group(table, {"map": cases}, NO_MODES, "dense"))
    small = {"width 10, depth 1", "width 10, depth 4", "width 30, depth 1", "width 100, depth 1"}
    large = {"width 100, depth 1", "width 100, depth 4", "width 10, depth 4", "width 30, depth 4"}
    assert set(table.loc["F1"].loc["map"].index) == small
    assert set(table.loc["F2"].loc["map"].index) == large
    assert table.loc[("F1", "map", "width 10, depth 4"), "effect"] == pytest.approx(
        CHANGES.mean() * 4 / 10
    )


def test_networks_that_are_meant_to_fail_do_not_test_universality():
    noisy = Case("relu", 10, 2, 20, 20, label_noise=0.5)
    table = pd.concat(
        [case_recording(SMALL, CHANGES), case_recording(noisy, CHANGES, 0.1)], ignore_index=True
    )
    table = evidence(failures=Group(table, {"noise": [SMALL, noisy]}, NO_MODES, "dense"))
    assert table.loc["F5", "effect"].tolist() == pytest.approx([1.0])


def test_of_an_agent_the_trace_goes_with_the_reward():
    table = evidence(agent=agents())
    assert table.loc["F4"].loc["agent", "effect"].to_dict() == pytest.approx(
        {"actor": -1.0, "critic": -1.0}
    )
    assert table.loc["F2"].loc["agent", "effect"].to_dict() == pytest.approx(
        {"actor": 1.0, "critic": -1.0}
    )


def modes(errors):
    """Three modes of two members at two epochs, whose errors are 1 at first."""
    rows = [
        {
            "member": member,
            "points": "train",
            "epoch": epoch,
            "mode": mode,
            "eigenvalue": 3.0 - mode,
            "residual": value,
        }
        for member in range(3)
        for epoch, residuals in ((0, [1.0, 1.0, 1.0]), (4, errors), (8, errors[::-1]))
        for mode, value in enumerate(residuals)
    ]
    return pd.DataFrame(rows)


def test_modes_are_compared_at_the_first_epoch_behind_the_initial_one():
    assert claims_2024.mode_speeds(modes([0.1, 0.5, 0.9])).tolist() == pytest.approx([1.0] * 3)
    assert claims_2024.mode_speeds(modes([0.5, 0.1, 0.9])).tolist() == pytest.approx([0.5] * 3)
    both = pd.concat(
        [modes([0.9, 0.5, 0.1]).assign(points="test"), modes([0.1, 0.5, 0.9])], ignore_index=True
    )
    table = evidence(fuel=GROUP._replace(modes=both[["member", *both.columns.drop("member")]]))
    assert table.loc[("F6", "fuel", "dense"), ["effect", "n"]].tolist() == pytest.approx([1.0, 3])


def test_networks_are_named_by_what_differs():
    assert [name for name, _ in claims_2024.split_networks(GROUP.recording)] == [
        "width 10",
        "width 100",
    ]
    assert [name for name, _ in claims_2024.split_networks(case_recording(SMALL, CHANGES))] == [""]
    assert (
        claims_2024.network_name({"activation": "tanh", "label_noise": 0.5, "network": "actor"})
        == "tanh, label noise 0.5, actor"
    )


def recording_with(correlations):
    """A recording in which trace and loss of each member have this rank correlation, -1 or less.

    Of five epochs a number of neighbouring pairs are exchanged.
    """
    parts = []
    for member, n_exchanged in enumerate(correlations):
        trace = np.arange(5.0)
        for place in range(n_exchanged):
            trace[[2 * place, 2 * place + 1]] = trace[[2 * place + 1, 2 * place]]
        columns = {"epoch": np.arange(5), "entropy": 1.0 + np.arange(5), "trace": 1.0 + trace}
        parts.append(pd.DataFrame(columns | {"loss": 5.0 - np.arange(5)}).assign(member=member))
    return pd.concat(parts, ignore_index=True)[["member", "epoch", "entropy", "trace", "loss"]]


def test_an_interval_of_correlations_does_not_leave_their_range_and_their_mean_stays():
    table = recording_with([0, 0, 0, 1])
    table.insert(1, "points", "train")
    group = Group(table, {}, NO_MODES, "resnet")
    (row,) = claims_2024.evidence({"a": group}).query("claim == 'F4'").to_dict("records")
    values = np.array([-1.0, -1.0, -1.0, -0.9])
    test = stats.ttest_1samp(values, 0.0)
    assert row["effect"] == pytest.approx(values.mean())
    assert test.confidence_interval(0.95).low < -1.0 == row["lower"]
    assert row["upper"] == pytest.approx(test.confidence_interval(0.95).high)
    assert row["p_value"] == pytest.approx(test.pvalue) and row["verdict"] == "supported"
