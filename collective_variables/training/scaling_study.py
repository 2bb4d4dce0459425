"""Scaling study: how entropy, trace and loss through a training go with the network, its data and
how it is trained.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import flax.linen as nn
import numpy as np
import pandas as pd
from jaxtyping import Int

from collective_variables import _checks
from collective_variables.ensembles import checkpoints
from collective_variables.networks import architectures, sequential
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
    study_cases,
)

KINDS = ("dense", "conv", *architectures.ARCHITECTURES)
N_POOLINGS = 2  # of convolutional networks, each halving the image


class Trained(NamedTuple):
    """The tables of `recorded_training.TABLES` with the columns of `AXES` and member in front, and
    how many runs diverged.
    """

    tables: dict[str, pd.DataFrame]
    n_diverged: int


def build_case(
    case: study_cases.Case, kind: str, pool: loop.Points, test: loop.Points, /
) -> nn.Module:
    """The network of a case for points like these; LeCun's initialisation.

    kind: "dense"; "conv", 3x3 windows with a 2x2 pooling behind each of the first two layers; or
    one of `architectures.ARCHITECTURES`.
    """
    n_outputs = pool.targets.shape[1]
    if _checks.choice("kind", kind, KINDS) == "dense":
        layers = [f"dense {case.width}"] * case.depth
    elif kind == "conv":
        layers = []
        for number in range(case.depth):
            layers += [f"conv {case.width} 3x3", *(["avgpool 2x2"] if number < N_POOLINGS else [])]
    else:
        n_tokens = int(max(pool.inputs.max(), test.inputs.max()))
        options = {
            "transformer": {"n_tokens": n_tokens, "n_layers": case.depth},
            "graph-network": {"n_steps": case.depth},
        }
        of_kind = options.get(kind, {"n_blocks": case.depth})
        return architectures.build_architecture(
            kind, n_outputs=n_outputs, width=case.width, activation=case.activation, **of_kind
        )
    return sequential.build_network([*layers, f"dense {n_outputs}"], activation=case.activation)


def train_cases(
    chosen: Sequence[study_cases.Case],
    kind: str,
    pool: loop.Points,
    test: loop.Points,
    indices: Int[np.ndarray, "n_members n_points"],
    /,
    *,
    schedule: schedules.Schedule,
    settings: recording.Settings,
    seed: int,
    task: str,
    noise_from: int = 0,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> Trained:
    """Train each of the cases once for every member, and record it; `schedule` without its batch
    size, one evaluation an epoch.

    task: accuracies are NaN unless it is "classification". noise_from: the epoch from which on
    labels are exchanged, where a case says so. A case that is in several studies need be here only
    once.
    """
    # All of them are made and checked before the first is trained.
    made = [
        (
            case,
            build_case(case, kind, pool, test),
            *_of_case(case, indices, schedule, noise_from, seed),
        )
        for case in chosen
    ]
    for _, network, runs, of_schedule, _ in made:
        ensemble_training.check(network, pool, test, [runs], of_schedule)
    parts, n_diverged = {name: [] for name in recorded_training.TABLES}, 0
    for number, (case, network, runs, of_schedule, changes) in enumerate(made, start=1):
        words = f"{progress}: {case.activation}, {case.depth} deep, {case.width} wide ({number} of {len(chosen)})"
        options = {
            "schedule": of_schedule,
            "settings": settings,
            "changes": changes,
            "between": False,
            "store": store,
        }
        options["progress"] = progress and words
        (recorded,) = recorded_training.train_ensemble(network, pool, test, [runs], **options)
        losses = recorded.tables["recording"].pivot(
            index="run", columns=["points", "epoch"], values="loss"
        )
        n_diverged += int((~np.isfinite(losses).all(axis=1)).sum())
        for name, table in recorded.tables.items():
            labels = pd.DataFrame(
                {axis: [value] * len(table) for axis, value in asdict(case).items()}
            )
            parts[name].append(pd.concat([labels, table.rename(columns={"run": "member"})], axis=1))
    tables = {name: pd.concat(of, ignore_index=True) for name, of in parts.items()}
    if task != "classification":
        tables["recording"]["accuracy"] = np.nan
    return Trained(tables, n_diverged)


def _of_case(
    case: study_cases.Case,
    indices: Int[np.ndarray, "n_members n_points"],
    schedule: schedules.Schedule,
    noise_from: int,
    seed: int,
) -> tuple[ensemble_training.Runs, schedules.Schedule, recorded_training.Changes]:
    runs = ensemble_training.runs(
        indices[:, : case.n_points], np.full((len(indices), 1), case.n_points), seed=seed
    )
    changes = recorded_training.Changes(case.weight_scale, case.label_noise, noise_from)
    return (
        runs,
        replace(schedule, batch_size=None if case.batch_size == case.n_points else case.batch_size),
        changes,
    )
