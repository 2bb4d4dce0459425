"""Summarise rounds of labelling: gains over random rows, win rates, and entropy beside them."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from scipy import stats

RANDOM = "random"
LCMD = "lcmd"
DRAWS = 2000  # of the bootstrap
LEVEL = 0.05
BAR = 10.0  # percent below random, for the best rule on regressions
MEASURES = {"area": "area under the curve", "final": "last round"}
KEYS = ["table", "task", "method"]


def means(played: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over repeats for each table, rule and number of labels."""
    columns = ["error", "entropy", "trace", "batch_entropy", "batch_trace", "choice_seconds"]
    keys = [*KEYS, "n_labelled"]
    found = played.groupby(keys, sort=False)[columns].mean()
    counts = played.groupby(keys, sort=False)["error"].agg(n_repeats="count", error_sem="sem")
    return found.join(counts).reset_index()


def scores(played: pd.DataFrame) -> pd.DataFrame:
    """Return two numbers of each rule, table and repeat, relative to random rows.

    Args:
        played: Rounds, as `rounds.play` returns them, with the columns table and task.

    Returns:
        The columns table, task, method, repeat, `final` and `area`. For a regression they are
        differences of ln RMSE from random rows, in the last round and in the mean over all rounds
        but the first: the area under the learning curve. For a classification they are differences
        of the share of wrong classes.
    """
    played = played.assign(
        level=np.where(played["task"] == "regression", np.log(played["error"]), played["error"])
    )
    later = played[played["round"] > 0]
    keys = [*KEYS, "repeat"]
    last = later[later["round"] == later.groupby("table")["round"].transform("max")]
    found = pd.DataFrame(
        {
            "final": last.set_index(keys)["level"],
            "area": later.groupby(keys)["level"].mean(),
        }
    ).reset_index()
    random = found[found["method"] == RANDOM].set_index(["table", "repeat"])
    for name in MEASURES:
        places = pd.MultiIndex.from_frame(found[["table", "repeat"]])
        found[name] -= random[name].reindex(places).to_numpy()
    return found[found["method"] != RANDOM]


