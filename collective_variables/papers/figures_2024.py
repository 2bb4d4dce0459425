"""Figures of learning dynamics (Tovey et al. 2024) as Plotly figures of the tables that recordings
give.

Colours are those of `figures`: of Okabe and Ito (2008), which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from collective_variables.papers.figures_2023 import LOGARITHMIC, PALETTE

QUANTITIES = ("loss", "entropy", "trace")
LABELS = {
    "loss": "Loss",
    "entropy": "Entropy S",
    "trace": "Trace Tr",
    "mean_reward": "Reward, mean of 10 updates",
    "epoch": "Epoch + 1",
    "update": "Update + 1",
}
DASHES = {"train": "solid", "observations": "solid", "test": "dot"}
BAND = 0.15  # opacity of one standard deviation
PANEL, GAP = (310, 230), (70, 90)  # width and height of a panel and between two, in pixels
MARGIN = {"l": 70, "r": 20, "t": 60, "b": 60}
Lines = Mapping[str, pd.DataFrame]


def evolution(rows: Mapping[str, Lines], /) -> go.Figure:
    """Loss, entropy and trace against the epoch, mean and one standard deviation over members (P2's
    3x3 figure).

    rows: for each row of panels the recordings of its lines, by their names ("" for an only one).
    Train points are solid, test points dotted; axes of epoch and loss are logarithmic, so that the
    epochs are shown as epoch + 1.
    """
    figure = _grid(len(rows), QUANTITIES)
    for row, (name, lines) in enumerate(rows.items(), start=1):
        for number, (words, table) in enumerate(lines.items()):
            for points, of_points in table.groupby("points", sort=False):
                style = {"dash": DASHES[points], "color": PALETTE[number % len(PALETTE)]}
                for column, quantity in enumerate(QUANTITIES, start=1):
                    traces = _mean_and_band(of_points, quantity, style)
                    name_of_line = ", ".join(filter(None, (words, points)))
                    traces[0].update(name=name_of_line, legend=_legend(row), showlegend=column == 1)
                    figure.add_traces(traces, rows=row, cols=column)
        for column, quantity in enumerate(QUANTITIES, start=1):
            figure.update_yaxes(title_text=LABELS[quantity], title_standoff=4, row=row, col=column)
        figure.update_yaxes(LOGARITHMIC, row=row, col=1)
        top = figure.get_subplot(row, 1).yaxis.domain[1]
        place = {
            "orientation": "h",
            "x": 0,
            "y": top,
            "yanchor": "bottom",
            "title": {"text": f"{name}  "},
        }
        figure.update_layout({_legend(row): place})
    figure.update_xaxes(title_text=LABELS["epoch"], row=len(rows))
    return figure.update_xaxes(type="log")


def joint(tables: Lines, /) -> go.Figure:
    """Entropy, trace and loss or reward of networks of different architecture, a column each (P2's
    joint figure).

    Recordings by name; those with a column `mean_reward` are shown with it in the place of the
    loss. Means and one standard deviation over members; train points (or an agent's observations)
    are solid, test points dotted.
    """
    figure = _grid(3, tuple(tables), titles=tuple(tables))
    for column, table in enumerate(tables.values(), start=1):
        quantities = ("entropy", "trace", "mean_reward" if "mean_reward" in table else "loss")
        for row, quantity in enumerate(quantities, start=1):
            for points, of_points in table.groupby("points", sort=False):
                style = {"dash": DASHES[points], "color": PALETTE[row - 1]}
                figure.add_traces(_mean_and_band(of_points, quantity, style), rows=row, cols=column)
            figure.update_yaxes(title_text=LABELS[quantity], title_standoff=4, row=row, col=column)
        if quantities[-1] == "loss":
            figure.update_yaxes(LOGARITHMIC, row=3, col=column)
        figure.update_xaxes(
            title_text=LABELS["update" if "mean_reward" in table else "epoch"], row=3, col=column
        )
    return figure.update_xaxes(type="log").update_layout(showlegend=False)


def _grid(n_rows: int, columns: Sequence[str], titles: Sequence[str] | None = None) -> go.Figure:
    """Panels of one size, however many there are."""
    width, height = (
        of * panel + (of - 1) * gap for of, panel, gap in zip((len(columns), n_rows), PANEL, GAP)
    )
    figure = make_subplots(
        rows=n_rows,
        cols=len(columns),
        column_titles=titles,
        horizontal_spacing=GAP[0] / width,
        vertical_spacing=GAP[1] / height,
    )
    size = {
        "width": width + MARGIN["l"] + MARGIN["r"],
        "height": height + MARGIN["t"] + MARGIN["b"],
    }
    return figure.update_layout(template="plotly_white", margin=MARGIN, **size)


def _legend(row: int) -> str:
    return f"legend{row}" if row > 1 else "legend"


def mean_and_band(table: pd.DataFrame, quantity: str, /) -> pd.DataFrame:
    """Of each epoch the mean over members, and low and high, one standard deviation to both sides
    of it.
    """
    groups = table.dropna(subset=quantity).groupby("epoch")[quantity]
    mean, deviation = groups.mean(), groups.std(ddof=1).fillna(0.0)
    low, high = mean - deviation, mean + deviation
    if quantity == "loss":
        low = np.maximum(low, mean / 10)  # which a logarithmic axis can show
    return pd.DataFrame({"mean": mean, "low": low, "high": high})


def _mean_and_band(table: pd.DataFrame, quantity: str, style: dict[str, str]) -> list[go.Scatter]:
    """The mean over members as a line, and one standard deviation to both sides as an area."""
    found = mean_and_band(table, quantity)
    mean, low, high = found["mean"], found["low"], found["high"]
    x = mean.index.to_numpy() + 1
    hover = "epoch %{customdata}: %{y:.4g}"
    line = go.Scatter(
        x=x, y=mean, mode="lines", line=style, customdata=mean.index, hovertemplate=hover
    )
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


def maps(table: pd.DataFrame, epochs: Sequence[int], /, *, points: str = "train") -> go.Figure:
    """Entropy, trace and loss over width and depth, means over members, a row for each epoch (P2's
    phase maps).

    The colours of trace and loss are logarithmic; a network that diverged leaves its cell empty.
    Loss is that of the test points, entropy and trace those of `points`.
    """
    names = ("entropy", "trace", "loss")
    figure = _grid(len(epochs), names)
    for row, epoch in enumerate(epochs, start=1):
        for column, name in enumerate(names, start=1):
            part = table[
                (table["epoch"] == epoch)
                & (table["points"] == ("test" if name == "loss" else points))
            ]
            values = part.pivot_table(index="depth", columns="width", values=name, aggfunc="mean")
            panel = figure.get_subplot(row, column)
            figure.add_trace(_heatmap(values, name, panel), row=row, col=column)
            words = f"{'Test loss' if name == 'loss' else LABELS[name]}, epoch {epoch}"
            place = {
                "x": np.mean(panel.xaxis.domain),
                "y": panel.yaxis.domain[1],
                "yanchor": "bottom",
            }
            figure.add_annotation(
                text=words, showarrow=False, xref="paper", yref="paper", xanchor="center", **place
            )
    figure.update_xaxes(type="category").update_yaxes(type="category")
    figure.update_xaxes(title_text="Width", row=len(epochs)).update_yaxes(title_text="Depth", col=1)
    return figure.update_layout(margin={"l": 60, "r": 45}, width=figure.layout.width + 15)


def _heatmap(values: pd.DataFrame, name: str, panel: object) -> go.Heatmap:
    shown = values if name == "entropy" else np.log10(values.where(values > 0))
    finite = shown.to_numpy()[np.isfinite(shown.to_numpy())]
    marks = np.linspace(finite.min(), finite.max(), 4) if finite.size else np.array([])
    words = [_short(mark if name == "entropy" else 10**mark) for mark in marks]
    bar = {"tickvals": marks, "ticktext": words, "thickness": 8, "x": panel.xaxis.domain[1] + 0.005}
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


def _short(value: float) -> str:
    """Three digits with k, M or G, for the narrow place beside a bar of colours."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"
