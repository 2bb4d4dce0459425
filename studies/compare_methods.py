"""Compare all selection methods: same budgets, same initial networks, paired over members.

    python -m studies.compare_methods [PART ...]
    python -m studies.compare_methods tables

Parts are fuel, concrete, gait, mnist, fuel-splits, concrete-splits and gait-splits; the default is
all of them. Problems, networks, subset sizes, members, training and test points are those of
params.yaml. In the splits, each of 20 members has different test points: with at most ten test
points, one split says little about a method that selects one subset for all members.

Each part is written to reference/field-PART.csv (means over members, and paired comparisons with
`rnd-linearised` and with `random`). Then the tables of all existing parts are printed; `tables`
only prints. `make results` writes them into the pages.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks._markdown import VERDICT_COLUMNS, count_verdicts
from benchmarks._markdown import table as markdown_table
from collective_variables.analysis import statistics
from collective_variables.data import problems
from collective_variables.experiment.composition import run_experiment
from collective_variables.training import schedules
from studies.paper_scale import build_networks

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reference"
PROBLEMS = ("fuel", "concrete", "gait", "mnist")
SPLIT_PROBLEMS = ("fuel", "concrete", "gait")
PARTS = [*PROBLEMS, *(f"{problem}-splits" for problem in SPLIT_PROBLEMS)]
N_SPLITS = 20
OURS = "rnd-linearised"
Methods = Mapping[str, tuple[str, Mapping[str, Any]]]
METHODS: Methods = {
    "random": ("random", {}),
    "stratified": ("stratified", {}),
    OURS: (OURS, {}),
    "rnd-linearised, largest distance": (OURS, {"criterion": "largest"}),
    "rnd": ("rnd", {}),
    "rnd, 64 outputs": ("rnd", {"width": 64}),
    "k-center": ("k-center", {}),
    "k-means++": ("k-means++", {}),
    "kernel-herding": ("kernel-herding", {}),
    "facility-location": ("facility-location", {}),
    "log-determinant": ("log-determinant", {}),
    "trace": ("trace", {}),
    "best-entropy": ("best-entropy", {}),
    "greedy entropy": ("greedy", {"objective": "entropy"}),
    "greedy trace x entropy": ("greedy", {"objective": "trace-entropy"}),
    "greedy low entropy": ("greedy", {"objective": "entropy", "sense": "minimise"}),
}
# The splits leave these out, and their kernels.
KERNEL_METHODS = ("log-determinant", "trace", "best-entropy", "greedy")
# These select by collective variables themselves, to show whether the test loss follows.
CAUSAL = ("greedy low entropy", "best-entropy", "greedy entropy", "trace", "greedy trace x entropy")
CAUSAL_HEADER = [
    "selected for",
    "S",
    "Tr",
    "min test loss",
    *VERDICT_COLUMNS,
]
MEAN, ERROR = f"mean_difference against {OURS}", f"standard_error against {OURS}"
COMPARED = ["min_test_loss", "final_test_loss", "entropy", "trace"]
DIFFERENCES = ["mean_difference", "standard_error", "lower", "upper"]
DIFFERENCES += ["win_rate", "win_rate_lower", "win_rate_upper"]


def section(problem: str, params: dict, stage: str) -> dict:
    """Return the parameters of a stage of a problem."""
    return params[f"{problem}_{stage}"]


def load_rows(problem: str, params: dict, seed: int) -> problems.Dataset:
    """Load the rows of a problem as its stage does, split into pool and test points by a seed."""
    options = section(problem, params, "LoadDataset") | {"seed": seed}
    return problems.load_problem(options.pop("problem"), **options)


def run_methods(
    problem: str,
    params: dict,
    dataset: problems.Dataset,
    methods: Methods,
    members: int,
    *,
    seed: int,
    measure: bool = True,
) -> pd.DataFrame:
    """Return one row for each method, member and subset size below the pool's."""
    listed = section(problem, params, "Ensemble")["n_points"]
    sizes = [size for size in listed if size < len(dataset.inputs)]
    (network,) = build_networks(section(problem, params, "Network")).values()
    defaults = {
        "rnd": section(problem, params, "RNDSelect")["options"],
        "best-entropy": {"sizes": sizes},
    }
    choices = {
        label: (method, defaults.get(method, {}) | dict(options))
        for label, (method, options) in methods.items()
        if method != "stratified" or has_all_classes(dataset)
    }
    return run_experiment(
        dataset,
        network,
        choices,
        sizes,
        members=members,
        seed=seed,
        schedule=schedules.Schedule(**train_options(section(problem, params, "TrainModel"))),
        measure=measure,
        name=problem,
        progress=problem,
    )


