"""Test the findings of Tovey et al. 2024 (P2) on learning dynamics on recordings.

P2: Tovey, Krippendorf, Spannowsky, Nikolaou, Holm (2024), "Collective variables of neural networks:
empirical time evolution and scaling laws".
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables.analysis import entropy_phases, statistics
from collective_variables.papers import claims
from collective_variables.papers.claims import Claim
from collective_variables.training import study_cases
from collective_variables.training.study_cases import Case

SIZES = ("width", "depth")  # the axes along which networks grow
LEARNED_POINTS = ("train", "observations")  # the kinds of recorded points that a network learns
_FALLS, _GROWS = (-np.inf, 0.0), (0.0, np.inf)
_FALLS_CLEARLY = (-np.inf, -entropy_phases.RESOLUTION)
_GROWS_CLEARLY = (entropy_phases.RESOLUTION, np.inf)
FINDINGS: claims.Claims = {
    "F1": Claim(
        "Small networks compress information: the entropy of their kernel falls during training.",
        "change of the entropy from the first epoch to the last (nats), smallest network of each "
        "study",
        _FALLS,
        _FALLS_CLEARLY,
    ),
    "F2": Claim(
        "Large and deep networks form structure: the entropy of their kernel rises during "
        "training.",
        "change of the entropy from the first epoch to the last (nats), largest network of each "
        "study",
        _GROWS,
        _GROWS_CLEARLY,
    ),
    "F3": Claim(
        "The size of a network decides which of the two it does.",
        "change of the entropy in the largest network minus that in the smallest, on the same "
        "points (nats)",
        _GROWS,
        _GROWS_CLEARLY,
    ),
    "F4": Claim(
        "The trace grows while the loss falls.",
        "Spearman's correlation of trace and loss over the recorded epochs (of trace and minus the "
        "reward, for an agent)",
        _FALLS,
        (-np.inf, -claims.CLEAR),
        limits=claims.CORRELATION,
    ),
    "F5": Claim(
        "The dynamics is universal: in every architecture the trace grows during training.",
        "ln of the trace after the last epoch over that before the first",
        _GROWS,
        _GROWS_CLEARLY,
    ),
    "F6": Claim(
        "The error along an eigenmode of the kernel falls the faster, the larger its eigenvalue "
        "(P1, equation 6).",
        "Spearman's correlation of eigenvalue and how far the error fell until the first recorded "
        "epoch, leading modes",
        _GROWS,
        (claims.NEGLIGIBLE, np.inf),
        limits=claims.CORRELATION,
    ),
}


class Group(NamedTuple):
    """Hold the recordings of the networks of a group.

    Attributes:
        recording: One row per network, member, kind of points and epoch: columns that distinguish
            networks, member, points, epoch, entropy, trace, loss and, for agents, reward.
        studies: Cases of each study by its name. Empty if the group is not a scaling study.
        modes: The recorded table of modes with the same first columns. Empty if not recorded.
        kind: One of `scaling_study.KINDS`, or another name.
    """

    recording: pd.DataFrame
    studies: Mapping[str, Sequence[Case]]
    modes: pd.DataFrame
    kind: str


def label_columns(table: pd.DataFrame, /) -> list[str]:
    """Return the columns of a recording that distinguish its networks.

    These are all columns in front of `points` except the member.
    """
    return [name for name in table.columns[: table.columns.get_loc("points")] if name != "member"]


def split_networks(table: pd.DataFrame, /) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the rows of each network of a recording.

    Args:
        table: A recording or a table of modes.

    Yields:
        Name and rows of a network. The name lists the values that differ between the networks of
        the table. The name of a single network is "".
    """
    labels = label_columns(table)
    if not labels:
        yield "", table
        return
    differing = [name for name in labels if table[name].nunique() > 1]
    for _, part in table.groupby(labels, sort=False):
        yield network_name({name: part[name].iloc[0] for name in differing}), part


