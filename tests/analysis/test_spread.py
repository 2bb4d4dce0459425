import numpy as np
from scipy import stats
from simulated_runs import TOLERANCE, independent, is_rate, residuals, simulated, smooth, table
from sklearn.linear_model import Ridge

from collective_variables.analysis import correlation
from collective_variables.analysis.spread import SPREADS, spread


def spreads(runs, **options):
    return spread(runs, **({"n_resamples": 99, "n_permutations": 99} | options))


def summaries(runs, variable="entropy", **options):
    """The rows of the correlations of a variable, by scale and statistic."""
    result = spreads(runs, n_bins=1, **options).query("variable == @variable")
    return result[result["bin"].isna()].set_index(["scale", "statistic"]).sort_index()


def test_bins_have_equal_numbers_of_runs_and_the_spread_of_the_residuals_in_them():
    runs = simulated(63, shrink=0.3)
    result = spreads(runs, n_bins=4)
    scales = {"ln": np.log(runs["min_test_loss"]), "linear": runs["min_test_loss"]}
    assert len(result) == 2 * 2 * (4 * 2 + 2)
    for (variable, scale), part in result.groupby(["variable", "scale"]):
        features = smooth(runs, [variable], n_knots=3)
        around = scales[scale] - Ridge(0.01).fit(features, scales[scale]).predict(features)
        for number, bin in part.dropna(subset="bin").groupby("bin"):
            rows = bin.set_index("statistic")
            inside = around[runs[variable].between(rows["low"].iloc[0], rows["high"].iloc[0])]
            assert (rows["n_runs"] == len(inside)).all() and len(inside) == (
                15 if number == 3 else 16
            )
            expected = {
                "standard deviation": inside.std(),
                "interquartile range": stats.iqr(inside),
            }
            np.testing.assert_allclose(
                rows["value"], [expected[name] for name in rows.index], **TOLERANCE
            )


def test_the_interval_of_a_spread_is_that_of_normal_residuals():
    generator, n_runs = np.random.default_rng(0), 1000
    entropy, loss = generator.uniform(1, 2, n_runs), np.exp(generator.normal(size=n_runs))
    runs = table(np.arange(5, 5 + n_runs), entropy=entropy, trace=entropy, loss=loss)
    rows = (
        spreads(runs, n_bins=1, n_resamples=1000)
        .query("variable == 'entropy' and scale == 'ln'")
        .set_index("statistic")
    )
    ratio = rows[["lower", "upper"]].div(rows["value"], axis=0)
    exact = np.sqrt((n_runs - 1) / stats.chi2(n_runs - 1).ppf([0.975, 0.025]))
    # For the range of quartiles its asymptotic standard error, 1.166 / sqrt(n) of it. Ends of a
    # percentile interval from 1000 resamples have standard errors of 0.08 of a standard error each.
    asymptotic = 1 + 1.96 * 1.166 / np.sqrt(n_runs) * np.array([-1, 1])
    np.testing.assert_allclose(
        ratio.loc["standard deviation"], exact, atol=4 * 0.08 * (exact[1] - exact[0]) / 3.92
    )
    np.testing.assert_allclose(
        ratio.loc["interquartile range"], asymptotic, atol=0.4 * 1.166 / np.sqrt(n_runs)
    )


def test_correlations_of_the_residuals_and_their_intervals_are_those_of_statistics():
    runs = simulated(150, shrink=0.4)
    y = np.log(runs["min_test_loss"])
    for kind, names in (
        ("spearman", ["entropy"]),
        ("spearman given size", ["n_points", "entropy"]),
    ):
        features = smooth(runs, names, n_knots=3)
        runs["residual"] = abs(y - Ridge(0.01).fit(features, y).predict(features))
        reference = correlation.correlations(runs, ["entropy", "residual"], n_resamples=1000)
        reference = reference.set_index(["kind", "x_variable", "y_variable"]).loc[
            (kind, "entropy", "residual")
        ]
        row = summaries(runs, n_resamples=1000).loc["ln", kind]
        np.testing.assert_allclose(row["value"], reference["coefficient"], **TOLERANCE)
        # Other resamples: their standard error is about 1 / sqrt(150) = 0.08, the ends of the
        # interval have 0.08 of it.
        bounds = row[["lower", "upper"]].astype(float), reference[["lower", "upper"]].astype(float)
        np.testing.assert_allclose(*bounds, atol=4 * np.sqrt(2) * 0.08 * 0.08)


