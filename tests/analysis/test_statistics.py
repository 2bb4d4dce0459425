import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from collective_variables.analysis import correlation, statistics
from collective_variables.analysis.correlation import correlations
from collective_variables.analysis.statistics import paired_differences, summary

# Of two independent sums in another order, float64 keeps this much for tables of some hundred rows.
TOLERANCE = dict(rtol=1e-9, atol=1e-12)


def table(
    n_points,
    *,
    group="fuel",
    parametrisation="ntk",
    method="random",
    member=None,
    diverged=False,
    **variables,
):
    """A table of runs with the given columns; members count the repetitions of a size."""
    n_points = np.asarray(n_points)
    member = (
        pd.Series(n_points).groupby(n_points).cumcount().to_numpy() if member is None else member
    )
    columns = {
        "group": group,
        "parametrisation": parametrisation,
        "method": method,
        "member": member,
    }
    return pd.DataFrame({**columns, "n_points": n_points, "diverged": diverged, **variables})


def two_methods(n_members=20, sizes=(5, 10), seed=0):
    generator = np.random.default_rng(seed)
    n_points = np.repeat(sizes, n_members)
    loss = generator.lognormal(size=(2, n_points.size))
    return pd.concat(
        table(n_points, method=method, loss=values, trace=1 + values**2)
        for method, values in zip(("random", "rnd"), loss, strict=True)
    )


def sized(n_runs, link, seed=0):
    """Two variables that both follow the size; at fixed size they are normal with correlation
    `link`.
    """
    generator = np.random.default_rng(seed)
    n_points = np.round(np.exp(generator.uniform(np.log(5), np.log(300), n_runs))).astype(int)
    a, b = generator.multivariate_normal([0, 0], [[1, link], [link, 1]], n_runs).T
    return table(n_points, a=np.log(n_points) + 0.3 * a, b=-2 * np.log(n_points) + 0.6 * b)


def matrix(result, kind, column="coefficient"):
    part = result[result["kind"] == kind]
    return part.pivot(index="x_variable", columns="y_variable", values=column)


def entry(result, kind, x="a", y="b"):
    return result.set_index(["kind", "x_variable", "y_variable"]).loc[(kind, x, y)]


def residuals(x, values, degree):
    features = PolynomialFeatures(degree, include_bias=False).fit_transform(x[:, None])
    return values - LinearRegression().fit(features, values).predict(features)


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
    kept = paired_differences(runs[~runs["member"].isin([1, 2])], ["loss", "trace"])
    result = paired_differences(runs, ["loss", "trace"])
    assert result["n_pairs"].tolist() == [4, 4] and result["n_diverged"].tolist() == [2, 2]
    pd.testing.assert_frame_equal(
        result.drop(columns="n_diverged"), kept.drop(columns="n_diverged")
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


# correlations


def test_plain_correlations_agree_with_scipy():
    runs = sized(60, 0.5)
    runs["b"] = runs["b"].round(0)  # ties
    result = correlations(runs, ["a", "b"], n_resamples=2)
    for kind, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        expected = function(runs["a"], runs["b"])[0]
        np.testing.assert_allclose(entry(result, kind)["coefficient"], expected, **TOLERANCE)


@pytest.mark.parametrize("degree", [1, 3])
def test_pearson_given_size_is_that_of_the_residuals_of_polyfit_in_the_logarithm(degree):
    runs = sized(80, 0.5)
    x = np.log(runs["n_points"])
    a, b = (runs[v] - np.polyval(np.polyfit(x, runs[v], degree), x) for v in ("a", "b"))
    result = entry(
        correlations(runs, ["a", "b"], n_resamples=2, degree=degree), "pearson given size"
    )
    np.testing.assert_allclose(result["coefficient"], stats.pearsonr(a, b)[0], **TOLERANCE)


@pytest.mark.parametrize("degree", [1, 3])
def test_spearman_given_size_is_that_of_the_residuals_of_the_ranks(degree):
    runs = sized(80, 0.5)
    size, a, b = (stats.rankdata(runs[v]) for v in ("n_points", "a", "b"))
    expected = stats.pearsonr(residuals(size / 80, a, degree), residuals(size / 80, b, degree))[0]
    result = entry(
        correlations(runs, ["a", "b"], n_resamples=2, degree=degree), "spearman given size"
    )
    np.testing.assert_allclose(result["coefficient"], expected, **TOLERANCE)


def test_spearman_within_bands_is_the_weighted_mean_over_the_sizes():
    runs = pd.concat([sized(15, 0.5, 1).assign(n_points=7), sized(40, 0.5, 2).assign(n_points=9)])
    parts = [
        (len(part), stats.spearmanr(part["a"], part["b"])[0])
        for _, part in runs.groupby("n_points")
    ]
    expected = sum(n * r for n, r in parts) / 55
    result = entry(correlations(runs, ["a", "b"], n_resamples=2), "spearman within bands")
    np.testing.assert_allclose(result["coefficient"], expected, **TOLERANCE)


def test_a_weighted_resample_gives_the_statistics_of_the_repeated_rows():
    runs, generator = sized(50, 0.5), np.random.default_rng(0)
    drawn = generator.integers(0, 50, 50)
    values, sizes = runs[["a", "b"]].to_numpy(), runs["n_points"].to_numpy(float)
    bands = np.digitize(sizes, [20, 80])
    counts = np.bincount(drawn, minlength=50)[None].astype(float)
    weighted = correlation._all_kinds(values, sizes, bands, counts, 3)
    repeated = correlation._all_kinds(
        values[drawn], sizes[drawn], bands[drawn], np.ones((1, 50)), 3
    )
    # The basis is scaled to another range, so the two differ by the round-off of the regression.
    np.testing.assert_allclose(weighted, repeated, rtol=1e-7, atol=1e-9)


def test_the_interval_holds_the_percentiles_of_the_coefficients_of_resampled_runs():
    runs, n_resamples = sized(30, 0.5), 100
    counts = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), size=n_resamples)
    resamples = [runs.loc[np.repeat(runs.index, count), ["a", "b"]] for count in counts]
    result = correlations(runs, ["a", "b"], n_resamples=n_resamples, confidence=0.8, seed=3)
    for kind, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        expected = np.quantile(
            [function(resample["a"], resample["b"])[0] for resample in resamples], [0.1, 0.9]
        )
        np.testing.assert_allclose(
            entry(result, kind)[["lower", "upper"]].astype(float), expected, **TOLERANCE
        )


