"""Compare selection methods with random selection on dirty tables.

    python -m benchmarks.bench_tables [--splits 20] [--kinds KIND ...] [--bases BASE ...]
        [--methods METHOD ...] [--scalings NAME ...] [--csv FILE] [--keep FOLDER]

Each kind of dirty table (`benchmarks.dirty_tables`) is made from four tables of real data, and each
table is split twenty times into pool and test points. A file takes the user's way: `read_table`,
`split_table`, the selection methods, and the training of networks. For each method and scaling of
the inputs, the smallest test loss is compared with that of random rows. These have the same
scaling, split and initial networks.

The printed number is the mean loss over all splits in percent of that of random rows, minus 100;
-100 would be no loss at all. Tables and subset sizes count equally. The 95 % interval comes from
the bootstrap over splits. The bar has two parts. On no kind of table is the default method with the
default scaling more than 2 % worse than random rows on average. On clean tables its loss is not
above that with z-scores. `rnd` trains networks for its selection, so Fuel is its only table here.

--csv also writes the means of each table. --keep stores the losses of each table in a folder as
soon as they are known, so an interrupted run resumes there.
"""

import argparse
import hashlib
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from benchmarks import dirty_tables
from collective_variables.cli import command_line
from collective_variables.data import encoding, problems, scaling
from collective_variables.ensembles import seeding
from collective_variables.experiment.select import select_subsets
from collective_variables.networks import parameters, sequential
from collective_variables.training import loop, schedules

SPLITS = 20
SIZES = (20, 50)  # subset sizes
MEMBERS = 2  # networks for each method and split
RANDOM_MEMBERS = 6  # networks for each split, each on other random rows
LAYERS = ("dense 64", "dense 64")
SCHEDULE = schedules.Schedule(learning_rate=0.005, n_epochs=300, evaluate_every=10)
REFERENCE = "random"
DEFAULT = (command_line.METHOD, scaling.DEFAULT)
TODAY = (command_line.METHOD, "standard")
METHODS = (
    command_line.METHOD,
    "k-center",
    "k-means++",
    "kernel-herding",
    "facility-location",
    "rnd",
    "log-determinant",
    "trace",
    "best-entropy",
    "greedy",
)
# "none" is for embeddings, whose columns have one unit.
SCALINGS = tuple(name for name in scaling.SCALINGS if name != "none")
SLOW = ("rnd",)  # compared on one table
SLOW_BASE = "fuel"
BAR = 2.0  # percent
DRAWS = 2000  # of the bootstrap
TOGETHER = 16  # networks that one call trains
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)  # of padded inputs, to compile few
KEYS = ["kind", "base", "split", "scaling", "n_points"]


class Case(NamedTuple):
    """A kind of table made from one table, the methods to compare on it, and how often."""

    kind: str
    base: str
    methods: tuple[str, ...]
    n_splits: int
    scalings: tuple[str, ...] = SCALINGS


class Run(NamedTuple):
    """The training points of one network, and the number of its initial parameters."""

    inputs: np.ndarray
    targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    n_points: int
    member: int


def losses(case: Case) -> pd.DataFrame:
    """Return the smallest test loss of each network, with the columns KEYS, method and loss.

    `standing_out` is the share of the chosen rows that `scaling.standing_out` names, and `in_file`
    is that of all rows.
    """
    # Methods say that a seed of theirs changes nothing, and the like.
    warnings.simplefilter("ignore")
    rows, runs = [], []
    for split in range(case.n_splits):
        table = read(case, split)
        found = [column.rows for column in scaling.standing_out(table)]
        found = np.unique(np.concatenate(found)) if found else np.empty(0, int)
        for name in case.scalings:
            dataset = encoding.split_table(table, case.base, seed=split, input_scaling=name)
            for method, chosen in select(case, dataset, name, split).items():
                for member, subset in enumerate(chosen):
                    is_found = np.isin(dataset.index[subset], found).mean()
                    labels = (case.kind, case.base, split, name)
                    shares = (is_found, len(found) / len(table.inputs))
                    rows += [(*labels, size, method, member, *shares) for size in SIZES]
                    points = (dataset.inputs[subset], dataset.targets[subset])
                    test = (dataset.test_inputs, dataset.test_targets)
                    runs += [Run(*points, *test, size, 100 * split + member) for size in SIZES]
    columns = [*KEYS, "method", "member", "standing_out", "in_file"]
    return pd.DataFrame(rows, columns=columns).assign(loss=train(runs))


