"""Findings of Tovey et al. 2024 (P2) on learning dynamics, each held against recordings: effects,
intervals, verdicts.

P2: Tovey, Krippendorf, Spannowsky, Nikolaou, Holm (2024), "Collective variables of neural networks:
empirical time evolution and scaling laws".
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables.analysis import entropy_phases, power_law, statistics
from collective_variables.papers import claims
from collective_variables.papers.claims import Claim
from collective_variables.training import study_cases
from collective_variables.training.study_cases import Case

SIZES = ("width", "depth")  # axes along which networks grow
DATA_POINTS = ("train", "observations")  # of the recorded kinds those that a network learns from
_FALLS, _GROWS = (-np.inf, 0.0), (0.0, np.inf)
_FALLS_CLEARLY, _GROWS_CLEARLY = (
    (-np.inf, -entropy_phases.RESOLUTION),
    (entropy_phases.RESOLUTION, np.inf),
)
FINDINGS: claims.Claims = {
    "F1": Claim(
        "Small networks compress information: the entropy of their kernel falls during training.",
        "change of the entropy from the first epoch to the last (nats), smallest network of each study",
        _FALLS,
        _FALLS_CLEARLY,
    ),
    "F2": Claim(
        "Large and deep networks form structure: the entropy of their kernel rises during training.",
        "change of the entropy from the first epoch to the last (nats), largest network of each study",
        _GROWS,
        _GROWS_CLEARLY,
    ),
    "F3": Claim(
        "Which of both a network does goes with its size.",
        "that change in the largest network minus that in the smallest, on the same points (nats)",
        _GROWS,
        _GROWS_CLEARLY,
    ),
    "F4": Claim(
        "The trace grows while the loss falls.",
        "Spearman's correlation of trace and loss over the recorded epochs (of trace and minus the reward, for an agent)",
        _FALLS,
        (-np.inf, -claims.CLEAR),
    ),
    "F5": Claim(
        "The dynamics is universal: in every architecture the trace grows during training.",
        "ln of the trace after the last epoch over that before the first",
        _GROWS,
        _GROWS_CLEARLY,
    ),
    "F6": Claim(
        "The error along an eigenmode of the kernel falls the faster, the larger its eigenvalue (P1, equation 6).",
        "Spearman's correlation of eigenvalue and how far the error fell until the first recorded epoch, leading modes",
        _GROWS,
        (claims.NEGLIGIBLE, np.inf),
    ),
}


class Group(NamedTuple):
    """What was recorded of a group's networks.

    recording: columns that tell networks apart, member, points, epoch, entropy, trace, loss and, of
    agents, reward.
    studies: the cases of each study; none for a group that is no scaling study. modes: the table of
    that name with the
    same first columns, empty where it was not recorded. kind: of `scaling_study.KINDS`, or another
    name.
    """

    recording: pd.DataFrame
    studies: Mapping[str, Sequence[Case]]
    modes: pd.DataFrame
    kind: str


def label_columns(table: pd.DataFrame, /) -> list[str]:
    """The columns of a recording that tell its networks apart: all in front of `points` but the
    member.
    """
    return [name for name in table.columns[: table.columns.get_loc("points")] if name != "member"]


def split_networks(table: pd.DataFrame, /) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each network under a name of what differs between the networks of the table, ""
    for an only one.
    """
    labels = label_columns(table)
    if not labels:
        yield "", table
        return
    differing = [name for name in labels if table[name].nunique() > 1]
    for _, part in table.groupby(labels, sort=False):
        yield network_name({name: part[name].iloc[0] for name in differing}), part


def network_name(values: Mapping[str, object], /) -> str:
    """A network in words: the value alone where it speaks for itself."""
    alone = ("activation", "network")
    return ", ".join(
        f"{value}" if name in alone else f"{name.replace('_', ' ')} {value:g}"
        for name, value in values.items()
    )


