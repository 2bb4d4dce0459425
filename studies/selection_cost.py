"""Compare exact, scaled and random selection: quality and time against the points selected.

    python -m studies.selection_cost [fuel] [concrete] [mnist] [large] [growth] | tables

fuel, concrete, mnist: up to 200 points, 20 members, where Algorithm 1 runs. Measured are entropy
    and trace of the subsets before training and the minimum test loss. Each is compared with that
    of the exact selection: paired, and at most one standard error worse.
large: 1000 and 5000 of MNIST's 60000 images, where Algorithm 1 does not run. Losses are compared
    with those of random subsets.
growth: seconds against the number of points, and the power with which they grow.

Each part is written to reference/scaling-PART.csv. Then the tables are printed if all parts exist;
`tables` only prints. `make results` writes them into the pages.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from benchmarks._markdown import fold, join_sections, verdict
from benchmarks._markdown import table as markdown_table
from collective_variables.analysis import statistics
from collective_variables.data import problems
from collective_variables.experiment.composition import run_experiment
from collective_variables.networks import sequential
from collective_variables.selection import registry
from collective_variables.training import schedules
from studies.compare_methods import train_options
from studies.paper_scale import build_networks

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reference"
N_MEMBERS, SEED = 20, 0
DENSE = ["dense 128", "dense 128", "dense 10"]  # Table 2
SIZES = {"fuel": [25, 50, 100, 200], "concrete": [10, 20, 40, 80], "mnist": [25, 50, 100, 200]}
ALGORITHM_1, LINEARISED = "rnd", "rnd-linearised"
EXACT, SAMPLED = LINEARISED, "rnd-linearised, sampled"
MEASURED = {"entropy": 1, "trace": 1, "min_test_loss": -1}  # 1 if more is better, -1 if less is
DIGITS = {"entropy": 2, "trace": 1, "min_test_loss": 4}
WORDS = {"entropy": "S", "trace": "Tr", "min_test_loss": "loss"}
LARGE = [1000, 5000]
GROWTH = [125, 250, 500, 1000, 2000, 4000]
TITLES = {
    "fuel": "Fuel, a pool of 272 points, network of Table 3",
    "concrete": "Concrete, a pool of 93 points, network of Table 3",
    "mnist": "MNIST, a pool of 9500 images, dense network of Table 2",
    "large": "MNIST, a pool of 50000 images and 10000 for tests, dense network of Table 2; "
    "20 members",
    "growth": "Time, MNIST, a pool of 9500 images, dense network of Table 2",
}
COUNTS = (
    "Sizes at which a method is within one standard error of an exact one, or better, paired over "
    "20 members"
)


def exact_and_sampled(n_pool: int) -> dict[str, tuple[str, dict]]:
    """Return methods by label.

    Both samples of the sampled form have 64 points of a small pool, or the default 1024 of a large
    one.
    """
    sample = 64 if n_pool <= 1024 else 1024
    return {
        "random": ("random", {}),
        ALGORITHM_1: (ALGORITHM_1, {}),
        "rnd-linearised, largest distance": (LINEARISED, {"criterion": "largest"}),
        EXACT: (LINEARISED, {"n_reference": n_pool, "n_candidates": n_pool}),
        SAMPLED: (LINEARISED, {"n_reference": sample, "n_candidates": sample}),
    }


def compare_problem(name: str, params: dict) -> pd.DataFrame:
    """Return means and seconds of every method and size, with differences from the exact ones."""
    dataset = problems.load_problem(name)
    network, schedule = setting(name, params)
    subsets, seconds = select_all(name, dataset, network, params[f"{name}_RNDSelect"]["options"])
    runs = run_experiment(
        dataset,
        network,
        subsets,
        SIZES[name],
        members=N_MEMBERS,
        seed=SEED,
        schedule=schedule,
        name=name,
        progress=name,
    )
    table = statistics.summary(runs, list(MEASURED))
    table["seconds"] = [seconds[key] for key in zip(table["method"], table["n_points"])]
    for reference in (ALGORITHM_1, EXACT):
        differences = statistics.paired_differences(runs, list(MEASURED), reference=reference)
        wide = differences.pivot(
            index=["method", "n_points"],
            columns="variable",
            values=["mean_difference", "standard_error"],
        )
        wide.columns = [f"{variable} {kind} from {reference}" for kind, variable in wide.columns]
        table = table.merge(
            wide.reset_index(), on=["method", "n_points"], how="left", validate="one_to_one"
        )
    return table


def setting(name: str, params: dict) -> tuple[sequential.Network, schedules.Schedule]:
    """Return the network of a problem and its training."""
    if name == "mnist":
        network = sequential.build_network(DENSE, parametrisation="ntk")
        values = params["mnist-dense_TrainModel"]
    else:
        (network,) = build_networks(params[f"{name}_Network"]).values()
        values = params[f"{name}_TrainModel"]
    return network, schedules.Schedule(**train_options(values))


def select_all(
    name: str, dataset: problems.Dataset, network: sequential.Network, rnd_options: dict
) -> tuple[dict[str, np.ndarray], dict[tuple[str, int], float]]:
    """Return the largest subsets of each method, and its seconds for each size."""
    problem = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, SEED)
    subsets, seconds = {}, {}
    for label, (method, options) in exact_and_sampled(len(dataset.inputs)).items():
        options = (rnd_options if method == ALGORITHM_1 else {}) | options
        for n in SIZES[name]:
            budget = registry.Budget(n, N_MEMBERS, f"{name}: {label}, {n} points")
            start = time.perf_counter()
            selection = registry.select_by(method, problem, budget, options)
            seconds[label, n] = time.perf_counter() - start
        subsets[label] = selection.indices
    return subsets, seconds


def is_not_worse(row: Mapping[str, float], name: str, reference: str) -> bool:
    """Return whether a variable is at most one standard error worse than the reference's."""
    difference = row[f"{name} mean_difference from {reference}"]
    return MEASURED[name] * difference >= -row[f"{name} standard_error from {reference}"]


