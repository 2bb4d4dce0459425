"""Measure how the spread of the loss changes with entropy and trace.

Source: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of
Neural Networks: Data" (P1), which says that the loss spreads less where entropy and trace are large
(its constraint effect).

Tables of runs, and the runs that enter, are as in `permutation`.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from collective_variables import _checks
from collective_variables.analysis import (
    _regression,
    _weighted,
    correlation,
    permutation,
    statistics,
)

SPREADS = ("standard deviation", "interquartile range")
COLUMNS = ["statistic", "bin", "low", "high", "n_runs", "value", "lower", "upper", "p_value"]


def spread(
    runs: pd.DataFrame,
    outcome: str = "min_test_loss",
    *,
    n_bins: int = 5,
    n_resamples: int = 1000,
    n_permutations: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    degree: int = 3,
) -> pd.DataFrame:
    """Measure how the spread of the outcome changes with entropy and with trace.

    The spread is that of residuals: the outcome less a smooth function (that of
    `prediction.prediction`) of S or ln Tr, so that a trend, or its slope inside a bin, does not
    count as spread. The scale "ln" has the relative spread. On "linear", the outcome itself, spread
    falls trivially wherever the mean loss falls, so a decrease on this scale only means nothing.

    The statistics:

    - standard deviation, interquartile range: of the residuals in each of n_bins bins with equal
      numbers of runs.
    - spearman: correlation of the variable with |residual|, negative where the spread shrinks.
    - spearman given size: the same given the size, as in `permutation.permutation_tests`, with
      residuals from a smooth function of ln n plus one of the variable. After ln n alone, a mean
      that depends on the variable would count as spread. So does a mean that is not such a sum, as
      on "linear" if the loss is a product of the two.

    With fewer than 40 runs in a bin the interval of the standard deviation is too short (12 runs:
    81 % instead of 95 %).

    Args:
        runs: One row per trained network.
        outcome: Column whose spread is measured.
        n_bins: Number of bins.
        n_resamples: Number of resamples of the bootstrap.
        n_permutations: Number of permutations.
        confidence: Confidence of the intervals.
        seed: Seed of resamples and permutations.
        degree: Degree of the polynomial in the rank of n.

    Returns:
        Rows: group, parametrisation, variable, scale, statistic, bin (from 0; missing for the
        correlations). Columns: low and high, the ends of a bin in the variable; n_runs; value;
        lower and upper, by the percentile bootstrap over runs with fixed residuals; p_value of
        the correlations.
    """
    n_bins = _checks.integer("n_bins", n_bins, minimum=1)
    n_resamples = _checks.integer("n_resamples", n_resamples, minimum=1)
    n_permutations = _checks.integer("n_permutations", n_permutations, minimum=1)
    degree = _checks.integer("degree", degree, minimum=1)
    tail = statistics.tail_probability(confidence)
    quantiles = [tail, 1 - tail]
    tables = []
    for key, part, predictors in _regression.logarithmic_runs(runs, outcome):
        scales = {"ln": np.log(part[outcome].to_numpy()), "linear": part[outcome].to_numpy()}
        functions = _regression.splines(predictors)
        for variable, (scale, y) in product(("entropy", "trace"), scales.items()):
            x = part[variable].to_numpy()
            sizes = part["n_points"].to_numpy()
            generator = np.random.default_rng(seed)
            from_variable, from_both = (
                _residuals(functions, names, y) for names in ([variable], ["n_points", variable])
            )
            rows = _binned(x, from_variable, n_bins, n_resamples, quantiles, generator)
            for statistic, residuals, power in (
                ("spearman", from_variable, 0),
                ("spearman given size", from_both, degree),
            ):
                pair = x[:, None], np.abs(residuals)[:, None], sizes, power
                row = _correlation(pair, n_permutations, n_resamples, quantiles, generator)
                rows.append({"statistic": statistic, "n_runs": len(x)} | row)
            table = pd.DataFrame(rows, columns=COLUMNS).astype({"bin": "Int64"})
            tables.append(statistics.block(key, {"variable": variable, "scale": scale, **table}))
    return pd.concat(tables, ignore_index=True)


def _residuals(functions: dict[str, np.ndarray], names: Sequence[str], y: np.ndarray) -> np.ndarray:
    """Return y [runs] less the sum of smooth functions of the predictors `names`.

    The result is NaN for too few runs or a constant y.
    """
    if not functions or np.ptp(y) == 0:
        return np.full(len(y), np.nan)
    table = np.column_stack([*(functions[name] for name in names), y])
    table -= table.mean(axis=0)
    coefficients = _regression.ridge(table.T @ table, range(table.shape[1] - 1))
    return table[:, -1] - table[:, :-1] @ coefficients


def _binned(
    x: np.ndarray,
    residuals: np.ndarray,
    n_bins: int,
    n_resamples: int,
    quantiles: Sequence[float],
    generator: np.random.Generator,
) -> list[dict]:
    """Return rows of `spread`: SPREADS of the residuals [runs] in bins of x [runs]."""
    rows = []
    for number, inside in enumerate(np.array_split(np.argsort(x, kind="stable"), n_bins)):
        n = len(inside)
        row = {"bin": number, "n_runs": n}
        if n < correlation.MIN_RUNS:
            rows += [row | {"statistic": statistic} for statistic in SPREADS]
            continue
        row |= {"low": x[inside[0]], "high": x[inside[-1]]}
        resamples = (
            residuals[generator.choice(inside, (n_batch, n))]
            for n_batch in permutation.batches(n_resamples, n)
        )
        samples = np.concatenate([_spreads(batch) for batch in resamples], axis=-1)
        intervals = zip(*np.quantile(samples, quantiles, axis=-1))
        for statistic, value, (lower, upper) in zip(
            SPREADS, _spreads(residuals[inside]), intervals
        ):
            rows.append(
                row | {"statistic": statistic, "value": value, "lower": lower, "upper": upper}
            )
    return rows


def _spreads(values: np.ndarray) -> np.ndarray:
    """Return SPREADS [2 ...] of values [... runs]."""
    return np.stack(
        [values.std(axis=-1, ddof=1), np.subtract(*np.quantile(values, [0.75, 0.25], axis=-1))]
    )


Pair = tuple[np.ndarray, np.ndarray, np.ndarray, int]  # x and y [runs 1], sizes [runs], degree


def _correlation(
    pair: Pair,
    n_permutations: int,
    n_resamples: int,
    quantiles: Sequence[float],
    generator: np.random.Generator,
) -> dict[str, float]:
    """Return the coefficient of `permutation.association`, its p-value and its interval."""
    (value,), (p_value,) = permutation.association(*pair, n_permutations, generator)
    lower, upper = np.nan, np.nan
    if np.isfinite(value):
        lower, upper = _interval(*pair, n_resamples, quantiles, generator)
    return {"value": value, "lower": lower, "upper": upper, "p_value": p_value}


def _interval(
    x: np.ndarray,
    y: np.ndarray,
    sizes: np.ndarray,
    degree: int,
    n_resamples: int,
    quantiles: Sequence[float],
    generator: np.random.Generator,
) -> np.ndarray:
    """Return quantiles of the coefficient of x and y [runs 1] in resamples of the runs."""
    table, samples = np.hstack([x, y]), []
    for n_batch in permutation.batches(n_resamples, table.size):
        weights = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=n_batch).astype(
            float
        )
        basis = _weighted.polynomial(_weighted.ranks(sizes[:, None], weights)[..., 0], degree)
        samples.append(
            _weighted.correlations(_weighted.ranks(table, weights), basis, weights)[:, 0, 1]
        )
    return np.quantile(np.concatenate(samples), quantiles)
