"""Test what the later papers say about spectral position and scaling on recordings.

G: Nikolaou, Scheunemann, Krippendorf, Tovey, Holm (2026), "Spectral Reach". H: Nikolaou,
Krippendorf, Tovey, Holm (2025), "Beyond Scaling Curves: Internal Dynamics of Neural Networks
Through the NTK Lens".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from collective_variables.analysis import power_law
from collective_variables.papers import claims, claims_2024
from collective_variables.papers.claims import Claim
from collective_variables.papers.claims_2024 import Effect, Group
from collective_variables.training import study_cases
from collective_variables.training.study_cases import LEARNED, Case

FLOPS = 6  # of a training per parameter and point, as usual for scaling laws
MIN_SIZES = 3  # of a fit over sizes
_FALLS, _RISES = (-np.inf, 0.0), (0.0, np.inf)
_FALLS_CLEARLY, _RISES_CLEARLY = (-np.inf, -0.1), (0.1, np.inf)
FINDINGS: claims.Claims = {
    "G1": Claim(
        "The spectral position falls during training: the loss falls along ever weaker modes.",
        "ln of χ_pos after the last epoch over that before the first, train points",
        _FALLS,
        _FALLS_CLEARLY,
    ),
    "G2": Claim(
        "Larger models reach a lower spectral position (spectral reach).",
        "ln of the lowest χ_pos of the largest network over that of the smallest",
        _FALLS,
        _FALLS_CLEARLY,
    ),
    "G3": Claim(
        "With frozen features the spectral position stalls earlier, and the loss with it.",
        "ln of the lowest value with frozen features over that with learned ones, train points",
        _RISES,
        _RISES_CLEARLY,
    ),
    "G4": Claim(
        "Over compute, the early fall of the spectral position is one curve for all sizes.",
        "exponent in the number of parameters of the compute at which χ_pos passes a level (0 for "
        "one curve over compute, 1 for one curve over points)",
        (-0.5, 0.5),
        (-0.25, 0.25),
    ),
    "H1a": Claim(
        "The loss falls with similar exponents in the number of points and of parameters.",
        "exponent of the lowest test loss in the number of points minus that in the number of "
        "parameters",
        (-0.2, 0.2),
        (-0.1, 0.1),
    ),
    "H1b": Claim(
        "More points and more parameters change the kernel in opposite ways.",
        "product of the two rank correlations of a variable after training, with the number of "
        "points and with that of parameters",
        _FALLS,
        _FALLS_CLEARLY,
        limits=claims.CORRELATION,
    ),
    "H2": Claim(
        "Feature learning is lost as the width grows: the kernel changes less.",
        "exponent of the relative change of the kernel until the last epoch in the width",
        _FALLS,
        _FALLS_CLEARLY,
    ),
}
KERNEL_VARIABLES = ("effective_entropy", "trace_per_point")


def evidence(groups: Mapping[str, Group], *, confidence: float = 0.95) -> pd.DataFrame:
    """Estimate the effect of each claim in each network or study.

    Effects are means over members with Student's interval and t-test. Groups without recorded
    positions are left out.

    Args:
        groups: Recordings of each group by its name.
        confidence: Confidence of all intervals, and 1 - level of the tests.

    Returns:
        The columns of `claims_2024.evidence`.
    """
    effects = (
        effect
        for name, group in groups.items()
        if "chi_pos" in group.recording
        for effect in _effects(name, group)
    )
    return claims_2024.evidence_of_members(effects, FINDINGS, confidence=confidence)


def _effects(name: str, group: Group) -> Iterator[Effect]:
    learned = claims_2024.learned_rows(group.recording)
    for network, table in claims_2024.named_networks(group, claims_2024.without_failures(learned)):
        yield Effect("G1", name, network, "chi_pos", _change(table))
    for cases, (small, large) in claims_2024.list_ends(group.studies):
        lowest = [_lowest(study_cases.study_rows(learned, [case]), "chi_pos") for case in cases]
        values = np.log(lowest[1] / lowest[0])
        yield Effect("G2", name, f"{large} − {small}", "chi_pos", values)
    for study, cases in group.studies.items():
        yield from _frozen_effects(name, learned, cases)
        yield from _width_effects(name, study, learned, cases)
    yield from _scaling_effects(name, group)


def _change(table: pd.DataFrame) -> pd.Series:
    """Return each member's ln of χ_pos after the last epoch over that before the first."""
    curves = claims_2024.finite_curves(table, "chi_pos")
    return np.log(curves.iloc[:, -1] / curves.iloc[:, 0])


def _lowest(table: pd.DataFrame, variable: str) -> pd.Series:
    """Return the lowest value of each member."""
    return table.groupby("member")[variable].min()


def _frozen_effects(name: str, learned: pd.DataFrame, cases: Sequence[Case]) -> Iterator[Effect]:
    """Yield the effects of fixing the features, where a study has both."""
    for case in cases:
        counterpart = Case(**asdict(case) | {"features": LEARNED})
        if case.features == LEARNED or counterpart not in cases:
            continue
        tables = [study_cases.study_rows(learned, [either]) for either in (case, counterpart)]
        words = claims_2024.network_name({"width": case.width, "features": case.features})
        for variable in ("chi_pos", "loss"):
            frozen, free = (_lowest(table, variable) for table in tables)
            yield Effect("G3", name, words, variable, np.log(frozen / free))