def not_worse(row: pd.Series, reference: str) -> str:
    """Return the variables in which a method is not worse than the reference."""
    if np.isnan(row[f"entropy mean_difference from {reference}"]):
        return ""
    names = (WORDS[name] for name in MEASURED if is_not_worse(row, name, reference))
    return ", ".join(names) or "none"


def counts_table(tables: dict[str, pd.DataFrame]) -> str:
    """Return at how many sizes each method is not worse than an exact one, by variable."""
    others = [method for method in exact_and_sampled(0) if method != ALGORITHM_1]
    rows = []
    for method, reference in [*((method, ALGORITHM_1) for method in others), (SAMPLED, EXACT)]:
        cells = []
        for table in tables.values():
            part = table[table["method"] == method]
            records = part.to_dict("records")
            counts = (
                f"{WORDS[name]} {sum(is_not_worse(row, name, reference) for row in records)}"
                for name in MEASURED
            )
            cells.append(f"{', '.join(counts)} of {len(part)}")
        words = f"exact `{EXACT}`" if reference == EXACT else f"`{ALGORITHM_1}`"
        rows.append([method, words, *cells])
    return markdown_table(["method", "compared with", *tables], rows)


def quality_table(table: pd.DataFrame) -> str:
    """Return the means of every method and size of a problem."""
    order = list(exact_and_sampled(0))
    table = table.assign(order=table["method"].map(order.index)).sort_values(["n_points", "order"])
    rows = []
    for _, row in table.iterrows():
        values = [
            f"{row[name]:.{digits}f} ± {row[f'{name}_standard_error']:.{digits}f}"
            for name, digits in DIGITS.items()
        ]
        than_exact = not_worse(row, EXACT) if row["method"] == SAMPLED else ""
        cells = [f"{row['n_points']:.0f}", row["method"], f"{row['seconds']:.1f}"]
        rows.append([*cells, *values, not_worse(row, ALGORITHM_1), than_exact])
    header = ["n", "method", f"seconds, {N_MEMBERS} members", "S", "Tr", "min test loss"]
    header += [f"not worse than `{ALGORITHM_1}` in", f"than exact `{EXACT}` in"]
    return markdown_table(header, rows)


