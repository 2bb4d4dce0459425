"""Make the tables of both experiments of the first paper."""

from collections.abc import Mapping, Sequence

import pandas as pd
import yaml

from benchmarks._markdown import (
    NONE,
    PARAMETRISATIONS,
    VERDICT_COLUMNS,
    count_verdicts,
    percent,
    table,
    verdict,
)
from benchmarks.pages.files import ROOT, read
from collective_variables.papers import results_2023

MEASURED = ("min_test_loss", "final_test_loss", "entropy", "trace")
DIGITS = {"min_test_loss": 3, "entropy": 2, "trace": 1}
FIRST_METHODS = ["random", "rnd-linearised", "rnd"]  # in tables
LIMIT_PAIRS = ((("entropy", "limit_entropy"), 2), (("trace", "limit_trace"), 1))  # and digits
# The columns of the paired differences in reference/differences.csv.
DIFFERENCES = ["group", "parametrisation", "method", "n_points", "variable", "relative_difference"]
DIFFERENCES += ["lower", "upper", "win_rate", "win_rate_lower", "win_rate_upper"]
Networks = Mapping[str, tuple[str, Sequence[str]]]


def best_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the number of runs of each network, and the best run."""
    rows = []
    for (group, parametrisation), part in runs.groupby(["group", "parametrisation"], sort=False):
        converged = part[~part["diverged"]]
        rows.append(
            {
                "group": group,
                "parametrisation": parametrisation,
                "n_runs": len(part),
                "n_points": part["n_points"].max(),
                "max_test_accuracy": converged["max_test_accuracy"].max(),
                "min_test_loss": converged["min_test_loss"].min(),
            }
        )
    return pd.DataFrame(rows)


def describe_networks() -> Networks:
    """Return problem and layers of each group of Experiment 1 in params.yaml."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    groups = read("best-runs.csv")["group"].unique()
    return {
        group: (params[f"{group}_LoadDataset"]["problem"], params[f"{group}_Network"]["layers"])
        for group in groups
    }


def compare_with_table_2(best: pd.DataFrame, networks: Networks) -> str:
    """Return the rows of `best_runs` next to those of the paper's Table 2."""
    rows = []
    for row in best.to_dict("records"):
        problem, layers = networks[row["group"]]
        n_runs, accuracy, loss = results_2023.TABLE_2.get(
            (problem, ", ".join(layers)), (None, None, None)
        )
        rows.append(
            [
                f"{row['group']}, {PARAMETRISATIONS[row['parametrisation']]}",
                NONE if n_runs is None else f"{n_runs}",
                f"{row['n_runs']} (≤ {row['n_points']} points)",
                percent(accuracy, 0),
                percent(row["max_test_accuracy"], 1),
                NONE if loss is None else f"{loss:.3f}",
                f"{row['min_test_loss']:.3f}",
            ]
        )
    header = ["network", "runs, paper", "runs, ours", "max accuracy, paper", "max accuracy, ours"]
    return table([*header, "min test loss, paper", "min test loss, ours"], rows)


def ordered(methods: pd.Index) -> list[str]:
    """Return the methods with random selection and both forms of RND first."""
    first = [method for method in FIRST_METHODS if method in methods]
    return first + sorted(set(methods) - set(FIRST_METHODS))


