"""What counts as a moved number, on tables by hand; test_experiments.py runs the whole check."""

import numpy as np
import pandas as pd
import pytest
from project import ROOT

from benchmarks import check_reproduction
from benchmarks.pages import paper_scale
from benchmarks.pages.files import PAPER
from collective_variables.analysis import correlation, statistics

BOTH = ["random", "rnd"]


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
    table = check_reproduction.compare(
        *(check_reproduction.means(runs) for runs in (summary(), found))
    )
    changed = table[check_reproduction.has_moved(table)]
    return {
        (row.split(", ")[2], quantity) for row, quantity in zip(changed["row"], changed["quantity"])
    }


@pytest.mark.parametrize(
    "name, difference, expected",
    [
        ("entropy", 0.0001, set()),
        ("entropy", 0.001, {"random"}),
        ("trace", 0.19, {"random"}),
        ("trace", 0.21, {"random", "rnd"}),
        ("min_test_loss", 0.049, set()),
        ("min_test_loss", 0.052, {"random"}),
        ("final_test_loss", -0.21, {"random", "rnd"}),
        ("max_test_accuracy", np.nan, {"random", "rnd"}),
    ],
)
def test_a_mean_moves_when_it_differs_by_more_than_its_kind_may(name, difference, expected):
    assert moved_quantities(summary(**{name: 2.0 + difference})) == {
        (method, name) for method in expected
    }


def test_a_row_that_is_missing_or_new_has_moved_and_two_missing_values_have_not():
    assert moved_quantities(summary()) == set()
    assert moved_quantities(summary().iloc[:1]) == {("rnd", name) for name in statistics.VARIABLES}
    other = summary().assign(method=["random", "k-center"])
    assert moved_quantities(other) == {
        (method, name) for method in ("rnd", "k-center") for name in statistics.VARIABLES
    }
    nothing = check_reproduction.means(summary(max_test_accuracy=np.nan))
    assert not check_reproduction.has_moved(check_reproduction.compare(nothing, nothing)).any()


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
            check_reproduction.effects(part, "correlations", correlation.ROWS, "coefficient")
            for part in (reference, found)
        )
        assert check_reproduction.has_moved(check_reproduction.compare(*tables)).tolist() == [
            expected
        ]


def test_the_committed_reference_is_of_the_committed_groups_and_complete():
    groups = {path.name for path in ROOT.glob("reference/*.csv")}
    assert {"summary.csv", "correlations.csv", "evidence.csv"} <= groups
    known = check_reproduction.known_groups()
    table = check_reproduction.numbers(ROOT / "reference", known, with_claims=True)
    assert not table.duplicated(["table", "row", "quantity"]).any()
    for name in ("summary", "correlations", "claims"):
        rows = table.loc[table["table"] == name, "row"]
        assert {group for group in known if rows.str.contains(f"{group}, ").any()} == set(known)


def test_the_evidence_is_of_what_is_kept_of_the_papers_scale():
    runs, about = paper_scale.read_runs()
    evidence = pd.read_csv(PAPER / "evidence.csv")
    assert set(runs["group"]) == set(about) == set(evidence["group"])
    run_rows = evidence[evidence["claim"].isin(["C1", "C4", "C5", "C6"])].set_index(
        ["group", "parametrisation"]
    )["n"]
    counts = runs[~runs["diverged"]].groupby(["group", "parametrisation"]).size()
    assert (run_rows == counts.loc[run_rows.index]).all()
    dynamics = pd.read_csv(PAPER / "evidence-dynamics.csv")
    assert set(paper_scale.describe_groups("ScalingStudy")) == set(dynamics["group"])
