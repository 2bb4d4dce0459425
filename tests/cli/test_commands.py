"""What the command line does: rows chosen, methods compared, networks measured, and what time that
will take.
"""

import numpy as np
import pandas as pd
import pytest

from collective_variables.cli import commands, dry_run
from collective_variables.data import encoding
from collective_variables.data._errors import DataError
from collective_variables.observables import spectrum
from collective_variables.selection import registry
from collective_variables.training import schedules

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)) * [1.0, 10.0, 100.0]
SCALED = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
COLUMNS = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": np.sin(X[:, 0])}
TABLE = encoding.encode_table(COLUMNS, ["y"])
CLASSES = encoding.encode_table(
    COLUMNS | {"y": np.array(list("uvuvuvuvuv" * 4), dtype=object)}, ["y"]
)
LAYERS = ["dense 4"]

pytestmark = pytest.mark.usefixtures("quick_compilation")


def chosen(method, n_selected, **options):
    network = commands.build_default(SCALED, 1, LAYERS)
    problem = registry.Problem(SCALED, TABLE.targets.astype(np.float32), "regression", network, 7)
    return registry.select_by(method, problem, registry.Budget(n_selected, 1), options)


@pytest.mark.parametrize("method", ["random", "rnd", "k-center", "greedy"])
def test_rows_are_those_of_the_library_on_scaled_columns(method):
    found, expected = (
        commands.select(TABLE, n_points=6, method=method, network=LAYERS, seed=7),
        chosen(method, 6),
    )
    assert tuple(found.columns) == commands.CHOSEN and found["order"].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["row"].tolist() == expected.indices[0].tolist()
    np.testing.assert_array_equal(found["distance"], expected.distances[0])


def test_labelled_rows_count_as_chosen_and_n_points_are_further_ones():
    first = commands.select(TABLE, n_points=10, seed=7)
    more = commands.select(TABLE, n_points=6, labelled=first["row"][:4].tolist(), seed=7)
    assert more["row"].tolist() == first["row"][4:].tolist() and more["order"].tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_a_threshold_may_end_a_choice_early():
    whole = commands.select(TABLE, n_points=40, options={"first": "random"})
    threshold = 0.99 * float(whole["distance"][1:4].min())
    found = commands.select(TABLE, n_points=40, options={"first": "random", "threshold": threshold})
    last = int(np.argmax(whole["distance"] <= threshold))
    assert 3 < last < 40 and found["row"].tolist() == whole["row"][:last].tolist()


def test_rows_without_a_target_can_be_chosen_too():
    contents = COLUMNS | {"y": np.where(np.arange(40) < 30, np.nan, COLUMNS["y"])}
    found = commands.select(encoding.encode_table(contents, ["y"]), n_points=6)
    without = commands.select(
        encoding.encode_table({name: contents[name] for name in "abc"}, []), n_points=6
    )
    assert (
        found["row"].tolist()
        == without["row"].tolist()
        == commands.select(TABLE, n_points=6)["row"].tolist()
    )
    for method, options in (("stratified", {}), ("rnd", {"per_class": True})):
        with pytest.raises(DataError, match="needs the target of every row"):
            commands.select(
                encoding.encode_table(contents, ["y"]), n_points=6, method=method, options=options
            )


def test_a_method_that_takes_no_account_of_labelled_rows_says_so():
    with pytest.raises(
        DataError, match="are taken into account by .*rnd.*: received the method random"
    ):
        commands.select(TABLE, n_points=6, method="random", labelled=[1])


@pytest.mark.usefixtures("quick_float64")
def test_methods_are_compared_with_random_choice_on_the_same_networks():
    dataset = encoding.split_table(TABLE, "own", n_test=8, seed=2)
    schedule = schedules.Schedule(n_epochs=3)
    options = {
        "n_points": [4, 8],
        "n_members": 3,
        "schedule": schedule,
        "network": LAYERS,
        "seed": 7,
    }
    found = commands.compare(dataset, chosen_by={"far": ("k-center", {})}, **options)
    runs = found.runs
    assert len(runs) == 2 * 3 * 2 and set(runs["method"]) == {"random", "far"}
    means = runs.groupby(["method", "n_points"])["min_test_loss"].mean()
    np.testing.assert_allclose(
        found.summary.set_index(["method", "n_points"])["min_test_loss"].loc[means.index], means
    )
    loss = runs.set_index(["method", "n_points", "member"])["min_test_loss"]
    expected = (loss["far"] - loss["random"]).groupby("n_points").mean()
    differences = found.differences.query("variable == 'min_test_loss'").set_index("n_points")[
        "mean_difference"
    ]
    np.testing.assert_allclose(differences, expected)
    # Random choice alone is compared with nothing, and is the same.
    alone = commands.compare(dataset, chosen_by={}, **options)
    pd.testing.assert_frame_equal(
        alone.runs, runs[runs["method"] == "random"].reset_index(drop=True)
    )
    assert len(alone.differences) == 0


