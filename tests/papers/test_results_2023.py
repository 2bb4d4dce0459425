"""Figures and tables of the page on made-up runs: which there are, and what stands in them."""

import functools

import numpy as np
import pandas as pd
import pytest

from collective_variables.analysis import correlation, learning_curves, statistics
from collective_variables.papers import results_2023

DENSE = ["dense 128", "dense 128", "dense 1"]
PROBLEMS = {
    "fuel-dense": results_2023.Problem("fuel", "regression", 272, 120, (9,), 1, DENSE),
    "own": results_2023.Problem(
        "own", "classification", 90, 10, (4, 5, 1), 3, ["conv 2 3x3", "dense 3"]
    ),
}
QUICK = {"n_resamples": 50, "n_permutations": 200}


@functools.cache
def runs():
    """Experiment 1 in both parametrisations, one run diverged; Experiment 2 with three sizes and
    two methods.
    """
    generator, tables = np.random.default_rng(0), []
    first = [
        ("fuel-dense", name, "random", 60, generator.integers(5, 200, (60, 1)))
        for name in ("lecun", "ntk")
    ]
    second = [
        ("own", "ntk", method, 6, np.tile([4, 8, 16], (6, 1))) for method in ("random", "rnd")
    ]
    for group, parametrisation, method, n_members, sizes in first + second:
        n = sizes.ravel()
        noise, member = (
            generator.normal(size=(3, len(n))),
            np.repeat(np.arange(n_members), sizes.shape[1]),
        )
        loss = n**-0.5 * np.exp(0.1 * noise[0]) * (0.6 if method == "rnd" else 1.0)
        columns = {
            "member": member,
            "n_points": n,
            "entropy": np.log(n) + 0.1 * noise[1],
            "trace": n * np.exp(0.1 * noise[2]),
        }
        columns |= {
            "effective_entropy": columns["entropy"] / np.log(n),
            "trace_per_point": columns["trace"] / n,
        }
        columns |= {
            "largest_eigenvalue_fraction": 0.5 + 0.01 * noise[0],
            "min_test_loss": loss,
            "final_test_loss": 2 * loss,
        }
        columns |= dict.fromkeys(("min_train_loss", "final_train_loss"), loss / 10)
        accuracy = np.nan if group == "fuel-dense" else 1 - loss
        columns |= dict.fromkeys(("max_test_accuracy", "final_test_accuracy"), accuracy)
        columns |= {
            "largest_eigenvalue": columns["trace"] / 2,
            "effective_rank": np.exp(columns["entropy"]),
        }
        about = {
            "group": group,
            "parametrisation": parametrisation,
            "method": method,
            "diverged": False,
        }
        tables.append(pd.DataFrame(columns).assign(**about))
    table = pd.concat(tables, ignore_index=True)
    table.loc[7, ["min_test_loss", "diverged"]] = [1e-9, True]
    return table


@functools.cache
def tables():
    return {table.name: table.frame for table in results_2023.tables(runs(), PROBLEMS, **QUICK)}


def draw(table):
    summary = statistics.summary(table)
    correlations = correlation.correlations(table, n_resamples=5)
    return {
        picture.name: picture for picture in results_2023.pictures(table, summary, correlations)
    }


def test_each_experiment_has_its_figures_with_a_column_for_each_group():
    both = draw(runs())
    first, second = (draw(runs()[runs()["group"] == group]) for group in ("fuel-dense", "own"))
    assert list(both) == [*first, *second] and len(first) == 6 and len(second) == 4
    assert [picture.title.split(":")[0] for picture in both.values()] == (
        ["Figures 2 and 6"] * 4 + ["Figures 3 and 7"] * 2 + ["Figure 4"] * 2 + ["Figure 5"] * 2
    )
    titles = {
        name: [note.text for note in picture.figure.layout.annotations]
        for name, picture in both.items()
    }
    assert all(
        panels == ["fuel-dense, LeCun", "fuel-dense, NTK"]
        for name, panels in titles.items()
        if name in first
    )
    assert all(panels == ["own, NTK"] for name, panels in titles.items() if name in second)
    assert all(any(len(trace.x) for trace in picture.figure.data) for picture in both.values())


