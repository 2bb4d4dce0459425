import json

import numpy as np
import pandas as pd
import pytest

from collective_variables.analysis import correlation, statistics
from collective_variables.papers import figures_2023

# Losses of two methods, two members and two sizes, small enough to compute the headline by hand.
RANDOM = {(5, 0): 4.0, (5, 1): 6.0, (9, 0): 2.0, (9, 1): 2.0}
RND = {(5, 0): 3.0, (5, 1): 5.0, (9, 0): 3.0, (9, 1): 1.0}


def runs(method="random", losses=RANDOM, parametrisation="ntk"):
    """Runs with final losses, entropies and traces that follow from the minimum test loss."""
    n_points, member = np.array(list(losses)).T
    loss = np.array(list(losses.values()))
    variables = {name: np.ones(len(loss)) for name in statistics.VARIABLES}
    variables |= {
        "min_test_loss": loss,
        "final_test_loss": loss**2,
        "entropy": 1 + loss,
        "trace": 100 - loss,
    }
    labels = {
        "group": "fuel",
        "parametrisation": parametrisation,
        "method": method,
        "diverged": False,
    }
    return pd.DataFrame({**labels, "member": member, "n_points": n_points, **variables})


def two_methods():
    return pd.concat([runs(), runs("rnd", RND)], ignore_index=True)


def two_parametrisations(n_runs=30):
    generator = np.random.default_rng(0)
    tables = []
    for name in ("lecun", "ntk"):
        losses = {
            (int(n), m): generator.lognormal() + 9 / n
            for m, n in enumerate(generator.integers(5, 60, n_runs))
        }
        tables.append(
            runs(losses=losses, parametrisation=name).assign(trace=generator.lognormal(size=n_runs))
        )
    return pd.concat(tables, ignore_index=True)


def headline(table):
    differences = statistics.paired_differences(table)
    correlations = correlation.correlations(table, n_resamples=2)
    return statistics.headline(table, differences, correlations), correlations


def test_with_two_methods_it_is_the_mean_over_sizes_of_the_relative_differences():
    result, _ = headline(two_methods())
    expected = {
        "min_test_loss": np.mean([(-1 - 1) / (4 + 6), (1 - 1) / (2 + 2)]),
        "final_test_loss": np.mean([(9 + 25 - 16 - 36) / (16 + 36), (9 + 1 - 4 - 4) / (4 + 4)]),
        "entropy": np.mean([(-1 - 1) / (5 + 7), 0]),
        "trace": np.mean([(1 + 1) / (96 + 94), 0]),
        "win_rate": np.mean([1, 0.5]),
    }
    assert set(result) == {"n_runs", "n_diverged", "rnd"} and (
        result["n_runs"],
        result["n_diverged"],
    ) == (8, 0)
    named = {
        name if name == "win_rate" else f"{name}_vs_random": expected[name] for name in expected
    }
    assert result["rnd"] == pytest.approx(named, rel=1e-12)


def test_with_two_methods_and_parametrisations_each_pair_has_a_column():
    lecun = two_methods().assign(parametrisation="lecun")
    lecun.loc[lecun["method"] == "rnd", "min_test_loss"] *= 2
    result, _ = headline(pd.concat([two_methods(), lecun], ignore_index=True))
    assert set(result) == {"n_runs", "n_diverged", "rnd lecun", "rnd ntk"}
    assert result["rnd ntk"] == headline(two_methods())[0]["rnd"]
    assert result["rnd lecun"] == headline(lecun)[0]["rnd"] != result["rnd ntk"]


def test_with_one_method_it_is_the_correlations_of_each_parametrisation_plain_and_given_the_size():
    table = two_parametrisations()
    result, correlations = headline(table)
    assert set(result) == {"n_runs", "n_diverged", "lecun", "ntk"}
    for name, part in table.groupby("parametrisation"):
        assert set(result[name]) == {
            f"loss_r_{variable}{given}"
            for variable in ("entropy", "trace")
            for given in ("", "_given_size")
        }
        for variable in ("entropy", "trace"):
            plain = np.corrcoef(part[variable], part["min_test_loss"])[0, 1]
            residuals = [
                part[column]
                - np.polyval(
                    np.polyfit(np.log(part["n_points"]), part[column], 3), np.log(part["n_points"])
                )
                for column in (variable, "min_test_loss")
            ]
            assert result[name][f"loss_r_{variable}"] == pytest.approx(plain, rel=1e-9)
            assert result[name][f"loss_r_{variable}_given_size"] == pytest.approx(
                np.corrcoef(residuals)[0, 1], rel=1e-6
            )


@pytest.mark.parametrize(
    "table", [two_methods(), two_parametrisations()], ids=["methods", "parametrisations"]
)
def test_it_counts_diverged_runs_and_is_plain_json(table):
    table.loc[[0, 1], "diverged"] = True
    result, _ = headline(table)
    assert (result["n_runs"], result["n_diverged"]) == (len(table), 2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    "table, expected",
    [
        (two_methods(), ["min_test_loss", "final_test_loss", "entropy", "trace"]),
        (
            two_parametrisations(),
            [
                "trace_entropy_loss",
                "trace_entropy_size",
                "loss_trace",
                "loss_entropy",
                "pearson",
                "pearson_given_size",
            ],
        ),
    ],
    ids=["methods", "parametrisations"],
)
def test_the_figures_are_those_of_the_experiment(table, expected):
    correlations = correlation.correlations(table, n_resamples=2)
    result = figures_2023.experiment_figures(table, statistics.summary(table), correlations)
    assert list(result) == expected
    kinds = {type(figure.data[0]).__name__ for figure in result.values()}
    assert kinds == ({"Scatter"} if len(expected) == 4 else {"Scattergl", "Heatmap"})


def test_sizes_that_all_members_share_are_never_banded_but_those_drawn_one_by_one_are():
    shared = runs(losses={(n, m): 1.0 for n in range(5, 25) for m in range(3)})
    assert statistics.summary(shared, n_bands=8)["n_points"].tolist() == list(range(5, 25))
    single = runs(
        losses={(n, n): 1.0 for n in range(5, 25)}
    )  # the negative control: a size per member
    table = statistics.summary(single, n_bands=8)
    assert (
        len(table) == 8 and table["n_points_low"].min() == 5 and table["n_points_high"].max() == 24
    )