def kept_losses(case: Case, folder: Path | None) -> pd.DataFrame:
    """Return `losses`, read from the folder if they are there."""
    if folder is None:
        return losses(case)
    key = hashlib.sha256(repr(case).encode()).hexdigest()[:8]
    path = folder / f"{case.kind}-{case.base}-{key}.csv"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        losses(case).to_csv(unfinished, index=False)
        unfinished.replace(path)
    return pd.read_csv(path)


def read(case: Case, split: int) -> encoding.Table:
    """Write a dirty table as a file, and read it as a user would."""
    generator = np.random.default_rng([split, len(case.kind)])
    frame = dirty_tables.KINDS[case.kind](dirty_tables.BASES[case.base](), generator)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        frame.to_csv(path, index=False)
        return encoding.read_table(path, dirty_tables.TARGET)


def select(case: Case, dataset: problems.Dataset, scaled: str, split: int) -> dict[str, np.ndarray]:
    """Return the rows of the pool that each method selects for its members.

    Scalings other than the default and z-scores are compared only for the default method.
    """
    methods = [name for name in case.methods if name not in SLOW or case.base == SLOW_BASE]
    if scaled not in (DEFAULT[1], TODAY[1]):
        methods = [name for name in methods if name == DEFAULT[0]]
    chosen = {REFERENCE: random_rows(len(dataset.index), case.n_splits)[split]}
    for method in methods:
        chosen |= select_subsets(
            dataset,
            network(dataset.targets.shape[1]),
            {method: (method, {})},
            max(SIZES),
            MEMBERS,
            seed=split,
        )
    return chosen


@cache
def random_rows(n_pool: int, n_splits: int) -> np.ndarray:
    """Return random subsets (n_splits, members, n): one call for all, because each compiles."""
    empty = np.zeros((n_pool, 1), np.float32)
    index = np.arange(n_pool)
    dataset = problems.Dataset(empty, empty, empty, empty, "regression", index, index, "")
    n_members = n_splits * RANDOM_MEMBERS
    methods = {REFERENCE: (REFERENCE, {})}
    subsets = select_subsets(dataset, network(1), methods, max(SIZES), n_members, seed=0)
    return subsets[REFERENCE].reshape(n_splits, RANDOM_MEMBERS, max(SIZES))


def network(n_outputs: int) -> sequential.Network:
    """Return the network that is trained."""
    return sequential.build_network([*LAYERS, f"dense {n_outputs}"])


def train(runs: Sequence[Run]) -> np.ndarray:
    """Return the smallest test loss of each run.

    Inputs are padded with zeros to few widths and networks are trained in batches, so that few
    programs are compiled. The padding changes no output, because its weights never change.
    """
    result = np.empty(len(runs))
    shapes: dict[tuple[int, ...], list[int]] = {}
    for number, run in enumerate(runs):
        width = min(width for width in WIDTHS if width >= run.inputs.shape[1])
        shapes.setdefault((width, len(run.test_inputs)), []).append(number)
    for (width, _), numbers in shapes.items():
        for start in range(0, len(numbers), TOGETHER):
            some = numbers[start : start + TOGETHER]
            # The last batch is filled up with its last run.
            padded = some + some[-1:] * (TOGETHER - len(some))
            arguments = [_padded(runs[number], width) for number in padded]
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *arguments)
            n_outputs = runs[some[0]].targets.shape[1]
            result[some] = _train(network(n_outputs), *stacked)[: len(some)]
    return result