def gains(scored: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the mean score of each rule over tables, with a 95 % interval.

    Tables count equally. The interval is from the bootstrap over the repeats of each table, so it
    holds for these tables.
    """
    generator = np.random.default_rng(0)
    rows = []
    for method, part in scored.groupby("method", sort=False):
        tables = [values.dropna().to_numpy() for _, values in part.groupby("table")[name]]
        draws = np.mean(
            [
                values[generator.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
                for values in tables
            ],
            axis=0,
        )
        mean = np.mean([values.mean() for values in tables])
        rows.append((method, mean, *np.quantile(draws, (0.025, 0.975)), draws.std(ddof=1)))
    columns = ["method", "mean", "lower", "upper", "error"]
    return pd.DataFrame(rows, columns=columns).set_index("method")


def wins(scored: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return how often each rule beats random rows.

    Returns:
        `rate` is the share of repeats of all tables with a lower error, ties counting one half;
        `lower` and `upper` are Wilson's 95 % interval. `better` and `worse` count the tables on
        which the paired t test, corrected for all rules and tables by Holm's method, finds a
        difference.
    """
    keys = ["method", "table"]
    tests = scored.groupby(keys, sort=False)[name].agg(_p_value).rename("p").reset_index()
    tests["mean"] = scored.groupby(keys, sort=False)[name].mean().to_numpy()
    tests["is_found"] = holm(tests["p"].to_numpy()) < LEVEL
    rows = []
    for method, part in scored.groupby("method", sort=False):
        values = part[name].dropna()
        n_wins = float((values < 0).sum() + (values == 0).sum() / 2)
        lower, upper = wilson(n_wins, len(values))
        tested = tests[(tests["method"] == method) & tests["is_found"]]
        better, worse = (tested["mean"] < 0).sum(), (tested["mean"] > 0).sum()
        rows.append((method, n_wins / len(values), lower, upper, better, worse))
    columns = ["method", "rate", "lower", "upper", "better", "worse"]
    return pd.DataFrame(rows, columns=columns).set_index("method")


def _p_value(values: pd.Series) -> float:
    """Return the p value of the t test that the mean difference is 0."""
    values = values.dropna()
    if len(values) < 2 or values.std() == 0:
        return 1.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p values that are corrected for their number by Holm's method (1979)."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return corrected[np.argsort(order)]


def wilson(n_wins: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (1927)."""
    z = stats.norm.ppf(0.975)
    share, square = n_wins / n, z**2 / n
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * np.sqrt(share * (1 - share) / n + square / (4 * n))
    return middle - half, middle + half


def variables(played: pd.DataFrame) -> pd.DataFrame:
    """Return how entropy and trace of the labelled rows go with the error, given their number.

    Returns:
        For each task and variable the correlation with the error within repeats and rounds, between
        rules: both are deviations from their mean over rules, in units of their standard deviation
        there. The interval is from the bootstrap over repeats of tables.
    """
    later = played[(played["round"] > 0) & played["error"].notna()]
    groups = later.groupby(["table", "repeat", "round"])
    standard = {
        name: (later[name] - groups[name].transform("mean")) / groups[name].transform("std")
        for name in ("error", "entropy", "trace", "batch_entropy", "batch_trace")
    }
    scaled = later.assign(**standard)
    generator = np.random.default_rng(0)
    rows = []
    for task, part in scaled.groupby("task", sort=False):
        for name in ("entropy", "trace", "batch_entropy", "batch_trace"):
            products = part["error"] * part[name]
            means = products.groupby([part["table"], part["repeat"]]).mean().dropna().to_numpy()
            draws = means[generator.integers(len(means), size=(DRAWS, len(means)))].mean(axis=1)
            rows.append((task, name, means.mean(), *np.quantile(draws, (0.025, 0.975))))
    return pd.DataFrame(rows, columns=["task", "variable", "correlation", "lower", "upper"])


def report(played: pd.DataFrame, made: Collection[str] = ()) -> str:
    """Return all tables as text, and whether the bar is met.

    Args:
        played: Rounds, as `rounds.play` returns them, with the columns table and task.
        made: Tables that no one has measured. The result without them is given as well.
    """
    parts = [_head(played)]
    scored = scores(played)
    for task in ("regression", "classification"):
        if (part := scored[scored["task"] == task]).empty:
            continue
        parts.append(_by_rule(task, part, played[played["task"] == task]))
        parts += [_by_table(task, part, name) for name in MEASURES]
    parts.append(_variables(played))
    if (scored["task"] == "regression").any():
        parts.append(_bar(scored[scored["task"] == "regression"], made))
    return "\n\n".join(parts)


def _head(played: pd.DataFrame) -> str:
    counts = played.groupby("table", sort=False)["repeat"].nunique()
    least, most = counts.min(), counts.max()
    n_failed = int(played["error"].isna().sum())
    return (
        f"{len(counts)} tables, {f'{least} to ' if least < most else ''}{most} repeats, "
        f"{played['method'].nunique()} rules; {n_failed} of {len(played)} rounds have no result "
        "because a training diverged."
    )


def _units(task: str, values: pd.DataFrame) -> pd.DataFrame:
    """Return percent of random's RMSE minus 100, or percentage points of wrong classes."""
    return 100 * (np.expm1(values) if task == "regression" else values)


def _by_rule(task: str, scored: pd.DataFrame, played: pd.DataFrame) -> str:
    ends = ["mean", "lower", "upper"]
    found = {name: _units(task, gains(scored, name)[ends]) for name in MEASURES}
    rates = {name: wins(scored, name) for name in MEASURES}
    seconds = played.groupby("method")["choice_seconds"].median()
    unit = (
        "RMSE in % of random rows' minus 100"
        if task == "regression"
        else ("wrong classes minus random rows', percentage points")
    )
    lines = [
        f"{task}: {unit}; 95 % intervals; wins in repeats; tables better/worse (Holm)",
        f"{'rule':18s} {'area under curve':>24s} {'last round':>24s} {'wins (area)':>20s} "
        f"{'tables':>8s} {'seconds':>8s}",
    ]
    for method in found["area"]["mean"].sort_values().index:
        cells = [
            f"{row['mean']:+.1f} [{row['lower']:+.1f}, {row['upper']:+.1f}]"
            for row in (found[name].loc[method] for name in MEASURES)
        ]
        rate = rates["area"].loc[method]
        won = f"{rate['rate']:.0%} [{rate['lower']:.0%}, {rate['upper']:.0%}]"
        tables = f"{rate['better']:.0f}/{rate['worse']:.0f}"
        lines.append(
            f"{method:18s} {cells[0]:>24s} {cells[1]:>24s} {won:>20s} {tables:>8s} "
            f"{seconds[method]:8.2f}"
        )
    return "\n".join(lines)


def _by_table(task: str, scored: pd.DataFrame, name: str) -> str:
    values = scored.pivot_table(index="method", columns="table", values=name, sort=False)
    written = _units(task, values).to_string(float_format="{:+.1f}".format)
    return f"{task}, {MEASURES[name]} by table:\n{written}"


def _variables(played: pd.DataFrame) -> str:
    lines = [
        "Correlation of a variable with the error between rules, given table, repeat and number "
        "of labels (negative: more of it goes with a lower error):"
    ]
    for row in variables(played).itertuples():
        lines.append(
            f"{row.task:15s} {row.variable:14s} {row.correlation:+.2f} "
            f"[{row.lower:+.2f}, {row.upper:+.2f}]"
        )
    return "\n".join(lines)


def _bar(scored: pd.DataFrame, made: Collection[str]) -> str:
    lines = []
    for name, words in MEASURES.items():
        found = gains(scored, name)
        best = found["mean"].idxmin()
        percent = -100 * np.expm1(found.loc[best, "mean"])
        verdict = "PASS" if percent >= BAR else "FAIL"
        lines.append(
            f"{verdict}: {best} has a geometric mean of RMSE {percent:.1f} % below random rows' "
            f"({words}); at least {BAR:g} % is wanted."
        )
        measured = scored[~scored["table"].isin(made)]
        if 0 < len(measured) < len(scored):
            values = _units("regression", gains(measured, name).loc[best])
            lines.append(
                f"{best} on the {measured['table'].nunique()} measured tables alone: "
                f"{values['mean']:+.1f} % [{values['lower']:+.1f}, {values['upper']:+.1f}]."
            )
        if LCMD in found.index and best != LCMD:
            pairs = scored.pivot_table(index=["table", "repeat"], columns="method", values=name)
            difference = (pairs[best] - pairs[LCMD]).groupby("table").agg(["mean", "sem"])
            error = np.sqrt((difference["sem"] ** 2).sum()) / len(difference)
            lines.append(
                f"{best} minus lcmd: {100 * difference['mean'].mean():+.1f} % "
                f"(standard error {100 * error:.1f})."
            )
    return "\n".join(lines)
