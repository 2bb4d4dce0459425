"""How much of the test loss entropy and trace account for beyond the subset size, and beyond each
other.

Source: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of
Neural Networks: Data" (P1). P1 says that a larger trace and entropy go with a lower test loss, that
it is they "and not simply data-set size", that the loss also spreads less where they are large, and
that "it is not clear thus-far how best to disentangle their individual roles".

Each function takes a table of runs, one row per trained network, and gives a block of rows for each
group and parametrisation, which starts from the seed and so does not depend on the others. Runs
that diverged or lack a finite value that is needed do not enter. The others count as independent,
which holds where each run draws a subset and a network of its own (P1, Experiment 1); all methods
enter together. What too few runs cannot give is NaN.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy import linalg, stats

from collective_variables import _checks
from collective_variables.analysis import _weighted, correlation, statistics

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
SPREADS = ("standard deviation", "interquartile range")
MIN_RUNS = 40  # for a regression: three times the coefficients of the largest one
RIDGE = 0.01  # splines lie between 0 and 1, so this settles only what the runs leave open


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
    spearman given size  the coefficient of `correlation.correlations`: both ranks are regressed on a polynomial of `degree`
                         in the rank of n. The outcome's residuals are permuted within that module's bands of neighbouring
                         sizes, some RUNS_PER_BAND runs each, and regressed again (Freedman, Lane 1983).

    The bands keep a noise that depends on n, and what the polynomial leaves of the mean. Where the
    noise of both variables grows with n, a permutation over all runs called 13 to 19 % of unrelated
    pairs significant at 5 %.

    Rows: group, parametrisation, kind, variable, outcome. Columns: coefficient; p_value = (1 +
    permutations with at least this |coefficient|) / (1 + n_permutations); n_runs;
    p_value_corrected, Holm's (1979) over all tests in the table.
    """
    n_permutations = _checks.integer("n_permutations", n_permutations, minimum=1)
    degree = _checks.integer("degree", degree, minimum=1)
    names, tables = _checks.unique("variables and outcome", [*variables, outcome]), []
    for key, part in statistics.checked_runs(runs, names).groupby(
        ["group", "parametrisation"], sort=False
    ):
        values, sizes = correlation.complete_runs(part, names)
        values = values.reindex(columns=names)  # a variable or outcome without any value is NaN
        x, y = values[names[:-1]].to_numpy(), values[[outcome] * len(names[:-1])].to_numpy()
        columns = {
            "variable": names[:-1],
            "outcome": outcome,
            "n_runs": (np.isfinite(x) & np.isfinite(y)).sum(axis=0),
        }
        for kind, power in (("spearman", 0), ("spearman given size", degree)):
            coefficient, p_value = _association(
                x, y, sizes, power, n_permutations, np.random.default_rng(seed)
            )
            tables.append(
                _block(
                    key, {"kind": kind} | columns | {"coefficient": coefficient, "p_value": p_value}
                )
            )
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_value_corrected=statistics.holm(table["p_value"]))


