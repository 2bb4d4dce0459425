"""One HTML page with the verdict on each claim, and the figures and numbers behind it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from collective_variables import _extras
from collective_variables.papers import claims
from collective_variables.papers.pages import graph, rendering

with _extras.required("figures"):
    import plotly.graph_objects as go

EVIDENCE = [
    "problem",
    "parametrisation",
    "variable",
    "effect",
    "95 % interval",
    "p",
    "p, corrected",
    "n",
    "sizes",
    "verdict",
]
RULE = (
    "A claim is not supported if the interval of its effect contains no effect of the claimed kind "
    "that is large enough to matter, even if the effect is significant. It is supported if the "
    "whole interval lies on the claimed side and the test, corrected for all tests of this page, "
    "is significant. Otherwise it is undecided. For C7 to C9 the test is of every size, and a size "
    "at which the method is significantly on the other side speaks against the claim. The rule is "
    "applied to unrounded numbers: where two digits would show a limit, or the other side of it, "
    "there are more. Sizes counts the subset sizes at which the method is below random subsets / "
    "undecided / above."
)
MOST_DIGITS = 6


class Picture(NamedTuple):
    """A figure with its name, which is an anchor of the page, its title and its caption.

    shows: what a reader sees, in a line above the figure. command: what makes it again.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    shows: str = ""
    command: str = ""


class Table(NamedTuple):
    """A table of texts and numbers; the page shows three digits of a number."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame


class Part(NamedTuple):
    """A table of claims with their evidence, the table that `claims_2023.evidence` returns."""

    name: str
    title: str
    claims: claims.Claims
    evidence: pd.DataFrame


class Content(NamedTuple):
    """Everything that the page shows.

    settings: values by section. about: versions and device in one sentence. stages: what made the
    results; sections of the settings that have the name of a stage are shown with it.
    """

    title: str
    introduction: Sequence[str]
    parts: Sequence[Part]
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    settings: dict[str, dict[str, Any]]
    about: str
    stages: Sequence[graph.Stage] = ()


def html(content: Content) -> str:
    """Write the page, which contains all that it needs and opens from a disk without a network."""
    named = {stage.name for stage in content.stages}
    return rendering.render(
        "report.html",
        title=content.title,
        introduction=content.introduction,
        rule=RULE,
        parts=[_part(part) for part in content.parts],
        evidence_header=EVIDENCE,
        pictures=[_picture(picture) for picture in content.pictures],
        tables=[table_cells(table) for table in content.tables],
        graph=graph.draw(content.stages),
        settings=[
            {"name": name, "entries": list(values.items())}
            for name, values in content.settings.items()
            if name not in named
        ],
        about=content.about,
    )


def _part(part: Part) -> dict[str, Any]:
    """Return a part with the verdict on each claim and the rows of its evidence."""
    evidence = dict(list(part.evidence.groupby("claim")))
    judgements = claims.judge_claims(part.evidence, part.claims).to_dict("records")
    entries = []
    for judgement in judgements:
        rows = evidence.get(judgement["claim"], part.evidence[:0]).itertuples()
        entries.append(
            judgement
            | {
                "range": effects(judgement),
                "rows": [_evidence_row(row, judgement["boundaries"]) for row in rows],
            }
        )
    verdicts = [judgement["verdict"] for judgement in judgements]
    return {
        "name": part.name,
        "title": part.title,
        "answer": answer(verdicts),
        "claims": entries,
    }


def answer(verdicts: Sequence[str], /) -> str:
    """Return in a sentence how many claims have each verdict."""
    counts = [(verdicts.count(verdict), verdict) for verdict in claims.VERDICTS]
    words = [f"{count} {'is' if count == 1 else 'are'} {verdict}" for count, verdict in counts]
    return f"of {len(verdicts)}, {words[0]}, {words[1]} and {words[2]}."


def effects(claim: dict[str, Any]) -> str:
    """Write the effects of a row of `claims.judge_claims` and the ends of their intervals."""
    smallest, largest, lower, upper = (
        number(claim[end], claim["boundaries"]) for end in claims.ENDS
    )
    values = smallest if smallest == largest else f"{smallest} … {largest}"
    return f"{values} [{lower}, {upper}]"


def _evidence_row(row: Any, boundaries: Sequence[float]) -> dict[str, Any]:
    sizes = (
        ""
        if pd.isna(row.n_lower)
        else f"{row.n_lower:.0f} / {row.n_undecided:.0f} / {row.n_higher:.0f}"
    )
    effect, lower, upper = (
        number(value, boundaries) for value in (row.effect, row.lower, row.upper)
    )
    texts = [row.group, row.parametrisation, row.variable.replace("_", " ")]
    tests = [_probability(row.p_value), _probability(row.p_value_holm)]
    return {
        "cells": [*texts, effect, f"{lower} … {upper}", *tests, f"{row.n:.0f}", sizes],
        "verdict": row.verdict,
    }


def number(value: float | None, boundaries: Sequence[float] = (0.0,), /) -> str:
    """Write a number with two digits, or as many as show on which side of each boundary it is."""
    if pd.isna(value):
        return "–"
    for digits in range(2, MOST_DIGITS + 1):
        text = f"{value:+.{digits}f}"
        if all(np.sign(float(text) - end) == np.sign(value - end) for end in boundaries):
            return text
    return f"{value:+.2g}"


def _probability(value: float) -> str:
    return "–" if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _picture(picture: Picture) -> dict[str, str]:
    json = rendering.figure_json(picture.figure)
    return picture._asdict() | {"json": json}


def table_cells(table: Table, /) -> dict[str, Any]:
    """Return a table for a template: a column of numbers has its name at the right, too."""
    frame = table.frame
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    is_number = [all(cell["is_number"] for cell in column) for column in zip(*rows)]
    names = [name.replace("_", " ") for name in frame.columns]
    return {
        "name": table.name,
        "title": table.title,
        "caption": table.caption,
        "header": [
            {"text": name, "is_number": right}
            for name, right in zip(names, is_number or [False] * len(names))
        ],
        "rows": rows,
    }


def _cell(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value, "is_number": False}
    if pd.isna(value):
        return {"text": "–", "is_number": True}
    text = f"{value}"
    if isinstance(value, float):
        # Six digits are easier to read than a power of ten.
        text = f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
        text = text.replace("inf", "∞")
    return {"text": text, "is_number": True}
