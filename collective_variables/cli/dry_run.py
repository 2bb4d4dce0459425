"""Forecast the time and memory of a command, from rates measured here and counts of its work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from collective_variables import _machine, _memory
from collective_variables.cli import commands
from collective_variables.cli.forecast import kernels, selections, timing, training
from collective_variables.data import encoding, problems
from collective_variables.selection import registry
from collective_variables.training import schedules

# By how much a rate may differ from the one measured, on a machine that others use as well.
MARGIN = 1.5
OUTSIDE = 0.5  # seconds in which Python starts and ends, which no clock of ours counts
PROGRAMS = 2**26  # bytes of compiled programs and of what compiles them


@dataclass(frozen=True)
class Forecast:
    """The range of seconds of a whole command, and bytes of memory at its peak.

    n_free: bytes that this process holds or may still take.
    took: seconds of the forecast.
    """

    seconds: tuple[float, float]
    n_bytes: int
    n_free: int
    took: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the memory is free."""
        return self.n_bytes <= self.n_free

    def in_words(self) -> str:
        """Return the forecast for a person."""
        low, high = (max(1, round(seconds)) for seconds in self.seconds)
        time_range = f"about {low} s" if high <= low + 1 else f"{low} to {high} s"
        memory = f"about {self.n_bytes / _memory.GIB:.1f} GiB of memory"
        if self.fits:
            return f"{time_range} and {memory}"
        free = f"{self.n_free / _memory.GIB:.1f} GiB are free"
        return f"{time_range}, but {memory}, and only {free}: it would fail"

    def values(self) -> dict[str, object]:
        """Return the forecast for a program."""
        return {
            "seconds": list(self.seconds),
            "bytes": self.n_bytes,
            "free_bytes": self.n_free,
            "fits": self.fits,
            "took": self.took,
        }


class _Start:
    """Seconds and bytes that are behind the command when its forecast begins."""

    def __init__(self) -> None:
        self._seconds = _machine.CLOCK.seconds()
        self._peak = _memory.peak()
        self._resident = _memory.resident()
        self._free = _memory.free()

    def forecast(self, seconds: timing.Seconds, n_bytes: int) -> Forecast:
        """Add what is still to come, with its margin."""
        before = self._seconds + OUTSIDE
        return Forecast(
            ((before + seconds.low) / MARGIN, (before + seconds.high) * MARGIN),
            max(self._peak, self._resident + PROGRAMS + n_bytes),
            self._resident + self._free,
            _machine.CLOCK.seconds() - self._seconds,
        )


def forecast_select(
    table: encoding.Table,
    /,
    *,
    n_points: int,
    method: str,
    labelled: Sequence[int] = (),
    **settings: Any,
) -> Forecast:
    """Forecast `commands.select`, with the settings that it takes.

    Raises the errors of `commands.select` and of its method, as far as they come before the work.
    """
    start = _Start()
    prepared, (problem, options) = timing.timed(
        lambda: commands.selection_problem(table, method=method, labelled=labelled, **settings)
    )
    budget = registry.Budget(len(labelled) + n_points, 1)
    estimate = selections.forecast(method, problem, budget, options)
    # Inputs are float64 for a moment, while they are scaled.
    n_bytes = max(estimate.n_bytes, 3 * 8 * problem.inputs.size) + problem.inputs.nbytes
    return start.forecast(estimate.seconds + timing.exactly(prepared), n_bytes)


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
    """Forecast `commands.compare`: selections, trainings and kernels of all methods and members."""
    start = _Start()
    built = commands.build_default(dataset.inputs, dataset.targets.shape[1], network)
    problem = registry.Problem(dataset.inputs, dataset.targets, dataset.task, built, seed)
    budget = registry.Budget(max(n_points), n_members)
    estimates = [
        selections.forecast(method, problem, budget, options)
        for method, options in methods.values()
    ]
    n_runs = n_members * (1 + len(estimates))
    trained = training.forecast(dataset, built, schedule, n_points, n_runs)
    kernel = kernels.forecast_ensemble(
        built,
        dataset.inputs,
        dataset.targets.shape[1],
        sorted(set(n_points)),
        n_runs,
        drawing=trained.drawing,
    )
    # Random subsets cost what compiling random numbers does.
    seconds = trained.seconds + kernel.seconds + timing.exactly(trained.drawing)
    seconds = sum((each.seconds for each in estimates), seconds)
    n_bytes = max([kernel.n_bytes, *(each.n_bytes for each in estimates)])
    return start.forecast(seconds, n_bytes + 2 * dataset.inputs.nbytes)


def forecast_measure(
    table: encoding.Table, /, *, n_points: Sequence[int], n_members: int, **settings: Any
) -> Forecast:
    """Forecast `commands.measure`, with the settings that it takes."""
    start = _Start()
    settings.pop("seed", None)
    prepared, (network, pool) = timing.timed(lambda: commands.measured_pool(table, **settings))
    draw = timing.seconds_of(lambda: jax.random.permutation(jax.random.key(0), len(pool.inputs)))
    kernel = kernels.forecast_ensemble(
        network, pool.inputs, pool.targets.shape[1], sorted(set(n_points)), n_members
    )
    seconds = kernel.seconds + timing.exactly(prepared + draw)
    return start.forecast(seconds, kernel.n_bytes + 4 * pool.inputs.nbytes)
