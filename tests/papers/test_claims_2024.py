"""Findings on recordings made by hand, whose effects are known."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from collective_variables.papers import claims, claims_2024
from collective_variables.papers.claims_2024 import FINDINGS, Group
from collective_variables.training.study_cases import Case

EPOCHS = (0, 1, 10, 100)
CHANGES = np.array(
    [-0.5, -0.4, -0.6, -0.5]
)  # of the entropy of the members of the smallest network
NO_MODES = pd.DataFrame({"activation": [], "points": []})


def curve(member, entropy_change, trace_factor, **labels):
    """A member whose entropy, logarithm of the trace and logarithm of the loss are linear in the
    number of the epoch.
    """
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


def of_case(case, changes, factor=np.e):
    return pd.concat(
        [curve(member, change, factor, **asdict(case)) for member, change in enumerate(changes)]
    )


SMALL, LARGE = (Case("relu", width, 2, 20, 20) for width in (10, 100))
RECORDING = pd.concat([of_case(SMALL, CHANGES), of_case(LARGE, CHANGES + 1.5)], ignore_index=True)
TEST = RECORDING.assign(points="test", entropy=-RECORDING["entropy"], trace=1 / RECORDING["trace"])
GROUP = Group(
    pd.concat([RECORDING, TEST], ignore_index=True), {"width": [LARGE, SMALL]}, NO_MODES, "dense"
)


def evidence(**groups):
    return claims_2024.evidence(groups).set_index(["claim", "group", "parametrisation"])


def test_effects_are_means_over_members_with_students_interval_and_test():
    found = evidence(fuel=GROUP)
    for row, values in {
        ("F1", "fuel", "width 10"): CHANGES,
        ("F2", "fuel", "width 100"): CHANGES + 1.5,
    }.items():
        test = stats.ttest_1samp(values, 0.0)
        expected = [values.mean(), *test.confidence_interval(0.95), test.pvalue, 4]
        assert found.loc[
            row, ["effect", "lower", "upper", "p_value", "n"]
        ].tolist() == pytest.approx(expected)
    of_size = found.loc[("F3", "fuel", "width 100 − width 10")]
    assert of_size["effect"] == pytest.approx(1.5) and of_size["lower"] == pytest.approx(1.5)
    assert found.loc["F4", "effect"].tolist() == pytest.approx([-1.0, -1.0])
    assert found.loc["F5", "effect"].tolist() == pytest.approx([1.0, 1.0])
    assert set(found["verdict"]) == {"supported"} and not found.index.duplicated().any()


def test_a_finding_that_does_not_hold_is_said_to_be_none():
    swapped = pd.concat(
        [of_case(SMALL, CHANGES + 1.5, 0.7), of_case(LARGE, CHANGES, 0.5)], ignore_index=True
    )
    judged = claims.judge_claims(
        claims_2024.evidence({"fuel": GROUP._replace(recording=swapped)}), FINDINGS
    ).set_index("claim")
    assert judged["verdict"].to_dict() == dict.fromkeys(
        ("F1", "F2", "F3", "F4", "F5"), "not supported"
    ) | {"F6": "undecided"}
    assert judged.loc["F6", "why"] == "No run tells."


def test_a_change_below_the_resolution_is_none_however_significant():
    flat = pd.concat(
        [of_case(SMALL, CHANGES / 100), of_case(LARGE, -CHANGES / 100)], ignore_index=True
    )
    found = evidence(fuel=GROUP._replace(recording=flat))
    assert (found.loc["F1", "p_value"] < 0.01).all()
    assert found.loc[["F1", "F2", "F3"], "verdict"].tolist() == ["not supported"] * 3


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
    found = evidence(fuel=GROUP._replace(recording=broken))
    assert found.loc[("F1", "fuel", "width 10"), "n"] == 3
    assert found.loc[("F1", "fuel", "width 10"), "effect"] == pytest.approx(CHANGES[1:].mean())
    assert ("F2", "fuel", "width 100") not in found.index and (
        "F5",
        "fuel",
        "width 100",
    ) not in found.index


def test_a_constant_trace_goes_with_nothing():
    constant = GROUP._replace(recording=RECORDING.assign(trace=1.0))
    found = evidence(fuel=constant)
    assert "F4" not in found.index and found.loc["F5", "verdict"].tolist() == ["not supported"] * 2


def test_a_map_has_the_ends_of_each_row_and_column():
    cases = [Case("relu", width, depth, 20, 20) for width in (10, 30, 100) for depth in (1, 4)]
    table = pd.concat(
        [of_case(case, CHANGES * case.depth / case.width) for case in cases], ignore_index=True
    )
    found = evidence(map=Group(table, {"map": cases}, NO_MODES, "dense"))
    small = {"width 10, depth 1", "width 10, depth 4", "width 30, depth 1", "width 100, depth 1"}
    large = {"width 100, depth 1", "width 100, depth 4", "width 10, depth 4", "width 30, depth 4"}
    assert set(found.loc["F1"].loc["map"].index) == small
    assert set(found.loc["F2"].loc["map"].index) == large
    assert found.loc[("F1", "map", "width 10, depth 4"), "effect"] == pytest.approx(
        CHANGES.mean() * 4 / 10
    )


def test_networks_that_are_to_fail_say_nothing_of_universality():
    noisy = Case("relu", 10, 2, 20, 20, label_noise=0.5)
    table = pd.concat([of_case(SMALL, CHANGES), of_case(noisy, CHANGES, 0.1)], ignore_index=True)
    found = evidence(failures=Group(table, {"noise": [SMALL, noisy]}, NO_MODES, "dense"))
    assert found.loc["F5", "effect"].tolist() == pytest.approx([1.0])


def agents():
    parts = [
        curve(member, change, np.e, network=network).assign(
            points="observations", reward=EPOCHS, loss=np.nan
        )
        for network, change in (("actor", 1.0), ("critic", -1.0))
        for member in range(4)
    ]
    return Group(pd.concat(parts, ignore_index=True), {}, NO_MODES, "agent")


def test_of_an_agent_the_trace_goes_with_the_reward():
    found = evidence(agent=agents())
    assert found.loc["F4"].loc["agent", "effect"].to_dict() == pytest.approx(
        {"actor": -1.0, "critic": -1.0}
    )
    assert found.loc["F2"].loc["agent", "effect"].to_dict() == pytest.approx(
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
        for epoch, of_epoch in ((0, [1.0, 1.0, 1.0]), (4, errors), (8, errors[::-1]))
        for mode, value in enumerate(of_epoch)
    ]
    return pd.DataFrame(rows)


def test_modes_are_compared_at_the_first_epoch_behind_the_initial_one():
    assert claims_2024.mode_speeds(modes([0.1, 0.5, 0.9])).tolist() == pytest.approx([1.0] * 3)
    assert claims_2024.mode_speeds(modes([0.5, 0.1, 0.9])).tolist() == pytest.approx([0.5] * 3)
    both = pd.concat(
        [modes([0.9, 0.5, 0.1]).assign(points="test"), modes([0.1, 0.5, 0.9])], ignore_index=True
    )
    found = evidence(fuel=GROUP._replace(modes=both[["member", *both.columns.drop("member")]]))
    assert found.loc[("F6", "fuel", "dense"), ["effect", "n"]].tolist() == pytest.approx([1.0, 3])


def summary(**groups):
    return claims_2024.summary(groups, claims_2024.phases(groups))


def test_the_summary_has_both_ends_and_the_regime():
    found = summary(fuel=GROUP, agent=agents()).set_index(["group", "network", "points"])
    small = found.loc[("fuel", "width 10", "train")]
    assert small[["entropy_first", "trace_first", "loss_first"]].tolist() == [2.0, 3.0, 1.0]
    assert small[["entropy_last", "trace_last", "loss_last"]].tolist() == pytest.approx(
        [1.5, 3 * np.e, 0.1]
    )
    assert small["regime"] == "information compression" and small["n_members"] == 4
    assert found.loc[("fuel", "width 100", "train"), "regime"] == "structure formation"
    assert found.loc[("fuel", "width 100", "test"), "regime"] == "information compression"
    assert found.loc[("agent", "critic", "observations"), "regime"] == "information compression"
    few = GROUP._replace(recording=RECORDING[RECORDING["member"] < 2])
    assert set(summary(fuel=few)["regime"]) == {"too few members"}


def test_phases_are_those_of_each_network_under_its_name():
    found = claims_2024.phases({"fuel": GROUP})
    assert found[["network", "points", "kind"]].values.tolist() == [
        ["width 10", "train", "information compression"],
        ["width 10", "test", "structure formation"],
        ["width 100", "train", "structure formation"],
        ["width 100", "test", "information compression"],
    ]
    assert found["change"].tolist() == pytest.approx([-0.5, 0.5, 1.0, -1.0])


def test_power_laws_are_fitted_for_each_depth_where_there_are_three_widths():
    cases = [Case("relu", width, depth, 20, 20) for width in (10, 30, 100) for depth in (1, 4)]
    parts = []
    for case in cases:
        table = of_case(case, CHANGES)
        parts.append(table.assign(trace=case.width ** (0.5 * case.depth) * (1 + table["epoch"])))
    group = Group(pd.concat(parts, ignore_index=True), {"map": cases}, NO_MODES, "dense")
    found = claims_2024.power_laws({"map": group, "fuel": GROUP})
    assert list(found.columns) == list(claims_2024.LAWS) and set(found["group"]) == {"map"}
    of_trace = found[found["variable"] == "trace"].set_index(["depth", "epoch"])["exponent"]
    assert of_trace.to_dict() == pytest.approx(
        {(1, 0): 0.5, (1, 100): 0.5, (4, 0): 2.0, (4, 100): 2.0}
    )
    assert claims_2024.power_laws({"fuel": GROUP}).empty


def test_networks_are_named_by_what_differs():
    assert [name for name, _ in claims_2024.split_networks(GROUP.recording)] == [
        "width 10",
        "width 100",
    ]
    assert [name for name, _ in claims_2024.split_networks(of_case(SMALL, CHANGES))] == [""]
    assert (
        claims_2024.network_name({"activation": "tanh", "label_noise": 0.5, "network": "actor"})
        == "tanh, label noise 0.5, actor"
    )