@pytest.mark.parametrize(
    "table",
    [TABLE, CLASSES, encoding.encode_table({"a": X[:, 0], "b": X[:, 1]}, [])],
    ids=["regression", "classes", "none"],
)
def test_spectra_are_those_of_the_variables(table):
    found = commands.measure(table, n_points=[5, 9], n_members=2, network=LAYERS, seed=7)
    assert len(found.variables) == 4 and len(found.spectra) == 2 * (5 + 9)
    for (member, n), values in found.spectra.groupby(["member", "n_points"]):
        assert (
            values["number"].tolist() == list(range(1, n + 1))
            and values["eigenvalue"].is_monotonic_decreasing
        )
        row = found.variables.query("member == @member and n_points == @n").iloc[0]
        assert row["trace"] == pytest.approx(values["eigenvalue"].sum())
        assert row["entropy"] == pytest.approx(
            spectrum.entropy(values["eigenvalue"].to_numpy()[::-1])
        )
    assert found.variables["target_alignment"].isna().all() == (table.targets is None)


def test_the_network_is_one_for_tables_or_for_images():
    assert [layer.kind for layer in commands.build_default(np.ones((3, 4)), 2, None).layers] == [
        "dense"
    ] * 3
    images = commands.build_default(np.ones((3, 8, 8, 1)), 2, None)
    assert [layer.kind for layer in images.layers] == [
        "conv",
        "avgpool",
        "conv",
        "avgpool",
        "dense",
        "dense",
    ]
    assert images.layers[-1].width == 2


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
    found = dry_run._extrapolated(
        lambda size: clock.work(3.0 + 0.5 * size**power), (4, 16), 100, powers=(1, 2)
    )
    assert found[end] == pytest.approx(3.0 + 0.5 * 100**power) and found[0] < found[1]


def test_what_is_tried_whole_needs_no_growth(monkeypatch):
    clock = Clock(monkeypatch)
    assert dry_run._extrapolated(clock.work, (4, 16), 10, powers=(1, 2)) == (10.0, 10.0)


def test_forecasts_count_methods_members_and_what_is_held(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(dry_run.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(dry_run, "_resident", lambda: 1000)
    monkeypatch.setattr(commands, "select", lambda table, *, n_points, **_: clock.work(n_points))
    monkeypatch.setattr(
        commands,
        "compare",
        lambda dataset, *, schedule, **_: clock.work(1.0 + 2.0 * schedule.n_epochs),
    )
    monkeypatch.setattr(
        commands, "measure", lambda table, *, n_points, **_: clock.work(n_points[0] ** 3 / 1e6)
    )
    of_select = dry_run.forecast_select(TABLE, n_points=16, method="rnd", labelled=[1, 2])
    assert of_select == dry_run.Forecast((16.0, 16.0), 1000 + 8 * 40 * (18 + 40 + 2 * 64))
    assert dry_run.forecast_select(TABLE, n_points=16, method="greedy").n_bytes == 1000 + 8 * 40**2
    # Tried on 20 of the 40 rows, of which all pairs are four times as many.
    monkeypatch.setattr(dry_run, "ROWS", 20)
    assert dry_run.forecast_select(TABLE, n_points=16, method="k-center").seconds == (32.0, 32.0)
    assert dry_run.forecast_select(TABLE, n_points=16, method="greedy").seconds == (32.0, 64.0)
    monkeypatch.setattr(dry_run, "ROWS", 40)
    dataset = encoding.split_table(TABLE, "own", n_test=8)
    options = {
        "n_points": [4, 16],
        "n_members": 6,
        "schedule": schedules.Schedule(n_epochs=100),
        "network": None,
        "seed": 0,
    }
    found = dry_run.forecast_compare(
        dataset, chosen_by={"rnd": ("rnd", {}), "far": ("k-center", {})}, **options
    )
    # Three methods on three times as many members as were tried, and two selections for each
    # member.
    assert found.seconds == pytest.approx((3 * 3 * 201 + 6 * 2 * 16,) * 2)
    found = dry_run.forecast_measure(TABLE, n_points=[10, 1000], n_members=6)
    assert found.seconds[1] == pytest.approx(3 * 1000.0) and found.seconds[0] < found.seconds[1]


def test_a_large_table_is_tried_on_some_rows_the_labelled_ones_among_them(monkeypatch):
    given = []
    monkeypatch.setattr(commands, "select", lambda table, **options: given.append((table, options)))
    monkeypatch.setattr(dry_run, "ROWS", 12)
    dry_run.forecast_select(TABLE, n_points=5, method="rnd", labelled=[30, 3])
    for table, options in given:
        assert len(table.inputs) == len(table.targets) == len(table.is_labelled) == 12 and list(
            options["labelled"]
        ) == [0, 1]
        np.testing.assert_array_equal(table.inputs[:2], TABLE.inputs[[30, 3]])
        assert len(np.unique(table.inputs, axis=0)) == 12
    given.clear()
    # There must be as many rows as are chosen.
    dry_run.forecast_select(TABLE, n_points=20, method="rnd", labelled=[30, 3])
    assert {len(table.inputs) for table, _ in given} == {22}


def test_a_forecast_in_words():
    assert dry_run.Forecast((0.2, 0.3), 2**29).in_words() == "about 1 s, 0.5 GiB"
    assert dry_run.Forecast((10.2, 40.4), 2**31).in_words() == "10 to 40 s, 2.0 GiB"
