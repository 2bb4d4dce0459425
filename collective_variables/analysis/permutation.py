"""Test correlations between collective variables and the loss by permutations.

Source: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of
Neural Networks: Data" (P1). P1 says that a larger trace and entropy go with a lower test loss, and
that it is they "and not simply data-set size".

A table of runs has one row per trained network. Runs that diverged or lack a finite value that is
needed do not enter. The others count as independent, which holds if each run draws a separate
subset and network (P1, Experiment 1); all methods enter together. Each block of rows, of one group
and parametrisation, starts from the seed and so does not depend on the other blocks. Results that
need more runs are NaN.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import linalg, stats

from collective_variables import _checks
from collective_variables.analysis import _weighted, correlation, statistics

TESTED = ("entropy", "trace", *statistics.SIZE_FREE)


def permutation_tests(
    runs: pd.DataFrame,
    variables: Sequence[str] = TESTED,
    outcome: str = "min_test_loss",
    *,
    n_permutations: int = 1000,
    seed: int = 0,
    degree: int = 3,
) -> pd.DataFrame:
    """Test Spearman's correlation between each variable and the outcome, two-sided.

    - spearman: the ranks of the outcome are permuted over all runs.
    - spearman given size: the coefficient of `correlation.correlations`, for which both ranks are
      regressed on a polynomial of `degree` in the rank of n. The outcome's residuals are permuted
      within bands of neighbouring sizes, of about correlation.RUNS_PER_BAND runs each, and
      regressed again (Freedman, Lane 1983).

    The bands preserve noise that depends on n, and what the polynomial leaves of the mean. When the
    noise of both variables grows with n, permuting over all runs called 13 to 19 % of unrelated
    pairs significant at 5 %.

    Args:
        runs: One row per trained network.
        variables: Columns to test.
        outcome: Column to correlate them with.
        n_permutations: Number of permutations.
        seed: Seed of the permutations.
        degree: Degree of the polynomial.

    Returns:
        Rows: group, parametrisation, kind, variable, outcome. Columns: coefficient; p_value = (1 +
        permutations with at least this |coefficient|) / (1 + n_permutations); n_runs;
        p_value_corrected, Holm's (1979) over all tests in the table.
    """
    n_permutations = _checks.integer("n_permutations", n_permutations, minimum=1)
    degree = _checks.integer("degree", degree, minimum=1)
    names = _checks.unique("variables and outcome", [*variables, outcome])
    tables = []
    for key, part in statistics.checked_runs(runs, names).groupby(
        ["group", "parametrisation"], sort=False
    ):
        values, sizes = correlation.complete_runs(part, names)
        values = values.reindex(columns=names)  # a variable or outcome without any value is NaN
        x = values[names[:-1]].to_numpy()
        y = values[[outcome] * len(names[:-1])].to_numpy()
        columns = {
            "variable": names[:-1],
            "outcome": outcome,
            "n_runs": (np.isfinite(x) & np.isfinite(y)).sum(axis=0),
        }
        for kind, power in (("spearman", 0), ("spearman given size", degree)):
            coefficient, p_value = association(
                x, y, sizes, power, n_permutations, np.random.default_rng(seed)
            )
            results = {"coefficient": coefficient, "p_value": p_value}
            tables.append(statistics.block(key, {"kind": kind} | columns | results))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_value_corrected=statistics.holm(table["p_value"]))


def association(
    x: np.ndarray,
    y: np.ndarray,
    sizes: np.ndarray,
    degree: int,
    n_permutations: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return Spearman's coefficients of the columns of x and y [runs pairs], and their p-values.

    With a degree above 0 the coefficients are those given the size. The result is [2 pairs].
    """
    n_runs, n_pairs = x.shape
    if n_runs < degree + correlation.MIN_RUNS:
        return np.full((2, n_pairs), np.nan)
    n_bands = max(1, n_runs // correlation.RUNS_PER_BAND) if degree else 1
    band = np.unique(statistics.size_bands(pd.Series(sizes), n_bands), return_inverse=True)[1]
    order = np.argsort(band, kind="stable")
    # Not by QR, because there may be fewer distinct sizes than the polynomial has coefficients.
    basis = linalg.orth(_weighted.polynomial(stats.rankdata(sizes), degree)[order], rcond=1e-5)
    ranks = stats.rankdata(np.stack([x.T, y.T])[..., order], axis=-1)
    a, b = residuals = ranks - ranks @ basis @ basis.T
    squares = (residuals**2).sum(axis=-1)
    # If the size explains a variable completely, its residual variance is rounding error only.
    squares_a, squares_b = np.where(squares > 1e-12 * (ranks**2).sum(axis=-1), squares, np.nan)
    coefficient = (a * b).sum(axis=-1) / np.sqrt(squares_a * squares_b)
    n_as_large = 0
    for n_batch in batches(n_permutations, x.size):
        # Runs lie in the order of their bands, so sorting the band's number plus a fraction
        # permutes within bands.
        permuted = b[:, np.argsort(band[order] + generator.random((n_batch, n_runs)), axis=1)]
        # The permuted residuals are regressed again: this is what remains of their squares.
        squares_left = np.maximum(
            squares_b[:, None] - ((permuted @ basis) ** 2).sum(axis=-1), 1e-12 * squares_b[:, None]
        )
        resampled = (permuted @ a[..., None])[..., 0] / np.sqrt(squares_a[:, None] * squares_left)
        n_as_large += (np.abs(resampled) >= np.abs(coefficient[:, None]) - 1e-9).sum(axis=1)
    p_value = (1 + n_as_large) / (1 + n_permutations)
    return np.stack([coefficient, np.where(np.isnan(coefficient), np.nan, p_value)])


def batches(n_resamples: int, n_elements: int) -> list[int]:
    """Return how many resamples, of n_elements each, are in memory at once, batch by batch."""
    n_batches = min(n_resamples, 1 + n_resamples * n_elements // correlation.BATCH_ELEMENTS)
    return [len(batch) for batch in np.array_split(np.arange(n_resamples), n_batches)]
