"""Compute means, paired differences and headline numbers of a table of runs.

A table has one row per trained network. A run that diverged enters no statistic: it is only
counted.

Source: Figures 2 to 7 of Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological
Understanding of Neural Networks: Data" (P1).
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from collective_variables import _checks

SIZE_FREE = ("effective_entropy", "trace_per_point", "largest_eigenvalue_fraction")
COLLECTIVE_VARIABLES = ("entropy", "trace", "largest_eigenvalue", "effective_rank", *SIZE_FREE)
LOSSES = ("min_test_loss", "final_test_loss", "min_train_loss", "final_train_loss")
ACCURACIES = ("max_test_accuracy", "final_test_accuracy")
VARIABLES = COLLECTIVE_VARIABLES + LOSSES + ACCURACIES

# Values that a variable cannot exceed; the others have no upper end.
RANGES = dict.fromkeys(
    ("effective_entropy", "largest_eigenvalue_fraction", *ACCURACIES), (0.0, 1.0)
)
UNBOUNDED = (-np.inf, np.inf)
Ends = TypeVar("Ends", float, np.ndarray, pd.Series)

ENSEMBLE = ["group", "parametrisation", "method"]
KEYS = [*ENSEMBLE, "member", "n_points", "diverged"]


def compares_methods(runs: pd.DataFrame) -> pd.Series:
    """Return for each run whether its group has several methods.

    Such a group is P1's Experiment 2, and one with a single method its Experiment 1.
    """
    return runs.groupby("group")["method"].transform("nunique") > 1


def has_several_sizes(runs: pd.DataFrame) -> pd.Series:
    """Return for each run whether its group has several subset sizes, and so a learning curve."""
    return runs.groupby("group")["n_points"].transform("nunique") > 1


def summary(
    runs: pd.DataFrame, variables: Sequence[str] = VARIABLES, *, n_bands: int = 8
) -> pd.DataFrame:
    """Average each variable v over the members of an ensemble (P1, Figures 4 and 5).

    Experiment 1 draws one size per run. An ensemble with more than `n_bands` distinct sizes, and
    more than each member has, is therefore cut into bands of neighbouring sizes of about equal
    count.

    Args:
        runs: One row per trained network.
        variables: Columns to average.
        n_bands: Largest number of bands.

    Returns:
        One row per group, parametrisation, method and size (or band): n_points, n_points_low and
        n_points_high, the mean size and the ends of a band; n_members and n_diverged; `v` the mean,
        `v_standard_deviation` σ (n - 1 degrees of freedom), `v_standard_error` σ/√n, `v_lower` and
        `v_upper` mean ∓ σ/√n.
    """
    n_bands = _checks.integer("n_bands", n_bands, minimum=1)
    runs = checked_runs(runs, variables)
    ensemble_sizes = runs.groupby(ENSEMBLE)["n_points"]
    member_counts = runs.groupby([*ENSEMBLE, "member"])["n_points"].transform("nunique")
    most = member_counts.groupby([runs[key] for key in ENSEMBLE]).transform("max")
    shared = most == ensemble_sizes.transform("nunique")
    runs["band"] = ensemble_sizes.transform(size_bands, n_bands).mask(shared, runs["n_points"])
    table = runs.groupby([*ENSEMBLE, "band"]).agg(
        n_points=("n_points", "mean"),
        n_points_low=("n_points", "min"),
        n_points_high=("n_points", "max"),
        n_members=("diverged", lambda diverged: (~diverged).sum()),
        n_diverged=("diverged", "sum"),
    )
    # A NaN in a run that did not diverge makes the mean NaN, so that n_members holds for every
    # variable.
    converged = runs[~runs["diverged"]].groupby([*ENSEMBLE, "band"])[list(variables)]
    mean = converged.mean(skipna=False)  # pyrefly: ignore[unexpected-keyword]
    deviation = converged.std(skipna=False)  # pyrefly: ignore[unexpected-keyword]
    error = deviation.div(np.sqrt(converged.size()), axis=0)
    parts = {"": mean, "_standard_error": error, "_lower": mean - error, "_upper": mean + error}
    parts["_standard_deviation"] = deviation
    table = table.join([part.add_suffix(name) for name, part in parts.items()])
    return table.reset_index().drop(columns="band")


def paired_differences(
    runs: pd.DataFrame,
    variables: Sequence[str] = VARIABLES,
    *,
    reference: str = "random",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return differences d = method - reference, paired over members, with Student's t test.

    One row per group, parametrisation, method, size and variable: n_pairs; n_diverged, the pairs
    left out because a run diverged; mean_difference; standard_error σ_d/√n; lower and upper, mean ∓
    t_{n-1} σ_d/√n; p_value (two-sided); relative_difference, mean of d / mean of the reference;
    win_rate, the fraction of pairs with d < 0, where ties count as one half; win_rate_lower and
    win_rate_upper, Wilson's interval (1927).

    An interval ends where the range of the difference does, such as ±1 for accuracies (`within`). A
    variable without any value in its group, such as accuracy in a regression, is left out. Runs of
    a single method give an empty table.

    Args:
        runs: One row per trained network.
        variables: Columns to compare.
        reference: The method that the others are compared with.
        confidence: Confidence of the intervals.
    """
    tail = tail_probability(confidence)
    pairs = paired_runs(checked_runs(runs, variables), variables, reference)
    grouped = pairs.groupby([*ENSEMBLE, "n_points", "variable"], sort=False)
    n, mean = grouped["difference"].count(), grouped["difference"].mean()
    error = grouped["difference"].std() / np.sqrt(n)
    margin = error * stats.t.isf(tail, n - 1)
    row_variables = n.index.get_level_values("variable")
    limits = np.array([difference_range(variable) for variable in row_variables])
    lower, upper = within(mean - margin, mean + margin, limits.reshape(-1, 2).T)
    columns = {
        "n_pairs": n,
        "n_diverged": grouped["diverged"].sum(),
        "mean_difference": mean,
        "standard_error": error,
        "lower": lower,
        "upper": upper,
        "p_value": 2 * stats.t.sf((mean / error).abs(), n - 1),
        "relative_difference": mean / grouped["reference"].mean(),
        "win_rate": grouped["win"].mean(),
    }
    columns["win_rate_lower"], columns["win_rate_upper"] = _wilson(
        columns["win_rate"], n, stats.norm.isf(tail)
    )
    return pd.DataFrame(columns, index=n.index).reset_index()


