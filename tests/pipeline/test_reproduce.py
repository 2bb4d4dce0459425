"""What counts as a moved number, on tables by hand; test_experiments.py runs the whole check."""

import sys

import numpy as np
import pandas as pd
import pytest
from project import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import reproduce
import scale_report

from collective_variables.analysis import correlation, statistics

BOTH = ["random", "paper"]


def summary(**changes):
    """A size of two methods: every variable 2 with a standard error of 0.1."""
    table = pd.DataFrame(
        {
            "group": "fuel",
            "parametrisation": "ntk",
            "method": BOTH,
            "n_points_low": 8,
            "n_points_high": 8,
        }
    )
    columns = dict.fromkeys(statistics.VARIABLES, 2.0) | {
        f"{name}_standard_error": 0.1 for name in statistics.VARIABLES
    }
    return table.assign(**columns).assign(**changes)


def moved_quantities(found):
    table = reproduce.compared(*(reproduce.means(of) for of in (summary(), found)))
    changed = table[reproduce.moved(table)]
    return {
        (of.split(", ")[2], quantity) for of, quantity in zip(changed["of"], changed["quantity"])
    }


@pytest.mark.parametrize(
    "name, difference, expected",
    [
        ("entropy", 0.0001, set()),
        ("entropy", 0.001, {"random"}),
        ("trace", 0.19, {"random"}),
        ("trace", 0.21, {"random", "paper"}),
        ("min_test_loss", 0.049, set()),
        ("min_test_loss", 0.052, {"random"}),
        ("final_test_loss", -0.21, {"random", "paper"}),
        ("max_test_accuracy", np.nan, {"random", "paper"}),
    ],
)
def test_a_mean_moves_when_it_differs_by_more_than_its_kind_may(name, difference, expected):
    assert moved_quantities(summary(**{name: 2.0 + difference})) == {
        (method, name) for method in expected
    }


def test_a_row_that_is_missing_or_new_has_moved_and_two_missing_values_have_not():
    assert moved_quantities(summary()) == set()
    assert moved_quantities(summary().iloc[:1]) == {
        ("paper", name) for name in statistics.VARIABLES
    }
    other = summary().assign(method=["random", "k-center"])
    assert moved_quantities(other) == {
        (method, name) for method in ("paper", "k-center") for name in statistics.VARIABLES
    }
    nothing = reproduce.means(summary(max_test_accuracy=np.nan))
    assert not reproduce.moved(reproduce.compared(nothing, nothing)).any()


@pytest.mark.parametrize(
    "outcome, allowed", [("min_test_loss", 0.1), ("min_train_loss", 0.2), ("final_train_loss", 0.2)]
)
def test_a_coefficient_may_move_by_half_of_its_half_width_and_one_of_a_train_loss_by_the_whole(
    outcome, allowed
):
    pair = {
        "group": "a",
        "parametrisation": "ntk",
        "kind": "pearson",
        "x_variable": "trace",
        "y_variable": outcome,
    }
    reference = pd.DataFrame([pair | {"coefficient": -0.5, "lower": -0.7, "upper": -0.3}])
    for difference, expected in ((0.9, False), (1.1, True), (-1.1, True)):
        found = reference.assign(coefficient=-0.5 + difference * allowed)
        tables = (
            reproduce.effects(of, "correlations", correlation.ROWS, "coefficient")
            for of in (reference, found)
        )
        assert reproduce.moved(reproduce.compared(*tables)).tolist() == [expected]


def test_the_committed_reference_is_of_the_committed_groups_and_complete():
    groups = {path.name for path in ROOT.glob("reference/*.csv")}
    assert {"summary.csv", "correlations.csv", "evidence.csv"} <= groups
    params = reproduce.yaml.safe_load((ROOT / "params.yaml").read_text())
    known = [
        name.removesuffix("_CorrelationAnalysis")
        for name in params
        if name.endswith("_CorrelationAnalysis")
    ]
    table = reproduce.numbers(ROOT / "reference", known, with_claims=True)
    assert not table.duplicated(["table", "of", "quantity"]).any()
    for name in ("summary", "correlations", "claims"):
        of = table.loc[table["table"] == name, "of"]
        assert {group for group in known if of.str.contains(f"{group}, ").any()} == set(known)


def test_the_readme_has_what_is_kept_of_the_papers_scale():
    runs, about = scale_report.kept()
    evidence = pd.read_csv(scale_report.KEPT / "evidence.csv")
    first = runs[~statistics.compares_methods(runs)]
    assert (
        scale_report.section(first, scale_report.analyses(runs), about, evidence)
        in (ROOT / "README.md").read_text()
    )
    assert set(runs["group"]) == set(about) == set(evidence["group"])
    of_runs = evidence[evidence["claim"].isin(["C1", "C4", "C5", "C6"])].set_index(
        ["group", "parametrisation"]
    )["n"]
    counts = runs[~runs["diverged"]].groupby(["group", "parametrisation"]).size()
    assert (of_runs == counts.loc[of_runs.index]).all()
    _, of_studies = scale_report.kept_studies()
    of_dynamics = pd.read_csv(scale_report.KEPT / "evidence-dynamics.csv")
    assert (
        scale_report.section_of_studies(of_studies, of_dynamics) in (ROOT / "README.md").read_text()
    )
    assert set(of_studies) == set(of_dynamics["group"])
