"""Compare the forms of random network distillation (RND), to choose the one that ships, without any
test point.

    python benchmarks/form.py [clusters] [fuel] [concrete] [gait] [mnist] | tables

fuel, concrete, gait, mnist: a fifth of the pool of params.yaml is held out, in 20 splits (MNIST: 5)
    with a network and a seed of everything random each; forms choose from the rest, and the losses
    are those on the held-out part. The test points that other tables report are not used.
clusters: ten tight clusters of 2 to 60 points, 20 of such pools; how many of them the first ten
points reach. Each part into reference/form-PART.csv; then reference/form.md is written anew from
all that are there. tables: this alone.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from field import rows_of, runs_on, section
from tables import table as table_of

from collective_variables.data import problems
from collective_variables.networks import sequential
from collective_variables.selection import registry

REFERENCE = ROOT / "reference"
PROBLEMS = {"fuel": 20, "concrete": 20, "gait": 20, "mnist": 5}  # and how many splits
HELD_OUT = 0.2
N_CLUSTERS, N_POOLS = 10, 20
SHIPPED = "rnd"
WIDE = ["dense 128", "dense 128", "dense 128", "dense 64"]
FORMS = {
    "random": ("random", {}),
    "paper": ("paper", {}),
    "paper, 16 outputs": ("paper", {"width": 16}),
    "paper, 64 outputs": ("paper", {"width": 64}),
    "paper, 256 outputs": ("paper", {"width": 256}),
    "paper, 64 outputs, layers of 128": ("paper", {"layers": WIDE}),
    "paper, 64 outputs, cold": ("paper", {"width": 64, "restart": "cold"}),
    "paper, 64 outputs, twice the epochs": ("paper", {"width": 64, "n_epochs": 200}),
    "paper, 64 outputs, cosine": ("paper", {"width": 64, "distance": "cosine"}),
    "rnd, largest distance": ("rnd", {"criterion": "largest"}),
    "rnd, largest distance, random first point": (
        "rnd",
        {"criterion": "largest", "first": "random"},
    ),
    "rnd, 1 hidden layer": ("rnd", {"depth": 1}),
    SHIPPED: ("rnd", {}),
    "rnd, 5 hidden layers": ("rnd", {"depth": 5}),
    "rnd, biases": ("rnd", {"b_std": 1.0}),
    "rnd, emphasis 1": ("rnd", {"emphasis": 1.0}),
    "rnd, random first point": ("rnd", {"first": "random"}),
}


def held_out(dataset: problems.Dataset, split: int) -> problems.Dataset:
    """The pool alone, a part of it in place of the test points."""
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


def losses(problem: str, params: dict) -> pd.DataFrame:
    """One row for each form, split (`member`) and subset size."""
    dataset = rows_of(problem, params, section(problem, params, "LoadDataset")["seed"])
    parts = [
        runs_on(
            problem, params, held_out(dataset, split), FORMS, 1, seed=split, kernels=False
        ).assign(member=split)
        for split in range(PROBLEMS[problem])
    ]
    return pd.concat(parts, ignore_index=True)[["method", "member", "n_points", "min_test_loss"]]


def clusters() -> pd.DataFrame:
    """One row for each form and pool: how many clusters have a point among the first ten, one for
    each of them.
    """
    network = sequential.build_network(
        ["dense 32", "dense 32", "dense 32", "dense 1"], parametrisation="ntk"
    )
    rows = []
    for seed in range(N_POOLS):
        generator = np.random.default_rng(seed)
        sizes = np.geomspace(2, 60, N_CLUSTERS).round().astype(int)
        of = np.repeat(np.arange(N_CLUSTERS), sizes)
        centers = generator.normal(size=(N_CLUSTERS, 5))
        pool = (centers[of] + 0.02 * generator.normal(size=(len(of), 5))).astype(np.float32)
        problem = registry.Problem(pool, pool[:, :1], "regression", network, seed)
        for label, (method, options) in FORMS.items():
            found = registry.select_by(
                method, problem, registry.Budget(N_CLUSTERS, 1, f"pool {seed}: {label}"), options
            )
            rows.append({"method": label, "pool": seed, "clusters": len(set(of[found.indices[0]]))})
    return pd.DataFrame(rows)


def beside_shipped(table: pd.DataFrame, form: str) -> str:
    """Loss relative to the shipped form's: a mean over sizes of its logarithm, and over splits with
    its standard error.
    """
    logarithms = np.log(
        table.pivot(index=["member", "n_points"], columns="method", values="min_test_loss")
    )
    of_splits = (logarithms[form] - logarithms[SHIPPED]).groupby("member").mean()
    error = of_splits.std() / np.sqrt(len(of_splits))
    return (
        "" if form == SHIPPED else f"{100 * np.expm1(of_splits.mean()):+.1f} ± {100 * error:.1f} %"
    )


def text_of(tables: dict[str, pd.DataFrame]) -> str:
    """All parts in one table."""
    header = ["form", *(f"{part}, {PROBLEMS[part]} splits" for part in tables if part in PROBLEMS)]
    rows = [
        [form, *(beside_shipped(of, form) for part, of in tables.items() if part in PROBLEMS)]
        for form in FORMS
    ]
    if "clusters" in tables:
        header.append(f"clusters of {N_CLUSTERS}")
        reached = tables["clusters"].groupby("method")["clusters"].mean()
        rows = [[*row, f"{reached[row[0]]:.1f}"] for row in rows]
    return "\n\n".join(
        [
            "# Forms of random network distillation",
            f"Minimum loss on held-out parts of the pools relative to that of `{SHIPPED}`, mean over subset sizes ± standard "
            f"error over splits, and clusters of a toy pool that the first {N_CLUSTERS} points reach (`make form`):",
            table_of(header, rows),
        ]
    )


def main() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    parts = ["clusters", *PROBLEMS]
    for part in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or parts:
        found = clusters() if part == "clusters" else losses(part, params)
        found.to_csv(REFERENCE / f"form-{part}.csv", index=False, float_format="%.6g")
    files = {part: REFERENCE / f"form-{part}.csv" for part in parts}
    text = text_of({part: pd.read_csv(path) for part, path in files.items() if path.is_file()})
    (REFERENCE / "form.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
