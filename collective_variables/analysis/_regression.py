"""Fit ridge regressions on splines of subset size, entropy and trace."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from collective_variables import _checks, _extras
from collective_variables.analysis import statistics

VARIABLES = ("n_points", "entropy", "trace")
MIN_RUNS = 40  # three times the coefficients of the largest regression
RIDGE = 0.01  # splines lie between 0 and 1, so this decides only what the runs leave undetermined


def logarithmic_runs(
    runs: pd.DataFrame, outcome: str
) -> Iterator[tuple[tuple, pd.DataFrame, pd.DataFrame]]:
    """Yield the runs and predictors of each group and parametrisation.

    Args:
        runs: One row per trained network.
        outcome: The predicted variable.

    Yields:
        The key, the runs that are complete in VARIABLES and the outcome, and their predictors ln n,
        S and ln Tr.

    Raises:
        ValueError: A value has no logarithm.
    """
    names = _checks.unique("predictors and outcome", [*VARIABLES, outcome])
    for key, part in statistics.checked_runs(runs, names).groupby(
        ["group", "parametrisation"], sort=False
    ):
        part = part.loc[~part["diverged"], names].astype(float)
        part = part[np.isfinite(part).all(axis=1)]
        for name in ("n_points", "trace", outcome):
            if len(low := part.loc[part[name] <= 0, name]):
                received = f"{len(low)} of {len(part)} runs have 0 or less, the lowest {low.min()}"
                raise ValueError(
                    f"{name} must be positive, because its logarithm is taken: {received}."
                )
        predictors = part[list(VARIABLES)].assign(
            n_points=np.log(part["n_points"]), trace=np.log(part["trace"])
        )
        yield key, part, predictors


def splines(predictors: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return equally many spline functions [runs functions] of each predictor [runs].

    The result is empty for fewer than MIN_RUNS runs.
    """
    with _extras.required("sklearn"):
        from sklearn.preprocessing import SplineTransformer

    if len(predictors) < MIN_RUNS:
        return {}
    n_knots = max(3, round(len(predictors) ** 0.25))
    functions = SplineTransformer(n_knots, knots="quantile", include_bias=False).fit_transform(
        predictors.to_numpy()
    )
    return dict(zip(predictors, np.split(functions, predictors.shape[1], axis=1)))


def ridge(products: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Return the coefficients of a regression of the last column of X on others, from X'X alone.

    X is a centred table, and `columns` are the columns that predict.
    """
    penalty = RIDGE * np.eye(len(columns))
    return np.linalg.solve(products[np.ix_(columns, columns)] + penalty, products[columns, -1])
