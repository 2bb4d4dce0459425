"""Forecast time and memory of a command from measured rates and counts of its work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from collective_variables import _machine, _memory
from collective_variables.cli import _pool, commands, labelling, rounds
from collective_variables.cli.forecast import cases, kernels, selections, timing, training
from collective_variables.cli.forecast import labelling as labelling_forecast
from collective_variables.cli.forecast import rounds as rounds_forecast
from collective_variables.data import encoding, problems
from collective_variables.selection import registry
from collective_variables.training import schedules

# Factor by which a rate may differ from the measured one on a shared machine.
MARGIN = 1.5
OUTSIDE = 0.5  # seconds in which Python starts and ends, outside our clocks
PROGRAMS = 2**26  # bytes of compiled programs and their compiler


@dataclass(frozen=True)
class Forecast:
    """A forecast of time and memory of a whole command.

    Attributes:
        seconds: Smallest and largest number of seconds.
        n_bytes: Bytes of memory at the peak.
        n_free: Bytes that this process holds or may still take.
        took: Seconds of the forecast.
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
    """Seconds and bytes that the command has used when its forecast begins."""

    def __init__(self) -> None:
        self._seconds = _machine.CLOCK.seconds()
        self._peak = _memory.peak()
        self._resident = _memory.resident()
        self._free = _memory.free()

    def forecast(self, seconds: timing.Seconds, n_bytes: int) -> Forecast:
        """Return the forecast of the whole command from the work to come, with a margin."""
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
    """Forecast `commands.select` and raise its errors that precede the work.

    Args:
        table: The rows.
        n_points: Number of rows to select.
        method: One of `registry.SELECTION_METHODS`.
        labelled: Rows that count as selected already.
        **settings: Further settings of `commands.select`.

    Returns:
        The forecast.
    """
    start = _Start()
    estimate = _selection(table, n_points=n_points, method=method, labelled=labelled, **settings)
    return start.forecast(estimate.seconds, estimate.n_bytes)


def _selection(
    table: encoding.Table,
    *,
    n_points: int,
    method: str,
    labelled: Sequence[int],
    **settings: Any,
) -> cases.Estimate:
    prepared, (problem, options) = timing.timed(
        lambda: commands.selection_problem(table, method=method, labelled=labelled, **settings)
    )
    budget = registry.Budget(len(labelled) + n_points, 1)
    estimate = selections.forecast(method, problem, budget, options)
    # Inputs are float64 for a moment, while they are scaled.
    n_bytes = max(estimate.n_bytes, 3 * 8 * problem.inputs.size) + problem.inputs.nbytes
    return cases.Estimate(estimate.seconds + timing.exactly(prepared), n_bytes)


def forecast_labelling(
    plan: labelling.Plan,
    pool: _pool.Pool,
    /,
    *,
    n_points: int,
    network: commands.Architecture,
    seed: int,
    scaling: str,
    wants_outlook: bool,
    wants_predictions: bool,
) -> Forecast:
    """Forecast `labelling.choose`; the arguments are those of that function."""
    settings = {
        "n_points": n_points,
        "method": plan.method,
        "options": plan.options,
        "labelled": pool.labelled,
        "network": network,
        "seed": seed,
        "scaling": scaling,
    }
    if plan.rule is None and not plan.trains:
        return forecast_select(pool.table, **settings)
    start = _Start()
    chosen = cases.Estimate(timing.Seconds(), 0)
    if plan.rule is None:
        chosen = _selection(pool.table, **settings)
    prepared, inputs = timing.timed(lambda: labelling.scale(pool.table, scaling))
    work = labelling_forecast.Work(
        inputs,
        labelling.targets(plan, pool.table),
        pool.labelled,
        plan.rule,
        n_points,
        wants_outlook and plan.trains,
        wants_predictions,
    )
    estimate = labelling_forecast.forecast(work, network, pool.table.task, seed)
    seconds = chosen.seconds + estimate.seconds + timing.exactly(prepared)
    n_bytes = max(chosen.n_bytes, estimate.n_bytes, 3 * 8 * inputs.size) + inputs.nbytes
    return start.forecast(seconds, n_bytes)


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
    # Random subsets cost as much as compiling random numbers.
    seconds = trained.seconds + kernel.seconds + timing.exactly(trained.drawing)
    seconds = sum((estimate.seconds for estimate in estimates), seconds)
    n_bytes = max([kernel.n_bytes, *(estimate.n_bytes for estimate in estimates)])
    return start.forecast(seconds, n_bytes + 2 * dataset.inputs.nbytes)


def forecast_rounds(game: rounds.Game, /) -> Forecast:
    """Forecast `rounds.Game.play`: trainings, tests, kernels and choices of all rounds."""
    start = _Start()
    rules = list(game.rules.values())
    estimate = rounds_forecast.forecast(game.network, game.splits, rules, game.plan, game.task)
    return start.forecast(estimate.seconds, estimate.n_bytes)


def forecast_measure(
    table: encoding.Table, /, *, n_points: Sequence[int], n_members: int, **settings: Any
) -> Forecast:
    """Forecast `commands.measure`; the settings are those of `commands.measure`."""
    start = _Start()
    settings.pop("seed", None)
    prepared, (network, pool) = timing.timed(lambda: commands.measured_pool(table, **settings))
    draw = timing.seconds_of(lambda: jax.random.permutation(jax.random.key(0), len(pool.inputs)))
    kernel = kernels.forecast_ensemble(
        network, pool.inputs, pool.targets.shape[1], sorted(set(n_points)), n_members
    )
    seconds = kernel.seconds + timing.exactly(prepared + draw)
    return start.forecast(seconds, kernel.n_bytes + 4 * pool.inputs.nbytes)
