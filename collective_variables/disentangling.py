"""How much of the test loss entropy and trace account for beyond the subset size, and beyond each other.

Source: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of Neural Networks: Data"
(P1). P1 says that larger trace and entropy go with a lower test loss and that it is they "and not simply data-set size",
that the loss also spreads less where they are large, and that "it is not clear thus-far how best to disentangle their
individual roles". `permutation_tests`, `prediction`, `spread` and `decomposition` answer in this order.

Each takes a table of runs, one row per trained network, and gives one block of rows per group and parametrisation.
Runs that diverged or lack a finite value that is needed do not enter; the others count as independent, which holds
where each run draws a subset and a network of its own (P1, Experiment 1). All methods enter together. What too few runs
cannot give is NaN. Each block starts from the seed, so that it does not depend on the others.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy import linalg, stats

from collective_variables import checks, statistics

TESTED = ("entropy", "trace", *statistics.SIZE_FREE)
VARIABLES = ("n_points", "entropy", "trace")
PREDICTORS = (
    ("n_points",),
    ("n_points", "entropy"),
    ("n_points", "trace"),
    ("n_points", "entropy", "trace"),
    ("entropy",),
    ("trace",),
    ("entropy", "trace"),
)
BLOCK = ["group", "parametrisation"]
MIN_RUNS = 40  # for a regression: about twice the coefficients of the largest model
N_KNOTS = 5
RIDGE = 0.01  # in units of a spline's square: it only settles what the runs leave open


def permutation_tests(
    runs: pd.DataFrame,
    variables: Sequence[str] = TESTED,
    outcome: str = "min_test_loss",
    *,
    n_permutations: int = 1000,
    seed: int = 0,
    degree: int = 3,
) -> pd.DataFrame:
    """Two-sided permutation tests of Spearman's correlation between each variable and the outcome.

    spearman             the ranks of the outcome are permuted over all runs.
    spearman given size  the coefficient of `statistics.correlations`: both ranks are regressed on a polynomial of `degree`
                         in the rank of n. The outcome's residuals are permuted within the bands of neighbouring sizes of
                         that module (some RUNS_PER_BAND runs each) and regressed again (Freedman, Lane 1983).

    The bands keep what the polynomial leaves of the mean and, above all, a noise that depends on n: where that of both
    variables does, permutation over all runs calls up to 19 % of unrelated pairs significant at 5 %.

    Rows: group, parametrisation, kind, variable, outcome. Columns: coefficient; p_value = (1 + permutations with at least
    this |coefficient|) / (1 + n_permutations); n_runs; p_value_corrected, Holm's (1979) over all tests in the table.
    """
    n_permutations = checks.integer("n_permutations", n_permutations, minimum=1)
    degree = checks.integer("degree", degree, minimum=1)
    names, tables = checks.unique("variables and outcome", [*variables, outcome]), []
    for key, part in statistics._checked(runs, names).groupby(BLOCK, sort=False):
        values, sizes = statistics._complete(part, names)
        values = values.reindex(columns=names)  # a variable or outcome without any value is NaN
        x, y = values[list(variables)].to_numpy(), values[[outcome] * len(variables)].to_numpy()
        for kind, power in (("spearman", 0), ("spearman given size", degree)):
            coefficient, p_value = _association(x, y, sizes, power, n_permutations, np.random.default_rng(seed))
            columns = {"variable": list(variables), "outcome": outcome, "coefficient": coefficient, "p_value": p_value}
            columns["n_runs"] = (np.isfinite(x) & np.isfinite(y)).sum(axis=0)
            tables.append(_labelled(key, {"kind": kind} | columns))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_value_corrected=_holm(table["p_value"].to_numpy()))


def _association(
    x: np.ndarray, y: np.ndarray, sizes: np.ndarray, degree: int, n_permutations: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's coefficients [pairs] of the columns of x and y [runs pairs], given the size if degree > 0; p-values."""
    n_runs, n_pairs = x.shape
    if n_runs < degree + statistics.MIN_RUNS:
        return np.full(n_pairs, np.nan), np.full(n_pairs, np.nan)
    n_bands = max(1, n_runs // statistics.RUNS_PER_BAND) if degree else 1
    band = np.unique(statistics._bands(pd.Series(sizes), n_bands), return_inverse=True)[1]
    order = np.argsort(band, kind="stable")
    # Not by QR, because there may be fewer distinct sizes than the polynomial has coefficients.
    basis = linalg.orth(statistics._polynomial(stats.rankdata(sizes), degree)[order], rcond=1e-5)
    ranks = stats.rankdata(np.stack([x.T, y.T])[..., order], axis=-1)
    a, b = residuals = ranks - ranks @ basis @ basis.T
    squares = (residuals**2).sum(axis=-1)
    # What round-off leaves of a variable that the size explains in full is no variance.
    of_a, of_b = np.where(squares > 1e-12 * (ranks**2).sum(axis=-1), squares, np.nan)
    coefficient, n_as_large = (a * b).sum(axis=-1) / np.sqrt(of_a * of_b), 0
    for n_drawn in _batches(n_permutations, x.size):
        # Runs lie in the order of their bands, so sorting these plus a fraction permutes within them.
        permuted = b[:, np.argsort(band[order] + generator.random((n_drawn, n_runs)), axis=1)]
        left = of_b[:, None] - ((permuted @ basis) ** 2).sum(axis=-1)
        covariance = (permuted @ a[..., None])[..., 0]
        drawn = np.abs(covariance) / np.sqrt(of_a[:, None] * np.maximum(left, 1e-12 * of_b[:, None]))
        n_as_large += (drawn >= np.abs(coefficient[:, None]) - 1e-9).sum(axis=1)
    return coefficient, np.where(np.isnan(coefficient), np.nan, (1 + n_as_large) / (1 + n_permutations))


def _holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979) of the p-values that are not NaN: max over smaller ones p_j of (m - j + 1) p_j."""
    order = np.argsort(p_values)  # NaN last
    factors = np.isfinite(p_values).sum() - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return corrected


def prediction(
    runs: pd.DataFrame,
    outcome: str = "min_test_loss",
    *,
    n_folds: int = 10,
    n_repeats: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How well the size, entropy, trace and their combinations predict ln(outcome) of runs held out.

    The logarithm, because a loss is positive and spans decades: its errors are relative, and on its own scale the few
    smallest subsets would decide. One model for all: cubic regression splines with N_KNOTS knots at the quantiles, added
    over the predictors ln n, S and ln Tr, with a ridge penalty RIDGE that is too small to smooth; an interaction other
    than a product of powers (S / ln n, say) is beyond it. All predictors share the folds, drawn anew in each repeat; knots
    are those of all runs. R² = 1 - mean squared error / that of the mean of the other folds.

    Rows: group, parametrisation, predictors. Columns: r_squared; gain, R² less that of n_points alone, so that 0 is all
    that entropy and trace add beyond the size; `_lower` and `_upper` of both; n_runs. The interval is Student's t of the
    folds with the variance increased for the runs that they share (Nadeau, Bengio 2003), R² linearised in the two errors.
    A useless predictor has a gain a little below 0, the price of its coefficients: lower > 0 is then rarer than the tail.
    """
    tables = []
    for key, n_runs, errors in _cross_validated(runs, outcome, n_folds, n_repeats, seed):
        columns, contrast = {"predictors": [" + ".join(of) for of in PREDICTORS]}, np.eye(len(PREDICTORS))
        columns |= _estimates("r_squared", errors, contrast, n_folds, confidence)
        columns |= _estimates("gain", errors, contrast - contrast[0], n_folds, confidence)
        tables.append(_labelled(key, columns | {"n_runs": n_runs}))
    return pd.concat(tables, ignore_index=True)