def test_variables_that_share_only_the_size_correlate_but_not_given_the_size():
    result = correlations(sized(400, 0.0), ["a", "b"], n_resamples=300)
    assert entry(result, "pearson")["upper"] < -0.9 and entry(result, "spearman")["upper"] < -0.9
    for kind in ("pearson given size", "spearman given size", "spearman within bands"):
        assert entry(result, kind)["lower"] < 0 < entry(result, kind)["upper"]


def test_a_direct_link_at_fixed_size_survives_in_every_kind_given_the_size():
    result = correlations(sized(400, 0.8), ["a", "b"], n_resamples=300)
    assert entry(result, "pearson")["upper"] < -0.7  # the size hides the sign of the link
    assert (
        entry(result, "pearson given size")["lower"]
        < 0.8
        < entry(result, "pearson given size")["upper"]
    )
    for kind in ("spearman given size", "spearman within bands"):
        assert entry(result, kind)["lower"] > 0.4


def test_the_bootstrap_interval_covers_the_correlation_of_a_bivariate_normal():
    generator, n_replicates, n_runs, rho = np.random.default_rng(2), 200, 100, 0.6
    a, b = generator.multivariate_normal(
        [0, 0], [[1, rho], [rho, 1]], (n_replicates, n_runs)
    ).transpose(2, 0, 1)
    groups = np.repeat(np.arange(n_replicates).astype(str), n_runs)
    runs = table(
        np.tile(np.arange(5, 5 + n_runs), n_replicates), group=groups, a=a.ravel(), b=b.ravel()
    )
    result = correlations(runs, ["a", "b"], n_resamples=200)
    part = result.query("x_variable == 'a' and y_variable == 'b'").set_index("kind")
    # Four standard deviations of a binomial fraction, and 0.02 for what a percentile interval is
    # known to lack: an error of order 1/n_runs = 0.01, and about 1/201 at each end because there
    # are 200 resamples.
    tolerance = 4 * np.sqrt(0.95 * 0.05 / n_replicates) + 0.02
    targets = {
        "pearson": rho,
        "spearman": 6 / np.pi * np.arcsin(rho / 2),
        "pearson given size": rho,
    }
    for kind, target in targets.items():
        covered = ((part.loc[kind, "lower"] <= target) & (target <= part.loc[kind, "upper"])).mean()
        assert abs(covered - 0.95) < tolerance, kind


def test_matrices_are_complete_symmetric_and_have_ones_on_the_diagonal():
    result = correlations(sized(60, 0.3), ["n_points", "a", "b"], n_resamples=20)
    assert len(result) == 9 * len(correlation.KINDS)
    for kind in correlation.KINDS:
        for column in ("coefficient", "lower", "upper"):
            values = matrix(result, kind, column).drop(index="n_points", columns="n_points")
            np.testing.assert_allclose(values, values.T, **TOLERANCE)
            np.testing.assert_array_equal(np.diag(values), 1)
    assert (result["lower"].fillna(-1) <= result["upper"].fillna(1)).all()
    assert list(result["x_variable"].unique()) == ["n_points", "a", "b"]