def _padded(run: Run, width: int) -> tuple:
    n_features = run.inputs.shape[1]
    columns = [(0, 0), (0, width - n_features)]
    points = loop.Points(np.pad(run.inputs, columns), run.targets)
    test = loop.Points(np.pad(run.test_inputs, columns), run.test_targets)
    params = _initial(network(run.targets.shape[1]), n_features, width, run.member)
    return params, points, test, np.int32(run.n_points)


@cache
def _initial(model: sequential.Network, n_features: int, width: int, member: int) -> dict:
    """Return the parameters of a network for `n_features` inputs, with further rows of zeros."""
    key = seeding.key(member, "initialisation")
    params = parameters.initialise(model, key, np.zeros((1, n_features), np.float32))
    first = model.init(key, np.zeros((1, n_features + 1), np.float32))
    # The one leaf whose shape depends on the number of inputs.
    return jax.tree.map(
        lambda leaf, wider: (
            np.pad(leaf, [(0, width - n_features), (0, 0)])
            if leaf.shape != wider.shape
            else np.asarray(leaf)
        ),
        params,
        first,
    )


@partial(jax.jit, static_argnums=0)
def _train(
    model: sequential.Network,
    params: dict,
    points: loop.Points,
    test: loop.Points,
    n_points: jax.Array,
) -> jax.Array:
    def smallest(run: tuple) -> jax.Array:
        curves = loop.train(model, *run[:3], schedule=SCHEDULE, n_points=run[3])
        return jnp.nanmin(curves.test_loss)

    return jax.lax.map(smallest, (params, points, test, n_points), batch_size=4)


