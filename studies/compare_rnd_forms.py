"""Compare the forms of random network distillation (RND), without any test point.

    python -m studies.compare_rnd_forms [clusters] [fuel] [concrete] [gait] [mnist] | tables

The comparison chose the default of `rnd-linearised`.

fuel, concrete, gait, mnist: a fifth of the pool of params.yaml is held out, in 20 splits (MNIST: 5)
    with a different network and seed each. Forms select from the rest, and the held-out part gives
    the losses. The test points of other tables are not used.
clusters: the number of clusters that the first ten points reach, in 20 pools of ten tight clusters
    of 2 to 60 points.

Each part is written to reference/form-PART.csv. Then the table of all existing parts is printed;
`tables` only prints. `make results` writes it into the pages.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from benchmarks._markdown import table as markdown_table
from collective_variables.data import problems
from collective_variables.networks import sequential
from collective_variables.selection import registry
from studies.compare_methods import load_rows, run_methods, section

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reference"
PROBLEMS = {"fuel": 20, "concrete": 20, "gait": 20, "mnist": 5}  # and how many splits
PARTS = ["clusters", *PROBLEMS]
HELD_OUT = 0.2
N_CLUSTERS, N_POOLS = 10, 20
SHIPPED = "rnd-linearised"
WIDE = ["dense 128", "dense 128", "dense 128", "dense 64"]
FORMS = {
    "random": ("random", {}),
    "rnd": ("rnd", {}),
    "rnd, 16 outputs": ("rnd", {"width": 16}),
    "rnd, 64 outputs": ("rnd", {"width": 64}),
    "rnd, 256 outputs": ("rnd", {"width": 256}),
    "rnd, 64 outputs, layers of 128": ("rnd", {"layers": WIDE}),
    "rnd, 64 outputs, cold": ("rnd", {"width": 64, "restart": "cold"}),
    "rnd, 64 outputs, twice the epochs": ("rnd", {"width": 64, "n_epochs": 200}),
    "rnd, 64 outputs, cosine": ("rnd", {"width": 64, "distance": "cosine"}),
    "rnd-linearised, largest distance": (SHIPPED, {"criterion": "largest"}),
    "rnd-linearised, largest distance, random first point": (
        SHIPPED,
        {"criterion": "largest", "first": "random"},
    ),
    "rnd-linearised, 1 hidden layer": (SHIPPED, {"depth": 1}),
    SHIPPED: (SHIPPED, {}),
    "rnd-linearised, 5 hidden layers": (SHIPPED, {"depth": 5}),
    "rnd-linearised, biases": (SHIPPED, {"b_std": 1.0}),
    "rnd-linearised, emphasis 1": (SHIPPED, {"emphasis": 1.0}),
    "rnd-linearised, random first point": (SHIPPED, {"first": "random"}),
}


def hold_out(dataset: problems.Dataset, split: int) -> problems.Dataset:
    """Return the pool of a dataset, with a part of it as the test points."""
    order = np.random.default_rng(split).permutation(len(dataset.inputs))
    test, pool = np.split(order, [round(HELD_OUT * len(order))])
    return replace(
        dataset,
        inputs=dataset.inputs[pool],
        targets=dataset.targets[pool],
        index=dataset.index[pool],
        test_inputs=dataset.inputs[test],
        test_targets=dataset.targets[test],
        test_index=dataset.index[test],
    )


def compute_losses(problem: str, params: dict) -> pd.DataFrame:
    """Return one row for each form, split (`member`) and subset size."""
    dataset = load_rows(problem, params, section(problem, params, "LoadDataset")["seed"])
    parts = []
    for split in range(PROBLEMS[problem]):
        part = hold_out(dataset, split)
        runs = run_methods(problem, params, part, FORMS, 1, seed=split, measure=False)
        parts.append(runs.assign(member=split))
    return pd.concat(parts, ignore_index=True)[["method", "member", "n_points", "min_test_loss"]]


def count_clusters() -> pd.DataFrame:
    """Return the number of clusters that the first ten points reach, by form and pool."""
    network = sequential.build_network(
        ["dense 32", "dense 32", "dense 32", "dense 1"], parametrisation="ntk"
    )
    rows = []
    for seed in range(N_POOLS):
        pool, clusters = draw_clusters(seed)
        problem = registry.Problem(pool, pool[:, :1], "regression", network, seed)
        for label, (method, options) in FORMS.items():
            budget = registry.Budget(N_CLUSTERS, 1, f"pool {seed}: {label}")
            selection = registry.select_by(method, problem, budget, options)
            n_reached = len(set(clusters[selection.indices[0]]))
            rows.append({"method": label, "pool": seed, "clusters": n_reached})
    return pd.DataFrame(rows)


def draw_clusters(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a pool of tight clusters, and the cluster of each point."""
    generator = np.random.default_rng(seed)
    sizes = np.geomspace(2, 60, N_CLUSTERS).round().astype(int)
    clusters = np.repeat(np.arange(N_CLUSTERS), sizes)
    centres = generator.normal(size=(N_CLUSTERS, 5))
    noise = 0.02 * generator.normal(size=(len(clusters), 5))
    return (centres[clusters] + noise).astype(np.float32), clusters


def relative_loss(table: pd.DataFrame, form: str) -> str:
    """Return the loss of a form relative to that of the shipped form.

    The logarithm of the ratio is averaged over sizes, then over splits with a standard error.
    """
    if form == SHIPPED:
        return ""
    logarithms = np.log(
        table.pivot(index=["member", "n_points"], columns="method", values="min_test_loss")
    )
    by_split = (logarithms[form] - logarithms[SHIPPED]).groupby("member").mean()
    error = by_split.std() / np.sqrt(len(by_split))
    return f"{100 * np.expm1(by_split.mean()):+.1f} ± {100 * error:.1f} %"


def describe(tables: dict[str, pd.DataFrame]) -> str:
    """Return all parts in one table."""
    losses = {part: table for part, table in tables.items() if part in PROBLEMS}
    header = ["form", *(f"{part}, {PROBLEMS[part]} splits" for part in losses)]
    rows = [[form, *(relative_loss(table, form) for table in losses.values())] for form in FORMS]
    if "clusters" in tables:
        header.append(f"clusters of {N_CLUSTERS}")
        reached = tables["clusters"].groupby("method")["clusters"].mean()
        rows = [[*row, f"{reached[row[0]]:.1f}"] for row in rows]
    return markdown_table(header, rows)


def read_tables() -> dict[str, pd.DataFrame]:
    """Return all parts that exist."""
    files = {part: REFERENCE / f"form-{part}.csv" for part in PARTS}
    return {part: pd.read_csv(path) for part, path in files.items() if path.is_file()}


def main() -> None:
    """Run the named parts, or all, and print the tables."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for part in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or PARTS:
        table = count_clusters() if part == "clusters" else compute_losses(part, params)
        table.to_csv(REFERENCE / f"form-{part}.csv", index=False, float_format="%.6g")
    print(describe(read_tables()))


if __name__ == "__main__":
    main()
