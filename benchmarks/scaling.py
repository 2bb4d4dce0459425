"""Exact against scaled random network distillation against random selection: quality and time
against the points chosen.

    python benchmarks/scaling.py [fuel] [concrete] [mnist] [large] [growth] | tables

fuel, concrete, mnist: up to 200 points, 20 members, where Algorithm 1 runs: entropy and trace of
    the subsets before training, minimum test loss, and whether each is within one standard error of
    the exact one's or better, paired.
large: 1000 and 5000 of MNIST's 60000 images, where it does not: losses beside those of random
subsets.
growth: seconds against the number of points, and the power with which they grow. Each part into
reference/scaling-PART.csv; then the tables of README.md are written anew, if all are there.
tables: these alone.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tables import into_readme, verdict
from tables import table as table_of

from collective_variables.analysis import statistics
from collective_variables.data import problems
from collective_variables.ensembles import subset_sizes
from collective_variables.experiment import run_experiment
from collective_variables.networks import sequential
from collective_variables.selection import registry
from collective_variables.training import schedules
from nodes import network as of_group

REFERENCE = ROOT / "reference"
N_MEMBERS, SEED = 20, 0
DENSE = ["dense 128", "dense 128", "dense 10"]  # Table 2
SIZES = {"fuel": [25, 50, 100, 200], "concrete": [10, 20, 40, 80], "mnist": [25, 50, 100, 200]}
EXACT, SAMPLED = "rnd", "rnd, sampled"
MEASURED = {
    "entropy": 1,
    "trace": 1,
    "min_test_loss": -1,
}  # and whether more or less of it is better
WORDS = {"entropy": "S", "trace": "Tr", "min_test_loss": "loss"}
LARGE = [1000, 5000]
TITLES = {
    "fuel": "Fuel, a pool of 272 points, network of Table 3",
    "concrete": "Concrete, a pool of 93 points, network of Table 3",
    "mnist": "MNIST, a pool of 9500 images, dense network of Table 2",
    "large": "MNIST, a pool of 50000 images and 10000 for tests, dense network of Table 2; 20 members",
    "growth": "Time, MNIST, a pool of 9500 images, dense network of Table 2",
}
GROWTH = [125, 250, 500, 1000, 2000, 4000]
COUNTS = "Sizes at which a method is within one standard error of an exact one, or better, paired over 20 members"


def exact_and_sampled(n_pool: int) -> dict[str, tuple[str, dict]]:
    """Methods by label. Both samples are 64 of a small pool, and 1024, the default, of a large
    one.
    """
    sample = 64 if n_pool <= 1024 else 1024
    return {
        "random": ("random", {}),
        "paper": ("paper", {}),
        "rnd, largest distance": ("rnd", {"criterion": "largest"}),
        EXACT: ("rnd", {"n_reference": n_pool, "n_candidates": n_pool}),
        SAMPLED: ("rnd", {"n_reference": sample, "n_candidates": sample}),
    }


def problem(name: str, params: dict) -> pd.DataFrame:
    """Means of every method and size, its seconds, and its paired differences from the exact
    algorithms.
    """
    dataset, paper = problems.load_problem(name), params[f"{name}_SelectSubset-paper"]["options"]
    if name == "mnist":
        network = sequential.build_network(DENSE, parametrisation="ntk")
        schedule = schedules.Schedule(**params["mnist-dense_TrainModel"])
    else:
        (network,) = of_group.build(params[f"{name}_Network"]).values()
        schedule = schedules.Schedule(**params[f"{name}_TrainModel"])
    known = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, SEED)
    subsets, seconds = {}, {}
    for label, (method, options) in exact_and_sampled(len(dataset.inputs)).items():
        for n in SIZES[name]:
            budget = registry.Budget(n, N_MEMBERS, f"{name}: {label}, {n} points")
            start = time.perf_counter()
            chosen = registry.select_by(
                method, known, budget, (paper if method == "paper" else {}) | options
            )
            seconds[label, n] = time.perf_counter() - start
        subsets[label] = chosen.indices
    n_points = subset_sizes.draw(SIZES[name], n_members=N_MEMBERS, seed=SEED)
    runs = run_experiment(
        dataset, network, subsets, n_points, seed=SEED, schedule=schedule, name=name
    )
    table = statistics.summary(runs, list(MEASURED))
    table["seconds"] = [seconds[key] for key in zip(table["method"], table["n_points"])]
    for reference in ("paper", EXACT):
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


def is_not_worse(row: pd.Series, name: str, reference: str) -> bool:
    """Whether a variable is within one standard error of the reference's or better, paired."""
    return (
        MEASURED[name] * row[f"{name} mean_difference from {reference}"]
        >= -row[f"{name} standard_error from {reference}"]
    )