def test_the_size_has_no_correlation_given_the_size():
    result = correlations(sized(60, 0.3), ["n_points", "a", "b"], n_resamples=20)
    for kind in ("pearson given size", "spearman given size"):
        assert (
            matrix(result, kind)["n_points"].isna().all()
            and matrix(result, kind).notna().sum(axis=None) == 4
        )


@pytest.mark.parametrize("seed", range(4))  # the sign of a round-off is luck
def test_a_function_of_the_size_alone_has_no_correlation_given_the_size_rather_than_one_of_round_off(
    seed,
):
    runs = sized(60, 0.3, seed)
    powers = {f"power {k}": np.log(runs["n_points"]) ** k for k in (1, 2, 3)}
    result = matrix(
        correlations(runs.assign(**powers), ["a", *powers], n_resamples=20), "pearson given size"
    )
    assert result[list(powers)].isna().all(axis=None) and result.loc["a", "a"] == 1


def test_constant_variables_are_nan_and_those_without_values_are_left_out():
    result = correlations(
        sized(60, 0.3).assign(c=0.1, accuracy=np.nan), ["a", "c", "accuracy"], n_resamples=20
    )
    assert set(result["x_variable"]) == {"a", "c"}
    for kind in correlation.KINDS:
        assert matrix(result, kind)["c"].isna().all() and matrix(result, kind).loc["a", "a"] == 1


def test_only_finite_runs_that_did_not_diverge_enter_and_they_are_counted():
    runs = sized(40, 0.5)
    bad = sized(3, 0.0, 9).assign(a=[np.inf, np.nan, 1e9], diverged=[False, False, True])
    expected, result = (
        correlations(r, ["a", "b"], n_resamples=20) for r in (runs, pd.concat([runs, bad]))
    )
    pd.testing.assert_frame_equal(result, expected)
    assert (result["n_runs"] == 40).all()


def test_given_size_is_undefined_when_the_polynomial_leaves_too_few_degrees_of_freedom():
    for n_runs, defined in ((6, False), (7, True)):
        result = correlations(sized(n_runs, 0.5), ["a", "b"], n_resamples=20)
        assert np.isfinite(entry(result, "pearson given size")["coefficient"]) == defined
        assert np.isfinite(entry(result, "pearson")["coefficient"])


def test_fewer_distinct_sizes_than_coefficients_of_the_polynomial_are_no_obstacle():
    runs = sized(60, 0.5).assign(n_points=np.repeat([10, 20, 50], 20))
    means = runs.groupby("n_points")[["a", "b"]].transform("mean")
    expected = stats.pearsonr(runs["a"] - means["a"], runs["b"] - means["b"])[0]
    result = entry(correlations(runs, ["a", "b"], n_resamples=20), "pearson given size")
    np.testing.assert_allclose(result["coefficient"], expected, **TOLERANCE)


def test_intervals_depend_on_the_seed_but_not_on_other_groups_or_the_size_of_a_batch(monkeypatch):
    runs = sized(40, 0.5)
    alone = correlations(runs, ["a", "b"], n_resamples=50)
    together = correlations(
        pd.concat([sized(30, 0.1).assign(group="mnist"), runs]), ["a", "b"], n_resamples=50
    )
    pd.testing.assert_frame_equal(
        together[together["group"] == "fuel"].reset_index(drop=True), alone
    )
    other = correlations(runs, ["a", "b"], n_resamples=50, seed=1)
    assert (other["coefficient"] == alone["coefficient"]).all() and not (
        other["lower"] == alone["lower"]
    ).all()
    monkeypatch.setattr(correlation, "BATCH_ELEMENTS", 200)
    # Matrix products of another shape may sum in another order.
    pd.testing.assert_frame_equal(correlations(runs, ["a", "b"], n_resamples=50), alone, rtol=1e-9)


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


def test_too_few_runs_have_no_coefficient_and_say_how_many_they_are():
    runs = sized(7, 0.5).assign(diverged=[True, True, True, True, False, False, False])
    result = correlations(
        pd.concat([runs, sized(40, 0.5).assign(group="mnist")]), ["a", "b"], n_resamples=20
    )
    few = result[result["group"] == "fuel"]
    assert len(few) == 5 * 4 and (few["n_runs"] == 3).all() and few["coefficient"].isna().all()
    assert np.isfinite(
        result.loc[(result["group"] == "mnist") & (result["kind"] == "pearson"), "coefficient"]
    ).all()


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
