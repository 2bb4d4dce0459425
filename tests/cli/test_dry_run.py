"""Estimates of time and memory: extrapolation from small parts of the work."""

import numpy as np
import pytest

from collective_variables import _machine, _memory
from collective_variables.cli import commands, dry_run
from collective_variables.data import encoding
from collective_variables.training import schedules

X = np.random.default_rng(0).normal(size=(40, 3))
COLUMNS = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": np.sin(X[:, 0])}
TABLE = encoding.encode_table(COLUMNS, ["y"])


class Clock:
    """A clock that work sets forward."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(dry_run.time, "perf_counter", lambda: self.now)

    def work(self, seconds):
        self.now += seconds


@pytest.mark.parametrize("power, end", [(1, 0), (2, 1)])
def test_a_forecast_is_exact_at_the_end_by_whose_power_the_work_grows(power, end, monkeypatch):
    clock = Clock(monkeypatch)
    forecast = dry_run._extrapolate(
        lambda size: clock.work(3.0 + 0.5 * size**power), (4, 16), 100, powers=(1, 2)
    )
    assert forecast[end] == pytest.approx(3.0 + 0.5 * 100**power) and forecast[0] < forecast[1]


def test_what_is_tried_whole_needs_no_growth(monkeypatch):
    clock = Clock(monkeypatch)
    assert dry_run._extrapolate(clock.work, (4, 16), 10, powers=(1, 2)) == (10.0, 10.0)


def test_forecasts_count_methods_members_and_what_is_held(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(_machine, "n_cores", lambda: 2)
    monkeypatch.setattr(_memory, "peak", lambda: 1000)
    monkeypatch.setattr(commands, "select", lambda table, *, n_points, **_: clock.work(n_points))
    monkeypatch.setattr(
        commands,
        "compare",
        lambda dataset, *, schedule, **_: clock.work(1.0 + 2.0 * schedule.n_epochs),
    )
    monkeypatch.setattr(
        commands, "measure", lambda table, *, n_points, **_: clock.work(n_points[0] ** 3 / 1e6)
    )
    forecast = dry_run.forecast_select(TABLE, n_points=16, method="rnd-linearised", labelled=[1, 2])
    assert forecast == dry_run.Forecast((16.0, 16.0), 1000 + 8 * 40 * (18 + 40 + 2 * 64))
    assert dry_run.forecast_select(TABLE, n_points=16, method="greedy").n_bytes == 1000 + 8 * 40**2
    # Tried on 20 of the 40 rows, of which all pairs are four times as many.
    monkeypatch.setattr(dry_run, "ROWS", 20)
    assert dry_run.forecast_select(TABLE, n_points=16, method="k-center").seconds == (32.0, 32.0)
    assert dry_run.forecast_select(TABLE, n_points=16, method="greedy").seconds == (32.0, 64.0)
    monkeypatch.setattr(dry_run, "ROWS", 40)
    dataset = encoding.split_table(TABLE, "user", n_test=8)
    options = {
        "n_points": [4, 16],
        "n_members": 6,
        "schedule": schedules.Schedule(n_epochs=100),
        "network": None,
        "seed": 0,
    }
    forecast = dry_run.forecast_compare(
        dataset, methods={"rnd": ("rnd-linearised", {}), "far": ("k-center", {})}, **options
    )
    # Three methods on three times as many members as were tried, and two selections for each
    # member.
    assert forecast.seconds == pytest.approx((3 * 3 * 201 + 6 * 2 * 16,) * 2)
    forecast = dry_run.forecast_measure(TABLE, n_points=[10, 1000], n_members=6)
    assert (
        forecast.seconds[1] == pytest.approx(3 * 1000.0)
        and forecast.seconds[0] < forecast.seconds[1]
    )


def test_a_large_table_is_tried_on_some_rows_the_labelled_ones_among_them(monkeypatch):
    calls = []
    monkeypatch.setattr(commands, "select", lambda table, **options: calls.append((table, options)))
    monkeypatch.setattr(dry_run, "ROWS", 12)
    dry_run.forecast_select(TABLE, n_points=5, method="rnd-linearised", labelled=[30, 3])
    for table, options in calls:
        assert len(table.inputs) == len(table.targets) == len(table.is_labelled) == 12 and list(
            options["labelled"]
        ) == [0, 1]
        np.testing.assert_array_equal(table.inputs[:2], TABLE.inputs[[30, 3]])
        assert len(np.unique(table.inputs, axis=0)) == 12
    calls.clear()
    # There must be as many rows as are chosen.
    dry_run.forecast_select(TABLE, n_points=20, method="rnd-linearised", labelled=[30, 3])
    assert {len(table.inputs) for table, _ in calls} == {22}


def test_a_forecast_in_words():
    assert dry_run.Forecast((0.2, 0.3), 2**29).in_words() == "about 1 s, 0.5 GiB"
    assert dry_run.Forecast((10.2, 40.4), 2**31).in_words() == "10 to 40 s, 2.0 GiB"
