"""Make tables on the experiments of Tovey et al. 2023 (P1) that P1 does not have."""

import numpy as np
import pandas as pd

from collective_variables.analysis import learning_curves, permutation, prediction, statistics
from collective_variables.papers import labels
from collective_variables.papers.report import Table

KEYS = ["group", "parametrisation"]
CURVES = [
    *KEYS,
    "method",
    "variable",
    "relative_difference",
    "lower",
    "upper",
    "p_value_flips",
    "n_lower",
    "n_undecided",
    "n_higher",
    "win_rate",
]
CURVES_CAPTION = (
    "Losses of each method relative to those of random subsets of the same members: geometric "
    "means over the subset sizes with intervals. p is from sign flips of whole members. The counts "
    "are the numbers of sizes at which the loss is lower, undecided and higher."
)
EQUIVALENTS = [
    *KEYS,
    "method",
    "n_points",
    "n_equivalent",
    "ratio",
    "lower",
    "upper",
]
EQUIVALENTS_CAPTION = (
    "The number of random points that give the same mean minimum test loss as the points of each "
    "method, and the ratio of the two numbers with its interval. ∞ means more points than were "
    "tried, 0 means fewer."
)
TESTS = [*KEYS, "kind", "variable", "coefficient", "p_value", "p_value_corrected", "n_runs"]
TESTS_CAPTION = (
    "Spearman's correlation of raw and of size-free variables with the minimum test loss, plain "
    "and given the subset size. p is from permutations. The corrected p accounts for all tests of "
    "this table."
)
PREDICTION = [
    *KEYS,
    "predictors",
    "r_squared",
    "r_squared_lower",
    "r_squared_upper",
    "gain",
    "gain_lower",
    "gain_upper",
]
PREDICTION_CAPTION = (
    "R² of predictions of the logarithm of the minimum test loss in held-out runs, from subset "
    "size, entropy and trace. The gain is over the R² of the size alone."
)
DECOMPOSITION = [*KEYS, "part", "variable", "value", "value_lower", "value_upper"]
DECOMPOSITION_CAPTION = (
    "The R² of all three predictors, divided. “unique” is explained by one variable alone, "
    "“shared” by two or more alike. “share” is the gain from one variable, averaged over the "
    "orders in which the three can enter."
)


def learning_curve_tables(
    runs: pd.DataFrame, n_resamples: int, n_permutations: int, *, confidence: float, seed: int
) -> list[Table]:
    """Compare each method with random subsets over all sizes, for groups with several sizes."""
    runs = runs[statistics.has_several_sizes(runs)]
    if runs.empty:
        return []
    keys, losses = [*KEYS, "method", "variable"], ["min_test_loss", "final_test_loss"]
    areas = learning_curves.areas(
        runs, losses, confidence=confidence, n_resamples=n_permutations, seed=seed
    )
    areas[["lower", "upper"]] = np.expm1(areas[["lower", "upper"]])
    sizes = learning_curves.verdicts(
        learning_curves.effects(runs, losses, confidence=confidence), confidence=confidence
    )
    differences = statistics.paired_differences(runs, losses, confidence=confidence)
    rates = differences.groupby(keys)["win_rate"].mean().reset_index()
    curves = areas.merge(sizes, on=[*keys, "n_sizes"]).merge(rates, on=keys)
    equivalents = learning_curves.equivalents(
        runs, confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    worth = "How many random points a chosen point is worth"
    return [
        Table("curves", "Whole learning curves", CURVES_CAPTION, in_words(curves[CURVES])),
        Table("equivalents", worth, EQUIVALENTS_CAPTION, in_words(equivalents[EQUIVALENTS])),
    ]


def beyond_size_tables(
    runs: pd.DataFrame, n_permutations: int, degree: int, *, confidence: float, seed: int
) -> list[Table]:
    """Tabulate how much entropy and trace explain of the loss beyond the size and each other."""
    tests = permutation.permutation_tests(
        runs, n_permutations=n_permutations, seed=seed, degree=degree
    )
    predicted = prediction.prediction(runs, confidence=confidence, seed=seed)
    parts = prediction.decomposition(runs, confidence=confidence, seed=seed)
    return [
        Table(
            "beyond-size",
            "Collective variables beyond the subset size",
            TESTS_CAPTION,
            in_words(tests[TESTS]),
        ),
        Table(
            "prediction",
            "Prediction of the test loss",
            PREDICTION_CAPTION,
            in_words(predicted[PREDICTION]),
        ),
        Table(
            "decomposition",
            "Subset size, entropy and trace separately",
            DECOMPOSITION_CAPTION,
            in_words(parts[DECOMPOSITION]),
        ),
    ]


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Spell out the names of the variables and methods of a table."""
    words = {
        name: table[name].str.replace("_", " ")
        for name in ("variable", "predictors")
        if name in table.columns
    }
    if "method" in table.columns:
        words["method"] = table["method"].map(labels.method_label)
    return table.assign(**words)