def _association(
    x: np.ndarray,
    y: np.ndarray,
    sizes: np.ndarray,
    degree: int,
    n_permutations: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Spearman's coefficients of the columns of x and y [runs pairs], given the size if degree > 0;
    p-values: [2 pairs].
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
    # What round-off leaves of a variable that the size explains in full is no variance.
    of_a, of_b = np.where(squares > 1e-12 * (ranks**2).sum(axis=-1), squares, np.nan)
    coefficient, n_as_large = (a * b).sum(axis=-1) / np.sqrt(of_a * of_b), 0
    for n_drawn in _batches(n_permutations, x.size):
        # Runs lie in the order of their bands, so sorting these plus a fraction permutes within
        # them.
        permuted = b[:, np.argsort(band[order] + generator.random((n_drawn, n_runs)), axis=1)]
        left = np.maximum(
            of_b[:, None] - ((permuted @ basis) ** 2).sum(axis=-1), 1e-12 * of_b[:, None]
        )
        drawn = (permuted @ a[..., None])[..., 0] / np.sqrt(of_a[:, None] * left)
        n_as_large += (np.abs(drawn) >= np.abs(coefficient[:, None]) - 1e-9).sum(axis=1)
    return np.stack(
        [
            coefficient,
            np.where(np.isnan(coefficient), np.nan, (1 + n_as_large) / (1 + n_permutations)),
        ]
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
    """How well the size, entropy, trace and their combinations predict ln(outcome) of runs held
    out.

    The logarithm, because a loss is positive and spans decades: its noise is relative, and on its
    own scale the few
    smallest subsets would decide. One model for all: a sum of cubic splines of the predictors ln n,
    S and ln Tr with knots at the quantiles of all runs, as many as the fourth root of their number
    (at least 3), and a ridge penalty too small to smooth. A product of powers is such a sum; other
    interactions are not. All predictors share the folds, which are drawn anew in each repeat. R² =
    1 - mean squared error / that of the mean of the other folds.

    Rows: group, parametrisation, predictors. Columns: r_squared; gain, R² less that of n_points
    alone; `_lower` and `_upper` of both; n_runs. The interval is Student's t of the folds, with the
    variance increased for the runs that they share (Nadeau, Bengio 2003) and R² linearised in its
    two errors. Useless predictors have a gain a little below 0, the price of their coefficients, so
    gain_lower > 0 is rarer than the confidence says if there is nothing beyond the size.
    """
    labels, contrast = (
        {"predictors": [" + ".join(predictors) for predictors in PREDICTORS]},
        np.eye(len(PREDICTORS)),
    )
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
    """The R² of ln(outcome) from size, entropy and trace, divided among the three.

    Of the R² of `prediction`, with the same models, folds and intervals, and 0 without any
    predictor:

    unique     R² of all three less R² of the other two: what one variable alone tells (Mood 1971).
    shared     R² of all three less the unique parts: what two or more tell alike; negative where they tell only together.
    share      the gain by a variable, averaged over the orders in which the three can enter (Lindeman, Merenda, Gold 1980;
               Shapley's value). The shares add up to R²: they divide what is shared, whoever may have earned it.
    explained  R² of all three.

    Rows: group, parametrisation, part, variable ("all" for shared and explained). Columns: value,
    value_lower and value_upper, as fractions of the variance of ln(outcome); n_runs. R² is that of
    runs held out, because within the sample
    no part can be negative: useless variables get some, and get more in resamples, where runs
    repeat.
    """
    of = dict(zip(PREDICTORS, np.eye(len(PREDICTORS))))
    explained = of[VARIABLES]
    unique = [
        explained - of[tuple(other for other in VARIABLES if other != variable)]
        for variable in VARIABLES
    ]
    share = [[_weight(variable, predictors) for predictors in PREDICTORS] for variable in VARIABLES]
    contrasts = {"value": np.array([*unique, explained - sum(unique), *share, explained])}
    labels = {
        "part": ["unique"] * 3 + ["shared"] + ["share"] * 3 + ["explained"],
        "variable": [*VARIABLES, "all"] * 2,
    }
    return _cross_validated(runs, outcome, labels, contrasts, n_folds, n_repeats, confidence, seed)


def _weight(variable: str, predictors: Sequence[str]) -> float:
    """Weight of the R² of `predictors` in a share: the orders in which just they, less `variable`,
    come before it.
    """
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
    """A table of sums of the R² of PREDICTORS with the weights `contrasts` [labels PREDICTORS], and
    their intervals.
    """
    n_folds = _checks.integer("n_folds", n_folds, minimum=2)
    n_repeats = _checks.integer("n_repeats", n_repeats, minimum=1)
    tail, n_errors, tables = statistics.tail_probability(confidence), n_folds * n_repeats, []
    for key, part, predictors in _logarithmic(runs, outcome):
        errors, y = (
            np.full((n_errors, 1 + len(PREDICTORS)), np.nan),
            np.log(part[outcome].to_numpy()),
        )
        if (splines := _splines(predictors)) and len(y) >= n_folds and np.ptp(y) > 0:
            table, generator = (
                np.column_stack([np.ones(len(y)), *splines.values(), y]),
                np.random.default_rng(seed),
            )
            repeats = (generator.permutation(np.arange(len(y)) % n_folds) for _ in range(n_repeats))
            folds = (table[repeat == fold] for repeat in repeats for fold in range(n_folds))
            products = table.T @ table
            errors = np.array([_errors(products, fold.T @ fold) for fold in folds])
        of_mean, *of_models = errors.mean(axis=0)
        r_squared = 1 - np.array(of_models) / of_mean
        # What each fold moves R² by, to first order in its errors.
        moved, columns = ((1 - r_squared) * errors[:, :1] - errors[:, 1:]) / of_mean, {}
        for name, contrast in contrasts.items():
            variance = (moved @ contrast.T).var(axis=0, ddof=1) * (1 / n_errors + 1 / (n_folds - 1))
            value, margin = (
                contrast @ r_squared,
                stats.t.isf(tail, n_errors - 1) * np.sqrt(variance),
            )
            columns |= {
                name: value,
                f"{name}_lower": value - margin,
                f"{name}_upper": value + margin,
            }
        tables.append(_block(key, labels | columns | {"n_runs": len(y)}))
    return pd.concat(tables, ignore_index=True)


def _errors(products: np.ndarray, held_out: np.ndarray) -> list[float]:
    """Mean squared errors, of the mean and of PREDICTORS, in the runs of a fold, from X'X of all
    runs and of those.

    The columns of X are a constant, the splines of VARIABLES and ln(outcome).
    """
    train = products - held_out
    mean = train[0] / train[0, 0]
    train -= np.outer(mean, train[0])
    of_variable = dict(zip(VARIABLES, np.split(np.arange(1, len(mean) - 1), len(VARIABLES))))
    errors = []
    for predictors in ((), *PREDICTORS):
        columns = [column for variable in predictors for column in of_variable[variable]]
        residual = np.zeros(len(mean))  # as a sum of the columns
        residual[-1], residual[columns] = 1, -_ridge(train, columns)
        residual[0] = -residual @ mean
        errors.append(residual @ held_out @ residual / held_out[0, 0])
    return errors


def _ridge(products: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Coefficients [columns] of the last column of a centred table, whose products X'X are given,
    in `columns` of it.
    """
    penalty = RIDGE * np.eye(len(columns))
    return np.linalg.solve(products[np.ix_(columns, columns)] + penalty, products[columns, -1])


def _splines(predictors: pd.DataFrame) -> dict[str, np.ndarray]:
    """Equally many spline functions [runs functions] of each predictor [runs]; of none with too few
    runs.
    """
    from sklearn.preprocessing import SplineTransformer  # the library imports without scikit-learn

    if len(predictors) < MIN_RUNS:
        return {}
    n_knots = max(3, round(len(predictors) ** 0.25))
    functions = SplineTransformer(n_knots, knots="quantile", include_bias=False).fit_transform(
        predictors.to_numpy()
    )
    return dict(zip(predictors, np.split(functions, predictors.shape[1], axis=1)))


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
    """How the spread of the outcome changes with entropy and with trace (P1's constraint effect).

    The spread is that of residuals: the outcome less a smooth function (that of `prediction`) of S
    or ln Tr, so that a trend, or its slope inside a bin, does not pass for spread. Scale "ln" has
    the relative spread; on "linear", the outcome's own scale, spread falls trivially wherever the
    mean loss falls, so that a decrease there alone means nothing.

    standard deviation, interquartile range  of the residuals in each of n_bins bins with equal numbers of runs.
    spearman             correlation of the variable with |residual|, negative where spread shrinks.
    spearman given size  the same given the size, as in `permutation_tests`, with residuals from a smooth function of ln n
                         plus one of the variable: after ln n alone a mean that depends on the variable passes for spread.
                         So does a mean that is no such sum, as on "linear" if the loss is a product of the two.

    Rows: group, parametrisation, variable, scale, statistic, bin (from 0; missing for the
    correlations). Columns: low and high, the ends of a bin in the variable; n_runs; value; lower
    and upper, by the percentile bootstrap over runs with their residuals as they are; p_value of
    the correlations, as in `permutation_tests`, by n_permutations. With fewer than 40 runs in a bin
    the standard deviation's interval is too short (12 runs: 81 % in place of 95 %).
    """
    n_bins = _checks.integer("n_bins", n_bins, minimum=1)
    n_resamples = _checks.integer("n_resamples", n_resamples, minimum=1)
    n_permutations = _checks.integer("n_permutations", n_permutations, minimum=1)
    degree = _checks.integer("degree", degree, minimum=1)
    quantiles, tables = [tail := statistics.tail_probability(confidence), 1 - tail], []
    for key, part, predictors in _logarithmic(runs, outcome):
        scales = {"ln": np.log(part[outcome].to_numpy()), "linear": part[outcome].to_numpy()}
        splines = _splines(predictors)
        for variable, (scale, y) in product(("entropy", "trace"), scales.items()):
            x, sizes, generator = (
                part[variable].to_numpy(),
                part["n_points"].to_numpy(),
                np.random.default_rng(seed),
            )
            around, given = (
                _residuals(splines, names, y) for names in ([variable], ["n_points", variable])
            )
            rows = _binned(x, around, n_bins, n_resamples, quantiles, generator)
            for statistic, residuals, power in (
                ("spearman", around, 0),
                ("spearman given size", given, degree),
            ):
                pair = x[:, None], np.abs(residuals)[:, None], sizes, power
                (value,), (p_value,) = _association(*pair, n_permutations, generator)
                lower, upper = (
                    _interval(*pair, n_resamples, quantiles, generator)
                    if np.isfinite(value)
                    else (np.nan, np.nan)
                )
                row = {
                    "statistic": statistic,
                    "n_runs": len(x),
                    "value": value,
                    "lower": lower,
                    "upper": upper,
                }
                rows.append(row | {"p_value": p_value})
            columns = [
                "statistic",
                "bin",
                "low",
                "high",
                "n_runs",
                "value",
                "lower",
                "upper",
                "p_value",
            ]
            table = pd.DataFrame(rows, columns=columns).astype({"bin": "Int64"})
            tables.append(_block(key, {"variable": variable, "scale": scale, **table}))
    return pd.concat(tables, ignore_index=True)


def _residuals(splines: dict[str, np.ndarray], names: Sequence[str], y: np.ndarray) -> np.ndarray:
    """y [runs] less the sum of smooth functions of the predictors `names`; NaN with too few runs or
    a constant y.
    """
    if not splines or np.ptp(y) == 0:
        return np.full(len(y), np.nan)
    table = np.column_stack([*(splines[name] for name in names), y])
    table -= table.mean(axis=0)
    return table[:, -1] - table[:, :-1] @ _ridge(table.T @ table, range(table.shape[1] - 1))


def _binned(
    x: np.ndarray,
    residuals: np.ndarray,
    n_bins: int,
    n_resamples: int,
    quantiles: Sequence[float],
    generator: np.random.Generator,
) -> list[dict]:
    """Rows of `spread` for the bins of x [runs]: SPREADS of the residuals [runs] and their
    intervals.
    """
    rows = []
    for number, inside in enumerate(np.array_split(np.argsort(x, kind="stable"), n_bins)):
        row, n = {"bin": number, "n_runs": len(inside)}, len(inside)
        if n < correlation.MIN_RUNS:
            rows += [row | {"statistic": statistic} for statistic in SPREADS]
            continue
        row |= {"low": x[inside[0]], "high": x[inside[-1]]}
        batches = (
            residuals[generator.choice(inside, (n_drawn, n))]
            for n_drawn in _batches(n_resamples, n)
        )
        samples = np.concatenate([_spreads(batch) for batch in batches], axis=-1)
        intervals = zip(*np.quantile(samples, quantiles, axis=-1))
        for statistic, value, (lower, upper) in zip(
            SPREADS, _spreads(residuals[inside]), intervals
        ):
            rows.append(
                row | {"statistic": statistic, "value": value, "lower": lower, "upper": upper}
            )
    return rows


def _spreads(values: np.ndarray) -> np.ndarray:
    """SPREADS [2 ...] of values [... runs]."""
    return np.stack(
        [values.std(axis=-1, ddof=1), np.subtract(*np.quantile(values, [0.75, 0.25], axis=-1))]
    )


def _interval(
    x: np.ndarray,
    y: np.ndarray,
    sizes: np.ndarray,
    degree: int,
    n_resamples: int,
    quantiles: Sequence[float],
    generator: np.random.Generator,
) -> np.ndarray:
    """Quantiles of the coefficient of `_association` for x and y [runs 1] in resamples of the
    runs.
    """
    table, samples = np.hstack([x, y]), []
    for n_drawn in _batches(n_resamples, table.size):
        weights = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=n_drawn).astype(
            float
        )
        basis = _weighted.polynomial(_weighted.ranks(sizes[:, None], weights)[..., 0], degree)
        samples.append(
            _weighted.correlations(_weighted.ranks(table, weights), basis, weights)[:, 0, 1]
        )
    return np.quantile(np.concatenate(samples), quantiles)


def _logarithmic(
    runs: pd.DataFrame, outcome: str
) -> Iterator[tuple[tuple, pd.DataFrame, pd.DataFrame]]:
    """Each block's key, its complete runs in VARIABLES and the outcome, and their predictors ln n,
    S and ln Tr.
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
        yield (
            key,
            part,
            part[list(VARIABLES)].assign(
                n_points=np.log(part["n_points"]), trace=np.log(part["trace"])
            ),
        )


def _batches(n_resamples: int, n_elements: int) -> list[int]:
    """Numbers of resamples, of n_elements each, that are held at once."""
    n_batches = min(n_resamples, 1 + n_resamples * n_elements // correlation.BATCH_ELEMENTS)
    return [len(batch) for batch in np.array_split(np.arange(n_resamples), n_batches)]


def _block(key: tuple, columns: dict) -> pd.DataFrame:
    return pd.DataFrame({"group": key[0], "parametrisation": key[1], **columns})