def _wilson(rate: pd.Series, n: pd.Series, z: float) -> tuple[pd.Series, pd.Series]:
    """Return Wilson's score interval of a rate among n; a tie may have counted as half."""
    middle = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # If no pair or all are won, an end is exactly 0 or 1, apart from round-off.
    return (middle - margin).mask(rate == 0, 0.0), (middle + margin).mask(rate == 1, 1.0)


def within(lower: Ends, upper: Ends, limits: Sequence[float | np.ndarray]) -> tuple[Ends, Ends]:
    """Return an interval of a bounded quantity, cut at the ends `limits` of its range.

    Student's interval contains values that a mean of correlations, accuracies or fractions cannot
    have. Without them it covers the mean exactly as often.
    """
    return np.maximum(lower, limits[0]), np.minimum(upper, limits[1])


def difference_range(variable: str) -> tuple[float, float]:
    """Return the least and the largest difference of two values of a variable."""
    low, high = RANGES.get(variable, UNBOUNDED)
    return low - high, high - low


def paired_runs(runs: pd.DataFrame, variables: Sequence[str], reference: str) -> pd.DataFrame:
    """Return each run with the reference run of the same group, size and member.

    Args:
        runs: One row per trained network.
        variables: Columns to compare.
        reference: The method that the others are compared with.

    Returns:
        One row per variable and pair; runs without such a reference run are left out.

    Raises:
        ValueError: A member repeats in an ensemble of one size.
    """
    if runs["method"].nunique() > 1:
        _checks.choice("reference", reference, runs["method"].unique())
        if (n_repeated := runs.duplicated([*ENSEMBLE, "n_points", "member"]).sum()) > 0:
            raise ValueError(
                f"member must be unique in an ensemble of one size: {n_repeated} runs repeat one."
            )
    long = runs.melt(id_vars=KEYS, value_vars=list(variables), var_name="variable")
    long = long[
        long.groupby(["group", "parametrisation", "variable"])["value"].transform("count") > 0
    ]
    is_reference = long["method"] == reference
    key = ["group", "parametrisation", "n_points", "member", "variable"]
    other = long[is_reference].drop(columns="method")
    pairs = long[~is_reference].merge(other, on=key, suffixes=("", "_other"))
    pairs["diverged"] |= pairs["diverged_other"]
    pairs["difference"] = (pairs["value"] - pairs["value_other"]).mask(pairs["diverged"])
    pairs["reference"] = pairs["value_other"].where(pairs["difference"].notna())
    pairs["win"] = (1 - np.sign(pairs["difference"])) / 2
    return pairs


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for their number by Holm's step-down rule (1979).

    The probability of any false rejection among all of them is then at most the level, however they
    depend on each other. NaN means that there was no test, and stays NaN.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)  # NaN last
    factors = np.isfinite(p_values).sum() - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return corrected