def test_with_few_runs_there_is_no_matrix_given_the_size():
    few = runs()[(runs()["group"] == "fuel-dense") & (runs()["member"] < 5)]
    assert "pearson" in draw(few) and "pearson-given-size" not in draw(few)


def test_tables_of_the_paper_have_its_numbers_and_ours():
    data = tables()["table-1"].set_index("group")
    assert data.loc["fuel-dense"].tolist() == ["fuel", "regression", 398, 392, 120, 120, "9", 1]
    assert data.loc["own"].tolist() == [
        "own",
        "classification",
        None,
        100,
        None,
        10,
        "4 × 5 × 1",
        3,
    ]
    networks = tables()["table-2"].set_index(["group", "parametrisation"])
    row = networks.loc[("fuel-dense", "lecun")]
    converged = runs()[(runs()["parametrisation"] == "lecun") & ~runs()["diverged"]]
    assert row["network"] == "dense 128, dense 128, dense 1" and (
        row["runs, paper"],
        row["runs"],
        row["diverged"],
    ) == (7075, 60, 1)
    assert (
        row["minimum test loss, paper"] == 0.051
        and row["minimum test loss"] == converged["min_test_loss"].min() > 1e-9
    )
    assert np.isnan(row["maximum accuracy"]) and row["maximum accuracy, paper"] is None
    assert tables()["table-3"].to_numpy().tolist() == [
        ["own", "conv 2 3x3, dense 3", "ntk", 6, "4, 8, 16", "Random; RND (Algorithm 1)"]
    ]


@pytest.mark.parametrize(
    "network, expected", [(results_2023.CONVOLUTIONAL, True), ("dense 3", False)]
)
def test_a_network_with_a_convolution_is_convolutional(network, expected):
    layers = network.split(", ")
    problem = results_2023.Problem("mnist", "classification", 1, 1, (28, 28, 1), 10, layers)
    assert problem.network == network and problem.is_convolutional == expected
    assert (("mnist", problem.network) in results_2023.TABLE_2) == expected


def test_a_method_with_lower_losses_has_them_in_the_tables():
    row = tables()["curves"].set_index("variable").loc["min test loss"]
    assert row["lower"] < row["relative_difference"] < row["upper"] and row[
        "relative_difference"
    ] == pytest.approx(-0.4, abs=0.08)
    assert (row["n_lower"], row["n_undecided"], row["n_higher"], row["win_rate"]) == (3, 0, 0, 1.0)
    assert row["p_value_flips"] == 2 / 2**6
    worth = tables()["equivalents"].set_index("n_points")
    assert (
        worth.loc[4, "n_equivalent"] == pytest.approx(11, abs=4)
        and np.isinf(worth.loc[[8, 16], "n_equivalent"]).all()
    )
    own = runs()[runs()["group"] == "own"]
    expected = learning_curves.equivalents(own, n_resamples=50).set_index("n_points")
    expected = expected.assign(method="RND (Algorithm 1)")
    pd.testing.assert_frame_equal(worth, expected[worth.columns])


def test_what_the_size_explains_is_not_ascribed_to_entropy_or_trace():
    gains = tables()["prediction"].set_index("predictors")["gain"]
    assert (gains.loc["n points + entropy + trace"] < 0.05).all()
    assert set(tables()["beyond-size"]["variable"]) == {
        "entropy",
        "trace",
        *(name.replace("_", " ") for name in statistics.SIZE_FREE),
    }
    assert set(tables()["decomposition"]["part"]) == {"unique", "shared", "share", "explained"}


def test_an_experiment_without_any_group_has_no_tables_and_one_size_no_curve():
    parts = {group: runs()[runs()["group"] == group] for group in PROBLEMS}
    names = {
        group: [table.name for table in results_2023.tables(parts[group], PROBLEMS, **QUICK)]
        for group in parts
    }
    assert names["fuel-dense"] == [
        "table-1",
        "table-2",
        "beyond-size",
        "prediction",
        "decomposition",
    ]
    assert names["own"] == ["table-1", "table-3", "curves", "equivalents"]
    one_size = parts["own"][parts["own"]["n_points"] == 8]
    assert [table.name for table in results_2023.tables(one_size, PROBLEMS, **QUICK)] == [
        "table-1",
        "table-3",
    ]
