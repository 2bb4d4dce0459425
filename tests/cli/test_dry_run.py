"""Forecasts: counts of work next to what is really computed, and what is said about them."""

import itertools
import json

import jax
import numpy as np
import pytest

from collective_variables import _memory
from collective_variables.cli import commands, dry_run
from collective_variables.cli.forecast import (
    batches,
    kernels,
    linearised,
    selections,
    timing,
    training,
)
from collective_variables.cli.main import main
from collective_variables.data import encoding
from collective_variables.ensembles import batching
from collective_variables.kernels import infinite_width
from collective_variables.networks import parameters, sequential
from collective_variables.selection import _cholesky, registry, rnd_linearised
from collective_variables.training import ensemble_training, loop, schedules

X = np.random.default_rng(0).normal(size=(600, 3))
pytestmark = pytest.mark.usefixtures("quick_compilation")
RATES = linearised.Rates(1.0, 1e-8, 1e-5, 0.01, 0.002, 0.1, 0.003, 1e-6)


@pytest.fixture
def table_file(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{a:.4f},{b:.4f},{np.sin(a) + b:.4f}" for a, b, _ in X[:40]]
    path.write_text("\n".join(["a,b,y", *rows]))
    return str(path)


class Counted:
    """Entries and calls of the kernel, and blocks, of what `rnd_linearised.select` evaluates."""

    def __init__(self, monkeypatch):
        self.entries = self.calls = self.references = 0
        self.sizes = []
        build, choose = infinite_width.infinite_width_kernel, _cholesky.choose_block
        refer = _cholesky.Residual.refer

        def build_kernel(*arguments, **options):
            kernel = build(*arguments, **options)

            def counted(x1, x2):
                self.entries += len(x1) * len(x2)
                self.calls += 1
                return kernel(x1, x2)

            return counted

        def choose_block(*arguments):
            result = choose(*arguments)
            self.sizes += [len(result[0])]
            return result

        def counted_refer(residual, rows):
            self.references += len(rows) > 0
            refer(residual, rows)

        monkeypatch.setattr(infinite_width, "infinite_width_kernel", build_kernel)
        monkeypatch.setattr(_cholesky, "choose_block", choose_block)
        monkeypatch.setattr(_cholesky.Residual, "refer", counted_refer)


@pytest.mark.parametrize(
    "n_pool, n_selected, n_labelled, options",
    [
        (600, 90, 0, {}),
        (600, 90, 70, {}),
        (130, 130, 3, {"block_size": 16}),
        (600, 200, 0, {"n_reference": 80, "n_candidates": 150}),
        (600, 200, 20, {"n_reference": 700, "n_candidates": 150, "block_size": 32}),
        (600, 100, 0, {"criterion": "largest", "n_candidates": 90}),
        (600, 90, 0, {"n_reference": 200, "n_candidates": 700}),
    ],
)
def test_the_counted_work_is_what_the_selection_evaluates(
    n_pool, n_selected, n_labelled, options, monkeypatch
):
    monkeypatch.setattr(rnd_linearised, "ENTRIES", 2**16)  # so that a reference has several parts
    counted = Counted(monkeypatch)
    settings = rnd_linearised.LinearisedRNDSettings(**options)
    rnd_linearised.select(
        X[:n_pool],
        settings,
        n_selected=n_selected,
        labelled=range(n_labelled),
        key=jax.random.key(0),
    )
    work = linearised.count(n_pool, n_labelled, counted.sizes, settings, settings.n_candidates)
    assert work.entries == counted.entries
    assert work.calls == counted.calls
    assert work.references == counted.references
    assert [size for _, size in work.blocks] == counted.sizes
    known = np.cumsum([n_labelled, *counted.sizes])
    assert [before for before, _ in work.blocks] == known[:-1].tolist() and known[-1] == n_selected


@pytest.mark.parametrize("n_selected, n_labelled", [(90, 0), (130, 7), (64, 0)])
def test_the_blocks_of_an_exact_choice_are_foreseen(n_selected, n_labelled, monkeypatch):
    counted = Counted(monkeypatch)
    settings = rnd_linearised.LinearisedRNDSettings()
    key = jax.random.key(0)
    labelled = range(n_labelled)
    rnd_linearised.select(X[:200], settings, n_selected=n_selected, labelled=labelled, key=key)
    for growth in linearised.GROWTH:
        sizes = linearised.block_sizes(200, n_labelled, n_selected, settings, growth)
        assert sizes == counted.sizes


def test_the_blocks_of_candidates_lie_between_the_two_ends(monkeypatch):
    counted = Counted(monkeypatch)
    points = np.random.default_rng(1).normal(size=(1500, 5))
    settings = rnd_linearised.LinearisedRNDSettings(n_reference=128, n_candidates=200)
    rnd_linearised.select(points, settings, n_selected=120, key=jax.random.key(0))
    fewest, most = (
        len(linearised.block_sizes(1500, 0, 120, settings, growth)) for growth in linearised.GROWTH
    )
    assert 0.8 * fewest <= len(counted.sizes) <= 1.2 * most


def test_the_calls_of_a_training_are_those_of_the_plan(monkeypatch, standard_promotion):
    network = sequential.build_network(["dense 4", "dense 1"])
    pool = loop.Points(X[:60].astype(np.float32), X[:60, :1].astype(np.float32))
    sizes = np.tile([10, 20, 40], (7, 1))
    subsets = np.array([np.random.default_rng(m).permutation(60)[:40] for m in range(7)])
    calls = []
    original = batching._OverMembers.__call__

    def counted(self, shared, *members):
        if len(members) == 2:  # parameters and runs
            calls.append(members[1].indices.shape)
        return original(self, shared, *members)

    monkeypatch.setattr(batching._OverMembers, "__call__", counted)
    runs = [ensemble_training.runs(subsets, sizes, seed=0)] * 2
    schedule = schedules.Schedule(n_epochs=2)
    ensemble_training.train_ensemble(network, pool, pool, runs, schedule=schedule)
    plan = training.plan([10, 20, 40], 14, parameters.n_parameters(network, pool.inputs))
    assert {shape[0] for shape in calls} == {plan.together}
    by_width = {width: sum(shape[2] == width for shape in calls) for width in plan.by_width}
    assert by_width == plan.by_width and sum(by_width.values()) == len(calls)
    assert {shape[2]: shape[1] for shape in calls} == plan.in_turn


def test_more_points_chosen_or_to_choose_from_take_longer(monkeypatch):
    monkeypatch.setattr(linearised, "measure", lambda *_: RATES)

    def seconds(n_pool, n_selected, **options):
        result = linearised.forecast(
            np.zeros((n_pool, 2), np.float32),
            rnd_linearised.LinearisedRNDSettings(**options),
            n_selected=n_selected,
            n_labelled=0,
            n_different=1,
            classes=None,
        )
        assert 0 < result.low <= result.high
        return np.array([result.low, result.high])

    sizes = [seconds(20_000, n) for n in (10, 100, 1000, 5000)]
    pools = [seconds(n, 100) for n in (100, 1000, 20_000, 100_000)]
    for few, many in [*itertools.pairwise(sizes), *itertools.pairwise(pools)]:
        assert (few < many).all()
    low, high = linearised.forecast(
        np.zeros((200, 2)),
        rnd_linearised.LinearisedRNDSettings(threshold=0.1),
        n_selected=100,
        n_labelled=0,
        n_different=1,
        classes=None,
    ).__dict__.values()
    assert low < high  # it may stop at the first point


def test_the_forecast_of_a_large_pool_evaluates_a_small_part_of_the_kernel(monkeypatch):
    counted = Counted(monkeypatch)
    monkeypatch.setattr(linearised, "POINTS", 2048)
    monkeypatch.setattr(linearised, "CANDIDATES", 1200)
    points = np.random.default_rng(1).normal(size=(30_000, 4)).astype(np.float32)
    settings = rnd_linearised.LinearisedRNDSettings()
    rates = linearised.measure(points, settings, None)
    assert all(rate >= 0 for rate in rates) and rates.entry > 0
    sizes = linearised.block_sizes(len(points), 0, 100, settings, linearised.GROWTH[0])
    entries = linearised.count(len(points), 0, sizes, settings, settings.n_candidates).entries
    assert counted.entries < entries / 20


@pytest.mark.parametrize("method", ["k-center", "facility-location", "kernel-herding", "k-means++"])
def test_the_forecast_of_many_steps_tries_few(method, monkeypatch):
    tried = []
    select = registry.select_by

    def counted(method, problem, budget, options):
        tried.append((len(problem.inputs), budget.n_selected))
        return select(method, problem, budget, options)

    monkeypatch.setattr(registry, "select_by", counted)
    monkeypatch.setattr(selections, "SIMILAR", 100)
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    network = sequential.build_network(["dense 4", "dense 1"])
    problem = registry.Problem(
        X.astype(np.float32), np.zeros((600, 1), np.float32), "regression", network, 0
    )
    estimate = selections.forecast(method, problem, registry.Budget(500, 1), {})
    assert max(n_selected for _, n_selected in tried) <= selections.STEPS
    if method in ("facility-location", "kernel-herding"):
        assert {n_points for n_points, _ in tried} == {100}
    assert 0 < estimate.seconds.low <= estimate.seconds.high
    if method == "facility-location":
        assert estimate.n_bytes >= 4 * 600**2


@pytest.mark.parametrize(
    "method",
    [method for method in registry.SELECTION_METHODS if method not in commands.PREDICTION_METHODS],
)
def test_every_method_has_a_forecast(method, table_file, capsys, standard_promotion):
    arguments = ["--target", "y", "--n-points", "5", "--method", method]
    options = {"rnd": ["--option", "n_epochs=2"], "best-entropy": ["--option", "n_sets=4"]}
    network = ["--layers", "dense 4"] if method in commands.NETWORK_METHODS else []
    command = ["select", table_file, *arguments, *options.get(method, []), *network]
    assert main([*command, "--dry-run", "--json", "--quiet"]) == 0
    values = json.loads(capsys.readouterr().out)
    low, high = values["seconds"]
    assert 0 < low <= high and values["fits"] is True and "chosen" not in values
    assert 2**25 < values["bytes"] < values["free_bytes"] and values["took"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--n-points", "5", "20", "--epochs", "3", "--members", "2"],
        ["measure", "--n-points", "5", "20", "--members", "2"],
    ],
    ids=["compare", "measure"],
)
def test_every_command_has_a_forecast(arguments, table_file, capsys, standard_promotion):
    command, *rest = arguments
    layers = ["--layers", "dense 4"]
    assert main([command, table_file, "--target", "y", *rest, *layers, "--dry-run", "--quiet"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("It would take about") or " to " in output
    assert "GiB of memory" in output and output.count("\n") == 1


@pytest.mark.parametrize(
    "method, options",
    [
        ("lcmd", {"kernel": "infinite-width"}),
        ("k-means++", {"kernel": "ntk"}),
        ("bait", {"kernel": "sketch", "n_features": 8}),
    ],
)
def test_a_kernel_is_part_of_the_forecast(method, options, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    monkeypatch.setattr(batches, "FEW", 16)
    network = sequential.build_network(["dense 4", "dense 1"])
    inputs, targets = X[:48].astype(np.float32), np.zeros((48, 1), np.float32)
    problem = registry.Problem(inputs, targets, "regression", network, 0)
    estimate = selections.forecast(method, problem, registry.Budget(9, 1), options)
    assert 0 < estimate.seconds.low <= estimate.seconds.high
    assert estimate.n_bytes > 8 * 48 * options.get("n_features", 48)
    with pytest.raises(ValueError, match="kernel must be one of"):
        selections.forecast(method, problem, registry.Budget(9, 1), {"kernel": "rbf"})
    # Members have different networks, but the infinite one is the same for all.
    work = batches.Work(0.0, timing.exactly(1.0), 0, (3, 3))
    monkeypatch.setattr(batches, "_features", lambda *_: work)
    monkeypatch.setattr(batches, "_draw_seeds", lambda _: None)
    monkeypatch.setitem(batches.METHODS, method, lambda *_: timing.Seconds())
    estimate = selections.forecast(method, problem, registry.Budget(9, 50), options)
    expected = 1.0 if options["kernel"] == "infinite-width" else 50.0
    assert estimate.seconds.low == pytest.approx(expected, abs=0.1)


def test_too_little_memory_is_said(table_file, monkeypatch, capsys):
    monkeypatch.setattr(_memory, "free", lambda: 2**20)
    command = ["select", table_file, "--target", "y", "--n-points", "5", "--quiet", "--dry-run"]
    assert main([*command, "--method", "k-center"]) == 0
    output = capsys.readouterr().out
    assert "it would fail" in output and "are free" in output
    assert main([*command, "--method", "k-center", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_a_selection_that_cannot_fit_is_refused_before_its_forecast(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(_memory, "free", lambda: 2**26)
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(9000, 4)))
    command = ["select", str(tmp_path / "points.npy"), "--n-points", "900", "--dry-run", "--quiet"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "Selecting 900 of 9000 points" in error and "GiB are free" in error


def test_bytes_count_the_factor_the_reference_and_the_points():
    settings = rnd_linearised.LinearisedRNDSettings(n_reference=256, n_candidates=512)
    held = settings.numbers_held(50_000, 1000, 10)
    assert held >= 50_000 * (1000 + 256)
    assert settings.numbers_held(50_000, 2000, 10) - held == 50_000 * 1000
    assert settings.numbers_held(100_000, 1000, 10) > 1.7 * held


def test_a_forecast_in_words():
    forecast = dry_run.Forecast((0.2, 0.3), 2**29, 2**33)
    assert forecast.in_words() == "about 1 s and about 0.5 GiB of memory"
    forecast = dry_run.Forecast((10.2, 40.4), 2**31, 2**33)
    assert forecast.in_words() == "10 to 40 s and about 2.0 GiB of memory"
    assert dry_run.Forecast((10.2, 40.4), 2**31, 2**30).in_words() == (
        "10 to 40 s, but about 2.0 GiB of memory, and only 1.0 GiB are free: it would fail"
    )


def test_ranges_add_and_multiply():
    total = timing.Seconds(1.0, 2.0) * 3 + timing.exactly(0.5)
    assert total == timing.Seconds(3.5, 6.5)


def test_calls_are_timed_by_a_clock_and_told_from_the_first_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    durations = iter([3.0, *[0.25] * 100])

    def call():
        now[0] += next(durations)

    timed = timing.time_call(call)
    assert timed == timing.Timing(3.0, 0.25) and timed.once == 2.75


def test_a_kernel_of_many_points_is_timed_on_few(monkeypatch):
    sizes = []
    original = kernels.empirical.empirical_ntk

    def counted(apply, params, points):
        sizes.append(len(points))
        return original(apply, params, points)

    monkeypatch.setattr(kernels.empirical, "empirical_ntk", counted)
    monkeypatch.setattr(kernels, "FEW", 32)
    network = sequential.build_network(["dense 4", "dense 1"])
    points = X.astype(np.float32)
    many = kernels.forecast_kernel(network, points)
    assert set(sizes) == {32} and many.n_bytes >= 4 * 600**2
    few = kernels.forecast_kernel(network, points[:32])
    assert many.each > few.each > 0


def test_a_table_is_forecast_as_it_is_scaled():
    table = encoding.encode_table({"a": X[:, 0], "b": X[:, 1]}, [])
    forecast = dry_run.forecast_select(table, n_points=5, method="random")
    low, high = forecast.seconds
    assert 0 < low <= high and forecast.n_bytes > 0
