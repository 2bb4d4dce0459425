"""Measure how well subset size, entropy and trace predict the loss, together and separately.

Source: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of
Neural Networks: Data" (P1), which says that "it is not clear thus-far how best to disentangle their
individual roles".

Tables of runs, and the runs that enter, are as in `permutation`.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from collective_variables import _checks
from collective_variables.analysis import _regression, statistics
from collective_variables.analysis._regression import VARIABLES

PREDICTORS = (
    ("n_points",),
    ("n_points", "entropy"),
    ("n_points", "trace"),
    ("n_points", "entropy", "trace"),
    ("entropy",),
    ("trace",),
    ("entropy", "trace"),
)


def prediction(
    runs: pd.DataFrame,
    outcome: str = "min_test_loss",
    *,
    n_folds: int = 10,
    n_repeats: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict ln(outcome) of held-out runs from size, entropy, trace and their combinations.

    The logarithm is taken because a loss is positive and spans decades: its noise is relative, and
    on a linear scale the few smallest subsets would decide.

    There is one model for all sets of predictors: a sum of cubic splines of ln n, S and ln Tr.
    Knots lie at the quantiles of all runs, as many as the fourth root of their number (at least 3),
    and the ridge penalty is too small to smooth. A product of powers is such a sum; other
    interactions are not. All sets share the folds, which are drawn anew in each repeat. R² is
    1 - mean squared error / that of the mean of the other folds.

    The interval is Student's t of the folds, with the variance increased for the runs that they
    share (Nadeau, Bengio 2003) and R² linearised in its two errors. Useless predictors have a gain
    slightly below 0, the price of their coefficients. So if nothing goes beyond the size,
    gain_lower > 0 is rarer than the confidence says.

    Args:
        runs: One row per trained network.
        outcome: Column to predict.
        n_folds: Number of folds.
        n_repeats: How often the folds are drawn.
        confidence: Confidence of the intervals.
        seed: Seed of the folds.

    Returns:
        Rows: group, parametrisation, predictors. Columns: r_squared; gain, R² less that of n_points
        alone; `_lower` and `_upper` of both; n_runs.
    """
    labels = {"predictors": [" + ".join(predictors) for predictors in PREDICTORS]}
    contrast = np.eye(len(PREDICTORS))
    contrasts = {"r_squared": contrast, "gain": contrast - contrast[0]}
    return _cross_validated(runs, outcome, labels, contrasts, n_folds, n_repeats, confidence, seed)


