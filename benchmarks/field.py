"""Compare all methods of selection: same budgets, same initial networks, paired over members.

    python benchmarks/field.py [fuel] [concrete] [gait] [mnist] [fuel-splits] [concrete-splits]
    [gait-splits] python benchmarks/field.py tables

Problems, networks, subset sizes, members and training are those of params.yaml; losses are on its
test points. In the
splits each of 20 members has test points of its own: with ten or fewer of them one split says
little of a method that chooses one subset for all members. Each part into reference/field-PART.csv
(means over members and paired comparisons with `rnd` and with `random`); then reference/field.md
and the field in README.md are written anew from all that are there; `tables` does that alone.
"""

import sys
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tables import into_readme, verdicts
from tables import table as table_of

from collective_variables.analysis import statistics
from collective_variables.data import problems
from collective_variables.ensembles import subset_sizes
from collective_variables.experiment import run_experiment
from collective_variables.selection import registry
from collective_variables.training import schedules
from nodes import network as of_group

REFERENCE = ROOT / "reference"
PROBLEMS = ("fuel", "concrete", "gait", "mnist")
SPLIT = ("fuel", "concrete", "gait")
N_SPLITS = 20
FIELD = {
    "random": ("random", {}),
    "stratified": ("stratified", {}),
    "rnd": ("rnd", {}),
    "rnd, largest distance": ("rnd", {"criterion": "largest"}),
    "paper": ("paper", {}),
    "paper, 64 outputs": ("paper", {"width": 64}),
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
OF_KERNELS = (
    "log-determinant",
    "trace",
    "best-entropy",
    "greedy",
)  # left out in the splits, as are their kernels
# Selected for the collective variables themselves, to see whether the test loss follows.
CAUSAL = ("greedy low entropy", "best-entropy", "greedy entropy", "trace", "greedy trace x entropy")
MEAN, ERROR = "mean_difference against rnd", "standard_error against rnd"
CAUSAL_HEADER = [
    "selected for",
    "S",
    "Tr",
    "min test loss",
    "sizes where the loss is lower / undecided / higher",
]
COMPARED = ["min_test_loss", "final_test_loss", "entropy", "trace"]


def runs_of(problem: str, params: dict) -> pd.DataFrame:
    """One row for each method, member and subset size."""
    ensemble = section(problem, params, "Ensemble")
    data_seed = section(problem, params, "LoadDataset")["seed"]
    return runs_on(
        problem,
        params,
        rows_of(problem, params, data_seed),
        FIELD,
        ensemble["n_members"],
        seed=ensemble["seed"],
    )


def runs_of_splits(problem: str, params: dict) -> pd.DataFrame:
    """The same with a split into pool and test points, and a seed of all that is random, for every
    member.
    """
    field = {label: of for label, of in FIELD.items() if of[0] not in OF_KERNELS}
    parts = [
        runs_on(
            problem, params, rows_of(problem, params, split), field, 1, seed=split, kernels=False
        ).assign(member=split)
        for split in range(N_SPLITS)
    ]
    return pd.concat(parts, ignore_index=True)


def section(problem: str, params: dict, stage: str) -> dict:
    return params[f"{problem}_{stage}"]


def rows_of(problem: str, params: dict, seed: int) -> problems.Dataset:
    """The rows of a problem as its stage loads them, split into pool and test points by this
    seed.
    """
    options = section(problem, params, "LoadDataset") | {"seed": seed}
    return problems.load_problem(
        options["problem"], **{name: of for name, of in options.items() if name != "problem"}
    )


def runs_on(
    problem: str,
    params: dict,
    dataset: problems.Dataset,
    field: dict,
    n_members: int,
    *,
    seed: int,
    kernels: bool = True,
) -> pd.DataFrame:
    """One row for each method of `field`, member and subset size below the pool's."""
    sizes = [
        size
        for size in section(problem, params, "Ensemble")["n_points"]
        if size < len(dataset.inputs)
    ]
    (network,) = of_group.build(section(problem, params, "Network")).values()
    n_points = subset_sizes.draw(sizes, n_members=n_members, seed=seed)
    known = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, seed)
    paper = section(problem, params, "SelectSubset-paper")["options"]
    subsets = {}
    has_all_classes = dataset.task != "classification" or dataset.targets.any(axis=0).all()
    for label, (method, of_method) in field.items():
        if method == "stratified" and not has_all_classes:
            continue  # an error: of a class without a point there can't be one in every subset
        options = (
            paper if method == "paper" else {"sizes": sizes} if method == "best-entropy" else {}
        ) | of_method
        budget = registry.Budget(max(sizes), n_members, f"{problem}: {label}")
        subsets[label] = registry.select_by(method, known, budget, options).indices
    schedule = schedules.Schedule(**section(problem, params, "TrainModel"))
    return run_experiment(
        dataset,
        network,
        subsets,
        n_points,
        seed=seed,
        schedule=schedule,
        name=problem,
        kernels=kernels,
    )


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """Means of every method and size beside its paired differences from `rnd` and from `random`."""
    measured = [name for name in COMPARED if name in runs]
    table = statistics.summary(runs, measured)
    table = table[
        [
            "group",
            "method",
            "n_points",
            *(f"{name}{end}" for name in measured for end in ("", "_standard_error")),
        ]
    ]
    for reference in ("rnd", "random"):
        differences = statistics.paired_differences(runs, ["min_test_loss"], reference=reference)
        names = [
            "mean_difference",
            "standard_error",
            "lower",
            "upper",
            "win_rate",
            "win_rate_lower",
            "win_rate_upper",
        ]
        of = differences[["method", "n_points", *names]].rename(
            columns={name: f"{name} against {reference}" for name in names}
        )
        table = table.merge(of, on=["method", "n_points"], how="left", validate="one_to_one")
    return table