def train_options(values: dict) -> dict:
    """Return the parameters of TrainModel without those of its record."""
    return {name: value for name, value in values.items() if name != "record"}


def has_all_classes(dataset: problems.Dataset) -> bool:
    """Return whether the pool has a point of every class, which "stratified" needs."""
    return dataset.task != "classification" or bool(dataset.targets.any(axis=0).all())


def run_problem(problem: str, params: dict) -> pd.DataFrame:
    """Return one row for each method, member and subset size."""
    ensemble = section(problem, params, "Ensemble")
    dataset = load_rows(problem, params, section(problem, params, "LoadDataset")["seed"])
    return run_methods(
        problem, params, dataset, METHODS, ensemble["n_members"], seed=ensemble["seed"]
    )


def run_splits(problem: str, params: dict) -> pd.DataFrame:
    """Return the rows of `run_problem` with other test points and another seed for each member."""
    methods = {
        label: choice for label, choice in METHODS.items() if choice[0] not in KERNEL_METHODS
    }
    parts = []
    for split in range(N_SPLITS):
        dataset = load_rows(problem, params, split)
        runs = run_methods(problem, params, dataset, methods, 1, seed=split, measure=False)
        parts.append(runs.assign(member=split))
    return pd.concat(parts, ignore_index=True)


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """Return means of every method and size with differences from `OURS` and from `random`."""
    measured = [name for name in COMPARED if name in runs]
    columns = [f"{name}{end}" for name in measured for end in ("", "_standard_error")]
    table = statistics.summary(runs, measured)[["group", "method", "n_points", *columns]]
    for reference in (OURS, "random"):
        differences = statistics.paired_differences(runs, ["min_test_loss"], reference=reference)
        differences = differences[["method", "n_points", *DIFFERENCES]].rename(
            columns={name: f"{name} against {reference}" for name in DIFFERENCES}
        )
        table = table.merge(
            differences, on=["method", "n_points"], how="left", validate="one_to_one"
        )
    return table


