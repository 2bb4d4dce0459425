"""The statistics of rounds of labelling, on tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import label_results


def played(factors, *, task="regression", n_repeats=12, tables=("a", "b")):
    """Rounds in which a rule's error is a factor times that of random rows, up to noise."""
    generator = np.random.default_rng(0)
    rows = []
    for table in tables:
        for repeat in range(n_repeats):
            base = generator.uniform(1.0, 2.0)
            for method, factor in {"random": 1.0, **factors}.items():
                for number in range(3):
                    wanted = 1.0 if number == 0 else factor
                    noise = np.exp(0.01 * generator.normal()) if method != "random" else 1.0
                    rows.append(
                        {
                            "table": table,
                            "task": task,
                            "method": method,
                            "repeat": repeat,
                            "round": number,
                            "n_labelled": 10 * (number + 1),
                            "error": base * wanted * noise / (number + 1),
                            "entropy": 5.0 - wanted,
                            "trace": wanted,
                            "batch_entropy": generator.normal(),
                            "batch_trace": generator.normal(),
                            "choice_seconds": 1.0,
                        }
                    )
    return pd.DataFrame(rows)


def test_gains_are_geometric_means_over_tables():
    table = played({"better": 0.8, "worse": 1.1})
    for name in ("final", "area"):
        found = label_results.gains(label_results.scores(table), name)
        assert np.exp(found.loc["better", "mean"]) == pytest.approx(0.8, abs=0.01)
        assert np.exp(found.loc["worse", "mean"]) == pytest.approx(1.1, abs=0.01)
        assert (found["lower"] < found["mean"]).all() and (found["mean"] < found["upper"]).all()
        assert found.loc["better", "error"] < 0.01


def test_the_area_leaves_the_shared_first_round_out():
    table = played({"better": 0.5}, n_repeats=1, tables=("a",))
    scored = label_results.scores(table)
    rounds = table.pivot_table(index="round", columns="method", values="error")
    expected = np.log(rounds["better"] / rounds["random"])
    assert scored["area"].item() == pytest.approx(expected[1:].mean())
    assert scored["final"].item() == pytest.approx(expected[2])


def test_classes_are_compared_by_differences():
    table = played({"better": 0.5}, task="classification", n_repeats=1, tables=("a",))
    last = table[table["round"] == 2].set_index("method")["error"]
    scored = label_results.scores(table)
    assert scored["final"].item() == pytest.approx(last["better"] - last["random"])


def test_wins_count_repeats_and_tables_that_survive_holm():
    found = label_results.wins(label_results.scores(played({"better": 0.8, "same": 1.0})), "final")
    assert found.loc["better", "rate"] == 1.0 and found.loc["better", "better"] == 2
    assert found.loc["same", ["better", "worse"]].sum() == 0
    assert found.loc["same", "lower"] < 0.5 < found.loc["same", "upper"]


def test_holm_and_wilson_are_those_of_the_books():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert label_results.holm(p).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    interval = stats.binomtest(7, 20).proportion_ci(method="wilson")
    assert label_results.wilson(7, 20) == pytest.approx((interval.low, interval.high))


def test_variables_go_with_the_error_between_rules():
    found = label_results.variables(played({"better": 0.8, "worse": 1.2})).set_index("variable")
    # Errors are exact multiples of what trace and entropy follow, up to noise of 1 %.
    assert found.loc["trace", "correlation"] == pytest.approx(2 / 3, abs=0.01)
    assert found.loc["entropy", "correlation"] == pytest.approx(-2 / 3, abs=0.01)
    assert abs(found.loc["batch_trace", "correlation"]) < 0.3


def test_a_diverged_run_enters_no_mean_and_is_counted():
    table = played({"better": 0.8})
    lost = (table["method"] == "better") & (table["repeat"] == 0)
    table.loc[lost, "error"] = np.nan
    found = label_results.gains(label_results.scores(table), "final")
    assert np.exp(found.loc["better", "mean"]) == pytest.approx(0.8, abs=0.01)
    assert "6 of 144 rounds have no result" in label_results.report(table)


def test_the_report_says_whether_the_bar_is_met():
    assert "PASS: better has a geometric mean of RMSE 2" in label_results.report(
        played({"better": 0.8, "lcmd": 0.81})
    )
    report = label_results.report(played({"better": 0.95, "lcmd": 0.97}))
    assert "FAIL: better" in report and "better minus lcmd: -2" in report
    assert "measured" not in report


def test_the_report_has_the_measured_tables_alone():
    table = pd.concat(
        [played({"better": 0.8}, tables=("a",)), played({"better": 0.9}, tables=("b",))]
    )
    report = label_results.report(table, made=("a",))
    assert "PASS: better has a geometric mean of RMSE 15" in report
    assert "better on the 1 measured tables alone: -10" in report