def compare_large() -> pd.DataFrame:
    """Return losses on subsets of the 60000 images.

    All networks share the subset of `rnd-linearised`, and each has a random one.
    """
    dataset = problems.load_problem("mnist-60000", n_test=10_000)
    network = sequential.build_network(DENSE, parametrisation="ntk")
    problem = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, SEED)
    budget = registry.Budget(max(LARGE), 1, LINEARISED)
    start = time.perf_counter()
    (indices,) = registry.select_by(LINEARISED, problem, budget, {}).indices
    print(f"{max(LARGE)} of {len(dataset.inputs)}: {time.perf_counter() - start:.0f} s")
    methods = {"random": ("random", {}), LINEARISED: np.tile(indices, (N_MEMBERS, 1))}
    runs = run_experiment(
        dataset,
        network,
        methods,
        LARGE,
        members=N_MEMBERS,
        seed=SEED,
        schedule=schedules.Schedule(
            learning_rate=0.001, n_epochs=40, batch_size=50, evaluate_every=2
        ),
        measure=False,
        name="large",
        progress="large",
    )
    table = statistics.summary(runs, ["min_test_loss", "final_test_loss", "max_test_accuracy"])
    differences = statistics.paired_differences(runs, ["min_test_loss"])
    differences = differences[["method", "n_points", "lower", "upper"]]
    return table.merge(differences, on=["method", "n_points"], how="left", validate="one_to_one")


def losses_table(table: pd.DataFrame) -> str:
    """Return losses and accuracies on subsets of the 60000 images."""
    rows = []
    for _, row in table.sort_values("n_points", kind="stable").iterrows():
        cells = [
            f"{row[name]:.4f} ± {row[f'{name}_standard_error']:.4f}"
            for name in ("min_test_loss", "final_test_loss", "max_test_accuracy")
        ]
        ends = row["lower"], row["upper"]
        interval = ["", ""]
        if not np.isnan(ends[0]):
            interval = [f"{ends[0]:+.4f} … {ends[1]:+.4f}", verdict(*ends)]
        rows.append([f"{row['n_points']:.0f}", row["method"], *cells, *interval])
    header = ["n", "method", "min test loss", "final test loss", "max accuracy"]
    header += ["95 % interval of the paired difference", "its loss is"]
    return markdown_table(header, rows)


def measure_growth(params: dict) -> pd.DataFrame:
    """Return seconds of one member on 9500 images.

    An untimed first selection compiles all programs that do not depend on n.
    """
    dataset = problems.load_problem("mnist")
    network = sequential.build_network(DENSE, parametrisation="ntk")
    problem = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, SEED)
    rows = []
    for method, sizes in ((ALGORITHM_1, SIZES["mnist"]), (LINEARISED, GROWTH)):
        options = params["mnist_RNDSelect"]["options"] if method == ALGORITHM_1 else {}
        for n in (sizes[0], *sizes):
            budget = registry.Budget(n, 1, f"{method}, {n} points")
            start = time.perf_counter()
            registry.select_by(method, problem, budget, options)
            rows.append({"method": method, "n_points": n, "seconds": time.perf_counter() - start})
    return pd.DataFrame(rows).groupby(["method", "n_points"], as_index=False).last()


def growth_table(table: pd.DataFrame) -> str:
    """Return seconds, and the power of n with which they grow."""
    rows = []
    for method, part in table.groupby("method"):
        powers = np.diff(np.log(part["seconds"])) / np.diff(np.log(part["n_points"]))
        words = ["", *(f"n^{power:.1f}" for power in powers)]
        for n, seconds, word in zip(part["n_points"], part["seconds"], words):
            rows.append([method, f"{n}", f"{seconds:.1f}", word])
    return markdown_table(["method", "n", "seconds, one member", "grows as"], rows)


def describe(tables: dict[str, pd.DataFrame]) -> str:
    """Return the tables of all parts."""
    by_problem = {name: tables[name] for name in SIZES}
    parts = {
        TITLES["large"]: losses_table(tables["large"]),
        TITLES["growth"]: growth_table(tables["growth"]),
        COUNTS: counts_table(by_problem),
    }
    texts = [fold(TITLES[name], quality_table(table)) for name, table in by_problem.items()]
    return "\n\n".join([join_sections(parts), *texts])


def read_tables() -> dict[str, pd.DataFrame]:
    """Return all parts that exist."""
    files = {name: REFERENCE / f"scaling-{name}.csv" for name in TITLES}
    return {name: pd.read_csv(path) for name, path in files.items() if path.is_file()}


def main() -> None:
    """Run the named parts, or all, and print the tables if all exist."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    parts = {name: lambda name=name: compare_problem(name, params) for name in SIZES}
    parts |= {"large": compare_large, "growth": lambda: measure_growth(params)}
    for name in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or parts:
        parts[name]().to_csv(REFERENCE / f"scaling-{name}.csv", index=False, float_format="%.6g")
    tables = read_tables()
    if set(tables) == set(TITLES):
        print(describe(tables))


if __name__ == "__main__":
    main()