def decomposition(
    runs: pd.DataFrame,
    outcome: str = "min_test_loss",
    *,
    n_folds: int = 10,
    n_repeats: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The cross-validated R² of ln(outcome) from size, entropy and trace, divided among the three.

    With R² of the same models, folds and intervals as in `prediction`, and 0 without a predictor, the parts are

    unique     R² of all three less R² of the other two: what a variable alone can tell (Mood 1971).
    shared     R² of all three less the unique parts: what two or more of them tell alike; negative if they only tell together.
    share      the gain by the variable, averaged over the orders in which the three can enter (Lindeman, Merenda, Gold
               1980; Shapley's value): the shares of the three add up to R². A shared part is divided, whoever earned it.
    explained  R² of all three.

    Rows: group, parametrisation, part, variable ("all" for shared and explained). Columns: value, value_lower, value_upper
    in units of the variance of ln(outcome); n_runs. Not in-sample R², whose parts are never negative: a useless variable
    would get some, and more so in resamples, where runs repeat.
    """
    everything, tables = PREDICTORS.index(VARIABLES), []
    others = [PREDICTORS.index(tuple(v for v in VARIABLES if v != variable)) for variable in VARIABLES]
    explained, *_ = unit = np.eye(len(PREDICTORS))[[everything, *others]]
    unique = explained - unit[1:]
    share = [[_weight(variable, of) for of in PREDICTORS] for variable in VARIABLES]
    contrast = np.vstack([unique, explained - unique.sum(axis=0), share, explained])
    names = {"part": ["unique"] * 3 + ["shared"] + ["share"] * 3 + ["explained"], "variable": [*VARIABLES, "all"] * 2}
    for key, n_runs, errors in _cross_validated(runs, outcome, n_folds, n_repeats, seed):
        columns = _estimates("value", errors, contrast, n_folds, confidence)
        tables.append(_labelled(key, names | columns | {"n_runs": n_runs}))
    return pd.concat(tables, ignore_index=True)


def _weight(variable: str, predictors: Sequence[str]) -> float:
    """Weight of the R² of `predictors` in the share of `variable`: the part of the orders in which it enters last or next."""
    n_before = len(predictors) - (variable in predictors)
    weight = 1 / (len(VARIABLES) * math.comb(len(VARIABLES) - 1, n_before))
    return weight if variable in predictors else -weight


def _cross_validated(
    runs: pd.DataFrame, outcome: str, n_folds: int, n_repeats: int, seed: int
) -> Iterator[tuple[tuple, int, np.ndarray]]:
    """Each block, its number of runs and the mean squared errors of the folds [repeats*folds 1+PREDICTORS].

    The first column is the error of the mean of the other folds. NaN with too few runs or a constant outcome.
    """
    n_folds = checks.integer("n_folds", n_folds, minimum=2)
    n_repeats = checks.integer("n_repeats", n_repeats, minimum=1)
    for key, predictors, y, _ in _logarithmic(runs, outcome):
        errors = np.full((n_repeats, n_folds, 1 + len(PREDICTORS)), np.nan)
        if len(y) >= max(MIN_RUNS, n_folds) and np.ptp(y) > 0:
            table, columns = _splines(predictors, y)
            generator = np.random.default_rng(seed)
            for repeat in errors:
                folds = generator.permutation(np.arange(len(y)) % n_folds)
                repeat[:] = [_fold_errors(table, columns, folds == fold) for fold in range(n_folds)]
        yield key, len(y), errors.reshape(-1, errors.shape[-1])


def _fold_errors(table: np.ndarray, columns: dict[str, list[int]], held_out: np.ndarray) -> list[float]:
    """Mean squared errors of the mean and of PREDICTORS in the rows `held_out` [runs], trained on the others."""
    mean = table[~held_out].mean(axis=0)
    train, test = table[~held_out] - mean, table[held_out] - mean
    gram = train.T @ train  # one for all predictors: each model takes its rows and columns
    errors = [test[:, -1]]
    for predictors in PREDICTORS:
        of = sum((columns[variable] for variable in predictors), [])
        errors.append(test[:, -1] - test[:, of] @ _ridge(gram, of))
    return [np.mean(error**2) for error in errors]


def _ridge(gram: np.ndarray, columns: list[int]) -> np.ndarray:
    """Coefficients of the last column of a centred table in `columns`, from the table's matrix of products."""
    return np.linalg.solve(gram[np.ix_(columns, columns)] + RIDGE * np.eye(len(columns)), gram[columns, -1])


def _splines(predictors: pd.DataFrame, y: np.ndarray) -> tuple[np.ndarray, dict[str, list[int]]]:
    """A table [runs functions+1] of the splines of all predictors, y last; and the columns of each predictor."""
    from sklearn.preprocessing import SplineTransformer  # the library imports without scikit-learn

    transformer = SplineTransformer(N_KNOTS, knots="quantile", include_bias=False)
    table = transformer.fit_transform(predictors)
    each = np.array_split(np.arange(table.shape[1]), predictors.shape[1])
    return np.column_stack([table, y]), dict(zip(predictors, map(np.ndarray.tolist, each)))


def _estimates(
    name: str, errors: np.ndarray, contrast: np.ndarray, n_folds: int, confidence: float
) -> dict[str, np.ndarray]:
    """Sums [rows] of R² with the weights `contrast` [rows PREDICTORS], from the errors of the folds; and their intervals."""
    tail, n = statistics._tail(confidence), len(errors)
    of_mean, *of_models = errors.mean(axis=0)
    r_squared = 1 - np.array(of_models) / of_mean
    # What each fold moves R² by, to first order in its errors.
    moved = ((1 - r_squared) * errors[:, :1] - errors[:, 1:]) / of_mean
    variance = (moved @ contrast.T).var(axis=0, ddof=1) * (1 / n + 1 / (n_folds - 1))
    value, margin = contrast @ r_squared, stats.t.isf(tail, n - 1) * np.sqrt(variance)
    return {name: value, f"{name}_lower": value - margin, f"{name}_upper": value + margin}


def spread(
    runs: pd.DataFrame,
    outcome: str = "min_test_loss",
    *,
    n_bins: int = 5,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    degree: int = 3,
) -> pd.DataFrame:
    """How the spread of the outcome changes with entropy and with trace (P1's constraint effect).

    The spread is that of residuals: the outcome less a smooth function (that of `prediction`) of S or ln Tr, so that
    neither the trend nor its slope inside a bin is taken for spread. Two scales: "ln", where a spread is relative, and
    "linear", where it falls wherever the mean loss does, if only in proportion: a decrease on "linear" alone is trivial.

    standard deviation, interquartile range  of the residuals in n_bins bins with equal numbers of runs.
    spearman             correlation of the variable with |residual|: negative if the spread shrinks.
    spearman given size  the same of residuals from a smooth function of ln n plus one of the variable, given the size as in
                         `permutation_tests`. With ln n alone, a mean that depends on the variable passes for spread;
                         a mean that is no such sum still does.

    Rows: group, parametrisation, variable, scale, statistic, bin (from 0, missing for the correlations). Columns: low and
    high, the ends of the bin in the variable; n_runs; value; lower and upper, the percentile bootstrap over the runs with
    their residuals as they are (some 40 in a bin, or the standard deviation's is short: 81 % of 95 % with 12); p_value of
    the correlations, as in `permutation_tests`, with n_resamples permutations.
    """
    n_bins = checks.integer("n_bins", n_bins, minimum=1)
    n_resamples = checks.integer("n_resamples", n_resamples, minimum=1)
    degree = checks.integer("degree", degree, minimum=1)
    quantiles, tables = [tail := statistics._tail(confidence), 1 - tail], []
    pairs = list(product(("entropy", "trace"), ("ln", "linear")))
    for key, predictors, y, raw in _logarithmic(runs, outcome):
        x, generator = predictors[[variable for variable, _ in pairs]].to_numpy(), np.random.default_rng(seed)
        scales = {"ln": y, "linear": raw}
        around = [_residuals(predictors[[variable]], scales[scale]) for variable, scale in pairs]
        for (variable, scale), values, residuals in zip(pairs, x.T, around):
            names = {"variable": variable, "scale": scale}
            tables.append(_labelled(key, names | _binned(values, residuals, n_bins, n_resamples, quantiles, generator)))
        given = [_residuals(predictors[["n_points", variable]], scales[scale]) for variable, scale in pairs]
    return pd.concat(tables, ignore_index=True)
