import numpy as np
import pandas as pd
import pytest
from run_tables import TOLERANCE, table, two_methods
from scipy import stats

from collective_variables.analysis import statistics
from collective_variables.analysis.correlation import correlations
from collective_variables.analysis.statistics import paired_differences, summary

# summary


def test_summary_is_the_mean_with_the_standard_error_of_scipy():
    runs = two_methods()
    result = summary(runs, ["loss"]).set_index(["method", "n_points"])
    for key, part in runs.groupby(["method", "n_points"]):
        row, mean, error = result.loc[key], part["loss"].mean(), stats.sem(part["loss"])
        expected = [mean, error, mean - error, mean + error, part["loss"].std(ddof=1)]
        names = [
            "loss",
            "loss_standard_error",
            "loss_lower",
            "loss_upper",
            "loss_standard_deviation",
        ]
        np.testing.assert_allclose(row[names].astype(float), expected, **TOLERANCE)
        assert (row["n_members"], row["n_diverged"]) == (20, 0)


def test_summary_leaves_diverged_runs_out_and_counts_them():
    runs = table(
        [5] * 6 + [7] * 2,
        loss=[1.0, 2, 3, np.inf, np.nan, 4, np.nan, 5],
        diverged=[False] * 3 + [True] * 5,
    )
    result = summary(runs, ["loss"]).set_index("n_points")
    assert result.loc[5, ["loss", "n_members", "n_diverged"]].tolist() == [2, 3, 3]
    assert result.loc[7, ["n_members", "n_diverged"]].tolist() == [0, 2] and np.isnan(
        result.loc[7, "loss"]
    )


def test_summary_keeps_one_row_a_size_up_to_n_bands():
    result = summary(table(np.repeat(np.arange(5, 13), 3), loss=1.0), ["loss"], n_bands=8)
    assert result["n_points"].tolist() == result["n_points_low"].tolist() == list(range(5, 13))
    assert (result["n_points_high"] == result["n_points"]).all()


def test_summary_bands_many_sizes_by_equal_count_without_splitting_a_size():
    runs = table(np.random.default_rng(0).integers(5, 257, 800), loss=1.0).assign(member=range(800))
    result = summary(runs, ["loss"], n_bands=8)
    assert (
        len(result) == 8
        and (result["n_points_low"].to_numpy()[1:] > result["n_points_high"].to_numpy()[:-1]).all()
    )
    # A band boundary moves by less than the runs that share one size, here at most 12 of 800.
    assert (abs(result["n_members"] - 100) <= 12).all()
    inside = runs["n_points"].between(result["n_points_low"][3], result["n_points_high"][3])
    assert result["n_points"][3] == runs.loc[inside, "n_points"].mean()


def test_summary_of_one_member_has_a_mean_and_no_error():
    result = summary(table([5, 6], loss=[1.0, 2.0]), ["loss"])
    assert result["loss"].tolist() == [1, 2] and result[
        ["loss_standard_error", "loss_lower"]
    ].isna().all(axis=None)


def test_summary_shows_a_missing_value_of_a_run_that_did_not_diverge():
    assert np.isnan(summary(table([5, 5, 5], loss=[1.0, 2.0, np.nan]), ["loss"])["loss"].item())


# paired_differences


def test_paired_differences_agree_with_the_paired_t_test_of_scipy():
    runs = two_methods()
    result = paired_differences(runs, ["loss", "trace"], confidence=0.9).set_index(
        ["variable", "n_points"]
    )
    assert len(result) == 4
    for (variable, size), row in result.iterrows():
        part = runs[runs["n_points"] == size]
        other, reference = (
            part.loc[part["method"] == m, variable].to_numpy() for m in ("rnd", "random")
        )
        expected = stats.ttest_rel(other, reference)
        t_test = row[["p_value", "lower", "upper"]].astype(float)
        np.testing.assert_allclose(
            t_test, [expected.pvalue, *expected.confidence_interval(0.9)], **TOLERANCE
        )
        means = row[["mean_difference", "relative_difference", "standard_error"]].astype(float)
        difference, error = other.mean() - reference.mean(), stats.sem(other - reference)
        np.testing.assert_allclose(
            means, [difference, difference / reference.mean(), error], **TOLERANCE
        )
        assert row["win_rate"] == np.mean(other < reference)
        wins = stats.binomtest(int(np.sum(other < reference)), len(other)).proportion_ci(
            0.9, method="wilson"
        )
        np.testing.assert_allclose(
            row[["win_rate_lower", "win_rate_upper"]].astype(float), wins, **TOLERANCE
        )


