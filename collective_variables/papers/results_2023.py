"""Figures and tables of Tovey et al. 2023 (P1) from a table of our runs, and tables that P1 lacks.

P1: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of Neural
Networks: Data". A group with one method is one of its Experiment 1 (Tables 1 and 2, Figures 2, 3, 6
and 7), one with several of its Experiment 2 (Tables 1 and 3, Figures 4 and 5).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from collective_variables.analysis import statistics
from collective_variables.papers import _tables_2023, figures_2023, labels
from collective_variables.papers.report import Picture, Table

# Table 1: rows and test points of each problem.
TABLE_1 = {"fuel": (398, 120), "mnist": (10_000, 500), "gait": (48, 10), "concrete": (103, 10)}
DENSE = "dense 128, dense 128"
CONVOLUTIONAL = (
    "conv 32 2x2, avgpool 4x4 stride 2, conv 64 2x2, avgpool 4x4 stride 2, dense 128, dense 10"
)
# Table 2: runs, maximum accuracy, minimum test loss of a problem's network.
TABLE_2 = {
    ("fuel", f"{DENSE}, dense 1"): (7075, None, 0.051),
    ("mnist", f"{DENSE}, dense 10"): (5480, 0.95, 0.015),
    ("mnist", CONVOLUTIONAL): (3082, 0.99, 0.008),
}
SCATTERS = {
    "trace-entropy-loss": (
        "trace against entropy, by test loss",
        "entropy",
        "trace",
        "min_test_loss",
    ),
    "trace-entropy-size": ("trace against entropy, by subset size", "entropy", "trace", "n_points"),
    "loss-trace": ("test loss against trace", "trace", "min_test_loss", "n_points"),
    "loss-entropy": ("test loss against entropy", "entropy", "min_test_loss", "n_points"),
}
SCATTER_CAPTION = (
    "A point is a network: entropy and trace of its NTK before training, the minimum of its test "
    "loss during training, and how many points it was trained on. Figure 2 of the paper is the row "
    "of LeCun's initialisation, Figure 6 that of the NTK parametrisation."
)
MATRICES = {
    "pearson": (
        "correlations",
        "Pearson's coefficients over all runs. Figure 3 of the paper is the column of LeCun's "
        "initialisation, Figure 7 that of the NTK parametrisation. All these variables grow or "
        "fall with the subset size.",
    ),
    "pearson given size": (
        "correlations, given the subset size",
        "The same after a polynomial in the logarithm of the subset size is regressed out of both "
        "variables: what they share beyond the size. The paper has no such figure.",
    ),
}
COMPARISONS = {
    "min_test_loss": "Figure 4: minimum test loss",
    "final_test_loss": "Figure 4: final test loss",
    "entropy": "Figure 5: entropy before training",
    "trace": "Figure 5: trace before training",
}
COMPARISON_CAPTION = (
    "Means over the members against the subset size; error bars are one standard error. "
    f"“{labels.method_label('rnd')}” is the paper's method, which trains a predictor; "
    f"“{labels.method_label('rnd-linearised')}” has a linearised predictor. The minimum of a test "
    "loss is early stopping on the test points. Losses have no unit: they are mean squared errors "
    "of standardised targets, or one-hot ones of classes, or cross-entropies in nats."
)

# What a reader sees in each figure.
SHOWS = {
    "trace-entropy-loss": "Trace and entropy of each network's kernel before training. Networks of "
    "a smaller test loss are darker.",
    "trace-entropy-size": "Trace and entropy of each network's kernel before training. Networks of "
    "fewer training points are darker.",
    "loss-trace": "The test loss that each network reaches, by the trace of its kernel before "
    "training.",
    "loss-entropy": "The test loss that each network reaches, by the entropy of its kernel before "
    "training.",
    "pearson": "Which variables grow together (orange) and which one falls while the other grows "
    "(blue), over all runs.",
    "pearson-given-size": "Which variables grow together (orange) and which one falls while the "
    "other grows (blue), among subsets of one size.",
    "min-test-loss": "The smallest test loss on the points that each method selects. A lower line "
    "needs fewer points.",
    "final-test-loss": "The test loss at the end of training on the points that each method "
    "selects. A lower line needs fewer points.",
    "entropy": "The entropy of the kernel of the points that each method selects.",
    "trace": "The trace of the kernel of the points that each method selects.",
}


class Problem(NamedTuple):
    """The data that a group trains on, and its network.

    inputs: the shape of one point.
    """

    name: str
    task: str
    n_pool: int
    n_test: int
    inputs: tuple[int, ...]
    n_outputs: int
    layers: Sequence[str]

    @property
    def network(self) -> str:
        return ", ".join(self.layers)

    @property
    def is_convolutional(self) -> bool:
        return any(layer.startswith("conv") for layer in self.layers)


def pictures(
    runs: pd.DataFrame, summary: pd.DataFrame, correlations: pd.DataFrame
) -> list[Picture]:
    """Draw Figures 2 to 7, with a column for each group.

    The tables are those of `statistics` and `correlation`, with all groups in each. An experiment
    without any group has no figures.
    """
    (first, _), (matrices, _), (_, means) = (
        _by_experiment(runs, table) for table in (runs, correlations, summary)
    )
    return _experiment_1_pictures(first, matrices) + _experiment_2_pictures(means)


def _by_experiment(runs: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the rows of a table into those of Experiment 1 and those of Experiment 2."""
    is_second = table["group"].isin(runs.loc[statistics.compares_methods(runs), "group"])
    return table[~is_second], table[is_second]


