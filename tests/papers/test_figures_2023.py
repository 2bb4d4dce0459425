import json
import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from collective_variables.analysis import correlation, statistics
from collective_variables.analysis.correlation import CORRELATED
from collective_variables.analysis.statistics import COLLECTIVE_VARIABLES, VARIABLES
from collective_variables.papers import figures_2023, labels
from collective_variables.selection.registry import SELECTION_METHODS
from plots import TEMPLATES, draw, having, words

GROUPS, PARAMETRISATIONS = ("mnist", "fuel"), ("lecun", "ntk")
ROUND_OFF = dict(rtol=1e-12, atol=0)


def runs(methods=("random", "rnd-linearised"), n_members=4, sizes=(5, 10, 20)):
    generator = np.random.default_rng(0)
    keys = ["group", "parametrisation", "method", "n_points", "member"]
    levels = [GROUPS, PARAMETRISATIONS, methods, sizes, range(n_members)]
    table = (
        pd.MultiIndex.from_product(levels, names=keys).to_frame(index=False).assign(diverged=False)
    )
    return table.assign(**{name: generator.lognormal(size=len(table)) for name in VARIABLES})


def axes(figure, row, column):
    return figure.get_subplot(row, column)


def traces(figure, row, column):
    """The traces of one panel."""
    name = axes(figure, row, column).xaxis.plotly_name.replace("axis", "")
    return [trace for trace in figure.data if trace.xaxis == name]


def part(table, group, parametrisation):
    return table[(table["group"] == group) & (table["parametrisation"] == parametrisation)]


def test_comparison_draws_the_means_and_one_standard_error_of_each_method_in_its_panel():
    summary = statistics.summary(runs(), ["min_test_loss"])
    figure = figures_2023.comparison(summary, "min_test_loss")
    assert isinstance(figure, go.Figure) and len(figure.data) == 8
    for row, parametrisation in enumerate(PARAMETRISATIONS, start=1):
        for column, group in enumerate(sorted(GROUPS), start=1):
            for trace, method in zip(
                traces(figure, row, column), ("random", "rnd-linearised"), strict=True
            ):
                expected = part(summary, group, parametrisation).query(f"method == '{method}'")
                assert trace.name == labels.method_label(method) and trace.mode == "lines+markers"
                np.testing.assert_array_equal(trace.x, [5, 10, 20])
                np.testing.assert_array_equal(trace.y, expected["min_test_loss"])
                for error in (trace.error_y.array, trace.error_y.arrayminus):
                    np.testing.assert_allclose(
                        error, expected["min_test_loss_standard_error"], **ROUND_OFF
                    )


def test_panels_are_a_column_per_group_and_a_row_per_parametrisation():
    figure = figures_2023.comparison(statistics.summary(runs(), ["trace"]), "trace")
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == ["fuel, LeCun", "mnist, LeCun", "fuel, NTK", "mnist, NTK"]
    assert (
        axes(figure, 2, 2).xaxis.title.text == "Subset size n"
        and axes(figure, 1, 1).yaxis.title.text == "Trace Tr"
    )
    assert all(
        axes(figure, 1, column).yaxis.matches is None for column in (1, 2)
    )  # every panel has its own scale


def test_methods_differ_in_colour_and_marker_and_keep_theirs_when_others_join():
    def styles(methods):
        figure = figures_2023.comparison(statistics.summary(runs(methods), ["trace"]), "trace")
        return {
            trace.name: (trace.marker.color, trace.marker.symbol) for trace in traces(figure, 1, 1)
        }

    two = styles(("random", "rnd-linearised"))
    three = styles(("k-center", "rnd-linearised", "random"))
    assert three.items() > two.items()
    assert (
        len({colour for colour, _ in three.values()})
        == len({symbol for _, symbol in three.values()})
        == 3
    )


def test_each_method_stands_in_the_legend_once():
    figure = figures_2023.comparison(statistics.summary(runs(), ["trace"]), "trace")
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == [
        "RND, linearised",
        "Random",
    ]


def test_a_method_that_the_first_panel_lacks_stands_in_the_legend():
    table = runs()
    summary = statistics.summary(
        table[(table["group"] != "fuel") | (table["method"] == "random")], ["trace"]
    )
    figure = figures_2023.comparison(summary, "trace")
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == [
        "RND, linearised",
        "Random",
    ]
    assert [(trace.name, len(trace.x)) for trace in traces(figure, 1, 1)] == [
        ("Random", 3),
        ("RND, linearised", 0),
    ]


def test_scatter_holds_every_run_that_did_not_diverge():
    table = runs()
    table.loc[0, ["diverged", "min_test_loss"]] = [True, np.inf]
    table.loc[1, "min_test_loss"] = np.nan
    figure = figures_2023.scatter(table, "entropy", "trace", "n_points")
    assert sum(len(trace.x) for trace in figure.data) == len(table) - 1
    figure = figures_2023.scatter(table, "entropy", "trace", "min_test_loss")
    assert sum(len(trace.x) for trace in figure.data) == len(table) - 2
    expected = part(table, "fuel", "ntk")
    (trace,) = traces(figure, 2, 2)
    np.testing.assert_array_equal(trace.x, expected["entropy"])
    np.testing.assert_array_equal(trace.y, expected["trace"])
    np.testing.assert_array_equal(trace.customdata, expected["min_test_loss"])
    np.testing.assert_allclose(10**trace.marker.color, expected["min_test_loss"], **ROUND_OFF)