def test_pairs_are_matched_by_member_not_by_order():
    runs = two_methods()
    shuffled = runs.sample(frac=1, random_state=0)
    keys = ["variable", "n_points"]
    first, second = (
        paired_differences(r, ["loss"]).sort_values(keys, ignore_index=True)
        for r in (runs, shuffled)
    )
    pd.testing.assert_frame_equal(first, second)
    broken = runs.assign(
        member=np.where(runs["method"] == "rnd", 19 - runs["member"], runs["member"])
    )
    assert not np.allclose(paired_differences(broken, ["loss"])["p_value"], first["p_value"])


def test_ties_are_half_a_win():
    runs = pd.concat(
        [table([5] * 4, loss=[1.0, 1, 1, 1]), table([5] * 4, method="rnd", loss=[0.0, 1, 1, 2])]
    )
    assert paired_differences(runs, ["loss"])["win_rate"].tolist() == [0.5]


def test_a_pair_with_a_diverged_run_is_left_out_and_counted():
    runs = two_methods(n_members=6, sizes=(5,)).reset_index(drop=True)
    runs.loc[1, ["loss", "diverged"]] = [np.inf, True]
    runs.loc[8, ["loss", "diverged"]] = [np.nan, True]
    complete = paired_differences(runs[~runs["member"].isin([1, 2])], ["loss", "trace"])
    result = paired_differences(runs, ["loss", "trace"])
    assert result["n_pairs"].tolist() == [4, 4] and result["n_diverged"].tolist() == [2, 2]
    pd.testing.assert_frame_equal(
        result.drop(columns="n_diverged"), complete.drop(columns="n_diverged")
    )


def test_one_pair_has_a_difference_and_no_interval():
    row = paired_differences(two_methods(n_members=1, sizes=(5,)), ["loss"]).iloc[0]
    assert row["n_pairs"] == 1 and np.isfinite(row["mean_difference"])
    assert row[["lower", "upper", "p_value", "standard_error"]].isna().all()


def test_one_method_gives_an_empty_table_with_the_same_columns():
    runs = two_methods()
    empty = paired_differences(runs[runs["method"] == "random"], ["loss"])
    assert empty.empty and list(empty) == list(paired_differences(runs, ["loss"]))


def test_a_variable_without_values_is_left_out_of_the_differences():
    runs = two_methods().assign(accuracy=np.nan)
    assert set(paired_differences(runs, ["loss", "accuracy"])["variable"]) == {"loss"}


def test_the_t_interval_covers_a_known_difference_as_often_as_it_says():
    generator = np.random.default_rng(1)
    n_ensembles, n_members, difference = 500, 5, 0.3
    n_points = np.repeat(np.arange(n_ensembles), n_members)
    shared, noise = (
        generator.normal(size=n_points.size),
        generator.normal(difference, 1, n_points.size),
    )
    runs = pd.concat(
        [table(n_points, loss=shared), table(n_points, method="rnd", loss=shared + noise)]
    )
    result = paired_differences(runs, ["loss"], confidence=0.9)
    covered = ((result["lower"] <= difference) & (difference <= result["upper"])).mean()
    # Exact for normal differences, so four standard deviations of a binomial fraction: 4 sqrt(0.9 ·
    # 0.1 / 500).
    assert abs(covered - 0.9) < 4 * np.sqrt(0.9 * 0.1 / n_ensembles)


# errors


@pytest.mark.parametrize("function", [summary, paired_differences, correlations])
def test_a_missing_column_and_an_empty_table_are_one_error_that_names_them(function):
    runs = two_methods()
    with pytest.raises(
        ValueError,
        match=r"^runs must have the columns member, entropy: received group, .* trace\.$",
    ):
        function(runs.drop(columns="member"), ["loss", "entropy"])
    with pytest.raises(
        ValueError, match=r"^runs must have at least one row: received an empty table\.$"
    ):
        function(runs.iloc[:0], ["loss"])
    with pytest.raises(TypeError, match=r"^diverged must be a column of booleans"):
        function(runs.assign(diverged="False"), ["loss"])