def tail_probability(confidence: float) -> float:
    """Return the probability beyond each end of a two-sided interval.

    Args:
        confidence: Confidence of the interval, between 0 and 1.

    Raises:
        ValueError: The confidence is not between 0 and 1.
    """
    if _checks.number("confidence", confidence, above=0) >= 1:
        raise ValueError(f"confidence must be less than 1: received {confidence}.")
    return (1 - confidence) / 2


def checked_runs(runs: pd.DataFrame, variables: Sequence[str]) -> pd.DataFrame:
    """Return a copy, with a fresh index, of a table that has rows and the columns needed."""
    if missing := [column for column in (*KEYS, *variables) if column not in runs.columns]:
        raise ValueError(
            f"runs must have the columns {', '.join(missing)}: received {', '.join(runs.columns)}."
        )
    if runs.empty:
        raise ValueError("runs must have at least one row: received an empty table.")
    if not pd.api.types.is_bool_dtype(runs["diverged"]):
        raise TypeError(
            f"diverged must be a column of booleans: received {runs['diverged'].dtype}."
        )
    return runs.reset_index(drop=True)


def headline(runs: pd.DataFrame, differences: pd.DataFrame, correlations: pd.DataFrame) -> dict:
    """Return the few numbers of a group that fit into a line of a table.

    n_runs and n_diverged come first. With several methods, means over the sizes follow for each
    method other than the reference (and each parametrisation, if there are several): of the
    relative differences from the reference in losses, entropy and trace (`entropy_vs_random`, -0.1
    is 10 % lower), and of the win rate in minimum test loss. With one method, Pearson's r of the
    minimum test loss with entropy and with trace follows for each parametrisation, plain and given
    the subset size (`loss_r_trace_given_size`).
    """
    counts = {"n_runs": len(runs), "n_diverged": int(runs["diverged"].sum())}
    if len(differences):
        several = ["parametrisation"] if differences["parametrisation"].nunique() > 1 else []
        return counts | {
            " ".join(label): _advantage(part)
            for label, part in differences.groupby(["method", *several])
        }
    with_loss = correlations[correlations["y_variable"] == "min_test_loss"]
    return counts | {name: _relations(part) for name, part in with_loss.groupby("parametrisation")}


def _advantage(differences: pd.DataFrame) -> dict[str, float]:
    means = differences.groupby("variable")[["relative_difference", "win_rate"]].mean()
    means = means.reindex(["min_test_loss", "final_test_loss", "entropy", "trace"])
    relative = means["relative_difference"].add_suffix("_vs_random").to_dict()
    return relative | {"win_rate": float(means["win_rate"]["min_test_loss"])}


def _relations(correlations: pd.DataFrame) -> dict[str, float]:
    kinds = correlations["kind"].isin(["pearson", "pearson given size"])
    wanted = correlations[correlations["x_variable"].isin(["entropy", "trace"]) & kinds]
    names = wanted["x_variable"] + wanted["kind"].str.removeprefix("pearson").str.replace(" ", "_")
    return dict(zip("loss_r_" + names, wanted["coefficient"].astype(float)))


def size_bands(sizes: pd.Series, n_bands: int) -> pd.Series:
    """Return the sizes if at most `n_bands` are distinct, else the number of the band of each.

    All bands have about equal counts.
    """
    return (
        sizes
        if sizes.nunique() <= n_bands
        else pd.qcut(sizes, n_bands, labels=False, duplicates="drop")
    )


def block(key: tuple[str, str], columns: dict) -> pd.DataFrame:
    """Return the rows of one group and parametrisation, with these two as first columns."""
    return pd.DataFrame({"group": key[0], "parametrisation": key[1], **columns})
