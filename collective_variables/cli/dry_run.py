"""Estimate the time and memory of a command from small parts of it on this machine."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from collective_variables import _machine, _memory
from collective_variables.cli import commands
from collective_variables.data import encoding, problems
from collective_variables.selection import rnd_linearised
from collective_variables.training import schedules

SELECTED = (4, 16)  # points in the two selections that are tried
EPOCHS = (2, 12)
POINTS = (50, 100)  # of the kernels that are tried
# Rows of a larger table that a selection is tried on. Above the default references of
# rnd-linearised its work is linear in the rows.
ROWS = 10_000
# Methods that hold a number for each pair of points, or for each point and selected one.
PAIR_METHODS = ("facility-location", "log-determinant", "trace", "best-entropy", "greedy")
FACTOR_METHODS = ("rnd-linearised",)
DOUBLE = 8  # bytes


class Forecast(NamedTuple):
    """The range of seconds, and bytes of memory."""

    seconds: tuple[float, float]
    n_bytes: int

    def in_words(self) -> str:
        """Return the forecast for a person; the smallest times are mostly those of compilation."""
        low, high = (max(1, round(seconds)) for seconds in self.seconds)
        time_range = f"about {low} s" if high < 1.2 * low + 1 else f"{low} to {high} s"
        return f"{time_range}, {self.n_bytes / 2**30:.1f} GiB"


def forecast_select(
    table: encoding.Table,
    /,
    *,
    n_points: int,
    method: str,
    labelled: Sequence[int] = (),
    **options: Any,
) -> Forecast:
    """Estimate `commands.select`, whose work grows with the selected points, at most squared.

    A large table is tried on some of its rows. The work grows linearly with the rows, and for
    methods that compare all pairs of rows at most with the square.
    """
    n = len(table.inputs)
    n_selected = len(labelled) + n_points
    n_rows = min(n, max(ROWS, n_selected))
    few_rows, few_labelled = table, labelled
    if n_rows < n:
        few_rows, few_labelled = _sample(table, labelled, n_rows)

    def attempt(few: int) -> None:
        commands.select(few_rows, n_points=few, method=method, labelled=few_labelled, **options)

    low, high = _extrapolate(attempt, SELECTED, n_points, powers=(1, 2))
    ratio = n / n_rows
    seconds = low * ratio, high * ratio ** (2 if method in PAIR_METHODS else 1)
    n_numbers = 0  # of each row
    if method in PAIR_METHODS:
        n_numbers = n
    elif method in FACTOR_METHODS:
        n_numbers = _factor_numbers(n, n_selected, options.get("options", {}))
    return Forecast(seconds, _memory.peak() + DOUBLE * n * n_numbers)


def _factor_numbers(n: int, n_selected: int, options: Mapping[str, Any]) -> int:
    """Return how many numbers `rnd_linearised.select` holds for each row."""
    names = {field.name for field in fields(rnd_linearised.LinearisedRNDSettings)}
    settings = rnd_linearised.LinearisedRNDSettings(
        **{name: options[name] for name in names & set(options)}
    )
    return settings.numbers_per_point(n, n_selected)


def _sample(
    table: encoding.Table, labelled: Sequence[int], n_rows: int
) -> tuple[encoding.Table, Sequence[int]]:
    """Return a table of the labelled rows and random others, and the labelled rows in it."""
    others = np.random.default_rng(0).permutation(
        np.setdiff1d(np.arange(len(table.inputs)), labelled)
    )
    rows = np.concatenate([np.asarray(labelled, np.int64), others])[:n_rows]
    targets = None if table.targets is None else table.targets[rows]
    sample = replace(
        table, inputs=table.inputs[rows], targets=targets, is_labelled=table.is_labelled[rows]
    )
    return sample, range(len(labelled))


def forecast_compare(
    dataset: problems.Dataset,
    /,
    *,
    n_points: Sequence[int],
    methods: Mapping[str, tuple[str, Mapping[str, Any]]],
    n_members: int,
    schedule: schedules.Schedule,
    network: commands.Architecture,
    seed: int,
) -> Forecast:
    """Estimate `commands.compare`.

    It makes a selection for each method and member, and trains a network for each of these and each
    size.
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
    few_members = min(n_members, _machine.n_cores())
    shared = {"network": network, "seed": seed}
    selections = [
        forecast_select(pool, n_points=max(n_points), method=method, options=options, **shared)
        for method, options in methods.values()
    ]

    def attempt(n_epochs: int) -> None:
        few = replace(schedule, n_epochs=n_epochs, evaluate_every=1)
        commands.compare(
            dataset,
            n_points=n_points,
            methods={},
            n_members=few_members,
            schedule=few,
            **shared,
        )

    training = _extrapolate(attempt, EPOCHS, schedule.n_epochs, powers=(1, 1))
    repeats = (len(methods) + 1) * n_members / few_members
    low, high = (
        repeats * training[end]
        + n_members * sum(selection.seconds[end] for selection in selections)
        for end in (0, 1)
    )
    n_bytes = max([_memory.peak(), *(selection.n_bytes for selection in selections)])
    return Forecast((low, high), n_bytes)


def forecast_measure(
    table: encoding.Table, /, *, n_points: Sequence[int], n_members: int, **options: Any
) -> Forecast:
    """Estimate `commands.measure`.

    The work of kernels grows with the square of the points, that of their spectra with the cube.
    """
    most = max(n_points)
    few_members = min(n_members, _machine.n_cores())

    def attempt(few: int) -> None:
        commands.measure(table, n_points=[few], n_members=few_members, **options)

    low, high = _extrapolate(attempt, POINTS, most, powers=(2, 3))
    repeats = n_members / few_members
    n_bytes = _memory.peak() + 4 * DOUBLE * most**2 * few_members
    return Forecast((low * repeats, high * repeats), n_bytes)


def _extrapolate(
    attempt: Callable[[int], None], sizes: tuple[int, int], size: int, powers: tuple[int, int]
) -> tuple[float, float]:
    """Return the range of seconds for `size`, from the seconds for two smaller sizes.

    What is not the same for all sizes is assumed to grow with one of two powers of the size, or
    between them.
    """
    sizes = tuple(min(small, size) for small in sizes)
    attempt(sizes[0])  # the first call compiles what the later ones share
    seconds = []
    for small in sizes:
        start = time.perf_counter()
        attempt(small)
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
