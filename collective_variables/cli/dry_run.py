"""What time and memory a command will take, from the time that small parts of it take on this
machine.
"""

import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from collective_variables.cli import commands
from collective_variables.data import encoding, problems
from collective_variables.selection import rnd_linearised
from collective_variables.training import schedules

SMALL = (4, 16)  # points chosen in the two parts of a selection that are tried
EPOCHS = (2, 12)
POINTS = (50, 100)  # of the kernels that are tried
ROWS = 10_000  # of a larger table that a selection is tried on: above the default references of `rnd` work is linear in rows
# Numbers that a method holds for all points together: of each pair of points, or for each point and
# chosen one.
OF_PAIRS = ("facility-location", "log-determinant", "trace", "best-entropy", "greedy")
OF_CHOSEN = ("rnd",)
DOUBLE = 8  # bytes


class Forecast(NamedTuple):
    """Seconds, from and to, and bytes of memory."""

    seconds: tuple[float, float]
    n_bytes: int

    def in_words(self) -> str:
        """For a person; the smallest times are mostly those of compilation."""
        low, high = (max(1, round(of)) for of in self.seconds)
        about = f"about {low} s" if high < 1.2 * low + 1 else f"{low} to {high} s"
        return f"{about}, {self.n_bytes / 2**30:.1f} GiB"


def forecast_select(
    table: encoding.Table,
    /,
    *,
    n_points: int,
    method: str,
    labelled: Sequence[int] = (),
    **options: Any,
) -> Forecast:
    """What `commands.select` takes, whose work grows between linearly and with the square of the
    points chosen.

    A large table is tried on some of its rows; with them the work grows linearly, and of methods
    that compare all pairs of rows at most with the square.
    """
    n, n_chosen = len(table.inputs), len(labelled) + n_points
    n_rows = min(n, max(ROWS, n_chosen))
    few_rows, few_labelled = (
        (table, labelled) if n_rows == n else _some_rows(table, labelled, n_rows)
    )

    def tried(few: int) -> None:
        commands.select(few_rows, n_points=few, method=method, labelled=few_labelled, **options)

    low, high = _extrapolated(tried, SMALL, n_points, powers=(1, 2))
    larger = n / n_rows
    seconds = low * larger, high * larger ** (2 if method in OF_PAIRS else 1)
    of_row = (
        n
        if method in OF_PAIRS
        else _of_row(n, n_chosen, options.get("options", {}))
        if method in OF_CHOSEN
        else 0
    )
    return Forecast(seconds, _resident() + DOUBLE * n * of_row)


def _of_row(n: int, n_chosen: int, options: Mapping[str, Any]) -> int:
    """Numbers that `rnd_linearised.select` holds for each row."""
    known = {of.name for of in fields(rnd_linearised.Settings)}
    return rnd_linearised.Settings(
        **{name: value for name, value in options.items() if name in known}
    ).held(n, n_chosen)


def _some_rows(
    table: encoding.Table, labelled: Sequence[int], n_rows: int
) -> tuple[encoding.Table, Sequence[int]]:
    """A table of the labelled rows and random others, and where the labelled ones are in it."""
    others = np.random.default_rng(0).permutation(
        np.setdiff1d(np.arange(len(table.inputs)), labelled)
    )
    rows = np.concatenate([np.asarray(labelled, np.int64), others])[:n_rows]
    targets = None if table.targets is None else table.targets[rows]
    some = replace(
        table, inputs=table.inputs[rows], targets=targets, is_labelled=table.is_labelled[rows]
    )
    return some, range(len(labelled))


def forecast_compare(
    dataset: problems.Dataset,
    /,
    *,
    n_points: Sequence[int],
    chosen_by: Mapping[str, tuple[str, Mapping[str, Any]]],
    n_members: int,
    schedule: schedules.Schedule,
    network: commands.Architecture,
    seed: int,
) -> Forecast:
    """What `commands.compare` takes: a selection for each method and member, and networks for each
    of these and each size.
    """
    columns = pd.DataFrame(columns=encoding.COLUMNS)
    is_labelled = np.ones(len(dataset.inputs), bool)
    pool = encoding.Table(
        dataset.inputs.astype(np.float64),
        dataset.targets,
        is_labelled,
        dataset.task,
        (),
        (),
        columns,
        (),
    )
    most, tried_members = max(n_points), min(n_members, os.cpu_count())
    shared = {"network": network, "seed": seed}
    selections = [
        forecast_select(pool, n_points=most, method=method, options=of, **shared)
        for method, of in chosen_by.values()
    ]

    def tried(n_epochs: int) -> None:
        few = replace(schedule, n_epochs=n_epochs, evaluate_every=1)
        commands.compare(
            dataset,
            n_points=n_points,
            chosen_by={},
            n_members=tried_members,
            schedule=few,
            **shared,
        )

    low, high = _extrapolated(tried, EPOCHS, schedule.n_epochs, powers=(1, 1))
    repeats = (len(chosen_by) + 1) * n_members / tried_members
    seconds = tuple(
        repeats * of + n_members * sum(one.seconds[end] for one in selections)
        for end, of in enumerate((low, high))
    )
    return Forecast(seconds, max([_resident(), *(one.n_bytes for one in selections)]))


def forecast_measure(
    table: encoding.Table, /, *, n_points: Sequence[int], n_members: int, **options: Any
) -> Forecast:
    """What `commands.measure` takes: kernels, which grow with the square of the points, and their
    spectra, with the cube.
    """
    tried_members, most = min(n_members, os.cpu_count()), max(n_points)

    def tried(few: int) -> None:
        commands.measure(table, n_points=[few], n_members=tried_members, **options)

    seconds = _extrapolated(tried, POINTS, most, powers=(2, 3))
    return Forecast(
        tuple(of * n_members / tried_members for of in seconds),
        _resident() + 4 * DOUBLE * most**2 * tried_members,
    )


def _extrapolated(
    tried: Callable[[int], None], sizes: tuple[int, int], size: int, powers: tuple[int, int]
) -> tuple[float, float]:
    """Seconds for `size`, if what is not the same for all sizes grows with the one power of it or
    the other.
    """
    sizes = tuple(min(of, size) for of in sizes)
    tried(sizes[0])  # the first call compiles what the later ones share
    seconds = []
    for of in sizes:
        start = time.perf_counter()
        tried(of)
        seconds.append(time.perf_counter() - start)
    if sizes[1] == size:
        return seconds[1], seconds[1]
    growth = max(0.0, seconds[1] - seconds[0])
    bounds = [
        seconds[1]
        + growth * (size**power - sizes[1] ** power) / (sizes[1] ** power - sizes[0] ** power)
        for power in powers
    ]
    return min(bounds), max(bounds)


def _resident() -> int:
    """Bytes of this process at its peak until now."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