def named_networks(group: Group, table: pd.DataFrame, /) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the networks of a table as `split_networks` does, and name a single one by its kind.

    Args:
        group: The group of the networks.
        table: Its recording or its modes, or rows of them.

    Yields:
        Name and rows of a network.
    """
    for name, part in split_networks(table):
        yield name or group.kind, part


def network_name(values: Mapping[str, object], /) -> str:
    """Describe a network in words, without the names of values that explain themselves."""
    clear = ("activation", "network", "features")
    return ", ".join(
        f"{value}" if name in clear else f"{name.replace('_', ' ')} {value:g}"
        for name, value in values.items()
    )


class Effect(NamedTuple):
    """Hold the effect of a claim in one network or study: one value for each member."""

    claim: str
    group: str
    network: str
    variable: str
    values: pd.Series


def evidence_of_members(
    effects: Iterable[Effect], findings: claims.Claims, *, confidence: float
) -> pd.DataFrame:
    """Return evidence from effects: means over members with Student's interval and t-test.

    Values that are not finite (diverged networks) are left out, and effects with fewer than
    `entropy_phases.MIN_MEMBERS` others too. Of several effects with the same labels the first
    counts.

    Args:
        effects: The effects.
        findings: Claims by name.
        confidence: Confidence of all intervals, and 1 - level of the tests.

    Returns:
        The columns `claims.ROW` and `claims.SIZES`, p_value_holm and verdict, in the order of the
        claims' names.
    """
    rows = []
    for *labels, values in effects:
        finite = values[np.isfinite(values)].to_numpy()
        if len(finite) >= entropy_phases.MIN_MEMBERS:
            test = entropy_phases.t_test(finite, confidence)
            rows.append(dict(zip(claims.ROW, (*labels, *test, len(finite)))))
    table = pd.DataFrame(rows, columns=claims.ROW).drop_duplicates(claims.ROW[:4])
    table = claims.in_limits(table.reindex(columns=[*claims.ROW, *claims.SIZES]), findings)
    table["p_value_holm"] = statistics.holm(table["p_value"])
    table["verdict"] = [
        claims.interval_verdict(row, findings[row.claim], 1 - confidence)
        for row in table.itertuples()
    ]
    return table.sort_values("claim", kind="stable", ignore_index=True)


def evidence(groups: Mapping[str, Group], *, confidence: float = 0.95) -> pd.DataFrame:
    """Estimate the effect of each finding in each network.

    Effects are means over members with Student's interval and t-test. Members with values that are
    not finite (diverged networks) are left out. A network with fewer than three remaining members
    is left out too.

    Args:
        groups: Recordings of each group by its name.
        confidence: Confidence of all intervals, and 1 - level of the tests.

    Returns:
        The columns of `claims_2023.evidence`. `parametrisation` has the name of the network.
    """
    effects = (effect for name, group in groups.items() for effect in _effects(name, group))
    return evidence_of_members(effects, FINDINGS, confidence=confidence)


def _effects(name: str, group: Group) -> Iterator[Effect]:
    learned = learned_rows(group.recording)
    yield from _size_effects(name, group, learned)
    if group.kind not in ("dense", "conv"):
        for network, table in named_networks(group, learned):
            yield Effect("F2", name, network, "entropy", _change(table))
            yield Effect("F4", name, network, "trace", _correlation_with_loss(table))
    for network, table in named_networks(group, without_failures(learned)):
        yield Effect("F5", name, network, "trace", _growth(table))
    if len(group.modes):
        for network, table in named_networks(group, group.modes):
            yield Effect("F6", name, network, "error", mode_speeds(learned_rows(table)))


def _size_effects(name: str, group: Group, learned: pd.DataFrame) -> Iterator[Effect]:
    """Yield the effects in the smallest and the largest network of each study."""
    for cases, (small, large) in list_ends(group.studies):
        ends = [study_cases.study_rows(learned, [case]) for case in cases]
        small_change, large_change = (_change(end) for end in ends)
        difference = large_change - small_change
        yield Effect("F1", name, small, "entropy", small_change)
        yield Effect("F2", name, large, "entropy", large_change)
        yield Effect("F3", name, f"{large} − {small}", "entropy", difference)
        for network, end in zip((small, large), ends):
            yield Effect("F4", name, network, "trace", _correlation_with_loss(end))


def learned_rows(table: pd.DataFrame, /) -> pd.DataFrame:
    """Select the rows of the points that a network learns from."""
    return table[table["points"].isin(LEARNED_POINTS)]


def without_failures(table: pd.DataFrame, /) -> pd.DataFrame:
    """Drop the networks whose studies make them fail on purpose, or fix their features."""
    if "label_noise" not in table:
        return table
    return table[
        (table["label_noise"] == 0)
        & (table["weight_scale"] == 1)
        & (table["features"] == study_cases.LEARNED)
    ]


def list_ends(
    studies: Mapping[str, Sequence[Case]], /
) -> Iterator[tuple[tuple[Case, Case], tuple[str, str]]]:
    """Yield the smallest and largest network, as cases and in words, where only one axis grows.

    Networks with fixed features are left out.
    """
    for cases, axis in itertools.product(studies.values(), SIZES):
        learned = [case for case in cases if case.features == study_cases.LEARNED]
        ordered = sorted(learned, key=lambda case: getattr(case, axis))
        table = pd.DataFrame([asdict(case) for case in ordered], columns=list(study_cases.AXES))
        differing = [name for name in table if table[name].nunique() > 1]
        for _, part in table.groupby([name for name in table if name != axis], sort=False):
            if len(part) > 1:
                places = part.index[0], part.index[-1]
                words = [
                    network_name({name: part.at[place, name] for name in differing})
                    for place in places
                ]
                yield tuple(ordered[place] for place in places), tuple(words)


def finite_curves(table: pd.DataFrame, variable: str, /) -> pd.DataFrame:
    """Return a variable by member (only those with finite values) and epoch."""
    curves = table.pivot(index="member", columns="epoch", values=variable)
    return curves[np.isfinite(curves).all(axis=1)]


def _change(table: pd.DataFrame) -> pd.Series:
    """Return each member's entropy after the last epoch minus that before the first."""
    curves = finite_curves(table, "entropy")
    return curves.iloc[:, -1] - curves.iloc[:, 0]


