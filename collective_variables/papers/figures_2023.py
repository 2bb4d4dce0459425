"""Draw Figures 2 to 7 of P1 with Plotly, from the tables of `analysis`.

P1: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of Neural
Networks: Data".

Every figure is a grid of panels, with a column per group and a row per parametrisation. Matrices
have wide panels, and therefore a row per group. Methods have different markers, and the colours of
Okabe and Ito (2008), which colour-blind readers can distinguish.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from collective_variables import _checks, _extras
from collective_variables.analysis.correlation import KINDS
from collective_variables.analysis.statistics import LOSSES
from collective_variables.papers import labels

with _extras.required("figures"):
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
LOGARITHMIC = {"type": "log", "dtick": "D2", "minorloglabels": "complete"}
DIVERGING = ((0.0, "#0072B2"), (0.5, "#F7F7F7"), (1.0, "#D55E00"))


def comparison(summary: pd.DataFrame, variable: str) -> go.Figure:
    """Draw the means of `variable` against the subset size (P1, Figures 4 and 5).

    Each panel has a line per method, with error bars of one standard error.

    Also raises ValueError if the table lacks columns or rows.

    Args:
        summary: The table of `statistics.summary`.
        variable: The variable to draw, a column of the table.

    Returns:
        The figure.
    """
    lower, upper = f"{variable}_lower", f"{variable}_upper"
    _require("summary", summary, ["method", "n_points", variable, lower, upper])
    figure = _grid(summary, "n_points", variable, panel=(220, 190), above=80, right=20)
    figure.update_layout(
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"}
    )
    methods = sorted(summary["method"].unique(), key=labels.method_order)
    for row, column, panel in _panels(summary):
        for k, method in enumerate(methods):
            part = panel[panel["method"] == method].sort_values("n_points")
            error = {
                "array": part[upper] - part[variable],
                "arrayminus": part[variable] - part[lower],
            }
            figure.add_scatter(
                x=part["n_points"],
                y=part[variable],
                error_y={"type": "data", "symmetric": False} | error,
                mode="lines+markers",
                marker={
                    "symbol": MARKERS[k % len(MARKERS)],
                    "color": PALETTE[k % len(PALETTE)],
                    "size": 8,
                },
                name=labels.method_label(method),
                legendgroup=method,
                showlegend=(row, column) == (1, 1),
                row=row,
                col=column,
            )
    return figure


def scatter(runs: pd.DataFrame, x: str, y: str, colour: str) -> go.Figure:
    """Draw runs in the plane of two variables, coloured by a third (P1, Figures 2 and 6).

    Runs that diverged are left out. Losses have logarithmic axes and colours. Darker is smaller, as
    in P1.

    Also raises ValueError if the table lacks columns or rows.

    Args:
        runs: The table that `statistics` takes.
        x: The variable of the horizontal axis, a column of the table.
        y: The variable of the vertical axis.
        colour: The variable that colours the points.

    Returns:
        The figure.
    """
    _require("runs", runs, ["diverged", x, y, colour])
    runs = runs[~runs["diverged"] & np.isfinite(runs[[x, y, colour]]).all(axis=1)]
    figure = _grid(runs, x, y, below=130)
    for row, column, panel in _panels(runs):
        figure.add_scattergl(
            x=panel[x],
            y=panel[y],
            customdata=panel[colour],
            hovertemplate="%{x:.4g}, %{y:.4g}<br>"
            + labels.variable_label(colour)
            + " %{customdata:.4g}<extra></extra>",
            mode="markers",
            marker={
                "color": _scaled(panel[colour]),
                "coloraxis": f"coloraxis{column}",
                "size": 5,
                "opacity": 0.8,
            },
            showlegend=False,
            row=row,
            col=column,
        )
    for column, group in enumerate(runs["group"].unique(), start=1):
        domain = figure.get_subplot(1, column).xaxis.domain
        figure.update_layout(
            {f"coloraxis{column}": _colour_axis(runs.loc[runs["group"] == group, colour], domain)}
        )
    figure.update_xaxes(LOGARITHMIC if x in LOSSES else {})
    return figure.update_yaxes(LOGARITHMIC if y in LOSSES else {})


def correlation_matrix(correlations: pd.DataFrame, kind: str) -> go.Figure:
    """Draw matrices of one kind of coefficient, with numbers in the cells (P1, Figures 3 and 7).

    Variables without any coefficient are left out.

    Also raises ValueError if the table lacks columns or rows, or if the kind is unknown.

    Args:
        correlations: The table of `correlation.correlations`.
        kind: One of `correlation.KINDS`.

    Returns:
        The figure.
    """
    _require("correlations", correlations, ["kind", "x_variable", "y_variable", "coefficient"])
    _checks.choice("kind", kind, KINDS)
    table = correlations[(correlations["kind"] == kind) & correlations["coefficient"].notna()]
    figure = _grid(table, panel=(350, 350), gap=160, below=160, groups_are_rows=True)
    for column, row, panel in _panels(table):
        names = panel["x_variable"].unique()
        matrix = panel.pivot(index="y_variable", columns="x_variable", values="coefficient").loc[
            names, names
        ]
        words = [labels.variable_label(name) for name in names]
        heatmap = go.Heatmap(
            z=matrix, x=words, y=words, texttemplate="%{z:.2f}", coloraxis="coloraxis"
        )
        figure.add_trace(heatmap, row=row, col=column)
    figure.update_xaxes(tickangle=-45).update_yaxes(autorange="reversed")
    title = {"text": kind.capitalize(), "side": "right"}
    return figure.update_coloraxes(cmin=-1, cmax=1, colorscale=DIVERGING, colorbar={"title": title})


def _grid(
    table: pd.DataFrame,
    x: str = "",
    y: str = "",
    *,
    panel: tuple[int, int] = (260, 200),
    gap: int = 60,
    above: int = 50,
    below: int = 70,
    right: int = 140,
    groups_are_rows: bool = False,
) -> go.Figure:
    """Make empty panels, `panel` wide and high and `gap` apart, with margins, in pixels."""
    groups = [(str(group), None) for group in table["group"].unique()]
    rows = [
        (None, labels.parametrisation_label(name)) for name in table["parametrisation"].unique()
    ]
    rows, columns = (groups, rows) if groups_are_rows else (rows, groups)
    width, height = (
        length * n + gap * (n - 1)
        for length, n in zip(panel, (len(columns), len(rows)), strict=True)
    )
    figure = make_subplots(
        rows=len(rows),
        cols=len(columns),
        subplot_titles=[_title(row, column) for row in rows for column in columns],
        horizontal_spacing=gap / width,
        vertical_spacing=gap / height,
    )
    margin = {"l": gap + 20, "r": right, "t": above, "b": below}
    size = {
        "width": width + margin["l"] + margin["r"],
        "height": height + margin["t"] + margin["b"],
    }
    figure.update_layout(template="plotly_white", margin=margin, **size)
    # Only the lowest row and the first column have room for the titles of the axes.
    figure.update_xaxes(title_text=labels.axis_label(x), row=len(rows))
    return figure.update_yaxes(title_text=labels.axis_label(y), col=1)


def _title(*names: tuple[str | None, str | None]) -> str:
    """Join the group and the parametrisation of a panel, which come from its row and column."""
    return ", ".join(name for pair in zip(*names) for name in pair if name)


def _panels(table: pd.DataFrame) -> Iterator[tuple[int, int, pd.DataFrame]]:
    """Yield row, column (both from 1) and data of each panel of `_grid` that has data."""
    groups = list(table["group"].unique())
    parametrisations = list(table["parametrisation"].unique())
    for (group, parametrisation), part in table.groupby(["group", "parametrisation"], sort=False):
        yield parametrisations.index(parametrisation) + 1, groups.index(group) + 1, part


def _scaled(values: pd.Series) -> pd.Series:
    # Plotly has no logarithmic colour axis, so the values themselves become logarithms.
    return np.log10(values) if values.name in LOSSES else values


def _colour_axis(values: pd.Series, domain: Sequence[float]) -> dict:
    """Return a horizontal colour bar under a column of panels."""
    # The labels are values, even if the colours are logarithms.
    marks = np.linspace(_scaled(values).min(), _scaled(values).max(), 4)
    values_at_marks = 10**marks if values.name in LOSSES else marks
    bar = {"orientation": "h", "x": np.mean(domain), "len": domain[1] - domain[0], "thickness": 10}
    bar |= {"y": 0, "yref": "container", "yanchor": "bottom"}
    bar |= {"tickvals": marks, "ticktext": [f"{value:.3g}" for value in values_at_marks]}
    return {
        "colorscale": "Viridis",
        "colorbar": bar | {"title": {"text": labels.axis_label(values.name), "side": "bottom"}},
    }


def _require(name: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    if missing := [
        column for column in ("group", "parametrisation", *columns) if column not in table.columns
    ]:
        raise ValueError(
            f"{name} must have the columns {', '.join(missing)}: "
            f"received {', '.join(table.columns)}."
        )
    if table.empty:
        raise ValueError(f"{name} must have at least one row: received an empty table.")


def experiment_figures(
    runs: pd.DataFrame, summary: pd.DataFrame, correlations: pd.DataFrame
) -> dict[str, go.Figure]:
    """Draw all figures of a group.

    A group that compares methods has the figures of Experiment 2 (Figures 4 and 5). Any other has
    those of Experiment 1 (Figures 2, 3, 6 and 7).

    Args:
        runs: The table that `statistics` takes, for one group.
        summary: The table of `statistics.summary`.
        correlations: The table of `correlation.correlations`.

    Returns:
        The figures by name.
    """
    if runs["method"].nunique() > 1:
        return {
            name: comparison(summary, name)
            for name in ("min_test_loss", "final_test_loss", "entropy", "trace")
        }
    scatters = {
        "trace_entropy_loss": scatter(runs, "entropy", "trace", "min_test_loss"),
        "trace_entropy_size": scatter(runs, "entropy", "trace", "n_points"),
        "loss_trace": scatter(runs, "trace", "min_test_loss", "n_points"),
        "loss_entropy": scatter(runs, "entropy", "min_test_loss", "n_points"),
    }
    # With few runs, no coefficient given the size is defined.
    defined = correlations.loc[correlations["coefficient"].notna(), "kind"].unique()
    kinds = [kind for kind in ("pearson", "pearson given size") if kind in defined]
    return scatters | {
        kind.replace(" ", "_"): correlation_matrix(correlations, kind) for kind in kinds
    }