def in_order(table: pd.DataFrame) -> list[str]:
    return [method for method in FIELD if method in set(table["method"])]


def losses(table: pd.DataFrame) -> str:
    """Minimum test loss of every method and size; bold is the smallest of a size."""
    sizes = sorted(table["n_points"].unique())
    best = table.groupby("n_points")["min_test_loss"].min()
    rows = []
    for method in in_order(table):
        of = table[table["method"] == method].set_index("n_points")
        cells = [
            f"{of['min_test_loss'][n]:.4f} ± {of['min_test_loss_standard_error'][n]:.4f}"
            for n in sizes
        ]
        rows.append(
            [
                method,
                *(
                    f"**{c}**" if of["min_test_loss"][n] == best[n] else c
                    for n, c in zip(sizes, cells)
                ),
            ]
        )
    return table_of(["n", *(f"{n:.0f}" for n in sizes)], rows)


def win_rates(table: pd.DataFrame) -> str:
    """How often `rnd` has the smaller minimum test loss than each other method, with Wilson's 95 %
    interval.
    """
    sizes, rows = sorted(table["n_points"].unique()), []
    for method in in_order(table):
        of = table[table["method"] == method].set_index("n_points")
        if method != "rnd":
            ends = [1 - of[f"win_rate{end} against rnd"] for end in ("", "_upper", "_lower")]
            rates = [[100 * end[n] for end in ends] for n in sizes]
            rows.append(
                [method, *(f"{rate:.0f} % [{low:.0f}, {high:.0f}]" for rate, low, high in rates)]
            )
    return table_of(["rnd against", *(f"n = {n:.0f}" for n in sizes)], rows)


def beside_the_best(table: pd.DataFrame) -> pd.DataFrame:
    """The best method of every size, how much larger the loss of `rnd` is, paired, and whether by
    one standard error.
    """
    rows = []
    for n, of in table.groupby("n_points"):
        of = of.set_index("method")
        best = of["min_test_loss"].idxmin()
        behind, error = (0.0, 0.0) if best == "rnd" else (-of.loc[best, MEAN], of.loc[best, ERROR])
        rows.append(
            {
                "n_points": n,
                "best": best,
                "behind": behind,
                "error": error,
                "within": behind <= error,
            }
        )
    return pd.DataFrame(rows)