def test_losses_have_logarithmic_axes_and_others_linear_ones():
    figure = figures_2023.scatter(runs(), "trace", "min_test_loss", "n_points")
    for row, column in ((1, 1), (1, 2), (2, 1), (2, 2)):
        assert (
            axes(figure, row, column).yaxis.type == "log"
            and axes(figure, row, column).xaxis.type is None
        )
    assert (
        axes(figures_2023.scatter(runs(), "min_test_loss", "trace", "n_points"), 1, 1).xaxis.type
        == "log"
    )


@pytest.mark.parametrize("colour", ["min_test_loss", "n_points"])
def test_the_colour_bar_of_a_group_runs_from_its_smallest_value_to_its_largest_which_is_bright(
    colour,
):
    table = runs()
    layout = figures_2023.scatter(table, "entropy", "trace", colour).layout
    for axis, group in ((layout.coloraxis, "mnist"), (layout.coloraxis2, "fuel")):
        values = table.loc[table["group"] == group, colour]
        assert [axis.colorbar.ticktext[i] for i in (0, -1)] == [
            f"{v:.3g}" for v in (values.min(), values.max())
        ]
        assert axis.colorbar.title.text == labels.axis_label(colour)
        assert (
            axis.colorscale[0][1] == "#440154" and axis.colorscale[-1][1] == "#fde725"
        )  # Viridis, dark to bright


@pytest.mark.parametrize("kind", correlation.KINDS)
def test_the_cells_of_a_correlation_matrix_are_the_coefficients_in_the_order_of_the_table(kind):
    table = runs()
    table.loc[table["group"] == "fuel", "max_test_accuracy"] = np.nan
    correlations = correlation.correlations(
        table, ["n_points", "trace", "entropy", "max_test_accuracy"], n_resamples=2
    )
    figure = figures_2023.correlation_matrix(correlations, kind)
    (mnist,), (fuel,) = traces(figure, 1, 2), traces(figure, 2, 2)
    # Given the size n_points has no coefficient, and so no row.
    names = [labels.variable_label(name) for name in ("n_points", "trace", "entropy")][
        "given size" in kind :
    ]
    assert list(fuel.x) == list(fuel.y) == names and list(mnist.x) == [
        *names,
        "Maximum test accuracy",
    ]
    lookup = correlations.set_index(
        ["group", "parametrisation", "kind", "x_variable", "y_variable"]
    )["coefficient"]
    assert (
        fuel.z[names.index("Trace Tr")][names.index("Entropy S")]
        == lookup["fuel", "ntk", kind, "entropy", "trace"]
    )
    assert fuel.texttemplate == "%{z:.2f}"
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1, 1)
    assert axes(figure, 2, 2).yaxis.autorange == "reversed"  # the first variable on top


def test_every_variable_of_the_statistics_and_every_method_has_a_label_in_words():
    assert {*VARIABLES, *COLLECTIVE_VARIABLES, *CORRELATED} == labels.VARIABLES.keys()
    assert set(SELECTION_METHODS) == labels.METHODS.keys()
    assert labels.method_label("rnd") == "RND (Algorithm 1)"
    assert labels.method_label("rnd, 64 outputs") == "rnd, 64 outputs"


def test_legends_show_the_labels_of_the_methods():
    methods = ("random", "rnd", "rnd-linearised", "facility-location", "k-center")
    summary = statistics.summary(runs(methods, sizes=(5,)), ["trace"])
    expected = {labels.method_label(method) for method in methods}
    figure = figures_2023.comparison(summary, "trace")
    assert {trace.name for trace in figure.data} == expected
    assert expected <= set(words([draw("comparison", {"workspace": summary}, "n_points", "trace")]))


def test_the_template_has_the_labels_and_the_order_of_the_figures():
    template = json.loads((TEMPLATES / "comparison.json").read_text())
    encodings = [layer["encoding"] for layer in template["spec"]["layer"]]
    shape = next(encoding["shape"] for encoding in encodings if "shape" in encoding)
    words_of_template = dict(re.findall("'([^']+)': '([^']+)'", shape["legend"]["labelExpr"]))
    assert {name: words_of_template.get(name, name) for name in labels.METHODS} == labels.METHODS
    first = sorted(labels.METHODS, key=labels.method_order)[:3]
    assert shape["sort"] == template["spec"]["encoding"]["color"]["sort"] == first