def test_p_values_are_corrected_as_holm_says_and_a_missing_one_is_no_test():
    some = np.array([0.01, np.nan, 0.04, 0.03, 0.5, 0.03])
    # By hand: 5 · 0.01, then 4 · 0.03 for both of 0.03, and 2 · 0.04 and 0.5 raised to what came
    # before.
    np.testing.assert_allclose(statistics.holm(some), [0.05, np.nan, 0.12, 0.12, 0.5, 0.12])
    assert statistics.holm([0.6, 0.7]).tolist() == [1, 1]


def test_arguments_out_of_range_are_errors():
    runs = two_methods()
    with pytest.raises(ValueError, match=r"confidence must be less than 1: received 95\."):
        paired_differences(runs, ["loss"], confidence=95)
    with pytest.raises(
        ValueError, match="reference must be one of random, rnd: received 'uniform'"
    ):
        paired_differences(runs, ["loss"], reference="uniform")
    with pytest.raises(
        ValueError, match="member must be unique in an ensemble of one size: 76 runs repeat one"
    ):
        paired_differences(runs.assign(member=0), ["loss"])
    with pytest.raises(ValueError, match="n_bands must be at least 1: received 0"):
        summary(runs, ["loss"], n_bands=0)
    with pytest.raises(ValueError, match="n_resamples must be at least 1: received 0"):
        correlations(runs, ["loss"], n_resamples=0)


# intervals of bounded quantities


def methods_with(reference, values, variable, size=10):
    """Two methods with these values of a variable, a member each."""
    size = np.full(len(values), size)
    return pd.concat(
        [
            table(size, method="random", **{variable: reference}),
            table(size, method="rnd", **{variable: values}),
        ]
    )


@pytest.mark.parametrize("variable", ["max_test_accuracy", "largest_eigenvalue_fraction"])
def test_an_interval_of_a_difference_of_fractions_does_not_leave_one(variable):
    runs = methods_with([0.0, 0.0, 0.9], [1.0, 0.9, 1.0], variable)
    (row,) = paired_differences(runs, [variable]).to_dict("records")
    differences = np.array([1.0, 0.9, 0.1])
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert interval.high > 1.0 == row["upper"]
    assert row["lower"] == pytest.approx(interval.low)
    swapped = runs.assign(method=runs["method"].map({"random": "rnd", "rnd": "random"}))
    (row,) = paired_differences(swapped, [variable]).to_dict("records")
    assert (row["lower"], row["upper"]) == pytest.approx((-1.0, -interval.low))


def test_an_interval_of_a_difference_of_losses_has_no_end():
    runs = methods_with([1.0, 2.0, 3.0], [3.0, 9.0, 4.0], "min_test_loss")
    (row,) = paired_differences(runs, ["min_test_loss"]).to_dict("records")
    interval = stats.ttest_1samp([2.0, 7.0, 1.0], 0.0).confidence_interval(0.95)
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(interval))


@pytest.mark.parametrize("n", [*range(2, 40), 1000])
@pytest.mark.parametrize("loss", [0.5, 2.0])
def test_a_win_rate_of_all_or_none_has_its_end_as_end_of_the_interval(n, loss):
    runs = methods_with(np.ones(n), np.full(n, loss), "loss")
    (row,) = paired_differences(runs, ["loss"]).to_dict("records")
    assert row["win_rate"] == (loss < 1)
    assert 0.0 <= row["win_rate_lower"] <= row["win_rate"] <= row["win_rate_upper"] <= 1.0


@pytest.mark.parametrize("n", [2, 3, 5, 50])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_standard_error_never_leads_out_of_the_range_of_a_fraction(n, share):
    """As the standard error of n numbers from 0 on is at most their mean."""
    values = (np.arange(n) < np.ceil(share * n)).astype(float)
    (row,) = summary(table([5] * n, max_test_accuracy=values), ["max_test_accuracy"]).to_dict(
        "records"
    )
    assert row["max_test_accuracy_lower"] >= -1e-15
    assert row["max_test_accuracy_upper"] <= 1 + 1e-15
