"""Write an HTML page with the verdict on each claim and its figures and numbers."""

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
    "whole interval lies on the claimed side and the test, if there is one, is significant. "
    "Otherwise it is undecided. Tests are corrected for all tests of the same table of claims. For "
    "C7 to C9 the test covers every subset size, and a significant effect on the other side at one "
    "size speaks against the claim. The rule applies to unrounded numbers. A number has more than "
    "two digits if two would not show on which side of a limit it lies. The column “sizes” counts "
    "the subset sizes at which the method is below random subsets / undecided / above."
)
MOST_DIGITS = 6


class Picture(NamedTuple):
    """Hold a figure of the page and its texts.

    Attributes:
        name: Name of the figure, and its anchor on the page.
        title: Title of its section.
        caption: Text below the figure.
        figure: The figure.
        shows: Sentence above the figure.
        command: Command that makes the figure again.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    shows: str = ""
    command: str = ""


class Table(NamedTuple):
    """Hold a table of the page and its texts.

    Attributes:
        name: Name of the table, and its anchor on the page.
        title: Title of its section.
        caption: Text above the table.
        frame: Texts and numbers, of which the page shows three digits.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame


class Part(NamedTuple):
    """Hold a table of claims with their evidence.

    Attributes:
        name: Name of the table, and its anchor on the page.
        title: Title of its section.
        claims: Claims by name.
        evidence: Their evidence, with the columns of `claims_2023.evidence`.
    """

    name: str
    title: str
    claims: claims.Claims
    evidence: pd.DataFrame


class Content(NamedTuple):
    """Hold the content of the page.

    Attributes:
        title: Title of the page.
        introduction: Paragraphs below the title.
        parts: Tables of claims.
        pictures: Figures.
        tables: Tables.
        settings: Values by section. A section with the name of a stage is shown with the stage.
        about: Versions and device in one sentence.
        stages: Stages that computed the results.
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
    """Return the page, which needs no other file and no network."""
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
    """Count the claims with each verdict, in a sentence."""
    counts = [(verdicts.count(verdict), verdict) for verdict in claims.VERDICTS]
    words = [f"{count} {'is' if count == 1 else 'are'} {verdict}" for count, verdict in counts]
    return f"of {len(verdicts)}, {words[0]}, {words[1]} and {words[2]}."


def effects(claim: dict[str, Any]) -> str:
    """Format the effects of a row of `claims.judge_claims` and the ends of their intervals."""
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
    """Format a number with two digits, or with enough to show its side of each boundary."""
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
    """Return a table for a template; names of columns of numbers are right-aligned too."""
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
