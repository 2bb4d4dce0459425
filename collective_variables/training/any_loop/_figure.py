"""Draw what a recorder has recorded."""

import numpy as np
import pandas as pd

from collective_variables import _extras

with _extras.required("figures"):
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

PANELS = {
    "loss": "Loss",
    "entropy": "Entropy S (nats)",
    "trace": "Trace Tr",
    "chi_pos": "Spectral position",
    "drift": "Drift of the kernel",
    "target_alignment": "Alignment with targets",
}
LOGARITHMIC = ("loss", "trace")
N_COLUMNS = 3
PANEL = (320, 240)  # width and height in pixels
COLOUR = "#0072B2"


def draw(table: pd.DataFrame) -> go.Figure:
    """Return a figure with a panel for each quantity of the table, against the step + 1."""
    names = [name for name in PANELS if name in table]
    n_rows = -(-len(names) // N_COLUMNS)
    titles = [PANELS[name] for name in names]
    figure = make_subplots(n_rows, N_COLUMNS, subplot_titles=titles, vertical_spacing=0.2)
    for place, name in enumerate(names):
        row, column = place // N_COLUMNS + 1, place % N_COLUMNS + 1
        line = go.Scatter(
            x=table["step"] + 1,
            y=np.asarray(table[name], float),
            mode="lines+markers",
            line={"color": COLOUR},
            name=PANELS[name],
        )
        figure.add_trace(line, row=row, col=column)
        if name in LOGARITHMIC:
            figure.update_yaxes(type="log", dtick="D2", row=row, col=column)
    figure.update_xaxes(type="log", dtick=1, title_text="Step + 1", title_standoff=4)
    return figure.update_layout(
        template="plotly_white",
        showlegend=False,
        width=N_COLUMNS * PANEL[0],
        height=n_rows * PANEL[1],
        margin={"l": 50, "r": 20, "t": 60, "b": 50},
    )