def evidence(groups: Mapping[str, Group], *, confidence: float = 0.95) -> pd.DataFrame:
    """One row for each finding and network that tells something of it, with the columns of
    `claims_2023.evidence`.

    Effects are means over members with Student's interval and t-test; `parametrisation` says which
    network. Members whose values are not finite (diverged networks) are left out, and a network
    with fewer than three others as well.
    """
    rows = []
    for name, group in groups.items():
        shown = _of_data(group.recording)
        for ends_of_study, words in _ends(group.studies):
            ends = [study_cases.study_rows(shown, [case]) for case in ends_of_study]
            changes = [_change(end) for end in ends]
            rows += [
                ("F1", name, words[0], "entropy", changes[0]),
                ("F2", name, words[1], "entropy", changes[1]),
                ("F3", name, f"{words[1]} − {words[0]}", "entropy", changes[1] - changes[0]),
            ]
            rows += [("F4", name, word, "trace", _with_loss(end)) for word, end in zip(words, ends)]
        if group.kind not in ("dense", "conv"):
            for of, table in split_networks(shown):
                words = of or group.kind
                rows += [
                    ("F2", name, words, "entropy", _change(table)),
                    ("F4", name, words, "trace", _with_loss(table)),
                ]
        for of, table in split_networks(_healthy(shown)):
            rows.append(("F5", name, of or group.kind, "trace", _growth(table)))
        for of, table in split_networks(group.modes) if len(group.modes) else ():
            rows.append(("F6", name, of or group.kind, "error", mode_speeds(_of_data(table))))
    table = pd.DataFrame(
        [_row(*row, confidence) for row in rows if row[-1].count() >= entropy_phases.MIN_MEMBERS]
    )
    table = table.drop_duplicates(["claim", "group", "parametrisation", "variable"]).reindex(
        columns=[*claims.ROW, *claims.SIZES]
    )
    table["p_value_holm"] = statistics.holm(table["p_value"])
    table["verdict"] = [
        claims.interval_verdict(row, FINDINGS[row.claim], 1 - confidence)
        for row in table.itertuples()
    ]
    return table.sort_values("claim", kind="stable", ignore_index=True)


def _of_data(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["points"].isin(DATA_POINTS)]


def _healthy(table: pd.DataFrame) -> pd.DataFrame:
    """Without the networks that are to fail."""
    if "label_noise" not in table:
        return table
    return table[(table["label_noise"] == 0) & (table["weight_scale"] == 1)]


def _ends(
    studies: Mapping[str, Sequence[Case]],
) -> Iterator[tuple[tuple[Case, Case], tuple[str, str]]]:
    """The smallest and the largest network wherever in a study width or depth alone grows, and both
    in words.
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


def _curves(table: pd.DataFrame, variable: str) -> pd.DataFrame:
    """A row for each member whose values are finite, a column for each epoch."""
    curves = table.pivot(index="member", columns="epoch", values=variable)
    return curves[np.isfinite(curves).all(axis=1)]


def _change(table: pd.DataFrame) -> pd.Series:
    """Of each member the entropy after the last epoch minus that before the first."""
    curves = _curves(table, "entropy")
    return curves.iloc[:, -1] - curves.iloc[:, 0]


def _growth(table: pd.DataFrame) -> pd.Series:
    curves = _curves(table, "trace")
    return np.log(curves.iloc[:, -1] / curves.iloc[:, 0])


def _with_loss(table: pd.DataFrame) -> pd.Series:
    """Of each member the rank correlation of trace and loss over the epochs at which both are
    known.
    """
    target = table["loss"] if "reward" not in table else -table["reward"]
    known = table.assign(target=target)[np.isfinite(target) & np.isfinite(table["trace"])]
    return known.groupby("member")[["trace", "target"]].apply(
        lambda of: _rank_correlation(of["trace"], of["target"])
    )


def mode_speeds(modes: pd.DataFrame, /) -> pd.Series:
    """Of each member the rank correlation of λ and ln(error before the first epoch / error at the
    next recorded one).

    `modes` is the table that `recording` gives under this name, of one network and kind of points:
    eigenvalue λ of the initial kernel and residual ‖vᵀ ∂loss/∂outputs‖ of each leading mode v.
    Tovey et al. 2023, equation 6: along a mode the outputs move at a rate in proportion to λ.
    """
    first, second = sorted(modes["epoch"].unique())[:2]
    keys = ["member", "mode"]
    start, then = (modes[modes["epoch"] == epoch].set_index(keys) for epoch in (first, second))
    speeds = pd.DataFrame(
        {"eigenvalue": start["eigenvalue"], "speed": np.log(start["residual"] / then["residual"])}
    )
    return speeds.groupby("member").apply(
        lambda of: _rank_correlation(of["eigenvalue"], of["speed"])
    )


def _rank_correlation(x: pd.Series, y: pd.Series) -> float:
    """Spearman's coefficient; NaN where one of both is constant."""
    return x.rank().corr(y.rank())


