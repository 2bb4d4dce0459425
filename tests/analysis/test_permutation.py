from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_runs import TOLERANCE, independent, is_rate, residuals, simulated

from collective_variables.analysis import correlation
from collective_variables.analysis.permutation import permutation_tests


def p_values(runs, variables=("entropy", "trace"), **options):
    result = permutation_tests(runs, variables, **({"n_permutations": 199} | options))
    return {kind: part.set_index("variable") for kind, part in result.groupby("kind")}


@pytest.mark.parametrize("few_sizes", [False, True])
def test_coefficients_are_spearmans_and_those_of_statistics_given_the_size(few_sizes):
    runs = simulated(80, link=0.5, few_sizes=few_sizes).assign(
        trace=lambda table: table["trace"].round(-1)
    )  # ties
    if few_sizes:
        runs["n_points"] = runs["n_points"].clip(
            10, 40
        )  # 3 sizes, fewer than the polynomial has coefficients
    result = p_values(runs, n_permutations=1)
    reference = correlation.correlations(runs, ["entropy", "trace", "min_test_loss"], n_resamples=1)
    reference = reference[reference["y_variable"] == "min_test_loss"].set_index(
        ["kind", "x_variable"]
    )["coefficient"]
    for variable in ("entropy", "trace"):
        expected = stats.spearmanr(runs[variable], runs["min_test_loss"])[0]
        np.testing.assert_allclose(
            result["spearman"]["coefficient"][variable], expected, **TOLERANCE
        )
        coefficient = result["spearman given size"]["coefficient"][variable]
        expected = reference["spearman given size", variable]
        np.testing.assert_allclose(coefficient, expected, **TOLERANCE)


def test_the_plain_p_value_is_that_of_all_permutations():
    runs, n_permutations = independent(6, np.array([0, -0.3, 0.1]), 0.5), 20_000
    result = p_values(runs, n_permutations=n_permutations)["spearman"]
    y = stats.rankdata(runs["min_test_loss"])
    for variable in ("entropy", "trace"):
        x = stats.rankdata(runs[variable])
        coefficients = np.array([np.corrcoef(x, order)[0, 1] for order in permutations(y)])
        expected = np.mean(
            abs(coefficients) >= abs(coefficients[0]) - 1e-9
        )  # the first permutation changes nothing
        assert 0.1 < expected < 0.9
        assert abs(result["p_value"][variable] - expected) < 4 * np.sqrt(
            expected * (1 - expected) / n_permutations
        )


@pytest.mark.parametrize("n_runs, few_sizes", [(60, False), (60, True), (9, False)])
def test_the_p_value_given_size_is_that_of_a_loop_over_permutations_within_bands(n_runs, few_sizes):
    runs, n_permutations = simulated(n_runs, link=-0.15, few_sizes=few_sizes), 3000
    size, x, y = (
        stats.rankdata(runs[name]) / n_runs for name in ("n_points", "entropy", "min_test_loss")
    )
    x, y = residuals(size, x, 3), residuals(size, y, 3)
    # Bands of RUNS_PER_BAND = 10 runs, or the sizes themselves, if these are no more than the
    # bands.
    band = (
        runs["n_points"]
        if few_sizes
        else pd.qcut(runs["n_points"], max(1, n_runs // 10), labels=False)
    )
    permuted, generator = np.tile(y, (n_permutations, 1)), np.random.default_rng(0)
    for row in permuted:
        for inside in (np.flatnonzero(band == value) for value in np.unique(band)):
            row[inside] = y[generator.permutation(inside)]
    coefficients = stats.pearsonr(x[:, None], residuals(size, permuted.T, 3)).statistic
    expected = np.mean(abs(coefficients) >= abs(stats.pearsonr(x, y).statistic) - 1e-9)
    p_value = p_values(runs, n_permutations=n_permutations)["spearman given size"]["p_value"][
        "entropy"
    ]
    assert 0.01 < expected < 0.9
    assert abs(p_value - expected) < 4 * np.sqrt(2 * expected * (1 - expected) / n_permutations)


def test_without_any_relation_plain_p_values_are_uniform():
    runs = simulated(30, 200)
    runs["min_test_loss"] = np.random.default_rng(1).lognormal(size=len(runs))
    p_value = p_values(runs)["spearman"]["p_value"]["entropy"]
    assert all(is_rate(p_value <= level, level) for level in (0.05, 0.2, 0.5, 0.8))


@pytest.mark.parametrize("options", [{}, {"grows": True}, {"grows": True, "few_sizes": True}])
def test_without_a_relation_beyond_size_p_values_given_size_are_uniform_whatever_the_noise(
    options,
):
    result = p_values(simulated(60, 150, **options))
    assert (result["spearman"]["p_value"] < 0.05).mean() > 0.95  # through the size
    for variable in ("entropy", "trace"):
        p_value = result["spearman given size"]["p_value"][variable]
        assert all(is_rate(p_value <= level, level) for level in (0.05, 0.2, 0.5, 0.8)), variable


def test_permuting_over_all_sizes_would_find_relations_where_there_are_none(monkeypatch):
    monkeypatch.setattr(correlation, "RUNS_PER_BAND", 60)
    p_value = p_values(simulated(60, 150, grows=True))["spearman given size"]["p_value"]["entropy"]
    assert (p_value <= 0.05).mean() > 0.05 + 4 * np.sqrt(0.05 * 0.95 / 150)


def test_a_relation_beyond_size_is_found_and_has_its_sign():
    result = p_values(simulated(60, 20, link=-1.0))["spearman given size"]
    assert (result["p_value"]["entropy"] <= 0.05).mean() > 0.9 and (
        result["coefficient"]["entropy"] < -0.3
    ).all()


def test_p_values_are_corrected_as_holm_says_over_the_whole_table():
    result = permutation_tests(
        simulated(40, 2, link=-1.0), ["entropy", "trace", "member"], n_permutations=99
    )
    p_value, corrected = result["p_value"], result["p_value_corrected"]
    expected = [
        min(1, max(q * (p_value >= q).sum() for q in p_value[p_value <= p])) for p in p_value
    ]
    assert len(result) == 12 and (corrected > p_value).all()
    np.testing.assert_allclose(corrected, expected)


def test_what_the_size_explains_in_full_and_what_has_no_values_or_one_has_no_p_value():
    runs = simulated(40).assign(
        square=lambda table: table["n_points"] ** 2, same=1.0, accuracy=np.nan
    )
    result = p_values(runs, ["n_points", "square", "same", "accuracy"])
    plain, given_size = (
        result[kind][["coefficient", "p_value"]].notna().all(axis=1) for kind in result
    )
    assert plain.tolist() == [True, True, False, False] and not given_size.any()
    assert result["spearman"]["n_runs"].tolist() == [40, 40, 40, 0]
    unmeasured = permutation_tests(runs, ["entropy"], "accuracy", n_permutations=9)
    assert (
        unmeasured[["p_value", "p_value_corrected"]].isna().all(axis=None)
        and (unmeasured["n_runs"] == 0).all()
    )
