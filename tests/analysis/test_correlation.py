import numpy as np
import pandas as pd
import pytest
from run_tables import TOLERANCE, sized, table
from scipy import stats
from simulated_runs import residuals

from collective_variables.analysis import correlation
from collective_variables.analysis.correlation import correlations


def matrix(result, kind, column="coefficient"):
    part = result[result["kind"] == kind]
    return part.pivot(index="x_variable", columns="y_variable", values=column)


def entry(result, kind, x="a", y="b"):
    return result.set_index(["kind", "x_variable", "y_variable"]).loc[(kind, x, y)]


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
    rows = generator.integers(0, 50, 50)
    values, sizes = runs[["a", "b"]].to_numpy(), runs["n_points"].to_numpy(float)
    bands = np.digitize(sizes, [20, 80])
    counts = np.bincount(rows, minlength=50)[None].astype(float)
    weighted = correlation._all_kinds(values, sizes, bands, counts, 3)
    repeated = correlation._all_kinds(values[rows], sizes[rows], bands[rows], np.ones((1, 50)), 3)
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
def test_a_function_of_the_size_has_no_correlation_given_the_size_not_one_of_round_off(
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
    single = correlations(runs, ["a", "b"], n_resamples=50)
    together = correlations(
        pd.concat([sized(30, 0.1).assign(group="mnist"), runs]), ["a", "b"], n_resamples=50
    )
    pd.testing.assert_frame_equal(
        together[together["group"] == "fuel"].reset_index(drop=True), single
    )
    other = correlations(runs, ["a", "b"], n_resamples=50, seed=1)
    assert (other["coefficient"] == single["coefficient"]).all() and not (
        other["lower"] == single["lower"]
    ).all()
    monkeypatch.setattr(correlation, "BATCH_ELEMENTS", 200)
    # Matrix products of another shape may sum in another order.
    pd.testing.assert_frame_equal(correlations(runs, ["a", "b"], n_resamples=50), single, rtol=1e-9)


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
