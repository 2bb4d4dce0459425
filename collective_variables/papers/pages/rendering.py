"""Write pages from templates, with all that they need inside: style, programs, figures."""

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
    """Fill in a template; the page opens from a disk without a network."""
    return _environment().get_template(template).render(values | {"plotly": _program()})


def figure_json(figure: go.Figure, /) -> str:
    """Return a figure for the element of a page that holds it."""
    # No text may begin or end an element.
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
    """Return Plotly's program: 4.8 MB as a text, 1.9 MB as it is here."""
    packed = gzip.compress(plotly.offline.get_plotlyjs().encode(), mtime=0)
    return base64.b64encode(packed).decode()