def goal(table: pd.DataFrame) -> str:
    rows = []
    for n, best, behind, error, within in beside_the_best(table).itertuples(index=False):
        difference = "–" if best == "rnd" else f"{behind:+.4f} ± {error:.4f}"
        rows.append([f"{n:.0f}", best, difference, "yes" if within else "no"])
    return table_of(["n", "best method", "rnd minus the best", "within one standard error"], rows)


def causal(table: pd.DataFrame) -> list[list[str]]:
    """Entropy, trace and test loss of subsets chosen for entropy or trace alone, relative to random
    ones.
    """
    rows = []
    for method in CAUSAL:
        of = table[table["method"] == method].set_index("n_points")
        relative = (
            f"{100 * relative_to_random(table, method, name):+.0f} %"
            for name in ("entropy", "trace", "min_test_loss")
        )
        rows.append(
            [method, *relative, verdicts(of["lower against random"], of["upper against random"])]
        )
    return rows


def relative_to_random(table: pd.DataFrame, method: str, name: str = "min_test_loss") -> float:
    """Mean over the sizes of a variable's mean divided by that of random subsets, minus 1."""
    of, random = (
        table[table["method"] == which].set_index("n_points")[name] for which in (method, "random")
    )
    return (of / random - 1).mean()


def summary(tables: dict[str, pd.DataFrame]) -> str:
    """The whole field in two tables."""
    rows = []
    for method in FIELD:
        cells = [
            f"{100 * relative_to_random(table, method):+.0f} %"
            if method in set(table["method"])
            else "–"
            for table in tables.values()
        ]
        if method != "random":
            rows.append([method, *cells])
    found = [beside_the_best(table)["within"] for table in tables.values()]
    rows.append(
        [
            "*sizes where `rnd` is within one standard error of the best*",
            *(f"{of.sum()} of {len(of)}" for of in found),
        ]
    )
    titles = [part.replace("-splits", f", {N_SPLITS} splits") for part in tables]
    chosen = [[part, *row] for part in PROBLEMS if part in tables for row in causal(tables[part])]
    return "\n\n".join(
        [
            "**Minimum test loss relative to random selection, mean over the subset sizes**",
            table_of(["method", *titles], rows),
            "**Subsets chosen for entropy or trace themselves, relative to random ones, mean over the subset sizes**",
            table_of(["problem", *CAUSAL_HEADER], chosen),
        ]
    )


def text_of(part: str, table: pd.DataFrame) -> str:
    problem, _, splits = part.partition("-")
    over = f"{N_SPLITS} splits, a member each" if splits else "members"
    texts = [
        f"## {problem}{', over splits' if splits else ''}",
        f"Minimum test loss, mean ± standard error over {over}:",
        losses(table),
        f"Share of {'splits' if splits else 'members'} in which `rnd` has the smaller loss, with its 95 % interval:",
        win_rates(table),
        "`rnd` beside the best method of each size, paired:",
        goal(table),
    ]
    if not splits:
        texts += ["Selected for entropy and trace themselves, relative to random, mean over sizes:"]
        texts.append(table_of(CAUSAL_HEADER, causal(table)))
    return "\n\n".join(texts)


def main() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    parts = [*PROBLEMS, *(f"{problem}-splits" for problem in SPLIT)]
    for part in [] if sys.argv[1:] == ["tables"] else sys.argv[1:] or parts:
        problem, _, splits = part.partition("-")
        found = compared((runs_of_splits if splits else runs_of)(problem, params))
        found.to_csv(REFERENCE / f"field-{part}.csv", index=False, float_format="%.6g")
    files = {part: REFERENCE / f"field-{part}.csv" for part in parts}
    tables = {part: pd.read_csv(path) for part, path in files.items() if path.is_file()}
    short = summary(tables)
    into_readme("field", short)
    text = "\n\n".join([short, *(text_of(part, table) for part, table in tables.items())])
    (REFERENCE / "field.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
