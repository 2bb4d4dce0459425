"""Figures of learning dynamics (Tovey et al. 2024) as Plotly figures of the tables that recordings give.

Colours are those of `figures`: of Okabe and Ito (2008), which colour-blind readers can tell apart.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from collective_variables.figures import LOGARITHMIC, PALETTE

QUANTITIES = ("loss", "entropy", "trace")
LABELS = {"loss": "Loss", "entropy": "Entropy S", "trace": "Trace Tr", "epoch": "Epoch + 1"}
DASHES = {"train": "solid", "test": "dot"}
BAND = 0.15  # opacity of one standard deviation


def evolution(tables: dict[str, pd.DataFrame], curves: dict[str, str], /) -> go.Figure:
    """Loss, entropy and trace against the epoch, mean and one standard deviation over members (P2: 3x3 figure).

    A row for each of `tables`, recordings with the columns of `scaling.AXES` or others; curves: the column whose values
    are the lines of that row. Train points are solid, test points dotted; axes of epoch and loss are logarithmic, so
    that the epochs are shown as epoch + 1.
    """
    figure = make_subplots(
        rows=len(tables), cols=len(QUANTITIES), horizontal_spacing=0.07, vertical_spacing=0.3 / len(tables) / 1.5
    )
    for row, (name, table) in enumerate(tables.items(), start=1):
        for number, (value, of_value) in enumerate(table.groupby(curves[name], sort=False)):
            for points, dash in DASHES.items():
                of_points = of_value[of_value["points"] == points]
                style = {"dash": dash, "color": PALETTE[number % len(PALETTE)]}
                for column, quantity in enumerate(QUANTITIES, start=1):
                    lines = _mean_and_band(of_points, quantity, style)
                    lines[0].update(
                        name=f"{_in_words(curves[name], value)}, {points}",
                        legend=f"legend{row}" if row > 1 else "legend",
                        showlegend=column == 1,
                    )
                    figure.add_traces(lines, rows=row, cols=column)
        for column, quantity in enumerate(QUANTITIES, start=1):
            figure.update_yaxes(title_text=LABELS[quantity], title_standoff=4, row=row, col=column)
        figure.update_yaxes(LOGARITHMIC, row=row, col=1)
        top = figure.get_subplot(row, 1).yaxis.domain[1]
        place = {"orientation": "h", "x": 0, "y": top + 0.02, "yanchor": "bottom"}
        figure.update_layout({f"legend{row}" if row > 1 else "legend": place})
    figure.update_xaxes(type="log").update_xaxes(title_text=LABELS["epoch"], row=len(tables))
    size = {"width": 1000, "height": 290 * len(tables) + 60}
    return figure.update_layout(template="plotly_white", margin={"l": 60, "r": 20, "t": 50, "b": 50}, **size)


def _mean_and_band(table: pd.DataFrame, quantity: str, style: dict[str, str]) -> list[go.Scatter]:
    """The mean over members as a line, and one standard deviation to both sides as an area."""
    groups = table.groupby("epoch")[quantity]
    mean, deviation = groups.mean(), groups.std(ddof=1).fillna(0.0)
    x = mean.index.to_numpy() + 1
    low, high = mean - deviation, mean + deviation
    if quantity == "loss":
        low = low.clip(lower=mean / 10)  # which a logarithmic axis can show
    hover = "epoch %{customdata}: %{y:.4g}"
    line = go.Scatter(x=x, y=mean, mode="lines", line=style, customdata=mean.index, hovertemplate=hover)
    area = go.Scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=_transparent(style["color"]),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )
    return [line, area]


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{BAND})"


def _in_words(column: str, value: object) -> str:
    return str(value) if column in ("activation", "network", "group") else f"{column} {value}"


def maps(table: pd.DataFrame, epochs: Sequence[int], *, points: str = "train") -> go.Figure:
    """Entropy, trace and loss over width and depth, means over members, a row for each epoch (P2: phase maps).

    The colours of trace and loss are logarithmic; a network that diverged leaves its cell empty. Loss is that of the
    test points, entropy and trace those of `points`.
    """
    figure = make_subplots(
        rows=len(epochs),
        cols=3,
        subplot_titles=[f"{LABELS[name]}, epoch {epoch}" for epoch in epochs for name in ("entropy", "trace", "loss")],
        horizontal_spacing=0.12,
        vertical_spacing=0.2,
    )
    for row, epoch in enumerate(epochs, start=1):
        for column, name in enumerate(("entropy", "trace", "loss"), start=1):
            part = table[(table["epoch"] == epoch) & (table["points"] == ("test" if name == "loss" else points))]
            values = part.pivot_table(index="depth", columns="width", values=name, aggfunc="mean")
            figure.add_trace(_heatmap(values, name, figure.get_subplot(row, column)), row=row, col=column)
    figure.update_xaxes(type="category").update_yaxes(type="category")
    figure.update_xaxes(title_text="Width", row=len(epochs)).update_yaxes(title_text="Depth", col=1)
    size = {"width": 1000, "height": 300 * len(epochs) + 40}
    return figure.update_layout(template="plotly_white", margin={"l": 60, "r": 60, "t": 50, "b": 50}, **size)


def _heatmap(values: pd.DataFrame, name: str, panel: object) -> go.Heatmap:
    shown = values if name == "entropy" else np.log10(values.where(values > 0))
    finite = shown.to_numpy()[np.isfinite(shown.to_numpy())]
    marks = np.linspace(finite.min(), finite.max(), 4) if finite.size else np.array([])
    words = [f"{mark if name == 'entropy' else 10**mark:.3g}" for mark in marks]
    bar = {"tickvals": marks, "ticktext": words, "thickness": 8, "x": panel.xaxis.domain[1] + 0.01}
    bar |= {"len": panel.yaxis.domain[1] - panel.yaxis.domain[0], "y": np.mean(panel.yaxis.domain)}
    return go.Heatmap(
        z=shown,
        x=[str(width) for width in values.columns],
        y=[str(depth) for depth in values.index],
        customdata=values,
        hovertemplate="width %{x}, depth %{y}: %{customdata:.4g}<extra></extra>",
        colorscale="Viridis",
        colorbar=bar,
    )
