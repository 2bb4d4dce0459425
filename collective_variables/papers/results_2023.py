"""The figures and tables of Tovey et al. 2023 (P1) from a table of our runs, and beside them what
P1 does not have.

P1: Tovey, Krippendorf, Nikolaou, Holm (2023), "Towards a Phenomenological Understanding of Neural
Networks: Data". A group with one method is one of its Experiment 1 (Tables 1 and 2, Figures 2, 3, 6
and 7), one with several of its Experiment 2 (Tables 1 and 3, Figures 4 and 5).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from collective_variables.analysis import beyond_size, learning_curves, statistics
from collective_variables.papers import figures_2023
from collective_variables.papers.report import Picture, Table

# Table 1: rows and test points. Table 2: runs, maximum accuracy, minimum test loss of a problem's
# network.
TABLE_1 = {"fuel": (398, 120), "mnist": (10_000, 500), "gait": (48, 10), "concrete": (103, 10)}
DENSE = "dense 128, dense 128"
CONVOLUTIONAL = (
    "conv 32 2x2, avgpool 4x4 stride 2, conv 64 2x2, avgpool 4x4 stride 2, dense 128, dense 10"
)
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
OF_SCATTERS = (
    "A point is a network: entropy and trace of its NTK before training, the minimum of its test loss while it trained, and how "
    "many points it was trained on. Figure 2 of the paper is the row of LeCun's initialisation, Figure 6 that of the NTK "
    "parametrisation."
)
MATRICES = {
    "pearson": (
        "correlations",
        "Pearson's coefficients over all runs. Figure 3 of the paper is the row of LeCun's initialisation, Figure 7 that of the "
        "NTK parametrisation. All these variables grow or fall with the subset size.",
    ),
    "pearson given size": (
        "correlations, given the subset size",
        "The same after a polynomial in the logarithm of the subset size is regressed out of both variables: what they share "
        "beyond the size. The paper has no such figure.",
    ),
}
COMPARISONS = {
    "min_test_loss": "Figure 4: minimum test loss",
    "final_test_loss": "Figure 4: final test loss",
    "entropy": "Figure 5: entropy before training",
    "trace": "Figure 5: trace before training",
}
OF_COMPARISONS = (
    "Means over the members against the subset size; error bars are one standard error. “RND of the paper” has a trained "
    "predictor, “RND” a linearised one. The minimum of a test loss is early stopping on the test points."
)


class Problem(NamedTuple):
    """What a group trains on, and which network."""

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
    """Figures 2 to 7, a column for each group; none of an experiment without any group.

    The tables are those of `statistics`, with all groups in each.
    """
    (first, _), (matrices, _), (_, means) = (
        _by_experiment(runs, table) for table in (runs, correlations, summary)
    )
    return _of_experiment_1(first, matrices) + _of_experiment_2(means)


def _by_experiment(runs: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a table of the groups of Experiment 1, and of Experiment 2."""
    of_second = table["group"].isin(runs.loc[statistics.compares_methods(runs), "group"])
    return table[~of_second], table[of_second]


def _of_experiment_1(runs: pd.DataFrame, correlations: pd.DataFrame) -> list[Picture]:
    if runs.empty:
        return []
    drawn = [
        Picture(
            name, f"Figures 2 and 6: {title}", OF_SCATTERS, figures_2023.scatter(runs, *variables)
        )
        for name, (title, *variables) in SCATTERS.items()
    ]
    # With few runs nothing is defined given the size.
    defined = set(correlations.loc[correlations["coefficient"].notna(), "kind"])
    for kind in [kind for kind in MATRICES if kind in defined]:
        title, caption = MATRICES[kind]
        figure = figures_2023.correlation_matrix(correlations, kind)
        drawn.append(Picture(kind.replace(" ", "-"), f"Figures 3 and 7: {title}", caption, figure))
    return drawn


