"""Claims of a paper: what would support each, and the verdict that evidence gives."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

SUPPORTED, NOT_SUPPORTED, UNDECIDED = VERDICTS = ("supported", "not supported", "undecided")
ROW = ["claim", "group", "parametrisation", "variable", "effect", "lower", "upper", "p_value", "n"]
NEGLIGIBLE = 0.1  # a coefficient of correlation below which a trend is none in practice
CLEAR = 0.3  # and one above which a trend is clear
ENDS = ("smallest", "largest", "lower", "upper")
SIZES = ("n_lower", "n_undecided", "n_higher")
MOST_NAMED = 4  # cases of one verdict that a sentence can name


class Claim(NamedTuple):
    """What a paper says, what of our runs answers it, and which values of that would.

    words: the paper's. effect: what is estimated for each row of evidence. An interval that does
    not meet `needs` speaks against the claim, another inside `supports` for it; any other leaves it
    undecided.
    any_of: columns of the evidence of which one supported row in each group is enough.
    """

    words: str
    effect: str
    supports: tuple[float, float]
    needs: tuple[float, float]
    any_of: tuple[str, ...] = ()


Claims = dict[str, Claim]


def judge_claims(evidence: pd.DataFrame, claims: Claims) -> pd.DataFrame:
    """One row for each of `claims`: claim, words, effect, verdict, and why in one sentence; NaN
    without any run.

    smallest and largest are the ends of the effects of all rows of evidence, lower and upper those
    of their intervals.

    A claim of all problems is supported if all of them support it, not supported if one of them
    says the contrary or shows it to be negligible, undecided otherwise or without any run.
    """
    rows = []
    for name, claim in claims.items():
        of = evidence[evidence["claim"] == name]
        several = (
            not claim.any_of
            and of.groupby(["group", "parametrisation"])["variable"].nunique().max() > 1
        )
        cases = [
            _name_case(case, several) for _, case in of.groupby(_case_columns(claim), sort=False)
        ]
        found = [verdict for verdict, _ in cases]
        verdict = UNDECIDED
        if NOT_SUPPORTED in found:
            verdict = NOT_SUPPORTED
        elif found and set(found) == {SUPPORTED}:
            verdict = SUPPORTED
        ends = (of["effect"].min(), of["effect"].max(), of["lower"].min(), of["upper"].max())
        rows.append((name, claim.words, claim.effect, *ends, verdict, _why(cases)))
    return pd.DataFrame(rows, columns=["claim", "words", "effect", *ENDS, "verdict", "why"])


def claims_record(evidence: pd.DataFrame, claims: Claims) -> list[dict]:
    """The rows of `judged`, each with its rows of `evidence` under that name, as values for JSON:
    None where there is none.
    """
    found = []
    for of in judge_claims(evidence, claims).to_dict("records"):
        rows = evidence[evidence["claim"] == of["claim"]].drop(columns="claim").astype(object)
        of = {name: None if pd.isna(value) else value for name, value in of.items()}
        found.append(of | {"evidence": rows.where(rows.notna(), None).to_dict("records")})
    return found


def _case_columns(claim: Claim) -> list[str]:
    return [
        column for column in ("group", "parametrisation", "variable") if column not in claim.any_of
    ]


def _name_case(case: pd.DataFrame, with_variable: bool) -> tuple[str, str]:
    """The verdict of rows of which one supported is enough, and what they are of."""
    best = next(
        verdict
        for verdict in (SUPPORTED, UNDECIDED, NOT_SUPPORTED)
        if verdict in set(case["verdict"])
    )
    first = case.iloc[0]
    variable = f", {first['variable']}" if with_variable else ""
    return best, f"{first['group']} ({first['parametrisation']}{variable})"


def _why(cases: Sequence[tuple[str, str]]) -> str:
    if not cases:
        return "No run tells."
    parts = []
    for verdict in VERDICTS:
        names = [name for found, name in cases if found == verdict]
        if names:
            which = (
                f"all {len(cases)}" if len(names) == len(cases) else f"{len(names)} of {len(cases)}"
            )
            named = f": {', '.join(names)}" if len(names) <= MOST_NAMED else ""
            parts.append(f"{verdict} in {which}{named}")
    return f"{'; '.join(parts).capitalize()}."


def interval_verdict(row: NamedTuple, claim: Claim, level: float) -> str:
    """The verdict on a row of evidence by its effect's interval, lower to upper, and p_value_holm
    at a level.
    """
    # Many runs find an effect that is too small to matter: that comes first. A NaN compares false,
    # so that what could not be estimated is undecided.
    if is_apart(row, claim.needs):
        return NOT_SUPPORTED
    inside = claim.supports[0] <= row.lower and row.upper <= claim.supports[1]
    return SUPPORTED if inside and not row.p_value_holm > level else UNDECIDED


def is_apart(row: NamedTuple, needs: tuple[float, float]) -> bool:
    return row.upper < needs[0] or row.lower > needs[1]
