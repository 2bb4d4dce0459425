"""Compare learning curves of rounds of labelling on one table, in pairs over repeats.

Rounds are a table as `rounds.play` returns it: a row for each method, repeat and round. In each
repeat all methods share the split, the first rows and the initial networks, so their differences
are paired. A round without a result, because a training diverged, enters no statistic: it is only
counted.

Intervals are over repeats of one table. They say nothing about other tables.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats
from scipy.optimize import isotonic_regression

from collective_variables import _checks, _errors
from collective_variables.analysis import statistics

VARIABLES = ("error", "accuracy", "entropy", "trace")
MEASURES = ("final", "area")
COLUMNS = ("method", "repeat", "round", "n_labelled", *VARIABLES)
RANGES = {"accuracy": (0.0, 1.0)}
POSITIVE = (0.0, np.inf)
ROUND_OFF = 1e-9  # of an error; means that differ by less are equal


def summary(played: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return means over repeats with Student's intervals.

    Also raises ValueError if the table lacks columns or rows, or for a confidence that is not
    between 0 and 1.

    Args:
        played: Rounds of one table.
        confidence: Confidence of the intervals.

    Returns:
        A row for each method and number of labels: n_repeats, the repeats with a result;
        n_diverged, those without; and for each variable v of `VARIABLES` its mean `v`, and its
        interval `v_lower` and `v_upper`, cut at the ends of the range of v. Intervals are NaN for a
        single repeat.

    Example:
        >>> import pandas as pd
        >>> played = pd.DataFrame(
        ...     {"method": "random", "repeat": [0, 1], "round": 0, "n_labelled": 20}
        ... ).assign(error=[1.0, 2.0], accuracy=float("nan"), entropy=2.5, trace=9.0)
        >>> summary(played)[["method", "n_labelled", "n_repeats", "error"]].values.tolist()
        [['random', 20, 2, 1.5]]
    """
    tail = statistics.tail_probability(confidence)
    played = _checked(played)
    grouped = played.groupby(["method", "n_labelled"], sort=False)
    found = {"n_repeats": grouped["error"].count()}
    found["n_diverged"] = grouped["error"].size() - found["n_repeats"]
    for name in VARIABLES:
        mean, n = grouped[name].mean(), grouped[name].count()
        margin = grouped[name].sem() * stats.t.isf(tail, n - 1)
        limits = RANGES.get(name, POSITIVE)
        found[name] = mean
        found[f"{name}_lower"], found[f"{name}_upper"] = statistics.within(
            mean - margin, mean + margin, limits
        )
    return pd.DataFrame(found).reset_index()


def scores(
    played: pd.DataFrame, variable: str = "error", *, reference: str = "random"
) -> pd.DataFrame:
    """Return two numbers of each method and repeat, and those of the reference.

    Also raises ValueError if the table lacks columns or rows, or for an unknown reference.

    Args:
        played: Rounds of one table.
        variable: Column of the table.
        reference: The method that the others are compared with.

    Returns:
        A row for each repeat of each other method. `final` is the variable in the last round, and
        `area` its mean over all rounds but the first, which is the area under the learning curve
        divided by its width. `reference_final` and `reference_area` are those of the reference. All
        are NaN without a result.
    """
    played = _checked(played)
    _checks.choice("reference", reference, played["method"].unique())
    later = played[played["round"] > 0]
    keys = ["method", "repeat"]
    last = later[later["round"] == later["round"].max()]
    grouped = later.groupby(keys, sort=False)[variable]
    # A mean over fewer rounds would be another quantity.
    area = grouped.mean().where(grouped.count() == grouped.size())
    found = pd.DataFrame({"final": last.set_index(keys)[variable], "area": area}).reset_index()
    other = found[found["method"] == reference].drop(columns="method")
    pairs = found[found["method"] != reference].merge(other, on="repeat", suffixes=("", "_other"))
    renamed = {f"{name}_other": f"reference_{name}" for name in MEASURES}
    order = pairs["method"].map({name: k for k, name in enumerate(played["method"].unique())})
    pairs = pairs.iloc[np.lexsort((pairs["repeat"], order))]
    return pairs.rename(columns=renamed).reset_index(drop=True)


