"""Write self-contained pages from templates, with style, scripts and figures inside."""

import base64
import functools
import gzip
import json
from typing import Any

from collective_variables import _extras
from collective_variables.papers.pages import panels

with _extras.required("figures"):
    import jinja2
    import plotly.graph_objects as go
    import plotly.offline


def render(template: str, /, **values: Any) -> str:
    """Fill in a template, and return a page that needs no other file and no network."""
    return _environment().get_template(template).render(values | {"plotly": _program()})


def figure_json(figure: go.Figure, /) -> str:
    """Return a figure as JSON for a script element of a page."""
    # "<" in a text could begin or end an element.
    return json.dumps(panels.wrap(figure)).replace("<", "\\u003c")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("collective_variables.papers"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _program() -> str:
    """Return Plotly's script in gzip and base64, which shrinks it from 4.8 MB to 1.9 MB."""
    packed = gzip.compress(plotly.offline.get_plotlyjs().encode(), mtime=0)
    return base64.b64encode(packed).decode()
