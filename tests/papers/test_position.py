"""Claims on spectral position and scaling, on recordings whose laws are known."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from collective_variables.papers.claims_2024 import Group
from collective_variables.papers.position import claims, figures, results
from collective_variables.training.study_cases import Case

EPOCHS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128])
WIDTHS = (10, 20, 40, 80)
SIZES = (50, 100, 200, 400)
MODEL = [Case("relu", width, 2, 400, 400) for width in WIDTHS]
DATA = [Case("relu", 40, 2, n, n) for n in SIZES]
FROZEN = [Case("relu", 40, 2, 400, 400, features=name) for name in ("learned", "linearised")]


def n_parameters(case):
    return 100 * case.width**2


def curve(case, member, *, alpha=0.5, beta=0.5, collapse=0.0):
    """A network whose χ_pos is a power of compute / parameters^collapse, and its losses of both
    sizes with exponents −alpha and −beta.
    """
    size, shift = n_parameters(case), 1 + 0.01 * member
    compute = 6.0 * size * EPOCHS * case.n_points
    seen = np.maximum(compute / size**collapse, 1.0)
    position = 0.5 * seen**-0.1 if case.features == "learned" else np.full(len(EPOCHS), 0.2)
    decay = 10.0 ** -(EPOCHS / EPOCHS[-1])
    loss = decay * case.n_points**-alpha * size**-beta
    if case.features != "learned":
        loss = 3 * loss
    columns = {
        "member": member,
        "points": "train",
        "epoch": EPOCHS,
        "loss": loss * shift,
        "chi_pos": position * shift,
        "effective_entropy": case.n_points**0.1 / case.width**0.1,
        "trace_per_point": case.width**0.2 / case.n_points**0.2,
        "drift": (EPOCHS > 0) * case.width**-0.5 * shift,
        "n_parameters": size,
    }
    return pd.DataFrame(asdict(case) | columns)


def group(studies, **options):
    cases = list(dict.fromkeys(case for listed in studies.values() for case in listed))
    parts = [curve(case, member, **options) for case in cases for member in range(4)]
    table = pd.concat(parts, ignore_index=True)
    both = pd.concat([table, table.assign(points="test")], ignore_index=True)
    return Group(both, studies, pd.DataFrame({"activation": [], "points": []}), "dense")


def evidence(studies, **options):
    return claims.evidence({"g": group(studies, **options)}).set_index(["claim", "parametrisation"])


def test_laws_are_found_with_their_exponents():
    found = evidence({"model": MODEL, "data": DATA}, alpha=0.4, beta=0.15)
    row = found.loc[("H1a", "points − parameters")]
    assert row["effect"] == pytest.approx(-0.4 + 0.15) and row["verdict"] == "not supported"
    products = found.loc["H1b"]
    # χ_pos falls with both sizes, the other two with one.
    assert products["effect"].tolist() == pytest.approx([-1, -1, 1])
    assert products["verdict"].tolist() == ["supported"] * 2 + ["not supported"]
    drift = found.loc[("H2", "model")]
    assert drift["effect"] == pytest.approx(-0.5) and drift["verdict"] == "supported"


@pytest.mark.parametrize("collapse", [0.0, 0.5, 1.0])
def test_compute_until_a_level_has_the_exponent_of_the_curves(collapse):
    found = evidence({"model": MODEL}, collapse=collapse).loc[("G4", "model")]
    assert found["effect"] == pytest.approx(collapse, abs=0.02)
    assert found["verdict"] == ("supported" if collapse == 0 else "not supported")


def test_positions_fall_and_larger_networks_reach_lower():
    found = evidence({"model": MODEL})
    assert len(found.loc["G1"]) == len(WIDTHS) and (found.loc["G1", "verdict"] == "supported").all()
    smallest = np.log(0.5 * (6.0 * 100 * 10**2 * 128 * 400) ** -0.1 / 0.5)
    assert found.loc[("G1", "width 10"), "effect"] == pytest.approx(smallest)
    reach = found.loc[("G2", "width 80 − width 10")]
    assert reach["effect"] == pytest.approx(-0.1 * np.log(64)) and reach["verdict"] == "supported"


def test_frozen_features_are_compared_with_learned_ones():
    found = evidence({"features": FROZEN})
    rows = found.loc[("G3", "width 40, linearised")].set_index("variable")
    lowest = 0.5 * (6.0 * 100 * 40**2 * 128 * 400) ** -0.1
    assert rows.loc["chi_pos", "effect"] == pytest.approx(np.log(0.2 / lowest))
    assert rows.loc["loss", "effect"] == pytest.approx(np.log(3))
    assert (rows["verdict"] == "supported").all()
    # They are no ends of a study, and no part of what learned networks do.
    assert set(found.index.get_level_values("claim")) == {"G1", "G3"}
    assert len(found.loc["G1"]) == 1


def test_a_level_that_a_size_does_not_pass_gives_no_exponent():
    table = pd.concat([curve(case, 0) for case in MODEL], ignore_index=True)
    table.loc[table["width"] == 10, "chi_pos"] = 0.5
    assert claims.passing_exponents(table).isna().all()


def test_recordings_without_positions_have_no_evidence_and_no_picture():
    one = group({"model": MODEL})
    one = one._replace(recording=one.recording.drop(columns="chi_pos"))
    assert len(claims.evidence({"g": one})) == 0 and results.pictures({"g": one}) == []


def test_only_studies_of_few_networks_are_drawn():
    many = [Case("relu", width, 2, 400, 400) for width in (10, 20, 40, 80, 160)]
    (picture,) = results.pictures({"g": group({"model": MODEL, "many": many})})
    assert picture.name == "position-g"
    lines = [trace for trace in picture.figure.data if trace.mode == "lines"]
    # χ_pos over epochs and over compute, and the loss of both kinds of points.
    assert len(lines) == len(WIDTHS) * 4


def test_lines_are_means_over_members_against_epochs_and_compute():
    table = pd.concat([curve(MODEL[0], member) for member in range(4)], ignore_index=True)
    figure = figures.positions({"model": {"width 10": table}})
    over_epochs, over_compute = (
        trace for trace in figure.data if trace.mode == "lines" and trace.xaxis != "x3"
    )
    assert over_epochs.x.tolist() == (EPOCHS + 1).tolist()
    assert over_compute.x.tolist() == (6.0 * 10_000 * EPOCHS[1:] * 400).tolist()
    means = table.groupby("epoch")["chi_pos"].mean()
    np.testing.assert_allclose(over_epochs.y, means)
    np.testing.assert_allclose(over_compute.y, means[1:])
    assert all(axis.type == "log" for axis in figure.select_xaxes())