def decomposition(
    runs: pd.DataFrame,
    outcome: str = "min_test_loss",
    *,
    n_folds: int = 10,
    n_repeats: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Divide the R² of ln(outcome) from size, entropy and trace among the three.

    R² is that of `prediction`, with the same models, folds and intervals, and is 0 without any
    predictor. The parts:

    - unique: R² of all three less R² of the other two, which is what one variable alone explains
      (Mood 1971).
    - shared: R² of all three less the unique parts, which is what two or more explain alike. It is
      negative if they explain the outcome only together.
    - share: the gain by a variable, averaged over the orders in which the three can enter
      (Lindeman, Merenda, Gold 1980; Shapley's value). The shares add up to R²: they divide the
      shared part, whichever variable causes it.
    - explained: R² of all three.

    R² is that of held-out runs, because within the sample no part can be negative: useless
    variables get a part, and a larger one in resamples, in which runs repeat.

    Args:
        runs: One row per trained network.
        outcome: Column to predict.
        n_folds: Number of folds.
        n_repeats: How often the folds are drawn.
        confidence: Confidence of the intervals.
        seed: Seed of the folds.

    Returns:
        Rows: group, parametrisation, part, variable ("all" for shared and explained). Columns:
        value, value_lower and value_upper, as fractions of the variance of ln(outcome); n_runs.
    """
    # The weights of the R² of PREDICTORS in the sum that is one set's R².
    weights = dict(zip(PREDICTORS, np.eye(len(PREDICTORS))))
    explained = weights[VARIABLES]
    unique = [
        explained - weights[tuple(other for other in VARIABLES if other != variable)]
        for variable in VARIABLES
    ]
    share = [
        [_share_weight(variable, predictors) for predictors in PREDICTORS] for variable in VARIABLES
    ]
    contrasts = {"value": np.array([*unique, explained - sum(unique), *share, explained])}
    labels = {
        "part": ["unique"] * 3 + ["shared"] + ["share"] * 3 + ["explained"],
        "variable": [*VARIABLES, "all"] * 2,
    }
    return _cross_validated(runs, outcome, labels, contrasts, n_folds, n_repeats, confidence, seed)


def _share_weight(variable: str, predictors: Sequence[str]) -> float:
    """Return the weight of the R² of `predictors` in the share of a variable."""
    # It counts the orders in which exactly these, less the variable, precede it.
    n_before = len(predictors) - (variable in predictors)
    weight = 1 / (len(VARIABLES) * math.comb(len(VARIABLES) - 1, n_before))
    return weight if variable in predictors else -weight


def _cross_validated(
    runs: pd.DataFrame,
    outcome: str,
    labels: dict[str, list[str]],
    contrasts: dict[str, np.ndarray],
    n_folds: int,
    n_repeats: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Return sums of the R² of PREDICTORS, with the weights `contrasts`, and their intervals."""
    n_folds = _checks.integer("n_folds", n_folds, minimum=2)
    n_repeats = _checks.integer("n_repeats", n_repeats, minimum=1)
    tail, n_errors, tables = statistics.tail_probability(confidence), n_folds * n_repeats, []
    for key, part, predictors in _regression.logarithmic_runs(runs, outcome):
        y = np.log(part[outcome].to_numpy())
        errors = _fold_errors(predictors, y, n_folds, n_repeats, seed)
        mean_error, *model_errors = errors.mean(axis=0)
        r_squared = 1 - np.array(model_errors) / mean_error
        # How far each fold moves R², to first order in its errors.
        shifts = ((1 - r_squared) * errors[:, :1] - errors[:, 1:]) / mean_error
        columns = {}
        for name, contrast in contrasts.items():
            variance = (shifts @ contrast.T).var(axis=0, ddof=1)
            variance = variance * (1 / n_errors + 1 / (n_folds - 1))
            value = contrast @ r_squared
            margin = stats.t.isf(tail, n_errors - 1) * np.sqrt(variance)
            # A single R² is at most 1; sums of several have no such limit.
            most = np.where(np.abs(contrast).sum(axis=1) == contrast.max(axis=1), 1.0, np.inf)
            lower, upper = statistics.within(value - margin, value + margin, (-np.inf, most))
            columns |= {name: value, f"{name}_lower": lower, f"{name}_upper": upper}
        tables.append(statistics.block(key, labels | columns | {"n_runs": len(y)}))
    return pd.concat(tables, ignore_index=True)


def _fold_errors(
    predictors: pd.DataFrame, y: np.ndarray, n_folds: int, n_repeats: int, seed: int
) -> np.ndarray:
    """Return the mean squared errors of each fold [folds errors], as `_errors` orders them.

    They are NaN for too few runs or a constant y.
    """
    functions = _regression.splines(predictors)
    if not functions or len(y) < n_folds or np.ptp(y) == 0:
        return np.full((n_folds * n_repeats, 1 + len(PREDICTORS)), np.nan)
    table = np.column_stack([np.ones(len(y)), *functions.values(), y])
    generator = np.random.default_rng(seed)
    repeats = (generator.permutation(np.arange(len(y)) % n_folds) for _ in range(n_repeats))
    folds = (table[repeat == fold] for repeat in repeats for fold in range(n_folds))
    products = table.T @ table
    return np.array([_errors(products, fold.T @ fold) for fold in folds])


def _errors(products: np.ndarray, held_out: np.ndarray) -> list[float]:
    """Return the mean squared errors of the mean and of PREDICTORS in one fold.

    `products` and `held_out` are X'X of all runs and of the fold's. The columns of X are a
    constant, the splines of VARIABLES and ln(outcome).
    """
    train = products - held_out
    mean = train[0] / train[0, 0]
    train -= np.outer(mean, train[0])
    variable_columns = dict(zip(VARIABLES, np.split(np.arange(1, len(mean) - 1), len(VARIABLES))))
    errors = []
    for predictors in ((), *PREDICTORS):
        columns = [column for variable in predictors for column in variable_columns[variable]]
        residual = np.zeros(len(mean))  # as a sum of the columns
        residual[-1], residual[columns] = 1, -_regression.ridge(train, columns)
        residual[0] = -residual @ mean
        errors.append(residual @ held_out @ residual / held_out[0, 0])
    return errors
