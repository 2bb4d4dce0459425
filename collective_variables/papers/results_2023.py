"""Make the figures and tables of Tovey et al. 2023 (P1) from our runs, and tables that P1 lacks.

P1: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of Neural
Networks: Data". A group with one method belongs to Experiment 1 (Tables 1 and 2, Figures 2, 3, 6
and 7). A group with several methods belongs to Experiment 2 (Tables 1 and 3, Figures 4 and 5).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from collective_variables.analysis import statistics
from collective_variables.papers import _tables_2023, figures_2023, labels
from collective_variables.papers.report import Picture, Table

# Table 1: numbers of rows and of test points of each problem.
TABLE_1 = {"fuel": (398, 120), "mnist": (10_000, 500), "gait": (48, 10), "concrete": (103, 10)}
DENSE = "dense 128, dense 128"
CONVOLUTIONAL = (
    "conv 32 2x2, avgpool 4x4 stride 2, conv 64 2x2, avgpool 4x4 stride 2, dense 128, dense 10"
)
# Table 2: number of runs, maximum accuracy and minimum test loss of a problem's network.
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
    "Each point is a network: entropy and trace of its NTK before training, its smallest test loss "
    "during training, and its number of training points. The row of LeCun's initialisation is "
    "Figure 2 of the paper, that of the NTK parametrisation is Figure 6."
)
MATRICES = {
    "pearson": (
        "correlations",
        "Pearson's coefficients over all runs. The column of LeCun's initialisation is Figure 3 of "
        "the paper, that of the NTK parametrisation is Figure 7. All these variables grow or fall "
        "with the subset size.",
    ),
    "pearson given size": (
        "correlations, given the subset size",
        "Pearson's coefficients after a polynomial in the logarithm of the subset size is "
        "regressed out of both variables: their correlation beyond the size. The paper has no such "
        "figure.",
    ),
}
COMPARISONS = {
    "min_test_loss": "Figure 4: minimum test loss",
    "final_test_loss": "Figure 4: final test loss",
    "entropy": "Figure 5: entropy before training",
    "trace": "Figure 5: trace before training",
}
COMPARISON_CAPTION = (
    "Means over members against the subset size. Error bars are one standard error. "
    f"“{labels.method_label('rnd')}” is the paper's method, which trains a predictor; "
    f"“{labels.method_label('rnd-linearised')}” has a linearised predictor. The minimum test loss "
    "is that of early stopping on the test points. Losses have no unit: they are mean squared "
    "errors of standardised or one-hot targets, or cross-entropies in nats."
)

# The sentence above each figure.
SHOWS = {
    "trace-entropy-loss": "Trace and entropy of each network's kernel before training. Darker "
    "networks have a smaller test loss.",
    "trace-entropy-size": "Trace and entropy of each network's kernel before training. Darker "
    "networks have fewer training points.",
    "loss-trace": "The test loss that each network reaches against the trace of its kernel before "
    "training.",
    "loss-entropy": "The test loss that each network reaches against the entropy of its kernel "
    "before training.",
    "pearson": "Pairs of variables that grow together (orange), and pairs of which one falls while "
    "the other grows (blue), over all runs.",
    "pearson-given-size": "Pairs of variables that grow together (orange), and pairs of which one "
    "falls while the other grows (blue), at equal subset size.",
    "min-test-loss": "The smallest test loss on the points that each method selects. A lower line "
    "needs fewer points.",
    "final-test-loss": "The test loss at the end of training on the points that each method "
    "selects. A lower line needs fewer points.",
    "entropy": "The entropy of the kernel of the points that each method selects.",
    "trace": "The trace of the kernel of the points that each method selects.",
}


class Problem(NamedTuple):
    """Describe the data and the network of a group.

    Attributes:
        name: Name of the data.
        task: "regression" or "classification".
        n_pool: Number of points to choose from.
        n_test: Number of test points.
        inputs: Shape of one point.
        n_outputs: Number of outputs of the network.
        layers: Layers of the network, as `sequential` writes them.
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
        """Layers of the network in one text."""
        return ", ".join(self.layers)

    @property
    def is_convolutional(self) -> bool:
        """Whether the network has convolutions."""
        return any(layer.startswith("conv") for layer in self.layers)


def pictures(
    runs: pd.DataFrame, summary: pd.DataFrame, correlations: pd.DataFrame
) -> list[Picture]:
    """Draw Figures 2 to 7, with a column for each group.

    An experiment without any group has no figures.

    Args:
        runs: The table that `statistics` takes, with all groups.
        summary: The table of `statistics.summary`, with all groups.
        correlations: The table of `correlation.correlations`, with all groups.

    Returns:
        The figures with their captions.
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
    # With few runs, no coefficient given the size is defined.
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

    Args:
        runs: The table that `statistics` takes, with all groups.
        problems: Data and network of each group.
        n_resamples: Number of bootstrap resamples.
        n_permutations: Number of permutations of runs, and of flips of members' signs.
        confidence: Confidence of all intervals.
        seed: Seed of resamples, permutations and sign flips.
        degree: Degree of the polynomial that removes the subset size.

    Returns:
        The tables with their captions.
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
        "The best values over the runs of Experiment 1. The paper does not give the subset sizes "
        "of its runs."
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
                # A label may contain a comma.
                "methods": "; ".join(map(labels.method_label, part["method"].unique())),
            }
        )
    caption = "Experiment 2. The paper has 20 members per size, and the methods random and RND."
    return Table("table-3", "Table 3: networks of Experiment 2", caption, pd.DataFrame(rows))