def differences(
    played: pd.DataFrame,
    variable: str = "error",
    *,
    reference: str = "random",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return differences from the reference, paired over repeats, with Student's intervals.

    Also raises the errors of `scores` and `summary`.

    Args:
        played: Rounds of one table.
        variable: Column of the table, which is not negative.
        reference: The method that the others are compared with.
        confidence: Confidence of the intervals.

    Returns:
        Two rows for each other method, with the `measure` "final" and "area" of `scores`: n_pairs;
        n_diverged, the pairs left out because a training diverged; `value` and `reference_value`,
        the means of both; mean_difference, method minus reference, with its interval lower and
        upper, cut at the ends of the range of differences; relative_difference, mean_difference /
        reference_value; win_rate, the share of pairs in which the method is lower, or has the
        higher accuracy, where ties count one half.
    """
    tail = statistics.tail_probability(confidence)
    better = 1 if variable == "accuracy" else -1
    scored = scores(played, variable, reference=reference)
    rows = []
    for method, part in scored.groupby("method", sort=False):
        for measure in MEASURES:
            values = part[[measure, f"reference_{measure}"]]
            pairs = values.dropna()
            difference = pairs[measure] - pairs[f"reference_{measure}"]
            n, mean = len(pairs), difference.mean()
            margin = difference.sem() * stats.t.isf(tail, n - 1) if n > 1 else np.nan
            value, other = pairs.mean()
            wins = ((1 + better * np.sign(difference)) / 2).mean()
            # Errors are not negative, and accuracies lie between 0 and 1.
            limits = (-1.0, 1.0) if variable == "accuracy" else (-other, np.inf)
            ends = statistics.within(mean - margin, mean + margin, limits)
            counts = n, len(values) - n
            relative = mean / other if other else np.nan
            rows.append((method, measure, *counts, value, other, mean, *ends, relative, wins))
    return pd.DataFrame(rows, columns=list(DIFFERENCES))


DIFFERENCES = (
    "method",
    "measure",
    "n_pairs",
    "n_diverged",
    "value",
    "reference_value",
    "mean_difference",
    "lower",
    "upper",
    "relative_difference",
    "win_rate",
)
"""The columns of `differences`."""


def savings(
    played: pd.DataFrame,
    *,
    reference: str = "random",
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the number of labels at which one method is as good as another in the last round.

    Curves are mean errors over the repeats in which no training of the two methods diverged. They
    are made monotone by isotonic regression, and are linear in ln n between rounds.

    Also raises the errors of `scores`.

    Args:
        played: Rounds of one table.
        reference: The method that the others are compared with.
        confidence: Confidence of the intervals.
        n_resamples: Number of resamples of the bootstrap.
        seed: Seed of the resamples.

    Returns:
        Two rows for each other method, with `role` "method" and "reference". In the first,
        `n_labelled` is the smallest number at which the method reaches the error of the reference
        in the last round. In the second, method and reference are exchanged. It is inf if the last
        round does not reach the error, and 0 if fewer labels than the first rows would. `lower` and
        `upper` are from the percentile bootstrap over repeats, where both methods are drawn
        together. Percentiles are widened for few repeats (Hesterberg 2015), as in
        `learning_curves.equivalents`. They are NaN for fewer than two repeats.
    """
    tail = statistics.tail_probability(confidence)
    n_resamples = _checks.integer("n_resamples", n_resamples, minimum=1)
    generator = np.random.default_rng(seed)
    rows = []
    for method, sizes, curves in _curves(played, reference):
        n = curves.shape[1]
        weights = np.empty((0, n))
        if n > 1:
            weights = generator.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
        for role, own, other in (("method", 0, 1), ("reference", 1, 0)):
            reached = lower = upper = np.nan
            if n:
                means = curves.mean(axis=1)
                reached, _, _ = _reached(sizes, means[own], means[other, -1])
            if n > 1:
                drawn = [
                    _reached(sizes, resample[own], resample[other, -1])
                    for resample in np.swapaxes(weights @ curves, 0, 1)
                ]
                _, least, most = np.transpose(drawn)
                widened = stats.norm.sf(stats.t.isf(tail, n - 1) * np.sqrt(n / (n - 1)))
                # A percentile that is one of the resamples, because infinite ones have no mean.
                lower = np.quantile(least, widened, method="inverted_cdf")
                upper = np.quantile(most, 1 - widened, method="inverted_cdf")
            rows.append((method, role, n, reached, lower, upper))
    columns = ["method", "role", "n_pairs", "n_labelled", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)


def _curves(
    played: pd.DataFrame, reference: str
) -> Iterator[tuple[str, Int[np.ndarray, " n_sizes"], Float[np.ndarray, "2 n_pairs n_sizes"]]]:
    """Yield each other method, the numbers of labels, and the errors of it and the reference."""
    played = _checked(played)
    methods = played["method"].unique()
    _checks.choice("reference", reference, methods)
    table = played.pivot(index=["method", "repeat"], columns="n_labelled", values="error")
    sizes = table.columns.to_numpy()
    for method in methods:
        if method != reference:
            both = pd.concat([table.loc[method], table.loc[reference]], axis=1, join="inner")
            complete = both.dropna().to_numpy(float)
            yield method, sizes, complete.reshape(-1, 2, len(sizes)).swapaxes(0, 1)


def _reached(
    sizes: Int[np.ndarray, " n_sizes"], curve: Float[np.ndarray, " n_sizes"], error: float
) -> tuple[float, float, float]:
    """Return the smallest number of labels at which a curve is as low as an error, and its bounds.

    Beyond the rounds the number is 0 or inf, and the bounds are all that is possible.
    """
    falling = isotonic_regression(curve, increasing=False).x
    limit = error + ROUND_OFF * abs(error)
    after = int(np.searchsorted(-falling, -limit))
    if after == len(sizes):
        return np.inf, float(sizes[-1]), np.inf
    if after == 0:
        is_equal = falling[0] >= error - ROUND_OFF * abs(error)
        return (float(sizes[0]),) * 3 if is_equal else (0.0, 0.0, float(sizes[0]))
    share = (falling[after - 1] - error) / (falling[after - 1] - falling[after])
    few, many = np.log(sizes[after - 1]), np.log(sizes[after])
    number = float(np.exp(few + min(share, 1.0) * (many - few)))
    return number, number, number


def _checked(played: pd.DataFrame) -> pd.DataFrame:
    """Return the table.

    Raises:
        InvalidValueError: It lacks columns or rows, or a round of a repeat occurs twice.
    """
    if missing := [name for name in COLUMNS if name not in played]:
        raise _errors.InvalidValueError(
            f"played must have the columns {', '.join(missing)}: "
            f"received {', '.join(map(str, played.columns))}."
        )
    if played.empty:
        raise _errors.InvalidValueError("played must have a row at least: received none.")
    if n_repeated := int(played.duplicated(["method", "repeat", "n_labelled"]).sum()):
        raise _errors.InvalidValueError(
            f"played must have a row for each method, repeat and round: {n_repeated} occur twice. "
            "Give the rounds of one table."
        )
    return played
