"""One HTML page that says which claims of the paper hold, and shows the figures and numbers that
say so.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
import pandas as pd
import plotly.graph_objects as go
import plotly.offline

from collective_variables.papers import claims

EVIDENCE = [
    "problem",
    "parametrisation",
    "of",
    "effect",
    "95 % interval",
    "p",
    "p, corrected",
    "n",
    "sizes",
    "verdict",
]
RULE = (
    "A claim is not supported where the interval of its effect leaves nothing of the claimed kind that is worth mentioning, "
    "however significant; else supported where the whole interval lies on the claimed side and the test, corrected for all tests "
    "of this page, is significant; undecided otherwise. Sizes are those at which the method is below random subsets / undecided "
    "/ above."
)


class Picture(NamedTuple):
    """A figure with its place in the page (`name`, an anchor), and what it shows."""

    name: str
    title: str
    caption: str
    figure: go.Figure


class Table(NamedTuple):
    """A table of texts and numbers, of which three digits are shown."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame


class Part(NamedTuple):
    """A table of claims, its place in the page, and the evidence of them, as `claims_2023.evidence`
    gives it.
    """

    name: str
    title: str
    claims: claims.Claims
    evidence: pd.DataFrame


class Content(NamedTuple):
    """All that the page shows; settings by section, about: versions and device in one sentence."""

    title: str
    introduction: Sequence[str]
    parts: Sequence[Part]
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    settings: dict[str, dict[str, Any]]
    about: str


def html(content: Content) -> str:
    """The page with all that it needs in it: it opens from a disk without a network."""
    loader = jinja2.PackageLoader("collective_variables.papers")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        title=content.title,
        introduction=content.introduction,
        rule=RULE,
        parts=[_judged(part) for part in content.parts],
        evidence_header=EVIDENCE,
        pictures=[_drawn(picture) for picture in content.pictures],
        tables=[_written(table) for table in content.tables],
        settings=[
            {"name": name, "entries": list(values.items())}
            for name, values in content.settings.items()
        ],
        about=content.about,
        plotly=plotly.offline.get_plotlyjs(),
    )


def _judged(part: Part) -> dict[str, Any]:
    """A part with the verdict on each claim and the rows of its evidence."""
    rows = dict(list(part.evidence.groupby("claim")))
    judged = claims.judge_claims(part.evidence, part.claims).to_dict("records")
    found = [
        claim
        | {
            "found": effects(claim),
            "rows": [
                _cells(row) for row in rows.get(claim["claim"], part.evidence[:0]).itertuples()
            ],
        }
        for claim in judged
    ]
    return {"name": part.name, "title": part.title, "claims": found}


def effects(claim: dict[str, Any]) -> str:
    """The effects of a row of `claims.judge_claims` and how far their intervals reach."""
    smallest, largest, lower, upper = (_number(claim[end]) for end in claims.ENDS)
    found = smallest if smallest == largest else f"{smallest} … {largest}"
    return f"{found} [{lower}, {upper}]"


def _cells(row: Any) -> dict[str, Any]:
    sizes = (
        ""
        if pd.isna(row.n_lower)
        else f"{row.n_lower:.0f} / {row.n_undecided:.0f} / {row.n_higher:.0f}"
    )
    interval = f"{_number(row.lower)} … {_number(row.upper)}"
    texts = [row.group, row.parametrisation, row.variable.replace("_", " ")]
    tests = [_probability(row.p_value), _probability(row.p_value_holm)]
    return {
        "cells": [*texts, _number(row.effect), interval, *tests, f"{row.n:.0f}", sizes],
        "verdict": row.verdict,
    }


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.2f}"


def _probability(value: float) -> str:
    return "–" if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _drawn(picture: Picture) -> dict[str, str]:
    # "</" would end the element that holds the figure.
    json = picture.figure.to_json().replace("</", "<\\/")
    return {"name": picture.name, "title": picture.title, "caption": picture.caption, "json": json}


def _written(table: Table) -> dict[str, Any]:
    frame = table.frame
    return {"name": table.name, "title": table.title, "caption": table.caption} | {
        "header": [name.replace("_", " ") for name in frame.columns],
        "rows": [
            [_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)
        ],
    }


def _cell(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value, "is_number": False}
    if pd.isna(value):
        return {"text": "–", "is_number": True}
    text = f"{value:.3g}".replace("inf", "∞") if isinstance(value, float) else f"{value}"
    return {"text": text, "is_number": True}