def rows_of(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the rows of a method by size."""
    return table[table["method"] == method].set_index("n_points")


def methods_in(table: pd.DataFrame) -> list[str]:
    """Return the methods of a table in the order of `METHODS`."""
    return [method for method in METHODS if method in set(table["method"])]


def losses_table(table: pd.DataFrame) -> str:
    """Return the minimum test loss of every method and size; bold is the smallest of a size."""
    sizes = sorted(table["n_points"].unique())
    best = table.groupby("n_points")["min_test_loss"].min()
    rows = []
    for method in methods_in(table):
        part = rows_of(table, method)
        cells = []
        for n in sizes:
            loss = part["min_test_loss"][n]
            cell = f"{loss:.4f} ± {part['min_test_loss_standard_error'][n]:.4f}"
            cells.append(f"**{cell}**" if loss == best[n] else cell)
        rows.append([method, *cells])
    return markdown_table(["n", *(f"{n:.0f}" for n in sizes)], rows)


def win_rates_table(table: pd.DataFrame) -> str:
    """Return how often `OURS` has the smaller minimum test loss, with Wilson's 95 % interval."""
    sizes = sorted(table["n_points"].unique())
    rows = []
    for method in methods_in(table):
        if method == OURS:
            continue
        part = rows_of(table, method)
        ends = [1 - part[f"win_rate{end} against {OURS}"] for end in ("", "_upper", "_lower")]
        rates = [[100 * end[n] for end in ends] for n in sizes]
        rows.append(
            [method, *(f"{rate:.0f} % [{low:.0f}, {high:.0f}]" for rate, low, high in rates)]
        )
    return markdown_table([f"{OURS} against", *(f"n = {n:.0f}" for n in sizes)], rows)


def compare_with_best(table: pd.DataFrame) -> pd.DataFrame:
    """Return the best method of every size, and the paired excess of the loss of `OURS`.

    The column `within` holds whether the excess is at most one standard error.
    """
    rows = []
    for n, part in table.groupby("n_points"):
        part = part.set_index("method")
        best = part["min_test_loss"].idxmin()
        behind, error = (-part.loc[best, MEAN], part.loc[best, ERROR]) if best != OURS else (0, 0)
        row = {"n_points": n, "best": best, "behind": behind, "error": error}
        rows.append(row | {"within": behind <= error})
    return pd.DataFrame(rows)


def best_table(table: pd.DataFrame) -> str:
    """Return `compare_with_best` as a table."""
    rows = []
    for n, best, behind, error, within in compare_with_best(table).itertuples(index=False):
        difference = "–" if best == OURS else f"{behind:+.4f} ± {error:.4f}"
        rows.append([f"{n:.0f}", best, difference, "yes" if within else "no"])
    header = ["n", "best method", f"{OURS} minus the best", "within one standard error"]
    return markdown_table(header, rows)


def causal_rows(table: pd.DataFrame) -> list[list[str]]:
    """Return entropy, trace and test loss of subsets selected for entropy or trace."""
    rows = []
    for method in CAUSAL:
        part = rows_of(table, method)
        relative = (
            f"{100 * relative_to_random(table, method, name):+.0f} %"
            for name in ("entropy", "trace", "min_test_loss")
        )
        counts = count_verdicts(part["lower against random"], part["upper against random"])
        rows.append([method, *relative, *counts])
    return rows


def relative_to_random(table: pd.DataFrame, method: str, name: str = "min_test_loss") -> float:
    """Return the mean over the sizes of a variable divided by that of random subsets, minus 1."""
    values, random = (rows_of(table, label)[name] for label in (method, "random"))
    return (values / random - 1).mean()


def summary(tables: dict[str, pd.DataFrame]) -> str:
    """Return all parts in two tables."""
    rows = []
    for method in METHODS:
        cells = [
            f"{100 * relative_to_random(table, method):+.0f} %"
            if method in set(table["method"])
            else "–"
            for table in tables.values()
        ]
        if method != "random":
            rows.append([method, *cells])
    within = [compare_with_best(table)["within"] for table in tables.values()]
    title = f"*sizes where `{OURS}` is within one standard error of the best*"
    rows.append([title, *(f"{sizes.sum()} of {len(sizes)}" for sizes in within)])
    titles = [part.replace("-splits", f", {N_SPLITS} splits") for part in tables]
    causal = [
        [part, *row] for part in PROBLEMS if part in tables for row in causal_rows(tables[part])
    ]
    return "\n\n".join(
        [
            "**Minimum test loss relative to random selection, mean over the subset sizes**",
            markdown_table(["method", *titles], rows),
            "**Subsets selected for entropy or trace themselves, relative to random ones, "
            "mean over the subset sizes**",
            markdown_table(["problem", *CAUSAL_HEADER], causal),
        ]
    )


def describe(part: str, table: pd.DataFrame) -> str:
    """Return all tables of a part."""
    problem, _, splits = part.partition("-")
    over = f"{N_SPLITS} splits, a member each" if splits else "members"
    share = "splits" if splits else "members"
    texts = [
        f"## {problem}{', over splits' if splits else ''}",
        f"Minimum test loss, mean ± standard error over {over}:",
        losses_table(table),
        f"Share of {share} in which `{OURS}` has the smaller loss, with its 95 % interval:",
        win_rates_table(table),
        f"`{OURS}` and the best method of each size, paired:",
        best_table(table),
    ]
    if not splits:
        texts += [
            "Selected for entropy and trace themselves, relative to random, mean over sizes:",
            markdown_table(CAUSAL_HEADER, causal_rows(table)),
        ]
    return "\n\n".join(texts)


def read_tables() -> dict[str, pd.DataFrame]:
    """Return all parts that exist."""
    files = {part: REFERENCE / f"field-{part}.csv" for part in PARTS}
    return {part: pd.read_csv(path) for part, path in files.items() if path.is_file()}


def main() -> None:
    """Run the named parts, or all, and print the tables."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for part in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or PARTS:
        problem, _, splits = part.partition("-")
        runs = (run_splits if splits else run_problem)(problem, params)
        compare(runs).to_csv(REFERENCE / f"field-{part}.csv", index=False, float_format="%.6g")
    tables = read_tables()
    print("\n\n".join([summary(tables), *(describe(*part) for part in tables.items())]))


if __name__ == "__main__":
    main()