def _experiment_1_pictures(runs: pd.DataFrame, correlations: pd.DataFrame) -> list[Picture]:
    if runs.empty:
        return []
    result = [
        Picture(
            name,
            f"Figures 2 and 6: {title}",
            SCATTER_CAPTION,
            figures_2023.scatter(runs, *variables),
            SHOWS[name],
        )
        for name, (title, *variables) in SCATTERS.items()
    ]
    # With few runs nothing is defined given the size.
    defined = set(correlations.loc[correlations["coefficient"].notna(), "kind"])
    for kind in [kind for kind in MATRICES if kind in defined]:
        title, caption = MATRICES[kind]
        figure = figures_2023.correlation_matrix(correlations, kind)
        name = kind.replace(" ", "-")
        result.append(Picture(name, f"Figures 3 and 7: {title}", caption, figure, SHOWS[name]))
    return result


def _experiment_2_pictures(summary: pd.DataFrame) -> list[Picture]:
    if summary.empty:
        return []
    return [
        Picture(
            name.replace("_", "-"),
            title,
            COMPARISON_CAPTION,
            figures_2023.comparison(summary, name),
            SHOWS[name.replace("_", "-")],
        )
        for name, title in COMPARISONS.items()
    ]


def tables(
    runs: pd.DataFrame,
    problems: Mapping[str, Problem],
    *,
    n_resamples: int = 1000,
    n_permutations: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    degree: int = 3,
) -> list[Table]:
    """Compare P1's Tables 1 to 3 with ours, and add tables that P1 lacks.

    runs: as in `statistics`, with all groups. problems: by group.
    """
    first, second = _by_experiment(runs, runs)
    result = [_data(problems)]
    options = {"confidence": confidence, "seed": seed}
    if len(first):
        result.append(_experiment_1_networks(first, problems))
    if len(second):
        result.append(_experiment_2_networks(second, problems))
        result += _tables_2023.learning_curve_tables(second, n_resamples, n_permutations, **options)
    if len(first):
        result += _tables_2023.beyond_size_tables(first, n_permutations, degree, **options)
    return result


def _data(problems: Mapping[str, Problem]) -> Table:
    rows = []
    for group, problem in problems.items():
        n_rows, n_test = TABLE_1.get(problem.name, (None, None))
        rows.append(
            {
                "group": group,
                "problem": problem.name,
                "task": problem.task,
                "rows, paper": n_rows,
                "rows": problem.n_pool + problem.n_test,
                "test points, paper": n_test,
                "test points": problem.n_test,
                "inputs": " × ".join(map(str, problem.inputs)),
                "outputs": problem.n_outputs,
            }
        )
    caption = "The data of each group. Six of Fuel's rows have no horsepower and are left out."
    return Table("table-1", "Table 1: data", caption, pd.DataFrame(rows, dtype=object))


def _experiment_1_networks(runs: pd.DataFrame, problems: Mapping[str, Problem]) -> Table:
    rows = []
    for (group, parametrisation), part in runs.groupby(["group", "parametrisation"], sort=False):
        problem = problems[group]
        n_runs, accuracy, loss = TABLE_2.get((problem.name, problem.network), (None, None, None))
        converged = part[~part["diverged"]]
        rows.append(
            {
                "group": group,
                "parametrisation": parametrisation,
                "network": problem.network,
                "runs, paper": n_runs,
                "runs": len(part),
                "diverged": len(part) - len(converged),
                "smallest size": part["n_points"].min(),
                "largest size": part["n_points"].max(),
                "maximum accuracy, paper": accuracy,
                "maximum accuracy": converged["max_test_accuracy"].max(),
                "minimum test loss, paper": loss,
                "minimum test loss": converged["min_test_loss"].min(),
            }
        )
    caption = (
        "Experiment 1, the best of its runs. The paper does not say how large the subsets of its "
        "runs are."
    )
    title = "Table 2: networks of Experiment 1"
    return Table("table-2", title, caption, pd.DataFrame(rows, dtype=object))


def _experiment_2_networks(runs: pd.DataFrame, problems: Mapping[str, Problem]) -> Table:
    rows = []
    for group, part in runs.groupby("group", sort=False):
        rows.append(
            {
                "group": group,
                "network": problems[group].network,
                "parametrisation": ", ".join(part["parametrisation"].unique()),
                "members": part["member"].nunique(),
                "subset sizes": ", ".join(map(str, sorted(part["n_points"].unique()))),
                # A label may have a comma.
                "methods": "; ".join(map(labels.method_label, part["method"].unique())),
            }
        )
    caption = "Experiment 2. The paper has 20 members a size, random subsets and those of RND."
    return Table("table-3", "Table 3: networks of Experiment 2", caption, pd.DataFrame(rows))