def _row(
    claim: str, group: str, network: str, variable: str, values: pd.Series, confidence: float
) -> dict[str, object]:
    values = values.dropna().to_numpy()
    return dict(
        zip(
            claims.ROW,
            (
                claim,
                group,
                network,
                variable,
                *entropy_phases.t_test(values, confidence),
                len(values),
            ),
        )
    )


def summary(groups: Mapping[str, Group], of_phases: pd.DataFrame, /) -> pd.DataFrame:
    """One row for each network and kind of points: means over members at the first and the last
    epoch, and the regime.

    Columns: group, network, points, n_members, entropy_first, entropy_last, trace_first,
    trace_last, loss_first, loss_last, and regime, the supported ones of `of_phases`, the table of
    `phases`, in their order. Of an agent the loss is its network's.
    """
    rows, found = [], dict(list(of_phases.groupby(["group", "network", "points"])))
    for name, group in groups.items():
        for of, table in split_networks(group.recording):
            for points, part in table.groupby("points", sort=False):
                ends = part[part["epoch"].isin([part["epoch"].min(), part["epoch"].max()])]
                means = ends.groupby("epoch")[["entropy", "trace", "loss"]].mean()
                row = {
                    "group": name,
                    "network": of or group.kind,
                    "points": points,
                    "n_members": part["member"].nunique(),
                }
                for variable in means:
                    row |= {
                        f"{variable}_{end}": means[variable].iloc[place]
                        for end, place in (("first", 0), ("last", -1))
                    }
                its_phases = found.get((name, row["network"], points), of_phases[:0])
                too_few = len(_curves(part, "entropy")) < entropy_phases.MIN_MEMBERS
                rows.append(
                    row
                    | {
                        "regime": "too few members"
                        if too_few
                        else entropy_phases.regime(list(its_phases.itertuples()))
                    }
                )
    return pd.DataFrame(rows)


def phases(
    groups: Mapping[str, Group],
    *,
    resolution: float = entropy_phases.RESOLUTION,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """One row for each phase of the entropy of each network and kind of points, with the fields of
    `entropy_phases.Phase`.
    """
    parts = []
    for name, group in groups.items():
        for of, table in split_networks(group.recording):
            found = entropy_phases.recording_phases(
                table, [], resolution=resolution, confidence=confidence
            )
            found.insert(0, "group", name)
            found.insert(1, "network", of or group.kind)
            parts.append(found)
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


LAWS = ("group", "epoch", "variable", "depth", "exponent", "standard_error", "r_squared")


def power_laws(groups: Mapping[str, Group]) -> pd.DataFrame:
    """Entropy, trace and loss of train points as powers of the width, for each depth, at the first
    and the last epoch.

    Of the studies with at least three widths; the columns are `LAWS`.
    """
    rows = []
    for name, group in groups.items():
        for cases in group.studies.values():
            table = _of_data(study_cases.study_rows(group.recording, cases))
            if table["width"].nunique() < 3:
                continue
            epochs = (table["epoch"].min(), table["epoch"].max())
            for depth, epoch, variable in itertools.product(
                sorted(table["depth"].unique()), epochs, ("entropy", "trace", "loss")
            ):
                part = table[(table["depth"] == depth) & (table["epoch"] == epoch)]
                law = power_law.fit_power_law(part[np.isfinite(part[variable])], "width", variable)
                rows.append((name, epoch, variable, depth, *law))
    return pd.DataFrame(rows, columns=list(LAWS))