def test_a_constant_relative_spread_does_not_change_but_falls_with_the_loss_on_the_linear_scale():
    generator, n_groups = np.random.default_rng(0), 50
    entropy = generator.uniform(1, 4, 60 * n_groups)
    loss = np.exp(-entropy + 0.3 * generator.normal(size=entropy.size))
    n_points = generator.integers(5, 100, entropy.size)
    result = summaries(
        table(n_points, entropy=entropy, trace=np.exp(entropy), loss=loss, n_groups=n_groups)
    )
    for kind in ("spearman", "spearman given size"):
        assert is_rate(result.loc["ln", kind]["p_value"] <= 0.05, 0.05), kind
        misses = (result.loc["ln", kind]["lower"] > 0) | (result.loc["ln", kind]["upper"] < 0)
        assert misses.mean() < 0.05 + 0.03 + 4 * np.sqrt(0.05 * 0.95 / n_groups), (
            kind
        )  # 0.03 for a bootstrap of 60 runs
    assert (result.loc["linear", "spearman"]["upper"] < 0).mean() > 0.9


def test_a_spread_that_shrinks_is_found_in_the_correlation_and_in_the_bins():
    generator = np.random.default_rng(0)
    trace = np.exp(generator.uniform(0, 4, 400))
    loss = np.exp(-0.5 * np.log(trace) + trace**-0.4 * generator.normal(size=400))
    runs = table(
        generator.integers(5, 100, 400), entropy=generator.uniform(size=400), trace=trace, loss=loss
    )
    result = spreads(runs).query("scale == 'ln'").set_index(["variable", "statistic"])
    for kind in ("spearman", "spearman given size"):
        assert (
            result.loc[("trace", kind), "upper"] < -0.3
            and result.loc[("trace", kind), "p_value"] == 1 / 100
        )
        assert result.loc[("entropy", kind), "p_value"] > 0.01
    for statistic in SPREADS:
        bins = result.loc[("trace", statistic)].sort_values("bin")
        assert (np.diff(bins["value"]) < 0).all() and bins["upper"].iloc[-1] < bins["lower"].iloc[0]


def test_a_spread_that_the_size_alone_changes_is_not_found_given_the_size():
    result = summaries(simulated(60, 40))
    assert (result.loc["ln", "spearman"]["p_value"] <= 0.05).mean() > 0.9
    assert is_rate(result.loc["ln", "spearman given size"]["p_value"] <= 0.05, 0.05)


def test_a_spread_that_changes_beyond_the_size_is_found_given_the_size():
    rows = summaries(simulated(200, 15, shrink=0.5)).loc["ln", "spearman given size"]
    assert (rows["p_value"] <= 0.05).mean() > 0.9 and (rows["upper"] < 0).mean() > 0.9


def test_a_mean_that_depends_on_the_variable_given_the_size_is_not_taken_for_spread():
    runs = simulated(100, 40, link=-2.0, skewed=True)
    assert is_rate(summaries(runs).loc["ln", "spearman given size"]["p_value"] <= 0.05, 0.05)

    def significant(part):  # residuals from a function of the size only
        features, y = smooth(part, ["n_points"], n_knots=3), np.log(part["min_test_loss"])
        y, size = (
            abs(y - Ridge(0.01).fit(features, y).predict(features)),
            stats.rankdata(part["n_points"]) / 100,
        )
        x, y = (residuals(size, stats.rankdata(values), 3) for values in (part["entropy"], y))
        return stats.pearsonr(x, y)[1] < 0.05

    assert np.mean([significant(part) for _, part in runs.groupby("group")]) > 0.5


def test_a_spread_needs_forty_runs():
    for n_runs, defined in ((39, False), (40, True)):
        runs = simulated(60)[:n_runs].assign(group="0")
        assert summaries(runs)["value"].notna().all() == defined


def test_an_outcome_that_is_always_the_same_has_no_change_of_spread():
    runs = simulated(60).assign(min_test_loss=0.1)
    assert summaries(runs)[["value", "lower", "p_value"]].isna().all(axis=None)


def test_one_size_has_a_change_of_spread():
    runs = independent(100, np.array([0, 1.0, 0]), noise=0.1).assign(n_points=20)
    assert summaries(runs)["value"].notna().all()