def _width_effects(
    name: str, study: str, learned: pd.DataFrame, cases: Sequence[Case]
) -> Iterator[Effect]:
    """Yield the effects over the widths of a study, for each depth."""
    for words, family in families(cases, "width"):
        table = study_cases.study_rows(learned, family)
        network = ", ".join(filter(None, (study, words)))
        last = table[table["epoch"] == table["epoch"].max()]
        yield Effect("H2", name, network, "drift", _exponents(last, "width", "drift"))
        if table["epoch"].nunique() > 2:
            yield Effect("G4", name, network, "compute", passing_exponents(table))


def families(cases: Sequence[Case], axis: str, /) -> Iterator[tuple[str, list[Case]]]:
    """Yield the cases with learned features that differ in one axis only, three values at least.

    Args:
        cases: The cases of a study.
        axis: The axis. Batches of all points grow with the number of points.

    Yields:
        What distinguishes them from other cases of the study, in words, and the cases in order.
    """
    learned = [case for case in cases if case.features == LEARNED]
    table = pd.DataFrame([asdict(case) for case in learned], columns=list(study_cases.AXES))
    same = [name for name in table if name != axis and (name, axis) != ("batch_size", "n_points")]
    differing = [name for name in same if table[name].nunique() > 1]
    for _, part in table.groupby(same, sort=False):
        if part[axis].nunique() >= MIN_SIZES:
            words = claims_2024.network_name({name: part[name].iloc[0] for name in differing})
            yield words, [learned[place] for place in part.sort_values(axis).index]


def compute(table: pd.DataFrame, /) -> pd.Series:
    """Return the operations of a training until each row of a recording, 6 · parameters · points.

    This is the usual estimate for scaling laws; points count as often as they were seen.
    """
    return FLOPS * table["n_parameters"] * table["epoch"] * table["n_points"]


def passing_exponents(table: pd.DataFrame, /) -> pd.Series:
    """Return each member's exponent of the compute at which χ_pos passes a level.

    The level lies half-way, in logarithms, between the lowest value at the first recorded epoch of
    the training and the highest of the lowest values, so that the curves of all sizes pass it.
    Between recorded epochs χ_pos is linear in logarithms. A member of which a size does not pass
    the level is NaN.

    Args:
        table: A recording of networks that differ in their number of parameters.

    Returns:
        The exponents by member: 0 if all sizes pass at the same compute, 1 if after the same number
        of points.
    """
    table = table.assign(compute=compute(table))
    columns = ["n_parameters", "epoch", "compute", "chi_pos"]
    return table.groupby("member")[columns].apply(_passing_exponent)


def _passing_exponent(member: pd.DataFrame) -> float:
    curves = {
        size: part.sort_values("epoch")[["compute", "chi_pos"]].to_numpy(float)[1:]
        for size, part in member.groupby("n_parameters")
    }
    values = [np.log(curve[:, 1]) for curve in curves.values()]
    level = (min(curve[0] for curve in values) + max(curve.min() for curve in values)) / 2
    passed = [_passing(np.log(curve[:, 0]), y, level) for curve, y in zip(curves.values(), values)]
    if len(passed) < MIN_SIZES or not np.isfinite(passed).all():
        return np.nan
    return float(np.polyfit(np.log(list(curves)), passed, 1)[0])


def _passing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Return the first x at which y falls below a level, NaN if it begins there or never does."""
    below = np.flatnonzero(y < level)
    if not len(below) or below[0] == 0:
        return np.nan
    place = below[0]
    share = (y[place - 1] - level) / (y[place - 1] - y[place])
    return float(x[place - 1] + share * (x[place] - x[place - 1]))


def _scaling_effects(name: str, group: Group) -> Iterator[Effect]:
    """Yield the effects of groups that scale the number of points and the width of a network."""
    found = {
        axis: [family for cases in group.studies.values() for _, family in families(cases, axis)]
        for axis in ("n_points", "width")
    }
    if not all(found.values()):
        return
    table = claims_2024.without_failures(group.recording)
    by_points, by_size = (
        study_cases.study_rows(table, found[axis][0]) for axis in ("n_points", "width")
    )
    lowest = [
        part[part["points"] == "test"].groupby(["member", size])["loss"].min().reset_index()
        for part, size in ((by_points, "n_points"), (by_size, "n_parameters"))
    ]
    exponents = [
        _exponents(part, size, "loss") for part, size in zip(lowest, ("n_points", "n_parameters"))
    ]
    words = "points − parameters"
    yield Effect("H1a", name, words, "test loss", exponents[0] - exponents[1])
    after = [
        part[(part["points"] == "train") & (part["epoch"] == part["epoch"].max())]
        for part in (by_points, by_size)
    ]
    for variable in (*KERNEL_VARIABLES, "chi_pos"):
        products = _correlations(after[0], "n_points", variable) * _correlations(
            after[1], "n_parameters", variable
        )
        yield Effect("H1b", name, "points · parameters", variable, products)


def _exponents(table: pd.DataFrame, axis: str, variable: str) -> pd.Series:
    """Return each member's exponent of a variable in a size."""
    return table.groupby("member")[[axis, variable]].apply(
        lambda member: power_law.fit_power_law(member, axis, variable).exponent
    )


def _correlations(table: pd.DataFrame, axis: str, variable: str) -> pd.Series:
    """Return each member's rank correlation of a variable with a size."""
    return table.groupby("member")[[axis, variable]].apply(
        lambda member: member[axis].rank().corr(member[variable].rank())
    )
