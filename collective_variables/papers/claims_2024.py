"""Findings of Tovey et al. 2024 (P2) on learning dynamics, tested on recordings.

P2: Tovey, Krippendorf, Spannowsky, Nikolaou, Holm (2024), "Collective variables of neural networks:
empirical time evolution and scaling laws".
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
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
    """The recordings of a group's networks.

    recording: columns that tell networks apart, member, points, epoch, entropy, trace, loss and,
    for agents, reward.

    studies: the cases of each study, empty for a group that is no scaling study.

    modes: the table of that name with the same first columns, empty if it was not recorded.

    kind: one of `scaling_study.KINDS`, or another name.
    """

    recording: pd.DataFrame
    studies: Mapping[str, Sequence[Case]]
    modes: pd.DataFrame
    kind: str


def label_columns(table: pd.DataFrame, /) -> list[str]:
    """List the columns of a recording that tell its networks apart.

    These are all columns in front of `points` except the member.
    """
    return [name for name in table.columns[: table.columns.get_loc("points")] if name != "member"]


def split_networks(table: pd.DataFrame, /) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the rows of each network of a recording.

    The name says what differs between the networks of the table; a single network has the name "".
    """
    labels = label_columns(table)
    if not labels:
        yield "", table
        return
    differing = [name for name in labels if table[name].nunique() > 1]
    for _, part in table.groupby(labels, sort=False):
        yield network_name({name: part[name].iloc[0] for name in differing}), part


def named_networks(group: Group, table: pd.DataFrame, /) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the networks of a table as `split_networks`; a single one has the group's kind as name.

    table: the recording or the modes of the group, or rows of them.
    """
    for name, part in split_networks(table):
        yield name or group.kind, part


def network_name(values: Mapping[str, object], /) -> str:
    """Describe a network in words, with the value only where it speaks for itself."""
    clear = ("activation", "network")
    return ", ".join(
        f"{value}" if name in clear else f"{name.replace('_', ' ')} {value:g}"
        for name, value in values.items()
    )


class _Effect(NamedTuple):
    """The effect of a finding in one network: one value for each member."""

    claim: str
    group: str
    network: str
    variable: str
    values: pd.Series


def evidence(groups: Mapping[str, Group], *, confidence: float = 0.95) -> pd.DataFrame:
    """Estimate the effect of each finding in each network, with the columns of P1's evidence.

    These are the columns of `claims_2023.evidence`; `parametrisation` names the network. Effects
    are means over members with Student's interval and t-test. Members whose values are not finite
    (diverged networks) are left out, and so is a network with fewer than three others.
    """
    effects = [effect for name, group in groups.items() for effect in _effects(name, group)]
    table = pd.DataFrame(
        [
            _row(effect, confidence)
            for effect in effects
            if effect.values.count() >= entropy_phases.MIN_MEMBERS
        ]
    )
    # A network may be an end of several studies.
    table = table.drop_duplicates(["claim", "group", "parametrisation", "variable"]).reindex(
        columns=[*claims.ROW, *claims.SIZES]
    )
    table = claims.in_limits(table, FINDINGS)
    table["p_value_holm"] = statistics.holm(table["p_value"])
    table["verdict"] = [
        claims.interval_verdict(row, FINDINGS[row.claim], 1 - confidence)
        for row in table.itertuples()
    ]
    return table.sort_values("claim", kind="stable", ignore_index=True)


def _effects(name: str, group: Group) -> Iterator[_Effect]:
    learned = learned_rows(group.recording)
    yield from _size_effects(name, group, learned)
    if group.kind not in ("dense", "conv"):
        for network, table in named_networks(group, learned):
            yield _Effect("F2", name, network, "entropy", _change(table))
            yield _Effect("F4", name, network, "trace", _correlation_with_loss(table))
    for network, table in named_networks(group, _without_failures(learned)):
        yield _Effect("F5", name, network, "trace", _growth(table))
    if len(group.modes):
        for network, table in named_networks(group, group.modes):
            yield _Effect("F6", name, network, "error", mode_speeds(learned_rows(table)))


def _size_effects(name: str, group: Group, learned: pd.DataFrame) -> Iterator[_Effect]:
    """Yield what the smallest and the largest network of each study show."""
    for cases, (small, large) in _ends(group.studies):
        ends = [study_cases.study_rows(learned, [case]) for case in cases]
        small_change, large_change = (_change(end) for end in ends)
        difference = large_change - small_change
        yield _Effect("F1", name, small, "entropy", small_change)
        yield _Effect("F2", name, large, "entropy", large_change)
        yield _Effect("F3", name, f"{large} − {small}", "entropy", difference)
        for network, end in zip((small, large), ends):
            yield _Effect("F4", name, network, "trace", _correlation_with_loss(end))


def learned_rows(table: pd.DataFrame, /) -> pd.DataFrame:
    """Select the rows of the points that a network learns from."""
    return table[table["points"].isin(LEARNED_POINTS)]


def _without_failures(table: pd.DataFrame) -> pd.DataFrame:
    """Drop the networks that are meant to fail."""
    if "label_noise" not in table:
        return table
    return table[(table["label_noise"] == 0) & (table["weight_scale"] == 1)]


def _ends(
    studies: Mapping[str, Sequence[Case]],
) -> Iterator[tuple[tuple[Case, Case], tuple[str, str]]]:
    """Yield the smallest and the largest network wherever only width or only depth grows.

    An item is both cases, and both networks in words.
    """
    for cases, axis in itertools.product(studies.values(), SIZES):
        ordered = sorted(cases, key=lambda case: getattr(case, axis))
        table = pd.DataFrame([asdict(case) for case in ordered])
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
    """Arrange a variable in rows of members whose values are finite, and columns of epochs."""
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
    """Return each member's rank correlation of trace and loss over epochs with both values.

    An agent has minus the reward in place of the loss.
    """
    target = table["loss"] if "reward" not in table else -table["reward"]
    complete = table.assign(target=target)[np.isfinite(target) & np.isfinite(table["trace"])]
    return complete.groupby("member")[["trace", "target"]].apply(
        lambda member: _rank_correlation(member["trace"], member["target"])
    )


def mode_speeds(modes: pd.DataFrame, /) -> pd.Series:
    """Correlate each member's eigenvalues λ with how fast the errors along their modes fall.

    The result is the rank correlation of λ and ln(error before the first epoch / error at the next
    recorded one). Tovey et al. 2023, equation 6: along a mode the outputs move at a rate in
    proportion to λ.

    modes: the table that `recording` gives under this name, for one network and one kind of points,
    with eigenvalue λ of the initial kernel and residual ‖vᵀ ∂loss/∂outputs‖ of each leading mode v.
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
    """Return Spearman's coefficient, NaN if x or y is constant."""
    return x.rank().corr(y.rank())


def _row(effect: _Effect, confidence: float) -> dict[str, object]:
    *labels, values = effect
    values = values.dropna().to_numpy()
    test = entropy_phases.t_test(values, confidence)
    return dict(zip(claims.ROW, (*labels, *test, len(values))))