def pair(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the loss of each method on each split next to that of random rows there.

    The columns are KEYS, method, loss and reference: means over networks.
    """
    means = runs.groupby([*KEYS, "method"], as_index=False)["loss"].mean()
    reference = means[means["method"] == REFERENCE].drop(columns="method")
    reference = reference.rename(columns={"loss": "reference"})
    return means[means["method"] != REFERENCE].merge(reference, on=KEYS)


def pair_with_today(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the loss of the default on each split next to that with z-scores."""
    keys = ["kind", "base", "split", "n_points"]
    default, today = (
        runs[(runs["method"] == method) & (runs["scaling"] == name)]
        .groupby(keys, as_index=False)["loss"]
        .mean()
        for method, name in (DEFAULT, TODAY)
    )
    return default.merge(today.rename(columns={"loss": "reference"}), on=keys)


def summarise(pairs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the difference of mean losses, in percent, and its 95 % interval.

    The mean loss over splits is divided by the mean reference, for each table and size, and the
    mean of these ratios is taken. The interval is the percentile bootstrap over splits.
    """
    rows = []
    for labels, group in pairs.groupby([*by], sort=False):
        losses = group.pivot(
            index="split", columns=["base", "n_points"], values=["loss", "reference"]
        )
        values = losses.to_numpy().reshape(len(losses), 2, -1)
        draws = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
        lower, upper = np.quantile(_percent(values[draws].mean(axis=1)), [0.025, 0.975])
        rows.append((*labels, float(_percent(values.mean(axis=0))), lower, upper))
    return pd.DataFrame(rows, columns=[*by, "mean", "lower", "upper"])


def _percent(means: np.ndarray) -> np.ndarray:
    """Return losses (…, 2, tables and sizes), the second the reference, as mean differences."""
    return 100 * (means[..., 0, :] / means[..., 1, :] - 1).mean(axis=-1)


def print_table(runs: pd.DataFrame) -> None:
    """Print the differences from random rows, a row for each kind and scaling."""
    table = summarise(pair(runs), ["kind", "scaling", "method"])
    table["text"] = [
        f"{mean:+.0f} [{lower:+.0f}, {upper:+.0f}]"
        for mean, lower, upper in zip(table["mean"], table["lower"], table["upper"])
    ]
    wide = table.pivot(index=["kind", "scaling"], columns="method", values="text")
    kinds = table["kind"].unique()
    names = [name for name in SCALINGS if name in set(table["scaling"])]
    rows = [(kind, name) for kind in kinds for name in names]
    methods = [name for name in METHODS if name in wide.columns]
    print("Test loss from that of random rows, in percent of the latter, with its 95 % interval:")
    print(wide.reindex(rows)[methods].fillna("").to_string())


def print_shares(runs: pd.DataFrame) -> None:
    """Print how many of the chosen rows stand out, by the default method."""
    chosen = runs[(runs["method"] == DEFAULT[0]) & (runs["n_points"] == max(SIZES))]
    wide = chosen.pivot_table("standing_out", "kind", "scaling", sort=False)
    wide["all rows"] = chosen.groupby("kind")["in_file"].mean()
    print(f"\nRows that stand out, in percent of those that {DEFAULT[0]} chooses:")
    print((100 * wide).round(1).to_string())


def print_today(runs: pd.DataFrame) -> None:
    """Print the loss of the default method next to that with z-scores."""
    table = summarise(pair_with_today(runs), ["kind"])
    print(
        f"\nTest loss of {DEFAULT[0]} with {DEFAULT[1]} from that with {TODAY[1]}, in percent of "
        "the latter:"
    )
    for row in table.itertuples():
        print(f"{row.kind:<16} {row.mean:+.0f} [{row.lower:+.0f}, {row.upper:+.0f}]")


def verdict(runs: pd.DataFrame) -> list[str]:
    """Return a sentence for each part of the bar; those that fail begin with FAIL."""
    method, scaled = DEFAULT
    default = runs[runs["method"].isin([REFERENCE, method]) & (runs["scaling"] == scaled)]
    table = summarise(pair(default), ["kind"])
    worst = table.loc[table["mean"].idxmax()]
    sentences = [
        f"{'PASS' if worst['mean'] <= BAR else 'FAIL'}: {method} with {scaled} is at worst "
        f"{worst['mean']:+.1f} % [{worst['lower']:+.1f}, {worst['upper']:+.1f}] from random rows "
        f"({worst['kind']}); at most {BAR:+.0f} % is wanted."
    ]
    today = summarise(pair_with_today(runs), ["kind"]).set_index("kind")
    if "clean" in today.index:
        clean = today.loc["clean"]
        sentences.append(
            f"{'PASS' if clean['mean'] <= 0 else 'FAIL'}: on clean tables its loss is "
            f"{clean['mean']:+.1f} % [{clean['lower']:+.1f}, {clean['upper']:+.1f}] from that with "
            f"{TODAY[1]}; at most +0 % is wanted."
        )
    return sentences


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.bench_tables")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--kinds", nargs="+", choices=dirty_tables.KINDS)
    parser.add_argument("--bases", nargs="+", choices=dirty_tables.BASES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--scalings", nargs="+", choices=SCALINGS, default=SCALINGS)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--keep", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Compare, print the tables and the verdict, and exit with 1 if the bar is missed."""
    options = parse(arguments)
    cases = [
        Case(kind, base, tuple(options.methods), options.splits, tuple(options.scalings))
        for kind in options.kinds or dirty_tables.KINDS
        for base in options.bases or dirty_tables.BASES
    ]
    context = multiprocessing.get_context("spawn")
    parts = []
    with ProcessPoolExecutor(options.processes, context) as executor:
        results = executor.map(partial(kept_losses, folder=options.keep), cases)
        for case, part in zip(cases, results):
            print(f"{case.kind}, {case.base}: done", file=sys.stderr, flush=True)
            parts.append(part)
    runs = pd.concat(parts, ignore_index=True)
    print(f"{options.splits} splits of {', '.join(runs['base'].unique())}; sizes {SIZES}")
    print_table(runs)
    print_shares(runs)
    print_today(runs)
    sentences = verdict(runs)
    print("", *sentences, sep="\n")
    if options.csv:
        table = summarise(pair(runs), ["kind", "base", "scaling", "method"])
        table.round(2).to_csv(options.csv, index=False)
    if any(sentence.startswith("FAIL") for sentence in sentences):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
