"""Draw figures of learning dynamics (P2) with Plotly, from recordings.

P2: Tovey, Krippendorf, Spannowsky, Nikolaou, Holm (2024), "Collective variables of neural networks:
empirical time evolution and scaling laws". Colours are those of `figures_2023`.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from collective_variables import _extras
from collective_variables.papers.figures_2023 import LOGARITHMIC, PALETTE

with _extras.required("figures"):
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

QUANTITIES = ("loss", "entropy", "trace")
LABELS = {
    "loss": "Loss (no unit)",
    "entropy": "Entropy S (nats)",
    "trace": "Trace Tr",
    "chi_pos": "Spectral position χ<sub>pos</sub>",
    "mean_reward": "Reward, mean of 10 updates",
    "epoch": "Epoch + 1",
    "update": "Update + 1",
}
LOGARITHMS = ("loss", "chi_pos")  # quantities on logarithmic axes
DASHES = {"train": "solid", "observations": "solid", "test": "dot"}
# Smallest value with a prefix, its unit and its letter.
PREFIXES = (
    (1e9, 1e9, "G"),
    (1e6, 1e6, "M"),
    (1e3, 1e3, "k"),
    (1e-2, 1.0, ""),
    (1e-3, 1e-3, "m"),
    (1e-6, 1e-6, "µ"),
)
BAND = 0.15  # opacity of one standard deviation
PANEL, GAP = (310, 230), (70, 90)  # width and height of a panel and of a gap, in pixels
MARGIN = {"l": 70, "r": 20, "t": 60, "b": 60}
Lines = Mapping[str, pd.DataFrame]


def evolution(rows: Mapping[str, Lines], /) -> go.Figure:
    """Draw loss, entropy and trace against the epoch (P2's 3x3 figure).

    Lines are means over members, bands one standard deviation. Train points are solid, test points
    dotted. The axes of epoch and loss are logarithmic, so the epoch is shown as epoch + 1.

    Args:
        rows: For each row of panels, the recordings of its lines by their names. The name of a
            single line is "".

    Returns:
        The figure.
    """
    figure = grid(len(rows), QUANTITIES)
    for row, (name, lines) in enumerate(rows.items(), start=1):
        for number, (network, table) in enumerate(lines.items()):
            for points, part in table.groupby("points", sort=False):
                style = {"dash": DASHES[points], "color": PALETTE[number % len(PALETTE)]}
                words = ", ".join(filter(None, (network, points)))
                for column, quantity in enumerate(QUANTITIES, start=1):
                    traces = line_and_band(part, quantity, style)
                    traces[0].update(name=words, legend=_legend(row), showlegend=column == 1)
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
    """Draw entropy, trace and loss or reward of different architectures (P2's joint figure).

    If all recordings have the spectral position, it is drawn as well.

    Each network has a column. Lines are means over members, bands one standard deviation. Train
    points (or an agent's observations) are solid, test points dotted.

    Args:
        tables: Recordings by name. One with a column `mean_reward` shows it in place of the loss.

    Returns:
        The figure.
    """
    common = ("entropy", "trace", *_positions(tables.values()))
    last = len(common) + 1
    figure = grid(last, tuple(tables), titles=tuple(tables))
    for column, table in enumerate(tables.values(), start=1):
        quantities = (*common, "mean_reward" if "mean_reward" in table else "loss")
        for row, quantity in enumerate(quantities, start=1):
            for points, part in table.groupby("points", sort=False):
                style = {"dash": DASHES[points], "color": PALETTE[row - 1]}
                figure.add_traces(line_and_band(part, quantity, style), rows=row, cols=column)
            figure.update_yaxes(title_text=LABELS[quantity], title_standoff=4, row=row, col=column)
            if quantity in LOGARITHMS:
                figure.update_yaxes(LOGARITHMIC, row=row, col=column)
        figure.update_xaxes(
            title_text=LABELS["update" if "mean_reward" in table else "epoch"],
            row=last,
            col=column,
        )
    return figure.update_xaxes(type="log").update_layout(showlegend=False)


def _positions(tables: Iterable[pd.DataFrame]) -> tuple[str, ...]:
    """Return the column of the spectral position if all recordings have it."""
    return ("chi_pos",) if all("chi_pos" in table for table in tables) else ()


def grid(n_rows: int, columns: Sequence[str], titles: Sequence[str] | None = None) -> go.Figure:
    """Make empty panels whose size does not depend on their number."""
    width, height = (
        n * panel + (n - 1) * gap for n, panel, gap in zip((len(columns), n_rows), PANEL, GAP)
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


def mean_and_band(table: pd.DataFrame, quantity: str, /, axis: str = "epoch") -> pd.DataFrame:
    """Average a quantity over members at each epoch.

    For the loss and the spectral position, the lower end is at least a tenth of the mean, because
    their axes are logarithmic.

    Args:
        table: A recording of one network and one kind of points.
        quantity: The column to average.
        axis: The column that grows with the epochs.

    Returns:
        One row per epoch: mean, low and high. The latter are one standard deviation below and above
        the mean.
    """
    groups = table.dropna(subset=quantity).groupby(axis)[quantity]
    mean, deviation = groups.mean(), groups.std(ddof=1).fillna(0.0)
    low, high = mean - deviation, mean + deviation
    if quantity in LOGARITHMS:
        low = np.maximum(low, mean / 10)  # a logarithmic axis cannot show 0
    return pd.DataFrame({"mean": mean, "low": low, "high": high})


def line_and_band(
    table: pd.DataFrame, quantity: str, style: dict[str, str], *, axis: str = "epoch"
) -> list[go.Scatter]:
    """Draw the mean over members as a line, and one standard deviation around it as an area.

    Args:
        table: A recording of one network and one kind of points.
        quantity: The column to draw.
        style: Style of the line, with its colour.
        axis: "epoch", which is drawn as epoch + 1, or another column that grows with it.

    Returns:
        The line and the area.
    """
    curves = mean_and_band(table, quantity, axis)
    mean, low, high = curves["mean"], curves["low"], curves["high"]
    x = mean.index.to_numpy() + (axis == "epoch")
    hover = f"{axis} %{{customdata:.4g}}: %{{y:.4g}}"
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
    """Draw entropy, trace, spectral position and loss over width and depth (P2's phase maps).

    Each epoch has a row. Cells are means over members. The cell of a diverged network is empty. The
    colours of all but the entropy are logarithmic. The spectral position is left out if it was not
    recorded.

    Args:
        table: A recording of networks of different width and depth.
        epochs: The recorded epochs to draw.
        points: The kind of points of all but the loss, which is that of the test points.

    Returns:
        The figure.
    """
    names = ("entropy", "trace", *_positions([table]), "loss")
    figure = grid(len(epochs), names)
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
    levels = values if name == "entropy" else np.log10(values.where(values > 0))
    finite = levels.to_numpy()[np.isfinite(levels.to_numpy())]
    marks = np.linspace(finite.min(), finite.max(), 4) if finite.size else np.array([])
    words = [_short(mark if name == "entropy" else 10**mark) for mark in marks]
    bar = {"tickvals": marks, "ticktext": words, "thickness": 8, "x": panel.xaxis.domain[1] + 0.005}
    bar |= {"len": panel.yaxis.domain[1] - panel.yaxis.domain[0], "y": np.mean(panel.yaxis.domain)}
    return go.Heatmap(
        z=levels,
        x=[str(width) for width in values.columns],
        y=[str(depth) for depth in values.index],
        customdata=values,
        hovertemplate="width %{x}, depth %{y}: %{customdata:.4g}<extra></extra>",
        colorscale="Viridis",
        colorbar=bar,
    )


def _short(value: float) -> str:
    """Write three digits with a prefix of SI, for the narrow room next to a colour bar."""
    for smallest, unit, letter in PREFIXES:
        if abs(value) >= smallest:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"
