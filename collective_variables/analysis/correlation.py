"""Correlate the variables of runs, plain and given the subset size."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from collective_variables import _checks
from collective_variables.analysis import _weighted, statistics

CORRELATED = (
    "n_points",
    "entropy",
    "trace",
    *statistics.SIZE_FREE,
    *statistics.LOSSES,
    *statistics.ACCURACIES,
)
KINDS = (
    "pearson",
    "spearman",
    "pearson given size",
    "spearman given size",
    "spearman within bands",
)
ROWS = ["group", "parametrisation", "kind", "x_variable", "y_variable"]
MIN_RUNS = 4
RUNS_PER_BAND = 10
BATCH_ELEMENTS = 4_000_000  # runs x variables x resamples in memory at once: 32 MB an array


def correlations(
    runs: pd.DataFrame,
    variables: Sequence[str] = CORRELATED,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    degree: int = 3,
) -> pd.DataFrame:
    """Correlate the variables, plain (P1, Figures 3 and 7) and given the subset size n.

    The kinds of coefficients:

    - pearson, spearman: of the values, and of their ranks.
    - pearson given size: of the residuals after both variables are regressed on a polynomial of
      `degree` in ln n.
    - spearman given size: the same with the ranks of the variables and a polynomial of `degree` in
      the rank of n.
    - spearman within bands: in bands of neighbouring sizes with about RUNS_PER_BAND runs, averaged
      with the numbers of runs as weights. Few runs in a band bias it towards 0; the spread of sizes
      in a band biases it towards the plain coefficient.

    All methods enter together. The interval is the percentile bootstrap over runs, which count as
    independent, with the same resamples for all pairs. A variable without any value in its group is
    left out.

    A coefficient is NaN for a constant variable, for n_points given the size, for fewer than
    MIN_RUNS finite runs and, given the size, for fewer than `degree` more than that.

    Args:
        runs: One row per trained network.
        variables: Columns to correlate.
        n_resamples: Number of resamples of the bootstrap.
        confidence: Confidence of the intervals.
        seed: Seed of the bootstrap.
        degree: Degree of the polynomials.

    Returns:
        A long table with one row per group, parametrisation, kind, x_variable and y_variable:
        coefficient, lower, upper, n_runs.
    """
    n_resamples = _checks.integer("n_resamples", n_resamples, minimum=1)
    degree = _checks.integer("degree", degree, minimum=1)
    tail = statistics.tail_probability(confidence)
    tables = []
    for key, part in statistics.checked_runs(runs, variables).groupby(
        ["group", "parametrisation"], sort=False
    ):
        values, sizes = complete_runs(part, variables)
        rows = pd.MultiIndex.from_product([key[:1], key[1:], KINDS, values, values], names=ROWS)
        table = rows.to_frame(index=False).assign(
            coefficient=np.nan, lower=np.nan, upper=np.nan, n_runs=len(values)
        )
        tables.append(table)
        if len(values) < MIN_RUNS:
            continue
        # Each group starts from the seed, so that its intervals do not depend on the other groups
        # in the table.
        estimate, samples = _bootstrap(
            values, sizes, degree, n_resamples, np.random.default_rng(seed)
        )
        # pandas' quantiles skip the resamples in which a variable happens to be constant.
        lower, upper = (
            pd.DataFrame(samples.reshape(n_resamples, -1)).quantile([tail, 1 - tail]).to_numpy()
        )
        table["coefficient"], table["lower"], table["upper"] = estimate.ravel(), lower, upper
    return pd.concat(tables, ignore_index=True)


def complete_runs(part: pd.DataFrame, variables: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the variables that have values, at the runs where all of these are finite.

    The second array holds the subset sizes of these runs.
    """
    values = part.loc[~part["diverged"], list(variables)].astype(float)
    finite = np.isfinite(values)
    measured = finite.columns[finite.any()]
    values = values.loc[finite[measured].all(axis=1), measured]
    return values, part.loc[values.index, "n_points"].to_numpy(float)


def _bootstrap(
    table: pd.DataFrame,
    sizes: np.ndarray,
    degree: int,
    n_resamples: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of all kinds for the runs [1 kinds p p] and for resamples of them.

    The second array is [n_resamples kinds p p]. A resample is how often each run was drawn, so one
    weighted formula serves both.
    """
    n_runs, values = len(table), (table - table.mean()).to_numpy()
    bands = statistics.size_bands(pd.Series(sizes), max(1, n_runs // RUNS_PER_BAND)).to_numpy()
    counts = generator.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=n_resamples).astype(
        float
    )
    n_batches = min(n_resamples, 1 + counts.size * values.shape[1] // BATCH_ELEMENTS)
    batches = [np.ones((1, n_runs)), *np.array_split(counts, n_batches)]
    matrices = np.concatenate(
        [_all_kinds(values, sizes, bands, weights, degree) for weights in batches]
    )
    # n is not a polynomial in ln n, so its residual is small but not zero, and its correlations
    # would mean nothing. With fewer than MIN_RUNS - 1 degrees of freedom left, any two residuals
    # correlate by nearly +1 or -1.
    undefined = (table.columns == "n_points") | (n_runs < degree + MIN_RUNS)
    for kind in (KINDS.index("pearson given size"), KINDS.index("spearman given size")):
        matrices[:, kind, undefined, :] = matrices[:, kind, :, undefined] = np.nan
    return matrices[:1], matrices[1:]


def _all_kinds(
    values: np.ndarray, sizes: np.ndarray, bands: np.ndarray, weights: np.ndarray, degree: int
) -> np.ndarray:
    """Return the matrices [resamples kinds p p] of values [runs p] in the order of KINDS."""
    constant = np.ones((len(sizes), 1))
    ranks = _weighted.ranks(values, weights)
    size_ranks = _weighted.ranks(sizes[:, None], weights)[..., 0]
    matrices = (
        _weighted.correlations(values, constant, weights),
        _weighted.correlations(ranks, constant, weights),
        _weighted.correlations(values, _weighted.polynomial(np.log(sizes), degree), weights),
        _weighted.correlations(ranks, _weighted.polynomial(size_ranks, degree), weights),
        _within_bands(values, bands, weights),
    )
    return np.stack(matrices, axis=1)


def _within_bands(values: np.ndarray, bands: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean Spearman matrices [resamples p p] of bands, weighted with their counts."""
    # Undefined coefficients do not enter.
    total, count = 0.0, 0.0
    for inside in (bands == band for band in np.unique(bands)):
        band_weights = weights[:, inside]
        matrix = _weighted.correlations(
            _weighted.ranks(values[inside], band_weights),
            np.ones((inside.sum(), 1)),
            band_weights,
        )
        share = np.where(np.isnan(matrix), 0, band_weights.sum(axis=1)[:, None, None])
        total, count = total + share * np.nan_to_num(matrix), count + share
    return total / np.where(count > 0, count, np.nan)
