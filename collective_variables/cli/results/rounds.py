"""Describe rounds of labelling in tables and sentences."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables.analysis import labelling_curves
from collective_variables.cli.commands import REFERENCE

FEW_TEST_POINTS = 20
FEW_REPEATS = 5
MEASURES = {"final": "last round", "area": "mean of rounds"}
DIFFERENCES = ("method", "measure", "mean_difference", "lower", "upper", "win_rate")


class Setting(NamedTuple):
    """The setting of rounds of labelling.

    Attributes:
        task: "regression" or "classification".
        target: Name of the only target; None if there are several.
        n_pool: Number of rows in the pool.
        n_test: Number of test points.
        n_rounds: Number of batches.
        n_points: Number of first rows, and of rows in each batch.
        n_repeats: Number of repeats.
        n_networks: Number of networks in each round.
        n_epochs: Number of steps of a training.
        learning_rate: Learning rate of the first step.
    """

    task: str
    target: str | None
    n_pool: int
    n_test: int
    n_rounds: int
    n_points: int
    n_repeats: int
    n_networks: int
    n_epochs: int
    learning_rate: float

    @property
    def variable(self) -> str:
        """The column that is compared: "accuracy" of a classification, else "error"."""
        return "accuracy" if self.task == "classification" else "error"

    @property
    def n_labels(self) -> int:
        """The number of labels in the last round."""
        return self.n_points * (self.n_rounds + 1)

    @property
    def unit(self) -> str:
        """The unit of the error or the accuracy, in words."""
        if self.task == "classification":
            return "the share of right classes"
        target = "the targets" if self.target is None else self.target
        return f"the root mean squared error, in the unit of {target},"


class Rounds(NamedTuple):
    """Hold the rounds as they were played, and their statistics of `labelling_curves`."""

    played: pd.DataFrame
    means: pd.DataFrame
    differences: pd.DataFrame
    savings: pd.DataFrame


def evaluate(played: pd.DataFrame, setting: Setting, /) -> Rounds:
    """Return the statistics of rounds of one table."""
    return Rounds(
        played,
        labelling_curves.summary(played),
        labelling_curves.differences(played, setting.variable, reference=REFERENCE),
        labelling_curves.savings(played, reference=REFERENCE),
    )


def summary(rounds: Rounds, setting: Setting, /) -> pd.DataFrame:
    """Return a row for each method and number of labels: mean error or accuracy, and its interval.

    Diverged trainings are counted if there are any.
    """
    name = setting.variable
    columns = {name: name, f"{name}_lower": "lower", f"{name}_upper": "upper"}
    kept = ["method", "n_labelled", *columns]
    if rounds.means["n_diverged"].any():
        kept.append("n_diverged")
    return rounds.means[kept].rename(columns=columns)


def differences(rounds: Rounds, /) -> pd.DataFrame:
    """Return the paired differences from random selection, with the measures in words."""
    table = rounds.differences[list(DIFFERENCES)]
    return table.assign(measure=table["measure"].map(MEASURES))


def sentences(rounds: Rounds, setting: Setting, /) -> list[str]:
    """Return sentences that interpret the tables."""
    return [*_about(setting), *_verdicts(rounds, setting), *cautions(rounds, setting)]


def answer(rounds: Rounds, setting: Setting, name: Callable[[str], str] = str, /) -> str:
    """Return in a few sentences whether to choose rows.

    The answer is about the method whose mean in the last round is best.

    Args:
        rounds: The rounds.
        setting: Their setting.
        name: A function that returns the name of a method in words.

    Returns:
        The answer.
    """
    lead = "There is no answer:"
    if reason := failure(rounds, setting):
        return f"{lead} {reason[0].lower()}{reason[1:]}"
    if not len(rounds.differences):
        return f"{lead} random rows were compared with no other method."
    if setting.n_repeats < 2:
        return f"{lead} a single repeat has no interval, and --members {FEW_REPEATS} gives one."
    final = rounds.differences[rounds.differences["measure"] == "final"]
    judged = final.dropna(subset=["lower", "upper"])
    if not len(judged):
        return f"{lead} fewer than two repeats ended without a training that diverged."
    sign = -1 if setting.variable == "accuracy" else 1
    best = judged.loc[(sign * judged["mean_difference"]).idxmin()]
    words = [*_case(best, rounds, setting, name)]
    if _direction(best, setting) != "better":
        words.append("Choose at random.")
    if len(judged) > 1:
        words.append("No other method has a better mean in the last round.")
    if cautions(rounds, setting):
        words.append("The cautions below apply.")
    return " ".join(words)


def _about(setting: Setting) -> list[str]:
    name = setting.variable.capitalize()
    rounds = "1 round" if setting.n_rounds == 1 else f"each of {setting.n_rounds} rounds"
    return [
        f"{name}: {setting.unit} on {_counted(setting.n_test, 'test point')}. The pool has "
        f"{setting.n_pool} rows.",
        f"The first {_counted(setting.n_points, 'row')} "
        f"{'is' if setting.n_points == 1 else 'are'} random. Then {rounds} adds "
        f"{setting.n_points} and trains {_counted(setting.n_networks, 'network')} anew.",
    ]


def _verdicts(rounds: Rounds, setting: Setting) -> list[str]:
    """Return for each method how it compares with random rows in the last round."""
    told = []
    for _, row in rounds.differences.iterrows():
        if row["measure"] == "final" and row["n_pairs"]:
            told += _case(row, rounds, setting, str)
    if setting.n_repeats < 2:
        told.append(
            f"A single repeat of one table has no interval: --members {FEW_REPEATS} or more gives "
            "one."
        )
        return told
    told.append(
        f"Intervals are over {setting.n_repeats} repeats of one table. Each has another split, "
        "other first rows and other networks."
    )
    return told


def _case(
    row: pd.Series, rounds: Rounds, setting: Setting, name: Callable[[str], str]
) -> list[str]:
    """Return the comparison of a method with random rows, and the labels that it saves if shown."""
    method = name(str(row["method"]))
    values = f"{row['value']:.3g}", f"{row['reference_value']:.3g}"
    lead = (
        f"After {_counted(setting.n_rounds, 'round')} ({setting.n_labels} labels), {method} has an "
        f"{setting.variable} of {values[0]}, random rows {values[1]}"
    )
    side = _direction(row, setting)
    if side == "unknown":
        return [f"{lead}: {_change(row['mean_difference'], row, setting)}."]
    low, high = (_change(row[end], row, setting) for end in ("lower", "upper"))
    if side == "undecided":
        return [f"{lead}: no difference is shown (95 % interval: {low} to {high})."]
    if row["upper"] < 0:
        low, high = high, low
    least = low.partition(" ")[0]
    change = _change(row["mean_difference"], row, setting)
    told = [f"{lead}: {change} (95 % interval: {least} to {high})."]
    role = "method" if side == "better" else "reference"
    table = rounds.savings
    is_row = (table["method"] == row["method"]) & (table["role"] == role)
    if text := _saving(table[is_row].iloc[0], role, method, setting):
        told.append(text)
    return told


def _direction(row: pd.Series, setting: Setting) -> str:
    """Return whether a method is "better", "worse" or "undecided"; "unknown" without interval."""
    if np.isnan(row["lower"]) or np.isnan(row["upper"]):
        return "unknown"
    if row["lower"] <= 0 <= row["upper"]:
        return "undecided"
    return "better" if (row["upper"] < 0) == (setting.variable == "error") else "worse"


def _change(difference: float, row: pd.Series, setting: Setting) -> str:
    """Return a difference from random rows in words: percent, or points of accuracy."""
    side = "lower" if difference < 0 else "higher"
    if setting.variable == "accuracy":
        return f"{100 * abs(difference):.2g} percentage points {side}"
    if row["reference_value"] == 0:
        return f"{abs(difference):.3g} {side}"
    return f"{100 * abs(difference) / row['reference_value']:.0f} % {side}"


def _saving(saving: pd.Series, role: str, method: str, setting: Setting) -> str:
    """Return how many labels of the better method are worth those of the other; "" if unknown."""
    better, worse = (method, "random rows") if role == "method" else ("random rows", method)
    number = saving["n_labelled"]
    if not np.isfinite(number):
        return ""
    verb = "are" if better == "random rows" else "is"
    least, most = setting.n_points, setting.n_labels
    labels = f"about {number:.0f}" if number else f"fewer than {least}"
    text = f"With {labels} labels {better} {verb} as good as {worse} with {most}"
    if np.isnan(saving["lower"]):
        return f"{text}."
    low = f"{saving['lower']:.0f}" if saving["lower"] else f"fewer than {least}"
    high = f"{saving['upper']:.0f}" if np.isfinite(saving["upper"]) else f"more than {most}"
    return f"{text} (95 % interval: {low} to {high})."


def cautions(rounds: Rounds, setting: Setting, /) -> list[str]:
    """Return sentences on reasons to doubt the tables."""
    told = []
    if setting.n_test < FEW_TEST_POINTS:
        told.append(
            f"Caution: {_counted(setting.n_test, 'test point')} "
            f"{'says' if setting.n_test == 1 else 'say'} little; --n-test sets the number."
        )
    if 1 < setting.n_repeats < FEW_REPEATS:
        told.append(
            f"Caution: intervals from {setting.n_repeats} repeats are rough; --members sets the "
            "number."
        )
    if n_diverged := _n_diverged(rounds.played):
        n_runs = len(rounds.played.groupby(["method", "repeat"]))
        told.append(
            f"Caution: in {n_diverged} of {n_runs} runs a training diverged, and later rounds are "
            f"left out: lower --learning-rate, now {setting.learning_rate:g}."
        )
    return told


def failure(rounds: Rounds, setting: Setting, /) -> str:
    """Return why nothing could be compared, or "" if something could."""
    if rounds.played["error"].notna().any():
        return ""
    return (
        "The first training of every repeat diverged: "
        f"lower --learning-rate, now {setting.learning_rate:g}."
    )


def _n_diverged(played: pd.DataFrame) -> int:
    """Return how many runs, of a method in a repeat, ended because a training diverged."""
    return int(played["error"].isna().groupby([played["method"], played["repeat"]]).any().sum())


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
