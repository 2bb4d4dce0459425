"""Learning curves of rounds of labelling, on tables made by hand."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from collective_variables.analysis import labelling_curves
from collective_variables.papers import labels, report
from collective_variables.papers.labelling import figures, results
from plots import TEMPLATES, draw, having, words

SIZES, METHODS = (10, 20, 30), ("random", "lcmd", "rnd-linearised")


@functools.cache
def played(*, factor=0.5, n_repeats=5, is_classification=False, methods=METHODS):
    """Rounds in which "lcmd" has `factor` times the error of random rows after the first round."""
    generator = np.random.default_rng(0)
    rows = []
    for repeat in range(n_repeats):
        scatter = np.exp(0.1 * generator.normal())
        for method in methods:
            for number, n in enumerate(SIZES):
                error = scatter * n**-0.5 * (factor if method == "lcmd" and number else 1.0)
                error *= np.exp(0.01 * generator.normal())
                accuracy = 1 - error if is_classification else np.nan
                about = {"method": method, "repeat": repeat, "round": number, "n_labelled": n}
                variables = {"entropy": np.log(n) * scatter, "trace": n * scatter}
                rows.append(about | {"error": error, "accuracy": accuracy} | variables)
    return pd.DataFrame(rows)


def both():
    return {"fuel": played(), "mnist": played(factor=0.99, is_classification=True)}


def test_each_problem_has_a_column_and_each_method_a_line_with_its_intervals():
    figure = figures.learning_curves(both())
    assert len(figure.data) == 2 * 3 * 3
    assert [note.text for note in figure.layout.annotations] == ["fuel", "mnist"]
    for column, (name, table) in enumerate(both().items(), start=1):
        for row, quantity in enumerate(("error", "entropy", "trace"), start=1):
            axis = figure.get_subplot(row, column).xaxis.plotly_name.replace("axis", "")
            lines = {line.name: line for line in figure.data if line.xaxis == axis}
            for method in METHODS:
                line = lines[labels.method_label(method)]
                values = table[table["method"] == method].pivot(
                    index="n_labelled", columns="repeat", values=quantity
                )
                margin = stats.t.ppf(0.975, 4) * values.std(axis=1) / np.sqrt(5)
                np.testing.assert_array_equal(line.x, SIZES)
                np.testing.assert_allclose(line.y, values.mean(axis=1))
                for bar in (line.error_y.array, line.error_y.arrayminus):
                    np.testing.assert_allclose(bar, margin, rtol=1e-6)
        title = figure.get_subplot(1, column).yaxis.title.text
        assert title == figures.ERRORS["regression" if name == "fuel" else "classification"]
    assert figure.get_subplot(2, 1).yaxis.title.text == "Entropy S (nats)"


def test_a_method_of_one_problem_alone_stands_in_the_legend_once():
    tables = {"fuel": played(methods=METHODS[:2]), "mnist": played(methods=METHODS)}
    figure = figures.learning_curves(tables)
    shown = [line.name for line in figure.data if line.showlegend]
    assert sorted(shown) == sorted(map(labels.method_label, METHODS))
    assert len(figure.data) == 3 * (2 + 3)


def test_intervals_of_several_methods_hold_together():
    found = results.differences(played())
    single = labelling_curves.differences(played(), confidence=0.975)
    for end in ("lower", "upper"):
        expected = single[end] / single["reference_value"]
        np.testing.assert_allclose(found[end], expected)


def test_the_sentence_has_the_best_method_and_whether_its_interval_excludes_zero():
    better = results.finding("fuel", played())
    assert better.startswith("fuel, 30 labels: -50 % [-5")
    assert better.endswith("%], lower than random rows (LCMD).")
    worse = results.finding("fuel", played(factor=1.5, methods=METHODS[:2]))
    assert worse.endswith("%], higher than random rows (LCMD).")
    same = results.finding("fuel", played(factor=1.0, methods=METHODS[:2]))
    assert same.endswith("%], undecided (LCMD).")
    # An end that would be rounded to 0 shows its side.
    table = pd.concat([played(methods=METHODS[:1])] * 2, ignore_index=True)
    table.loc[len(table) // 2 :, "method"] = "lcmd"
    table.loc[len(table) // 2 :, "error"] *= 1 - 3e-4
    assert "a, 30 labels: -0.03 % [-0.0" in results.finding("a", table)


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_problem_without_pairs_has_no_comparison(is_alone):
    table = played(methods=METHODS[:1]) if is_alone else played().assign(error=np.nan)
    assert results.finding("a", table) == "a: no comparison with random rows."


def test_the_table_has_a_row_for_each_method_and_number():
    (table,) = results.tables(both())
    assert table.frame.groupby("group")["method"].count().to_dict() == {"fuel": 8, "mnist": 8}
    row = table.frame.set_index(["group", "method", "variable", "measure"]).loc[
        ("fuel", "LCMD", "error", "final")
    ]
    assert row["relative_difference"] == pytest.approx(-0.5, abs=0.02) and row["wins"] == 1.0
    assert row["pairs"] == 5 and row["diverged"] == 0
    assert "95 %" in table.caption and report.table_cells(table)["rows"]


def test_the_picture_says_what_came_out_and_without_problems_there_is_none():
    (picture,) = results.pictures(both())
    assert all(results.finding(name, table) in picture.caption for name, table in both().items())
    assert "on 1 of 2 problems" in picture.shows
    assert "95 % intervals" in picture.caption
    assert results.pictures({}) == [] and results.tables({}) == []
    with pytest.raises(ValueError, match="played must have rounds of a problem: received none"):
        figures.learning_curves({})


# the template of `dvc plots show`


def test_the_template_draws_a_line_per_method_and_leaves_out_what_diverged():
    table = played().assign(group="fuel")
    diverged = (table["method"] == "lcmd") & (table["n_labelled"] == 30)
    table.loc[diverged, "error"] = np.nan
    svg = draw("labelling-curves", {"workspace": table}, "n_labelled", "error")
    (panel,) = having(svg, "column_header")
    assert words([panel]) == ["fuel"]
    assert len(having(svg, "mark-line")) == 3 and len(having(svg, "mark-symbol")) >= 8
    assert {labels.method_label(name) for name in METHODS} <= set(words([svg]))


def test_the_quantiles_and_labels_of_the_template_are_those_of_the_figures():
    template = json.loads((TEMPLATES / "labelling-curves.json").read_text())
    (quantile,) = (
        step["calculate"] for step in template["transform"] if step.get("as") == "quantile"
    )
    # The expression is one of Python but for its conditions.
    two, three, more = (part.split(" ? ")[-1] for part in quantile.split(" : "))
    for n in (2, 3, 4, 5, 8, 12, 20, 50):
        text = {2: two, 3: three}.get(n, more)
        found = eval(text.replace("datum.u", repr(1 / (n - 1))))
        assert found == pytest.approx(stats.t.ppf(0.975, n - 1), rel=2e-3)
    shapes = [layer["encoding"].get("shape") for layer in template["spec"]["layer"]]
    other = json.loads((TEMPLATES / "comparison.json").read_text())
    assert shapes == [layer["encoding"].get("shape") for layer in other["spec"]["layer"]]