def test_wrong_arguments_are_errors_that_name_them():
    table = runs()
    with pytest.raises(
        ValueError, match="summary must have the columns trace_lower, trace_upper: received group, "
    ):
        figures_2023.comparison(table, "trace")
    with pytest.raises(ValueError, match="runs must have the columns loss: received group, "):
        figures_2023.scatter(table, "loss", "trace", "entropy")
    with pytest.raises(ValueError, match="runs must have at least one row"):
        figures_2023.scatter(table.iloc[:0], "entropy", "trace", "n_points")
    correlations = correlation.correlations(table, ["trace", "entropy"], n_resamples=2)
    with pytest.raises(ValueError, match="kind must be one of pearson, .*: received 'kendall'"):
        figures_2023.correlation_matrix(correlations, "kendall")


# the templates of `dvc plots show`


def incomplete(table):
    """Two groups in an order that is not the alphabet's, of which the first has one parametrisation
    only.
    """
    return table[(table["group"] == "fuel") | (table["parametrisation"] == "ntk")]


@pytest.mark.parametrize("kind", ["pearson", "pearson given size"])
def test_the_matrix_template_writes_the_coefficients_of_each_panel_under_its_group_and_network(
    kind,
):
    table = correlation.correlations(
        runs(n_members=9), ["n_points", "trace", "entropy"], n_resamples=2
    )
    table = incomplete(table[::-1])
    svg = draw(
        "correlation-matrix", {"workspace": table}, "x_variable", "coefficient", kind.capitalize()
    )
    columns, rows = words(having(svg, "column_header")), words(having(svg, "row_header"))
    assert (columns, rows) == (["LeCun", "NTK"], ["fuel", "mnist"])
    places = [(group, name) for group in rows for name in PARAMETRISATIONS]
    for panel, place in zip(having(svg, "cell"), places, strict=True):
        values = part(table, *place).query(f"kind == '{kind}'")["coefficient"].dropna()
        cells = [
            text.replace("\N{MINUS SIGN}", "-")
            for text in words(having(panel, "mark-text"))
            if "." in text
        ]
        assert cells == [f"{value:.2f}" for value in values] and (cells == []) == (
            place == ("mnist", "lecun")
        )


def test_the_comparison_template_draws_a_line_per_method_and_revision_and_a_point_per_size():
    summary = incomplete(statistics.summary(runs()))
    for tables in ({"workspace": summary}, {"workspace": summary, "HEAD": summary}):
        svg = draw("comparison", tables, "n_points", "trace")
        n_lines = [len(having(panel, "mark-line")) for panel in having(svg, "cell")]
        n_markers = [len(having(panel, "mark-symbol")) for panel in having(svg, "cell")]
        assert n_lines == [2 * len(tables), 0, 2 * len(tables), 2 * len(tables)]
        assert n_markers == [6 * len(tables), 0, 6 * len(tables), 6 * len(tables)]
        shown = set(filter(None, words([svg])))
        assert {"Random", "RND, linearised", "label of x", "label of y", "title"} <= shown
        # Only several revisions are told apart in the legend.
        revisions = {f"Revision {name}" for name in tables} if len(tables) > 1 else set()
        assert {word for word in shown if "evision" in word or word in tables} == revisions


@pytest.mark.parametrize("template", ["scatter-by-test-loss", "scatter-by-n-points"])
def test_the_scatter_templates_draw_every_run_that_did_not_diverge(template):
    table = runs()
    table.loc[table["group"] == "fuel", "diverged"] = [True, *[False] * 47]
    svg = draw(template, {"workspace": incomplete(table)}, "entropy", "trace")
    assert words(having(svg, "column_header")) == ["mnist", "fuel"]
    assert [len(having(panel, "mark-symbol")) for panel in having(svg, "cell")] == [0, 23, 24, 24]
    assert not [
        word for word in filter(None, words([svg])) if "evision" in word or word == "workspace"
    ]


def test_three_groups_of_matrices_fit_the_width_of_the_report():
    table = runs(n_members=9)
    table = pd.concat([table, table[table["group"] == "fuel"].assign(group="third")])
    correlations = correlation.correlations(table, n_resamples=2)
    figure = figures_2023.correlation_matrix(correlations, "pearson")
    assert figure.layout.width <= 76 * 16 - 2 * 16  # main in the template, without its padding
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert {title.split(", ")[1] for title in titles} == {"LeCun", "NTK"} and len(titles) == 6


def test_axes_have_the_units_of_their_variables():
    figure = figures_2023.scatter(runs(), "entropy", "min_test_loss", "final_test_loss")
    names = {axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())}
    assert names - {None} == {"Entropy S (nats)", "Minimum test loss (no unit)"}
    assert figure.layout.coloraxis1.colorbar.title.text == "Final test loss (no unit)"


def test_the_templates_and_the_figures_share_the_palette():
    comparison, matrix = (
        (TEMPLATES / f"{name}.json").read_text() for name in ("comparison", "correlation-matrix")
    )
    assert all(colour in comparison for colour in figures_2023.PALETTE)
    assert all(colour in matrix for _, colour in figures_2023.DIVERGING)