def not_worse(row: pd.Series, reference: str) -> str:
    if np.isnan(row[f"entropy mean_difference from {reference}"]):
        return ""
    return (
        ", ".join(WORDS[name] for name in MEASURED if is_not_worse(row, name, reference)) or "none"
    )


def counts(tables: dict[str, pd.DataFrame]) -> str:
    """At how many sizes each method is not worse than an exact one, in each variable."""
    pairs = [(method, "paper") for method in exact_and_sampled(0) if method != "paper"] + [
        (SAMPLED, EXACT)
    ]
    rows = []
    for method, reference in pairs:
        cells = []
        for table in tables.values():
            of = table[table["method"] == method]
            found = (
                f"{WORDS[name]} {sum(is_not_worse(row, name, reference) for _, row in of.iterrows())}"
                for name in MEASURED
            )
            cells.append(f"{', '.join(found)} of {len(of)}")
        rows.append([method, "exact `rnd`" if reference == EXACT else "`paper`", *cells])
    return table_of(["method", "beside", *tables], rows)


def quality(table: pd.DataFrame) -> str:
    rows, order = [], list(exact_and_sampled(0))
    table = table.assign(order=table["method"].map(order.index)).sort_values(["n_points", "order"])
    for _, row in table.iterrows():
        values = [
            f"{row[name]:.{digits}f} ± {row[f'{name}_standard_error']:.{digits}f}"
            for name, digits in (("entropy", 2), ("trace", 1), ("min_test_loss", 4))
        ]
        beside = [
            not_worse(row, "paper"),
            not_worse(row, EXACT) if row["method"] == SAMPLED else "",
        ]
        rows.append(
            [f"{row['n_points']:.0f}", row["method"], f"{row['seconds']:.1f}", *values, *beside]
        )
    header = [
        "n",
        "method",
        f"seconds, {N_MEMBERS} members",
        "S",
        "Tr",
        "min test loss",
        "not worse than `paper` in",
        "than exact `rnd` in",
    ]
    return table_of(header, rows)


def large() -> pd.DataFrame:
    """Losses on subsets of the 60000 images: one of `rnd` for all networks, and a random one for
    each.
    """
    dataset, network = (
        problems.load_problem("mnist-60000", n_test=10_000),
        sequential.build_network(DENSE, parametrisation="ntk"),
    )
    known = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, SEED)
    start = time.perf_counter()
    (chosen,) = registry.select_by("rnd", known, registry.Budget(max(LARGE), 1, "rnd"), {}).indices
    print(f"{max(LARGE)} of {len(dataset.inputs)}: {time.perf_counter() - start:.0f} s")
    random = registry.select_by("random", known, registry.Budget(max(LARGE), N_MEMBERS), {}).indices
    schedule = schedules.Schedule(learning_rate=0.001, n_epochs=40, batch_size=50, evaluate_every=2)
    subsets = {"random": random, "rnd": np.tile(chosen, (N_MEMBERS, 1))}
    n_points = subset_sizes.draw(LARGE, n_members=N_MEMBERS, seed=SEED)
    runs = run_experiment(
        dataset,
        network,
        subsets,
        n_points,
        seed=SEED,
        schedule=schedule,
        name="large",
        kernels=False,
    )
    variables = ["min_test_loss", "final_test_loss", "max_test_accuracy"]
    table = statistics.summary(runs, variables)
    differences = statistics.paired_differences(runs, ["min_test_loss"])[
        ["method", "n_points", "lower", "upper"]
    ]
    return table.merge(differences, on=["method", "n_points"], how="left", validate="one_to_one")


