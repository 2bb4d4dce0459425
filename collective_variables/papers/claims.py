"""Judge the claims of a paper by evidence from our runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from collective_variables.analysis import statistics

SUPPORTED, NOT_SUPPORTED, UNDECIDED = VERDICTS = ("supported", "not supported", "undecided")
ROW = ["claim", "group", "parametrisation", "variable", "effect", "lower", "upper", "p_value", "n"]
NEGLIGIBLE = 0.1  # a correlation below this does not matter in practice
CLEAR = 0.3  # a correlation above this is a clear trend
ANY = (-np.inf, np.inf)
CORRELATION, FRACTION, RELATIVE = (-1.0, 1.0), (0.0, 1.0), (-1.0, np.inf)  # ranges of effects
ENDS = ("smallest", "largest", "lower", "upper")
SIZES = ("n_lower", "n_undecided", "n_higher")
MOST_NAMED = 4  # cases of one verdict that a sentence names


class Claim(NamedTuple):
    """Hold a claim of a paper, the effect that tests it, and the values that would support it.

    An interval of the effect that does not overlap `needs` speaks against the claim. Any other
    interval inside `supports` speaks for it. All others leave the claim undecided.

    Attributes:
        words: The claim in words.
        effect: Name and unit of the effect that each row of evidence estimates.
        supports: Ends of the effects of the claimed kind.
        needs: Ends of the effects of the claimed kind that are large enough to matter.
        any_of: Columns of the evidence. Of rows that differ only in them, one supported row is
            enough.
        limits: Smallest and largest possible value of the effect.
    """

    words: str
    effect: str
    supports: tuple[float, float]
    needs: tuple[float, float]
    any_of: tuple[str, ...] = ()
    limits: tuple[float, float] = ANY

    @property
    def boundaries(self) -> list[float]:
        """Finite values of the effect that decide between verdicts."""
        return sorted(set(filter(np.isfinite, (*self.supports, *self.needs))))


Claims = dict[str, Claim]


def judge_claims(evidence: pd.DataFrame, claims: Claims) -> pd.DataFrame:
    """Judge each of `claims` by all its rows of evidence.

    A claim is supported if every group, parametrisation and variable supports it. It is not
    supported if one of them shows the opposite or a negligible effect. Otherwise, or without any
    run, it is undecided.

    Args:
        evidence: Rows with the columns `ROW` and verdict.
        claims: Claims by name.

    Returns:
        One row per claim: claim, words, effect, `ENDS`, verdict, why (one sentence) and boundaries
        (the values that decide between verdicts). `smallest` and `largest` are the ends of the
        effects, `lower` and `upper` those of their intervals, NaN without any run. If one row of
        several is enough, the ends include only the rows with the verdict of their case.
    """
    rows = []
    for name, claim in claims.items():
        part = evidence[evidence["claim"] == name]
        several = (
            not claim.any_of
            and part.groupby(["group", "parametrisation"])["variable"].nunique().max() > 1
        )
        grouped = [case for _, case in part.groupby(_case_columns(claim), sort=False)]
        cases = [_name_case(case, several) for case in grouped]
        deciding = [case[case["verdict"] == verdict] for case, (verdict, _) in zip(grouped, cases)]
        part = pd.concat(deciding) if deciding else part
        case_verdicts = {verdict for verdict, _ in cases}
        verdict = UNDECIDED
        if NOT_SUPPORTED in case_verdicts:
            verdict = NOT_SUPPORTED
        elif case_verdicts == {SUPPORTED}:
            verdict = SUPPORTED
        ends = (
            part["effect"].min(),
            part["effect"].max(),
            part["lower"].min(),
            part["upper"].max(),
        )
        words = verdict, _why(cases), claim.boundaries
        rows.append((name, claim.words, claim.effect, *ends, *words))
    columns = ["claim", "words", "effect", *ENDS, "verdict", "why", "boundaries"]
    return pd.DataFrame(rows, columns=columns)


def claims_record(evidence: pd.DataFrame, claims: Claims) -> list[dict]:
    """Return the rows of `judge_claims` as values for JSON, each with its rows of `evidence`.

    A missing number is None.
    """
    record = []
    for judgement in judge_claims(evidence, claims).to_dict("records"):
        rows = evidence[evidence["claim"] == judgement["claim"]].drop(columns="claim")
        rows = rows.astype(object)
        entry: dict[str, Any] = {
            name: None if np.ndim(value) == 0 and pd.isna(value) else value
            for name, value in judgement.items()
        }
        record.append(entry | {"evidence": rows.where(rows.notna(), None).to_dict("records")})
    return record


def _case_columns(claim: Claim) -> list[str]:
    return [
        column for column in ("group", "parametrisation", "variable") if column not in claim.any_of
    ]


def _name_case(case: pd.DataFrame, with_variable: bool) -> tuple[str, str]:
    """Return the best verdict among the rows of a case, and the name of the case."""
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
        return "No runs available."
    parts = []
    for verdict in VERDICTS:
        names = [name for case_verdict, name in cases if case_verdict == verdict]
        if names:
            which = (
                f"all {len(cases)}" if len(names) == len(cases) else f"{len(names)} of {len(cases)}"
            )
            named = f": {', '.join(names)}" if len(names) <= MOST_NAMED else ""
            parts.append(f"{verdict} in {which}{named}")
    return f"{'; '.join(parts).capitalize()}."


def in_limits(evidence: pd.DataFrame, claims: Claims) -> pd.DataFrame:
    """Clip the intervals of evidence to the possible values of each effect."""
    limits = np.array([claims[name].limits for name in evidence["claim"]]).reshape(-1, 2).T
    lower, upper = statistics.within(evidence["lower"], evidence["upper"], limits)
    return evidence.assign(lower=lower, upper=upper)


def interval_verdict(row: NamedTuple, claim: Claim, level: float) -> str:
    """Judge a row of evidence by the interval of its effect and by its corrected p-value."""
    # With many runs, an effect that is too small to matter is significant too, so `needs` comes
    # first. NaN compares false, so an effect without an estimate is undecided.
    if is_apart(row, claim.needs):
        return NOT_SUPPORTED
    return SUPPORTED if is_inside(row, claim) and not row.p_value_holm > level else UNDECIDED


def is_inside(row: NamedTuple, claim: Claim) -> bool:
    """Return whether the whole interval of a row lies on the claimed side."""
    return claim.supports[0] <= row.lower and row.upper <= claim.supports[1]


def is_apart(row: NamedTuple, needs: tuple[float, float]) -> bool:
    """Return whether the interval of a row and `needs` have no value in common."""
    return row.upper < needs[0] or row.lower > needs[1]
