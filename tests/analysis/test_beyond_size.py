"""What permutation tests, prediction, decomposition and spread have in common."""

import numpy as np
import pandas as pd
import pytest
from simulated_runs import simulated

from collective_variables.analysis import correlation
from collective_variables.analysis.permutation import permutation_tests
from collective_variables.analysis.prediction import decomposition, prediction
from collective_variables.analysis.spread import spread

FUNCTIONS = {
    permutation_tests: {"n_permutations": 199},
    prediction: {"n_repeats": 1},
    decomposition: {"n_repeats": 1},
    spread: {"n_resamples": 19, "n_permutations": 19},
}
EVERY = pytest.mark.parametrize("function", FUNCTIONS)


def complete(**options):
    """Runs with all variables that are tested."""
    runs = simulated(60, **options)
    return runs.assign(
        effective_entropy=0.5 + 0.1 * runs["entropy"],
        trace_per_point=1.0,
        largest_eigenvalue_fraction=0.5,
    )


@EVERY
def test_blocks_do_not_depend_on_other_groups_and_repeat_with_the_seed(function):
    runs, options = complete(), FUNCTIONS[function]
    single = function(runs, **options).drop(columns="p_value_corrected", errors="ignore")
    both = pd.concat(
        [complete(seed=1).assign(group="other"), runs, runs.assign(parametrisation="lecun")]
    )
    together = function(both, **options).drop(columns="p_value_corrected", errors="ignore")
    part = together[(together["group"] == "0") & (together["parametrisation"] == "ntk")]
    pd.testing.assert_frame_equal(part.reset_index(drop=True), single)
    assert len(together) == 3 * len(single)
    other = function(runs, seed=1, **options).drop(columns="p_value_corrected", errors="ignore")
    assert not other.equals(single)


@pytest.mark.parametrize("function", [permutation_tests, spread])
def test_results_do_not_depend_on_the_size_of_a_batch(function, monkeypatch):
    runs = complete()
    expected = function(runs)
    monkeypatch.setattr(correlation, "BATCH_ELEMENTS", 10_000)
    pd.testing.assert_frame_equal(function(runs), expected, rtol=1e-9)


@EVERY
def test_runs_that_diverged_or_lack_a_value_do_not_enter(function):
    runs = complete()
    bad = complete(seed=1)[:3].assign(
        diverged=[True, False, False], entropy=[1, np.nan, 1], trace=[1, 1, np.inf]
    )
    result = function(pd.concat([runs, bad]), **FUNCTIONS[function])
    pd.testing.assert_frame_equal(result, function(runs, **FUNCTIONS[function]))
    assert result["n_runs"].max() == 60


@EVERY
@pytest.mark.parametrize("n_runs", [0, 1, 3])
def test_too_few_runs_are_nan_and_leave_the_other_groups_alone(function, n_runs):
    few = complete().assign(group="few", diverged=np.arange(60) >= n_runs)
    result = function(pd.concat([few, complete()]), **FUNCTIONS[function])
    blocks = {
        group: part.drop(columns=["group", "parametrisation"])
        for group, part in result.groupby("group")
    }
    assert len(blocks["few"]) == len(blocks["0"]) and (blocks["few"]["n_runs"] <= n_runs).all()
    numbers = blocks["few"].select_dtypes("float").drop(columns=["low", "high"], errors="ignore")
    assert numbers.isna().all(axis=None)
    assert blocks["0"].select_dtypes("float").notna().any(axis=None)


@EVERY
def test_a_missing_column_and_an_empty_table_are_one_error_that_names_them(function):
    runs = complete()
    with pytest.raises(
        ValueError, match=r"^runs must have the columns member, entropy: received group, .*\.$"
    ):
        function(runs.drop(columns=["member", "entropy"]))
    with pytest.raises(
        ValueError, match=r"^runs must have at least one row: received an empty table\.$"
    ):
        function(runs.iloc[:0])
    with pytest.raises(ValueError, match=r"^runs must have the columns accuracy: received"):
        function(runs, outcome="accuracy")


def test_arguments_out_of_range_are_errors():
    runs = complete()
    with pytest.raises(ValueError, match=r"^n_permutations must be at least 1: received 0\.$"):
        permutation_tests(runs, n_permutations=0)
    with pytest.raises(ValueError, match=r"^degree must be at least 1: received 0\.$"):
        permutation_tests(runs, degree=0)
    with pytest.raises(
        ValueError,
        match=r"^variables and outcome must not repeat an entry: received \['trace', 'trace'\]",
    ):
        permutation_tests(runs, ["trace"], "trace")
    for function in (prediction, decomposition):
        with pytest.raises(ValueError, match=r"^n_folds must be at least 2: received 1\.$"):
            function(runs, n_folds=1)
        with pytest.raises(TypeError, match=r"^n_repeats must be an integer: received 1\.0\.$"):
            function(runs, n_repeats=1.0)
        with pytest.raises(
            ValueError,
            match=r"^predictors and outcome must not repeat an entry: received .*'trace'\]\.$",
        ):
            function(runs, "trace")
    for name in ("n_bins", "n_resamples", "n_permutations", "degree"):
        with pytest.raises(ValueError, match=rf"^{name} must be at least 1: received 0\.$"):
            spread(runs, **{name: 0})
    for function in (prediction, decomposition, spread):
        with pytest.raises(ValueError, match=r"^confidence must be less than 1: received 95\.$"):
            function(runs, confidence=95)


def test_what_has_no_logarithm_is_an_error_that_counts_it():
    runs = complete()
    runs.loc[[1, 2], "min_test_loss"] = [0.0, -0.5]
    message = (
        r"^min_test_loss must be positive, .* logarithm is taken: "
        r"2 of 60 runs have 0 or less, the lowest -0\.5\.$"
    )
    for function in (prediction, decomposition, spread):
        with pytest.raises(ValueError, match=message):
            function(runs)