def losses(table: pd.DataFrame) -> str:
    rows = []
    for _, row in table.sort_values("n_points", kind="stable").iterrows():
        cells = [
            f"{row[name]:.4f} ± {row[f'{name}_standard_error']:.4f}"
            for name in ("min_test_loss", "final_test_loss", "max_test_accuracy")
        ]
        ends = row["lower"], row["upper"]
        interval = (
            ["", ""] if np.isnan(ends[0]) else [f"{ends[0]:+.4f} … {ends[1]:+.4f}", verdict(*ends)]
        )
        rows.append([f"{row['n_points']:.0f}", row["method"], *cells, *interval])
    measured = ["min test loss", "final test loss", "max accuracy"]
    return table_of(
        ["n", "method", *measured, "95 % interval of the paired difference", "its loss is"], rows
    )


def growth(params: dict) -> pd.DataFrame:
    """Seconds of one member on 9500 images; a first choice that is not counted compiles what does
    not depend on n.
    """
    dataset, network = (
        problems.load_problem("mnist"),
        sequential.build_network(DENSE, parametrisation="ntk"),
    )
    known = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, SEED)
    rows = []
    for method, sizes in (("paper", SIZES["mnist"]), ("rnd", GROWTH)):
        options = params["mnist_SelectSubset-paper"]["options"] if method == "paper" else {}
        for n in (sizes[0], *sizes):
            start = time.perf_counter()
            registry.select_by(
                method, known, registry.Budget(n, 1, f"{method}, {n} points"), options
            )
            rows.append({"method": method, "n_points": n, "seconds": time.perf_counter() - start})
    return pd.DataFrame(rows).groupby(["method", "n_points"], as_index=False).last()


def powers(table: pd.DataFrame) -> str:
    rows = []
    for method, of in table.groupby("method"):
        power = np.diff(np.log(of["seconds"])) / np.diff(np.log(of["n_points"]))
        ends = [f"n^{one:.1f}" for one in power]
        for n, seconds, end in zip(of["n_points"], of["seconds"], ["", *ends]):
            rows.append([method, f"{n}", f"{seconds:.1f}", end])
    return table_of(["method", "n", "seconds, one member", "grows as"], rows)


def main() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    parts = {name: lambda name=name: problem(name, params) for name in SIZES}
    parts |= {"large": large, "growth": lambda: growth(params)}
    for name in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or parts:
        parts[name]().to_csv(REFERENCE / f"scaling-{name}.csv", index=False, float_format="%.6g")
    files = {name: REFERENCE / f"scaling-{name}.csv" for name in TITLES}
    if all(path.is_file() for path in files.values()):
        tables = {name: pd.read_csv(path) for name, path in files.items()}
        problems = {name: tables[name] for name in SIZES}
        shown = {
            "large": losses(tables["large"]),
            "growth": powers(tables["growth"]),
            "counts": counts(problems),
        }
        texts = [
            f"**{title}**\n\n{shown[name]}"
            for name, title in (TITLES | {"counts": COUNTS}).items()
            if name in shown
        ]
        texts += [
            f"<details><summary>{TITLES[name]}</summary>\n\n{quality(of)}\n\n</details>"
            for name, of in problems.items()
        ]
        text = "\n\n".join(texts)
        into_readme("scaling", text)
        print(text)


if __name__ == "__main__":
    main()