def _of_experiment_2(summary: pd.DataFrame) -> list[Picture]:
    if summary.empty:
        return []
    return [
        Picture(
            name.replace("_", "-"), title, OF_COMPARISONS, figures_2023.comparison(summary, name)
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
    """P1's Tables 1 to 3 beside ours, and what is known of each experiment that P1 does not tell.

    runs: as in `statistics`, with all groups. problems: of each group.
    """
    first, second = _by_experiment(runs, runs)
    made = [_data(problems)]
    options = {"confidence": confidence, "seed": seed}
    if len(first):
        made.append(_networks_of_experiment_1(first, problems))
    if len(second):
        made.append(_networks_of_experiment_2(second, problems))
        made += _of_curves(second, n_resamples, n_permutations, **options)
    if len(first):
        made += _beyond_size(first, n_permutations, degree, **options)
    return made


def _data(problems: Mapping[str, Problem]) -> Table:
    columns = [
        "group",
        "problem",
        "task",
        "rows, paper",
        "rows",
        "test points, paper",
        "test points",
        "inputs",
        "outputs",
    ]
    rows = []
    for group, of in problems.items():
        of_paper = TABLE_1.get(of.name, (None, None))
        inputs = " × ".join(map(str, of.inputs))
        rows.append(
            (
                group,
                of.name,
                of.task,
                of_paper[0],
                of.n_pool + of.n_test,
                of_paper[1],
                of.n_test,
                inputs,
                of.n_outputs,
            )
        )
    caption = "The data of each group. Six of Fuel's rows have no horsepower and are left out."
    return Table(
        "table-1", "Table 1: data", caption, pd.DataFrame(rows, columns=columns, dtype=object)
    )


def _networks_of_experiment_1(runs: pd.DataFrame, problems: Mapping[str, Problem]) -> Table:
    columns = [
        "group",
        "parametrisation",
        "network",
        "runs, paper",
        "runs",
        "diverged",
        "smallest size",
        "largest size",
    ]
    columns += [
        "maximum accuracy, paper",
        "maximum accuracy",
        "minimum test loss, paper",
        "minimum test loss",
    ]
    rows = []
    for (group, parametrisation), of in runs.groupby(["group", "parametrisation"], sort=False):
        of_paper = TABLE_2.get((problems[group].name, problems[group].network), (None, None, None))
        kept, sizes = of[~of["diverged"]], of["n_points"]
        best = kept["max_test_accuracy"].max(), kept["min_test_loss"].min()
        found = (len(of), len(of) - len(kept), sizes.min(), sizes.max())
        scores = (of_paper[1], best[0], of_paper[2], best[1])
        rows.append((group, parametrisation, problems[group].network, of_paper[0], *found, *scores))
    caption = "Experiment 1, the best of its runs. The paper does not say how large the subsets of its runs are."
    return Table(
        "table-2",
        "Table 2: networks of Experiment 1",
        caption,
        pd.DataFrame(rows, columns=columns, dtype=object),
    )


def _networks_of_experiment_2(runs: pd.DataFrame, problems: Mapping[str, Problem]) -> Table:
    rows = []
    for group, of in runs.groupby("group", sort=False):
        parametrisations, methods = (
            ", ".join(of[name].unique()) for name in ("parametrisation", "method")
        )
        sizes = ", ".join(map(str, sorted(of["n_points"].unique())))
        rows.append(
            (
                group,
                problems[group].network,
                parametrisations,
                of["member"].nunique(),
                sizes,
                methods,
            )
        )
    columns = ["group", "network", "parametrisation", "members", "subset sizes", "methods"]
    caption = "Experiment 2. The paper has 20 members a size, random subsets and those of RND."
    return Table(
        "table-3", "Table 3: networks of Experiment 2", caption, pd.DataFrame(rows, columns=columns)
    )


def _of_curves(
    runs: pd.DataFrame, n_resamples: int, n_permutations: int, *, confidence: float, seed: int
) -> list[Table]:
    """Each method beside random subsets, for groups that have several sizes: over all sizes, and
    what its points are worth.
    """
    runs = runs[statistics.has_several_sizes(runs)]
    if runs.empty:
        return []
    keys, losses = (
        ["group", "parametrisation", "method", "variable"],
        ["min_test_loss", "final_test_loss"],
    )
    areas = learning_curves.areas(
        runs, losses, confidence=confidence, n_resamples=n_permutations, seed=seed
    )
    areas[["lower", "upper"]] = np.expm1(areas[["lower", "upper"]])
    sizes = learning_curves.verdicts(
        learning_curves.effects(runs, losses, confidence=confidence), confidence=confidence
    )
    rates = (
        statistics.paired_differences(runs, losses, confidence=confidence)
        .groupby(keys)["win_rate"]
        .mean()
    )
    joined = areas.merge(sizes, on=[*keys, "n_sizes"]).merge(rates.reset_index(), on=keys)
    columns = [
        *keys,
        "relative_difference",
        "lower",
        "upper",
        "p_value_flips",
        "n_lower",
        "n_undecided",
        "n_higher",
        "win_rate",
    ]
    caption = (
        "Losses of each method relative to those of random subsets of the same members, a geometric mean over the subset sizes "
        "with its interval; p by flips of the signs of whole members; at how many sizes the loss is lower, undecided and higher."
    )
    made = [Table("curves", "Whole learning curves", caption, _spelt(joined[columns]))]
    columns = [*keys[:-1], "n_points", "n_equivalent", "ratio", "lower", "upper"]
    caption = (
        "How many random points have the mean minimum test loss of each method's points, and the ratio of the two numbers with "
        "its interval. ∞ is more than were tried, 0 fewer."
    )
    equal = learning_curves.equivalents(
        runs, confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    return [
        *made,
        Table(
            "equivalents", "How many random points a chosen point is worth", caption, equal[columns]
        ),
    ]


def _beyond_size(
    runs: pd.DataFrame, n_permutations: int, degree: int, *, confidence: float, seed: int
) -> list[Table]:
    """What entropy and trace tell of the minimum test loss beyond the size, and beyond each
    other.
    """
    keys = ["group", "parametrisation"]
    tests = beyond_size.permutation_tests(
        runs, n_permutations=n_permutations, seed=seed, degree=degree
    )
    caption = (
        "Spearman's correlation with the minimum test loss, plain and given the subset size, of raw and of size-free variables; "
        "p by permutations, and corrected for all tests of this table."
    )
    columns = [*keys, "kind", "variable", "coefficient", "p_value", "p_value_corrected", "n_runs"]
    made = [
        Table(
            "beyond-size",
            "Collective variables beyond the subset size",
            caption,
            _spelt(tests[columns]),
        )
    ]
    predicted = beyond_size.prediction(runs, confidence=confidence, seed=seed)
    caption = (
        "R² of the logarithm of the minimum test loss of runs held out, predicted from subset size, entropy and trace, and "
        "what it gains over the size alone."
    )
    columns = [
        *keys,
        "predictors",
        "r_squared",
        "r_squared_lower",
        "r_squared_upper",
        "gain",
        "gain_lower",
        "gain_upper",
    ]
    made.append(
        Table("prediction", "Prediction of the test loss", caption, _spelt(predicted[columns]))
    )
    caption = (
        "The R² of all three divided: unique is what one alone tells, shared what two or more tell alike, share the gain by one "
        "averaged over the orders in which the three can enter."
    )
    parts = beyond_size.decomposition(runs, confidence=confidence, seed=seed)
    columns = [*keys, "part", "variable", "value", "value_lower", "value_upper"]
    return [
        *made,
        Table(
            "decomposition", "Subset size, entropy and trace apart", caption, _spelt(parts[columns])
        ),
    ]


def _spelt(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the names of its variables as words."""
    names = [column for column in ("variable", "predictors") if column in table.columns]
    return table.assign(**{name: table[name].str.replace("_", " ") for name in names})
