"""What the command line computes: selected rows, comparisons of methods, and measurements."""

import numpy as np
import pandas as pd
import pytest

from collective_variables.cli import commands
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


def selected(method, n_selected, **options):
    network = commands.build_default(SCALED, 1, LAYERS)
    problem = registry.Problem(SCALED, TABLE.targets.astype(np.float32), "regression", network, 7)
    return registry.select_by(method, problem, registry.Budget(n_selected, 1), options)


@pytest.mark.parametrize("method", ["random", "rnd-linearised", "k-center", "greedy"])
def test_rows_are_those_of_the_library_on_scaled_columns(method):
    options = {"method": method, "network": LAYERS, "scaling": "standard"}
    result = commands.select(TABLE, n_points=6, seed=7, **options)
    expected = selected(method, 6)
    assert tuple(result.columns) == commands.SELECTED
    assert result["order"].tolist() == [1, 2, 3, 4, 5, 6]
    assert result["row"].tolist() == expected.indices[0].tolist()
    np.testing.assert_array_equal(result["distance"], expected.distances[0])


def test_labelled_rows_count_as_chosen_and_n_points_are_further_ones():
    first = commands.select(TABLE, n_points=10, seed=7)
    more = commands.select(TABLE, n_points=6, labelled=first["row"][:4].tolist(), seed=7)
    assert more["row"].tolist() == first["row"][4:].tolist()
    assert more["order"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_threshold_may_end_a_choice_early():
    whole = commands.select(TABLE, n_points=40, options={"first": "random"})
    threshold = 0.99 * float(whole["distance"][1:4].min())
    result = commands.select(
        TABLE, n_points=40, options={"first": "random", "threshold": threshold}
    )
    last = int(np.argmax(whole["distance"] <= threshold))
    assert 3 < last < 40 and result["row"].tolist() == whole["row"][:last].tolist()


def test_rows_without_a_target_can_be_chosen_too():
    contents = COLUMNS | {"y": np.where(np.arange(40) < 30, np.nan, COLUMNS["y"])}
    result = commands.select(encoding.encode_table(contents, ["y"]), n_points=6)
    without = commands.select(
        encoding.encode_table({name: contents[name] for name in "abc"}, []), n_points=6
    )
    assert (
        result["row"].tolist()
        == without["row"].tolist()
        == commands.select(TABLE, n_points=6)["row"].tolist()
    )
    for method, options in (("stratified", {}), ("rnd-linearised", {"per_class": True})):
        with pytest.raises(DataError, match="needs the target of every row"):
            commands.select(
                encoding.encode_table(contents, ["y"]), n_points=6, method=method, options=options
            )


@pytest.mark.parametrize(
    "method",
    ["k-center", "kernel-herding", "rnd-linearised", "random", "lcmd", "bait", "typiclust"],
)
@pytest.mark.parametrize("options", [{}, {"first": "best"}, {"first": "random"}])
@pytest.mark.parametrize("labelled", [[], [3, 8]])
def test_the_seed_is_used_exactly_where_it_changes_the_rows(method, options, labelled):
    options = {name: value for name, value in options.items() if name in registry.OPTIONS[method]}
    settings = {"method": method, "options": options, "labelled": labelled}
    rows = {
        tuple(commands.select(TABLE, n_points=4, seed=seed, **settings)["row"]) for seed in range(8)
    }
    assert (len(rows) > 1) == commands.uses_seed(method, options, 40, labelled=labelled)


def test_a_large_table_makes_the_linearised_method_random():
    options = {"n_reference": 10}
    assert commands.uses_seed("rnd-linearised", options, 40)
    rows = [
        commands.select(TABLE, n_points=9, options=options, seed=seed)["row"].tolist()
        for seed in (0, 1)
    ]
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    "method, options",
    [
        ("lcmd", {"kernel": "infinite-width"}),
        ("max-det", {"kernel": "ntk", "n_features": 8}),
        ("lcmd", {"kernel": "sketch", "n_features": 8}),
        ("k-means++", {"kernel": "linear"}),
        ("prob-cover", {"radius": 0.8}),
        ("max-herding", {}),
    ],
)
def test_kernels_of_networks_are_random_and_others_not(method, options):
    def rows(seed, layers):
        settings = {"options": options, "network": layers, "seed": seed}
        return commands.select(TABLE, n_points=12, method=method, **settings)["row"].tolist()

    first, other = rows(0, LAYERS), rows(1, LAYERS)
    assert (first != other) == commands.uses_seed(method, options, 40)
    deeper = rows(0, ["dense 4", "dense 3"])
    assert (first != deeper) == commands.uses_network(method, options)


def test_methods_without_a_network_are_those_that_a_network_does_not_change():
    assert set(commands.NETWORK_METHODS) == {
        "rnd",
        "log-determinant",
        "trace",
        "best-entropy",
        "greedy",
    }
    for method in ("random", "k-center", "rnd-linearised", "log-determinant"):
        rows = [
            commands.select(TABLE, n_points=5, method=method, network=[layer])["row"].tolist()
            for layer in ("dense 2", "dense 30")
        ]
        assert (rows[0] != rows[1]) == (method in commands.NETWORK_METHODS)


@pytest.mark.usefixtures("quick_float64")
def test_methods_are_compared_with_random_choice_on_the_same_networks():
    dataset = encoding.split_table(TABLE, "user", n_test=8, seed=2)
    schedule = schedules.Schedule(n_epochs=3)
    options = {
        "n_points": [4, 8],
        "n_members": 3,
        "schedule": schedule,
        "network": LAYERS,
        "seed": 7,
    }
    result = commands.compare(dataset, methods={"far": ("k-center", {})}, **options)
    runs = result.runs
    assert len(runs) == 2 * 3 * 2 and set(runs["method"]) == {"random", "far"}
    means = runs.groupby(["method", "n_points"])["min_test_loss"].mean()
    np.testing.assert_allclose(
        result.summary.set_index(["method", "n_points"])["min_test_loss"].loc[means.index], means
    )
    loss = runs.set_index(["method", "n_points", "member"])["min_test_loss"]
    expected = (loss["far"] - loss["random"]).groupby("n_points").mean()
    differences = result.differences.query("variable == 'min_test_loss'").set_index("n_points")[
        "mean_difference"
    ]
    np.testing.assert_allclose(differences, expected)
    # Random choice alone is compared with nothing, and is the same.
    alone = commands.compare(dataset, methods={}, **options)
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
    result = commands.measure(table, n_points=[5, 9], n_members=2, network=LAYERS, seed=7)
    assert len(result.variables) == 4 and len(result.spectra) == 2 * (5 + 9)
    for (member, n), values in result.spectra.groupby(["member", "n_points"]):
        assert (
            values["number"].tolist() == list(range(1, n + 1))
            and values["eigenvalue"].is_monotonic_decreasing
        )
        row = result.variables.query("member == @member and n_points == @n").iloc[0]
        assert row["trace"] == pytest.approx(values["eigenvalue"].sum())
        assert row["entropy"] == pytest.approx(
            spectrum.entropy(values["eigenvalue"].to_numpy()[::-1])
        )
    assert result.variables["target_alignment"].isna().all() == (table.targets is None)


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
