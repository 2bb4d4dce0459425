"""Describe a comparison of methods in tables and sentences."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables.analysis import learning_curves
from collective_variables.cli.commands import Comparison
from collective_variables.papers import labels

SUMMARY = (
    "method",
    "n_points",
    "min_test_loss",
    "min_test_loss_standard_error",
    "max_test_accuracy",
    "root_mean_square_error",
    "entropy",
    "trace",
    "n_diverged",
)
DIFFERENCES = ("method", "n_points", "mean_difference", "lower", "upper", "win_rate")
FEW_TEST_POINTS = 20
FEW_NETWORKS = 4
LOST = 10.0  # training loss, in variances of the target, of a network that learned nothing
UNITS = {
    ("regression", "mse"): "mean squared error, in units of the target's variance",
    ("classification", "mse"): "mean squared error of classes as 0 and 1",
    ("classification", "cross-entropy"): "cross-entropy, in nats",
}
# The units of numbers in the answer.
ANSWER_UNITS = {
    ("regression", "mse"): "variances of the target",
    ("classification", "cross-entropy"): "nats",
}


class Setting(NamedTuple):
    """The setting of a comparison.

    Attributes:
        task: "regression" or "classification".
        loss: Training loss, "mse" or "cross-entropy".
        learning_rate: Learning rate.
        n_pool: Number of rows in the pool.
        n_test: Number of test points.
        n_members: Number of networks for each method and size.
        n_epochs: Number of epochs.
        target: Name and standard deviation of the only target of a regression, which turns losses
            into errors in its unit; None otherwise.
    """

    task: str
    loss: str
    learning_rate: float
    n_pool: int
    n_test: int
    n_members: int
    n_epochs: int
    target: tuple[str, float] | None = None


def summary(comparison: Comparison, setting: Setting, /) -> pd.DataFrame:
    """Return a row for each method and size: means over networks that did not diverge.

    The table has the accuracy of a classification, or the root-mean-square error of a regression
    with one target, in the unit of the target.
    """
    table = comparison.summary.copy()
    if setting.target is not None and setting.loss == "mse":
        runs = comparison.runs[~comparison.runs["diverged"]]
        errors = np.sqrt(runs["min_test_loss"]) * setting.target[1]
        keys = ["method", "n_points"]
        means = errors.groupby([runs[key] for key in keys]).mean().rename("root_mean_square_error")
        table = table.join(means, on=keys)
    kept = [name for name in SUMMARY if name in table]
    if setting.task != "classification":
        kept.remove("max_test_accuracy")
    if not table["n_diverged"].any():
        kept.remove("n_diverged")
    return table[kept]


def differences(comparison: Comparison, /) -> pd.DataFrame:
    """Return the paired differences of the smallest test loss from that of random selection."""
    is_loss = comparison.differences["variable"] == "min_test_loss"
    return comparison.differences.loc[is_loss, list(DIFFERENCES)]


def sentences(comparison: Comparison, setting: Setting, /) -> list[str]:
    """Return sentences that interpret the tables."""
    return [
        *_units(setting),
        *_verdicts(comparison, setting),
        *cautions(comparison, setting),
    ]


def answer(comparison: Comparison, setting: Setting, /) -> str:
    """Return in a sentence or two whether to choose rows, and from which size on.

    The answer is about the method that is better than random selection at the most sizes.
    """
    lead = "There is no answer:"
    if reason := failure(comparison, setting):
        return f"{lead} {reason[0].lower()}{reason[1:]}"
    if not len(differences(comparison)):
        return f"{lead} random selection was compared with no other method."
    if setting.n_members < 2:
        return f"{lead} a single network has no interval, and --members 2 or more gives one."
    is_loss = comparison.differences["variable"] == "min_test_loss"
    judged = comparison.differences[is_loss].dropna(subset=["lower", "upper"])
    if not len(judged):
        return f"{lead} fewer than two networks of a size did not diverge."
    judged = judged.assign(better=judged["upper"] < 0, worse=judged["lower"] > 0)
    methods = {name: part.sort_values("n_points") for name, part in judged.groupby("method")}
    best = max(methods, key=lambda name: _success(methods[name]))
    n_methods = comparison.differences["method"].nunique()
    unit = ANSWER_UNITS.get((setting.task, setting.loss), "")
    words = [_best_case(best, methods[best], unit), *_limits(methods[best])]
    if n_methods > 1:
        words.append("No other method is better at more sizes.")
    if cautions(comparison, setting):
        words.append("The cautions below apply.")
    return " ".join(words)


def _success(table: pd.DataFrame) -> tuple[int, int, float]:
    return (
        int(table["better"].sum()),
        -int(table["worse"].sum()),
        -float(table["mean_difference"].iloc[-1]),
    )


def _best_case(method: str, table: pd.DataFrame, unit: str) -> str:
    """Return the difference at the largest size where a method is better, or at the largest."""
    row = (table[table["better"]] if table["better"].any() else table).iloc[-1]
    rows = f"{_counted(int(row['n_points']), 'row')} chosen by {labels.method_label(method)}"
    if not (row["better"] or row["worse"]):
        return (
            f"No advantage over random rows is shown: {rows} have a test loss from "
            f"{-row['lower']:.3g} lower to {row['upper']:.3g} higher than as many random ones "
            f"(95 % interval{f', {unit}' if unit else ''})."
        )
    low, high = sorted((abs(row["lower"]), abs(row["upper"])))
    side = "lower" if row["better"] else "higher"
    return (
        f"{rows} give a test loss {100 * abs(row['relative_difference']):.0f} % {side} than as "
        f"many random ones: by {abs(row['mean_difference']):.3g} "
        f"(95 % interval: {low:.3g} to {high:.3g}{f' {unit}' if unit else ''})."
    )


def _limits(table: pd.DataFrame) -> list[str]:
    """Return the sizes at which to choose at random."""
    sizes, better = table["n_points"].astype(int).tolist(), table["better"].tolist()
    if not any(better):
        return ["Choose at random."]
    others = [size for size, is_better in zip(sizes, better) if not is_better]
    first = sizes[better.index(True)]
    if not others:
        return [f"So it is at every size tried, from {first} rows on."] if len(sizes) > 1 else []
    if max(others) < first:
        return [f"Below {first} rows choose at random: no advantage is shown there."]
    named = ", ".join(map(str, others[:-1])) + " and " * (len(others) > 1) + str(others[-1])
    return [f"At {named} rows choose at random: no advantage is shown there."]


def _units(setting: Setting) -> list[str]:
    unit = UNITS.get((setting.task, setting.loss), setting.loss)
    told = [
        f"Loss: {unit}; the smallest of {setting.n_epochs} epochs on {setting.n_test} test points, "
        f"as the mean over {_counted(setting.n_members, 'network')}. "
        f"The pool has {setting.n_pool} rows."
    ]
    if setting.target is not None and setting.loss == "mse":
        told.append(f"Root-mean-square errors are in the unit of {setting.target[0]}.")
    return told


def _verdicts(comparison: Comparison, setting: Setting) -> list[str]:
    """Return for each method and size how many random rows the chosen ones are worth.

    A single size shows only whether they are better or worse than as many random ones.
    """
    table = differences(comparison)
    if not len(table):
        return []
    worth = _worth(comparison.runs)
    told = []
    for row in table.itertuples():
        text = f"{row.n_points:.0f} rows chosen by {row.method}"
        if (row.method, row.n_points) in worth:
            told.append(f"{text} are worth {worth[row.method, row.n_points]}.")
        elif setting.n_members > 1 and not np.isnan(row.mean_difference):
            told.append(f"{text}: {_direction(row.lower, row.upper)}.")
    if setting.n_members < 2:
        told.append("A single network has no interval: --members 2 or more gives one.")
        return told
    if comparison.runs["n_points"].nunique() < 2:
        told.append("Several sizes after --n-points tell how many random rows these are worth.")
    told.append("Intervals are for this pool and these test points: another --seed draws others.")
    return told


def _direction(lower: float, upper: float) -> str:
    if upper < 0:
        return "a smaller loss than as many random ones"
    if lower > 0:
        return "a larger loss than as many random ones"
    return "no difference from as many random ones is shown"


def _worth(runs: pd.DataFrame) -> dict[tuple[str, float], str]:
    """Return how many random rows the chosen ones are worth, by method and size."""
    if runs["n_points"].nunique() < 2:
        return {}
    table = learning_curves.equivalents(runs)
    bounds = runs["n_points"].min(), runs["n_points"].max()
    return {
        (row.method, row.n_points): f"{_in_rows(row.n_equivalent, bounds)}"
        f"{_interval(row.lower * row.n_points, row.upper * row.n_points, bounds)}"
        for row in table.itertuples()
        if not np.isnan(row.n_equivalent)
    }


def _in_rows(number: float, bounds: tuple[int, int]) -> str:
    if number == 0:
        return f"fewer than {bounds[0]} random ones"
    if np.isinf(number):
        return f"more than {bounds[1]} random ones"
    return f"about {number:.0f} random ones"


def _interval(low: float, high: float, bounds: tuple[int, int]) -> str:
    if np.isnan(low) or np.isnan(high):
        return ""
    least = f"fewer than {bounds[0]}" if low == 0 else f"{low:.0f}"
    most = f"more than {bounds[1]}" if np.isinf(high) else f"{high:.0f}"
    return f" (95 % interval: {least} to {most})"


def cautions(comparison: Comparison, setting: Setting, /) -> list[str]:
    """Return sentences on reasons to doubt the tables."""
    told = []
    if setting.n_test < FEW_TEST_POINTS:
        told.append(
            f"Caution: {_counted(setting.n_test, 'test point')} "
            f"{'says' if setting.n_test == 1 else 'say'} little; --n-test sets the number."
        )
    if 1 < setting.n_members < FEW_NETWORKS:
        told.append(
            f"Caution: intervals from {setting.n_members} networks are rough; --members sets the "
            "number."
        )
    if n_diverged := int(comparison.runs["diverged"].sum()):
        told.append(
            f"Caution: {n_diverged} of {len(comparison.runs)} trainings diverged and are left out: "
            f"lower --learning-rate, now {setting.learning_rate:g}."
        )
    is_regression = (setting.task, setting.loss) == ("regression", "mse")
    is_large = comparison.runs["final_train_loss"] > LOST
    n_lost = int((is_large & ~comparison.runs["diverged"]).sum())
    if is_regression and n_lost:
        told.append(
            f"Caution: {n_lost} of {len(comparison.runs)} trainings end with a loss above "
            f"{LOST:g} on their own rows: lower --learning-rate, now {setting.learning_rate:g}."
        )
    return told


def failure(comparison: Comparison, setting: Setting, /) -> str:
    """Return why nothing could be compared, or "" if something could."""
    if not comparison.runs["diverged"].all():
        return ""
    return (
        f"All {len(comparison.runs)} trainings diverged: "
        f"lower --learning-rate, now {setting.learning_rate:g}."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
