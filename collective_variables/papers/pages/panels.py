"""Lay out the panels of a figure for pages of any width, from a wide screen to a phone."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from collective_variables import _extras

with _extras.required("figures"):
    import plotly.graph_objects as go

SHRINK, GROW = 0.75, 1.6  # limits of the width of a panel, in multiples of its original width
TITLE = 40  # pixels above a block of panels, for their titles
TICKS = 58  # pixels below a panel, for the labels of its axis
LINE = 20  # pixels of a line of a legend
BAR = 60  # pixels of a colour bar below all panels
RIGHT = 45  # pixels that the colour bar of a single panel takes
NARROW = 330  # pixels of a figure on a phone
Layout = dict[str, Any]


class _Place(NamedTuple):
    row: int
    column: int


class _Grid:
    """Compute the positions of the panels of a layout if a line has room for `n_across` of them.

    Columns without room move below the first ones, with all their rows. If each row has a legend,
    the columns of a row that have no room move directly below that row.
    """

    def __init__(self, layout: Layout, n_across: int):
        names = [name.removeprefix("xaxis") for name in layout if name.startswith("xaxis")]
        domains = {name: _domains(layout, name) for name in names}
        self.across = sorted({x for x, _ in domains.values()})
        self.down = sorted({y for _, y in domains.values()}, reverse=True)
        self.places = {
            name: _Place(self.down.index(y), self.across.index(x))
            for name, (x, y) in domains.items()
        }
        self.n_across = min(n_across, len(self.across))
        self.n_lines = math.ceil(len(self.across) / self.n_across)
        margin = layout["margin"]
        self.by_rows = "legend2" in layout
        self.old_width = (layout["width"] or 1000) - margin["l"] - margin["r"]
        self.old_height = layout["height"] - margin["t"] - margin["b"]
        self.panel = self.old_width * (self.across[0][1] - self.across[0][0])
        self.gap = self._gap(self.across) * self.old_width
        self.width = self.n_across * self.panel + (self.n_across - 1) * self.gap
        self.tops: list[float] = []
        self.height = 0.0

    def stack(self, extra: float, between: float) -> None:
        """Set the heights of all lines, with `extra` pixels above a row and `between` blocks."""
        length = self.old_height * (self.down[0][1] - self.down[0][0])
        within = -self._gap([(-high, -low) for low, high in self.down])
        within = abs(within) * self.old_height + extra
        n_rows = len(self.down)
        for line in range(self.n_lines * n_rows):
            is_new = not self.by_rows and line % n_rows == 0
            # A single row has no gap to keep.
            gap = between if is_new or n_rows == 1 else within
            self.tops.append(self.tops[-1] + length + gap if line else 0.0)
        self.height = self.tops[-1] + length

    @staticmethod
    def _gap(domains: list[tuple[float, float]]) -> float:
        return domains[1][0] - domains[0][1] if len(domains) > 1 else 0.0

    def place(self, x: float, y: float) -> _Place:
        """Return the place of the panel that contains a point of the old layout."""
        column = max(k for k, (low, _) in enumerate(self.across) if k == 0 or low <= x + 1e-6)
        row = max(k for k, (_, high) in enumerate(self.down) if k == 0 or high >= y - 1e-6)
        return _Place(row, column)

    def line(self, place: _Place) -> int:
        """Return the line of a panel, counted from the top."""
        beyond = place.column // self.n_across
        if self.by_rows:
            return place.row * self.n_lines + beyond
        return beyond * len(self.down) + place.row

    def x(self, value: float, column: int) -> float:
        """Return the new horizontal position of an old one in a column."""
        start = (column % self.n_across) * (self.panel + self.gap)
        return (start + (value - self.across[column][0]) * self.old_width) / self.width

    def y(self, value: float, place: _Place) -> float:
        """Return the new vertical position of an old one in a panel."""
        below = (self.down[place.row][1] - value) * self.old_height
        return 1 - (self.tops[self.line(place)] + below) / self.height

    def titles(self, layout: Layout) -> Iterator[tuple[str, str]]:
        """Yield each panel that moves to the left edge, and the one that was there in its row."""
        first = {place.row: name for name, place in self.places.items() if place.column == 0}
        for name, place in self.places.items():
            if place.column % self.n_across == 0 and "title" not in layout[f"yaxis{name}"]:
                yield name, first[place.row]


def wrap(figure: go.Figure, /) -> dict[str, Any]:
    """Return a figure for JSON, with a layout for each number of panels in a line.

    Args:
        figure: A figure of one or several panels.

    Returns:
        data: the traces. layouts: the layouts, the widest first, each with its smallest and largest
        width in pixels; the page sets the width. panels: titles of each panel and its axes, by the
        name of its x axis.
    """
    drawn = json.loads(figure.to_json())
    data, layout = drawn["data"], drawn["layout"]
    layout.pop("template", None)
    layout.setdefault("width", None)
    layout.setdefault("height", 450)
    layout["margin"] = {"l": 80, "r": 20, "t": 40, "b": 60} | layout.get("margin", {})
    _share_bars(data, layout)
    _free_the_right(layout)
    if not any(name.startswith("xaxis") for name in layout):
        layout |= {"xaxis": {}, "yaxis": {}}
    n_columns = len(_Grid(layout, 1).across)
    layouts = [_arrange(data, layout, n) for n in range(n_columns, 0, -1)]
    return {"data": data, "layouts": layouts, "panels": _names(layout)}


def _domains(layout: Layout, name: str) -> tuple[tuple[float, float], tuple[float, float]]:
    x, y = (tuple(layout[f"{side}{name}"].get("domain", (0, 1))) for side in ("xaxis", "yaxis"))
    return x, y


def _share_bars(data: list[dict], layout: Layout) -> None:
    """Move the colour axes of heat maps to the layout, where those of points are."""
    for number, trace in enumerate(data, start=1):
        if "colorbar" in trace:
            axis = {name: trace.pop(name) for name in ("colorbar", "colorscale") if name in trace}
            name = f"coloraxis{number}" if number > 1 else "coloraxis"  # Plotly's names
            layout[name], trace["coloraxis"] = axis, name


def _free_the_right(layout: Layout) -> None:
    """Move the colour bar of all panels below them, where it takes no width."""
    margin, bar = layout["margin"], layout.get("coloraxis", {}).get("colorbar")
    if bar is not None and "x" not in bar:
        bar["title"] |= {"side": "top"}
        bar |= {"orientation": "h", "x": 0.5, "xref": "container", "thickness": 10}
        bar |= {"len": NARROW // 2, "lenmode": "pixels"}
        bar |= {"y": 0, "yref": "container", "yanchor": "bottom"}
        layout["height"] += BAR
        margin["b"] += BAR
    right = margin["r"] if margin["r"] <= RIGHT else 20
    layout["width"] = layout["width"] and layout["width"] - margin["r"] + right
    margin["r"] = right


def _arrange(data: list[dict], old: Layout, n_across: int) -> dict[str, Any]:
    """Return a layout with `n_across` panels in a line, and the widths that it fits."""
    layout, grid = json.loads(json.dumps(old)), _Grid(old, n_across)
    margin, is_narrow = layout["margin"], n_across == 1
    sides = margin["l"] + margin["r"] + (grid.n_across - 1) * grid.gap
    least = 0 if is_narrow else sides + SHRINK * grid.n_across * grid.panel
    extra = LINE * _extra_lines(data, layout, (least or NARROW) - margin["r"])
    margin["t"] += extra
    grid.stack(extra, margin["b"] + TITLE)
    layout["height"] = grid.height + margin["t"] + margin["b"]
    for target, source in list(grid.titles(old)):
        if "title" in old[f"yaxis{source}"]:
            layout[f"yaxis{target}"]["title"] = old[f"yaxis{source}"]["title"]
    for name, place in grid.places.items():
        x, y = _domains(old, name)
        layout[f"xaxis{name}"]["domain"] = [_cut(grid.x(end, place.column)) for end in x]
        layout[f"yaxis{name}"]["domain"] = [_cut(grid.y(end, place)) for end in y]
    for item in _in_paper(layout):
        place = grid.place(item["x"], item["y"])
        item |= {"x": grid.x(item["x"], place.column), "y": grid.y(item["y"], place)}
    for bar in _bars(layout):
        _move_bar(bar, grid)
    most = None if old["width"] is None else sides + GROW * grid.n_across * grid.panel
    del layout["width"]
    return {"least": least, "most": most, "layout": layout}


def _cut(end: float) -> float:
    return min(1.0, max(0.0, end))


def _in_paper(layout: Layout) -> list[dict]:
    """List titles and legends that belong to a panel."""
    notes = [note for note in layout.get("annotations", []) if note.get("xref") == "paper"]
    legends = [layout[name] for name in layout if name.startswith("legend")]
    return notes + [
        legend for legend in legends if "y" in legend and legend.get("yref") != "container"
    ]


def _bars(layout: Layout) -> list[dict]:
    """List the colour bars that belong to a column or a panel."""
    bars = [layout[name]["colorbar"] for name in layout if name.startswith("coloraxis")]
    return [bar for bar in bars if bar.get("xref") != "container"]


def _move_bar(bar: dict, grid: _Grid) -> None:
    if bar.get("orientation") == "h":  # below its column
        bottom = _Place(len(grid.down) - 1, grid.place(bar["x"], 0.0).column)
        ends = [grid.x(end, bottom.column) for end in grid.across[bottom.column]]
        y = grid.y(grid.down[-1][0], bottom) - TICKS / grid.height
        bar |= {"x": sum(ends) / 2, "len": ends[1] - ends[0], "y": y, "yref": "paper"}
        bar["yanchor"] = "top"
    else:  # to the right of its panel
        place = grid.place(bar["x"], bar["y"])
        low, high = (grid.y(end, place) for end in grid.down[place.row])
        bar |= {"x": grid.x(bar["x"], place.column), "y": (low + high) / 2, "len": high - low}


def _extra_lines(data: list[dict], layout: Layout, width: float) -> int:
    """Return how many lines beyond the first the longest legend of a figure needs."""
    lengths: dict[str, int] = {}
    for trace in data:
        if layout.get("showlegend", True) and trace.get("showlegend", True) and "name" in trace:
            legend = trace.get("legend", "legend")
            lengths[legend] = lengths.get(legend, 0) + 60 + 7 * len(trace["name"])
    longest = max((lengths[name] for name in lengths if name in layout), default=0)
    return max(0, math.ceil(longest / width) - 1)


def _names(layout: Layout) -> dict[str, dict[str, str]]:
    """Return the titles of each panel and its axes, by the name of its x axis."""
    # If a panel has no title, the legend of its row may have one. Only the axes of the first column
    # and the last row may have titles, which are those of all.
    grid = _Grid(layout, len(layout))
    titles: dict[_Place, str] = {}
    for note in layout.get("annotations", []):
        titles.setdefault(grid.place(note["x"], note["y"]), note["text"])
    rows = {}
    for name in layout:
        legend = layout[name]
        if name.startswith("legend") and "title" in legend and "y" in legend:
            rows[grid.place(0.0, legend["y"]).row] = legend["title"]["text"].strip()
    axes = {place: name for name, place in grid.places.items()}
    result = {}
    for name, place in grid.places.items():
        below = axes.get(_Place(len(grid.down) - 1, place.column), name)
        beside = axes.get(_Place(place.row, 0), name)
        result[f"x{name}"] = {
            "panel": titles.get(place, rows.get(place.row, "")),
            "x_name": _title(layout, f"xaxis{name}") or _title(layout, f"xaxis{below}"),
            "y_name": _title(layout, f"yaxis{name}") or _title(layout, f"yaxis{beside}"),
        }
    return result


def _title(layout: Layout, axis: str) -> str:
    return layout.get(axis, {}).get("title", {}).get("text", "")