def selection_table(summary: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Return the means of every group, size and method, and differences from random selection."""
    rows = []
    losses = differences[differences["variable"] == "min_test_loss"]
    by_case = losses.set_index(["group", "method", "n_points"])
    for group in differences["group"].unique():
        part = summary[summary["group"] == group]
        for n in sorted(part["n_points"].unique()):
            means = part[part["n_points"] == n].set_index("method")
            for method in ordered(means.index):
                row = [group, f"{n:.0f}", method, *_means_and_errors(means.loc[method])]
                if method != "random":
                    row += _difference(by_case.loc[(group, method, n)])
                rows.append(row if method != "random" else [*row, "", "", ""])
    header = ["problem", "n", "method", "min test loss", "S", "Tr"]
    header += ["95 % interval of the paired difference", "its loss is", "win rate"]
    return table(header, rows)


def _means_and_errors(means: pd.Series) -> list[str]:
    return [
        f"{means[variable]:.{digits}f} ± {means[f'{variable}_standard_error']:.{digits}f}"
        for variable, digits in DIGITS.items()
    ]


def _difference(loss: pd.Series) -> list[str]:
    rate, low, high = (100 * loss[f"win_rate{end}"] for end in ("", "_lower", "_upper"))
    ends = loss["lower"], loss["upper"]
    return [
        f"{ends[0]:+.3f} … {ends[1]:+.3f}",
        verdict(*ends),
        f"{rate:.0f} % ({low:.0f} to {high:.0f})",
    ]


def verdicts_table(differences: pd.DataFrame) -> str:
    """Return relative differences of each method from random selection, means over sizes."""
    rows = []
    for group, part in differences.groupby("group", sort=False):
        for method in ordered(pd.Index(part["method"].unique())):
            by_variable = dict(iter(part[part["method"] == method].groupby("variable")))
            loss = by_variable["min_test_loss"]
            relative = [
                percent(by_variable[name]["relative_difference"].mean(), 0, sign=True)
                for name in MEASURED
            ]
            counts = count_verdicts(loss["lower"], loss["upper"])
            rows.append([group, method, *relative, percent(loss["win_rate"].mean(), 0), *counts])
    header = ["problem", "method", "min test loss", "final test loss", "S", "Tr", "win rate"]
    return table([*header, *VERDICT_COLUMNS], rows)


def correlations_table(correlations: pd.DataFrame, groups: Sequence[str]) -> str:
    """Return the correlations of entropy and trace with the minimum test loss in some groups."""
    keys = ["kind", "x_variable", "y_variable"]
    rows = []
    chosen = correlations[correlations["group"].isin(groups)]
    for (group, parametrisation), part in chosen.groupby(["group", "parametrisation"], sort=False):
        coefficients = part.set_index(keys)
        row = [f"{group}, {PARAMETRISATIONS[parametrisation]}"]
        for variable in ("entropy", "trace"):
            for kind in ("pearson", "pearson given size"):
                one = coefficients.loc[(kind, variable, "min_test_loss")]
                row.append(f"{one['coefficient']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]")
        rows.append(row)
    return table(["network", "S", "S, given the size", "Tr", "Tr, given the size"], rows)


def mean_limits(limits: pd.DataFrame, group: str) -> dict:
    """Return the means over members of kernels of random subsets and their infinite-width limits.

    Args:
        limits: The table of a ComputeNTK stage.
        group: Name of the group.

    Returns:
        The means with the sizes, as a row of `limits_table`.
    """
    limits = limits[limits["method"] == "random"]
    names = ["relative_distance", "alignment", *(name for pair, _ in LIMIT_PAIRS for name in pair)]
    means = limits[names].mean()
    error = limits["relative_distance"].sem()
    sizes = {"group": group, "n_members": len(limits), "n_points": limits["n_points"].max()}
    return sizes | means.to_dict() | {"relative_distance_standard_error": error}


def limits_table(limits: pd.DataFrame) -> str:
    """Return kernels of random subsets next to those of infinite width, as means over members.

    Args:
        limits: Rows of `mean_limits`. Networks have the parametrisation "ntk".

    Returns:
        The table in Markdown.
    """
    rows = [
        [
            row["group"],
            f"{row['n_members']}",
            f"{row['n_points']}",
            f"{row['relative_distance']:.2f} ± {row['relative_distance_standard_error']:.2f}",
            f"{row['alignment']:.2f}",
            *(f"{row[name]:.{digits}f}" for names, digits in LIMIT_PAIRS for name in names),
        ]
        for row in limits.to_dict("records")
    ]
    header = ["network", "members", "points, at most", "distance", "alignment"]
    return table([*header, "S", "S, infinite", "Tr", "Tr, infinite"], rows)


def decisions_table() -> str:
    """Return the decisions where the paper is silent."""
    decisions = yaml.safe_load((ROOT / "nodes" / "decisions.yaml").read_text())
    rows = [
        [decision["question"], decision["ours"], f"`{decision['where']}`"] for decision in decisions
    ]
    return table(["question", "ours", "where"], rows)