def _growth(table: pd.DataFrame) -> pd.Series:
    """Return each member's ln of the trace after the last epoch over that before the first."""
    curves = finite_curves(table, "trace")
    return np.log(curves.iloc[:, -1] / curves.iloc[:, 0])


def _correlation_with_loss(table: pd.DataFrame) -> pd.Series:
    """Return each member's rank correlation of trace and loss (for agents, minus the reward)."""
    target = table["loss"] if "reward" not in table else -table["reward"]
    complete = table.assign(target=target)[np.isfinite(target) & np.isfinite(table["trace"])]
    return complete.groupby("member")[["trace", "target"]].apply(
        lambda member: _rank_correlation(member["trace"], member["target"])
    )


def mode_speeds(modes: pd.DataFrame, /) -> pd.Series:
    """Correlate each member's eigenvalues λ with how fast the errors along their modes fall.

    Along a mode, the outputs change at a rate proportional to λ (Tovey et al. 2023, equation 6).

    Args:
        modes: The recorded table of modes of one network and one kind of points. Each leading mode
            v has an eigenvalue λ of the initial kernel and a residual ‖vᵀ ∂loss/∂outputs‖.

    Returns:
        For each member, the rank correlation of λ and ln(residual before the first epoch / residual
        at the next recorded epoch).
    """
    first, second = sorted(modes["epoch"].unique())[:2]
    keys = ["member", "mode"]
    start, then = (modes[modes["epoch"] == epoch].set_index(keys) for epoch in (first, second))
    speeds = pd.DataFrame(
        {"eigenvalue": start["eigenvalue"], "speed": np.log(start["residual"] / then["residual"])}
    )
    return speeds.groupby("member").apply(
        lambda member: _rank_correlation(member["eigenvalue"], member["speed"])
    )


def _rank_correlation(x: pd.Series, y: pd.Series) -> float:
    """Return Spearman's coefficient, or NaN if x or y is constant."""
    return x.rank().corr(y.rank())
