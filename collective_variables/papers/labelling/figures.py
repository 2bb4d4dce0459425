"""Draw learning curves of rounds of labelling with Plotly, from tables of rounds."""

from collections.abc import Mapping

import pandas as pd

from collective_variables import _errors, _extras
from collective_variables.analysis import labelling_curves
from collective_variables.papers import labels
from collective_variables.papers.figures_2023 import MARKERS, PALETTE

with _extras.required("figures"):
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

QUANTITIES = ("error", "entropy", "trace")
ERRORS = {"regression": "Test error (RMSE, z-score)", "classification": "Test error (wrong share)"}
PANEL, GAP = (230, 190), (90, 60)  # width and height of a panel and of a gap, in pixels
MARGIN = {"l": 80, "r": 20, "t": 80, "b": 60}


def learning_curves(
    played: Mapping[str, pd.DataFrame], /, *, confidence: float = 0.95
) -> go.Figure:
    """Draw test error, entropy and trace against the number of labelled rows.

    Each problem has a column, and each method a line through means over repeats, with error bars
    for Student's intervals. Entropy and trace are those of the kernel of all labelled rows before
    training. Each panel has a separate scale.

    Also raises ValueError if a table lacks columns or rows, or for a confidence that is not between
    0 and 1.

    Args:
        played: Rounds of each problem by its name, as `active_learning.rounds.play` returns them.
        confidence: Confidence of the intervals.

    Returns:
        The figure.

    Raises:
        InvalidValueError: There is no problem.

    Example:
        >>> import pandas as pd
        >>> rounds = pd.DataFrame(
        ...     {"method": "random", "repeat": [0, 1], "round": 0, "n_labelled": 20}
        ... ).assign(error=[1.0, 2.0], accuracy=float("nan"), entropy=2.5, trace=9.0)
        >>> learning_curves({"fuel": rounds}).data[0].y
        array([1.5])
    """
    if not played:
        raise _errors.InvalidValueError("played must have rounds of a problem: received none.")
    tables = {
        name: labelling_curves.summary(table, confidence=confidence)
        for name, table in played.items()
    }
    names = {method for table in tables.values() for method in table["method"]}
    methods = sorted(names, key=labels.method_order)
    figure = _grid(list(tables))
    shown: set[str] = set()
    for column, table in enumerate(tables.values(), start=1):
        task = "regression" if table["accuracy"].isna().all() else "classification"
        titles = {"error": ERRORS[task]}
        for row, quantity in enumerate(QUANTITIES, start=1):
            for number, method in enumerate(methods):
                part = table[table["method"] == method]
                if part.empty:
                    continue
                line = _line(part, quantity, number)
                line.update(legendgroup=method, showlegend=method not in shown)
                shown.add(method)
                figure.add_trace(line, row=row, col=column)
            title = titles.get(quantity, labels.axis_label(quantity))
            figure.update_yaxes(title_text=title, title_standoff=4, row=row, col=column)
    return figure


def _line(table: pd.DataFrame, quantity: str, number: int) -> go.Scatter:
    """Draw the means of a method as a line, with bars for their intervals."""
    mean = table[quantity]
    colour = PALETTE[number % len(PALETTE)]
    bars = {
        "array": table[f"{quantity}_upper"] - mean,
        "arrayminus": mean - table[f"{quantity}_lower"],
    }
    return go.Scatter(
        x=table["n_labelled"],
        y=mean,
        error_y={"type": "data", "symmetric": False, "thickness": 1.2} | bars,
        mode="lines+markers",
        marker={"symbol": MARKERS[number % len(MARKERS)], "color": colour, "size": 7},
        customdata=table["n_repeats"],
        hovertemplate="%{x} rows: %{y:.4g}, %{customdata} repeats",
        name=labels.method_label(table["method"].iloc[0]),
    )


def _grid(names: list[str]) -> go.Figure:
    """Make empty panels whose size does not depend on the number of problems."""
    width, height = (
        n * panel + (n - 1) * gap
        for n, panel, gap in zip((len(names), len(QUANTITIES)), PANEL, GAP)
    )
    figure = make_subplots(
        rows=len(QUANTITIES),
        cols=len(names),
        column_titles=names,
        horizontal_spacing=GAP[0] / width,
        vertical_spacing=GAP[1] / height,
    )
    figure.update_layout(
        template="plotly_white",
        margin=MARGIN,
        width=width + MARGIN["l"] + MARGIN["r"],
        height=height + MARGIN["t"] + MARGIN["b"],
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
    )
    return figure.update_xaxes(title_text="Labelled rows", row=len(QUANTITIES))
