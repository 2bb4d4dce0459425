"""Draw the spectral position during training, over epochs and over compute, with Plotly."""

from collections.abc import Mapping

import pandas as pd

from collective_variables import _extras
from collective_variables.papers import figures_2024
from collective_variables.papers.figures_2023 import LOGARITHMIC, PALETTE
from collective_variables.papers.position import claims

with _extras.required("figures"):
    import plotly.graph_objects as go

COMPUTE = "Compute 6ND (operations)"
# Quantity, axis and kinds of points of each column.
COLUMNS = (
    ("chi_pos", "epoch", ("train",)),
    ("chi_pos", "compute", ("train",)),
    ("loss", "compute", ("train", "test")),
)


def positions(rows: Mapping[str, Mapping[str, pd.DataFrame]], /) -> go.Figure:
    """Draw χ_pos over epochs and over compute, and the loss over compute.

    Lines are means over members, bands one standard deviation. Train points are solid, test points
    dotted. All axes are logarithmic, so epochs are shown as epoch + 1, and compute begins at the
    first recorded epoch of the training.

    Args:
        rows: For each row of panels, the recordings of its networks by their names.

    Returns:
        The figure.
    """
    figure = figures_2024.grid(len(rows), [axis for _, axis, _ in COLUMNS])
    for row, (name, lines) in enumerate(rows.items(), start=1):
        legend = f"legend{row}" if row > 1 else "legend"
        for number, (network, table) in enumerate(lines.items()):
            table = table.assign(compute=claims.compute(table).where(table["epoch"] > 0))
            for column, (quantity, axis, kinds) in enumerate(COLUMNS, start=1):
                for points in kinds:
                    part = table[table["points"] == points].dropna(subset=axis)
                    style = {
                        "dash": figures_2024.DASHES[points],
                        "color": PALETTE[number % len(PALETTE)],
                    }
                    traces = figures_2024.line_and_band(part, quantity, style, axis=axis)
                    traces[0].update(name=network, legend=legend, showlegend=column == 1)
                    figure.add_traces(traces, rows=row, cols=column)
        for column, (quantity, axis, _) in enumerate(COLUMNS, start=1):
            label = figures_2024.LABELS[quantity]
            figure.update_yaxes(
                LOGARITHMIC, title_text=label, title_standoff=4, row=row, col=column
            )
            text = COMPUTE if axis == "compute" else figures_2024.LABELS[axis]
            figure.update_xaxes(title_text=text, row=len(rows), col=column)
        place = {
            "orientation": "h",
            "x": 0,
            "y": figure.get_subplot(row, 1).yaxis.domain[1],
            "yanchor": "bottom",
            "title": {"text": f"{name}  "},
        }
        figure.update_layout({legend: place})
    return figure.update_xaxes(type="log")
