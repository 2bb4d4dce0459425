"""Draw a graph of stages: the position of each stage, and the edges between them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 200, 34  # of a stage, in the units of the drawing
ACROSS, BELOW, EDGE = 32, 12, 4  # between columns, between stages, and around all
HEAD = 6  # of an arrow


class Stage(NamedTuple):
    """Describe a stage of a graph.

    Attributes:
        name: Name of the stage.
        label: Short name for the drawing.
        group: Group of the stage. The stages of a group are drawn together.
        after: Names of the stages whose results it uses.
        code: File of its code.
        parameters: Its parameters by name.
        seconds: Time of its last run. None if unknown.
    """

    name: str
    label: str
    group: str
    after: Sequence[str]
    code: str
    parameters: Mapping[str, Any]
    seconds: float | None = None


def draw(stages: Sequence[Stage], /) -> list[dict[str, Any]]:
    """Return the drawing of each group for a template: its size, its stages and its edges."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.group, []).append(stage)
    return [{"name": name} | _draw_group(group) for name, group in groups.items()]


def _draw_group(group: Sequence[Stage]) -> dict[str, Any]:
    column_of = dict(zip([stage.name for stage in group], _columns(group)))
    group = sorted(group, key=lambda stage: column_of[stage.name])
    columns = [column_of[stage.name] for stage in group]
    lengths = [columns.count(column) for column in range(max(columns) + 1)]
    height = max(lengths) * (HEIGHT + BELOW) - BELOW
    filled = [0] * len(lengths)
    drawn = {}
    for stage, column in zip(group, columns):
        room = lengths[column] * (HEIGHT + BELOW) - BELOW
        y = EDGE + (height - room) / 2 + filled[column] * (HEIGHT + BELOW)
        filled[column] += 1
        drawn[stage.name] = _drawn(stage, EDGE + column * (WIDTH + ACROSS), y)
    edges = [
        _edge(drawn[before], drawn[stage.name])
        for stage in group
        for before in stage.after
        if before in drawn
    ]
    width = len(lengths) * (WIDTH + ACROSS) - ACROSS + 2 * EDGE
    return {
        "width": width,
        "height": height + 2 * EDGE,
        "stages": list(drawn.values()),
        "edges": edges,
    }


def _columns(group: Sequence[Stage]) -> list[int]:
    """Return the column of each stage: the length of the longest path that leads to it."""
    named = {stage.name: stage for stage in group}
    found: dict[str, int] = {}

    def column(name: str) -> int:
        if name not in found:
            before = [column(other) for other in named[name].after if other in named]
            found[name] = max(before, default=-1) + 1
        return found[name]

    return [column(stage.name) for stage in group]


def _drawn(stage: Stage, x: float, y: float) -> dict[str, Any]:
    time = "" if stage.seconds is None else f", {in_seconds(stage.seconds)} s"
    return {
        "name": stage.name,
        "label": f"{stage.label}{time}",
        "code": stage.code,
        "parameters": list(stage.parameters.items()),
        "seconds": "–" if stage.seconds is None else in_seconds(stage.seconds),
        "x": x,
        "y": y,
        "width": WIDTH,
        "height": HEIGHT,
    }


def in_seconds(seconds: float, /) -> str:
    """Format seconds, with one decimal below 10 s."""
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


def _edge(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """Return a line from the right of one stage to the left of another, and its arrow head."""
    x, y = before["x"] + WIDTH, before["y"] + HEIGHT / 2
    end, at = after["x"] - HEAD, after["y"] + HEIGHT / 2
    bend = ACROSS / 2
    return {
        "line": f"M{x},{y} C{x + bend},{y} {end - bend},{at} {end},{at}",
        "head": f"M{end},{at - HEAD / 2} L{end + HEAD},{at} L{end},{at + HEAD / 2} Z",
    }
