"""Compare rules for labels in batches on real tables.

    python -m benchmarks.bench_labels [--splits 20] [--tables NAME ...] [--rules NAME ...]
        [--keep FOLDER] [--rounds FILE] [--csv FILE]

Each table of `benchmarks.label_tables` is split into pool and test points in every repeat. The
first 32 rows are drawn at random; each rule then adds seven batches of 32, up to 256 labels. After
every batch a network is trained from the same initial parameters. All rules have the same splits,
first rows and initial networks, so their differences are paired.

Rules use the kernel of the trained network through a sketch; "linear", "typiclust", "prob-cover"
and "max-herding" use that of the inputs. "committee" and "ensemble-variance" train three networks
to choose rows; for the test the first of them counts, so that better predictions of an ensemble are
no part of the comparison. The rest choose by inputs or predictions. Rules with a noise have the
default of the loop; "bait, 0.001" has that of Holzmüller et al. 2023.

The tables are those of `benchmarks.label_tables` with pools of 512 rows at least. "mnist", "words"
and "rodents" are left out, since their many inputs or outputs would take as long as all others. The
default noise was chosen with two splits of nine of these tables, one of which is compared here.

Run it by `make bench-labels`, which fetches the packages that ship the tables. --keep stores the
rounds of each table, repeat and rule in a folder as soon as they are known, so an interrupted run
resumes there. --rounds unpacks an earlier run from a file into that folder, as far as its settings
are the same, and in the end packs the folder into the file. --csv writes the means that the printed
tables are made from.
"""

import argparse
import hashlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks import label_results, label_tables
from collective_variables.active_learning import choosing, fitting, rounds
from collective_variables.networks import sequential

SIZES = (32, 64, 96, 128, 160, 192, 224, 256)
LARGEST_POOL = 10_000
LARGEST_TEST = 2000
SPLITS = 20
LAYERS = ("dense 128", "dense 128")
SINGLE = fitting.FitSettings(n_networks=1)
COMMITTEE = fitting.FitSettings(n_networks=3)
REGRESSIONS = (
    "concrete",
    "ames",
    "abalone",
    "computers",
    "births",
    "storms",
    "diamonds",
    "chicago",
    "life",
    "lennard-jones",
    "friedman-1",
    "friedman-2",
    "friedman-3",
)
MADE = REGRESSIONS[-4:]  # on the spot
CLASSIFICATIONS = ("digits", "segment", "jobs", "spam", "cells")
TABLES = (*REGRESSIONS, *CLASSIFICATIONS)
RULES = {
    "random": choosing.Rule("random"),
    "bait": choosing.Rule("bait"),
    "bait, 0.001": choosing.Rule("bait", options={"noise": 1e-3}),
    "lcmd": choosing.Rule("lcmd"),
    "lcmd, committee": choosing.Rule("lcmd", options={"weights": choosing.COMMITTEE}),
    "k-means++": choosing.Rule("k-means++"),
    "max-dist": choosing.Rule("max-dist"),
    "max-det": choosing.Rule("max-det"),
    "max-diag": choosing.Rule("max-diag"),
    "frank-wolfe": choosing.Rule("frank-wolfe"),
    "lcmd, linear": choosing.Rule("lcmd", "linear"),
    "rnd-linearised": choosing.Rule("rnd-linearised"),
    "typiclust": choosing.Rule("typiclust", "linear"),
    "prob-cover": choosing.Rule("prob-cover", "linear"),
    "max-herding": choosing.Rule("max-herding", "linear"),
    "ensemble-variance": choosing.Rule("ensemble-variance"),
    "margin": choosing.Rule("margin"),
    "predictive-entropy": choosing.Rule("predictive-entropy"),
}
FOR_CLASSES = ("margin", "predictive-entropy")
# Rules of three networks, of which the first is tested as for the others.
OF_COMMITTEE = ("lcmd, committee", "ensemble-variance")


class Case(NamedTuple):
    """A repeat of one table, and the rules to compare on it."""

    table: str
    repeat: int
    rules: tuple[str, ...]


def split(table: label_tables.LabelTable, repeat: int) -> rounds.Split:
    """Return pool and test points of a repeat.

    Columns are z-scores x of the pool, as 5 tanh(x / 5), so that no cell lies far out (Holzmüller
    et al. 2023).
    """
    order = np.random.default_rng([repeat, 32]).permutation(len(table.inputs))
    n_test = min(LARGEST_TEST, len(order) // 3)
    test, pool = order[:n_test], order[n_test:][:LARGEST_POOL]
    mean, std = table.inputs[pool].mean(axis=0), table.inputs[pool].std(axis=0)
    inputs = (table.inputs - mean) / np.where(std > 1e-9 * np.abs(mean), std, np.inf)
    inputs = (5.0 * np.tanh(inputs / 5.0)).astype(np.float32)
    return rounds.Split(inputs[pool], table.targets[pool], inputs[test], table.targets[test])


def play(case: Case) -> pd.DataFrame:
    """Return the rounds of all rules in one repeat."""
    table = label_tables.load(case.table)
    points = split(table, case.repeat)
    network = sequential.build_network(
        [*LAYERS, f"dense {table.targets.shape[1]}"], activation="silu"
    )
    plans = {
        False: rounds.Plan(SIZES, SINGLE, seed=case.repeat),
        True: rounds.Plan(SIZES, COMMITTEE, seed=case.repeat, n_tested=1),
    }
    return pd.concat(
        [
            rounds.play(
                network, [points], {name: RULES[name]}, plans[name in OF_COMMITTEE], task=table.task
            )
            for name in case.rules
        ],
        ignore_index=True,
    ).assign(table=case.table, task=table.task, repeat=case.repeat)


def kept(case: Case, folder: Path | None) -> pd.DataFrame:
    """Return `play`; rules that the folder has are read from there."""
    if folder is None:
        return play(case)
    parts = []
    for rule in case.rules:
        path = folder / file_name(case, rule)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            play(case._replace(rules=(rule,))).to_csv(unfinished, index=False)
            unfinished.replace(path)
        parts.append(pd.read_csv(path))
    return pd.concat(parts, ignore_index=True)


def file_name(case: Case, rule: str) -> str:
    """Return the name under which a rule's rounds are kept, which differs for other settings."""
    key = hashlib.sha256(repr((RULES[rule], SINGLE, COMMITTEE, SIZES)).encode()).hexdigest()
    return f"{case.table}-{case.repeat}-{rule.replace(', ', '-')}-{key[:8]}.csv"


def unpack(file: Path, folder: Path) -> None:
    """Write the rounds of an earlier run into a folder, a file for each table, repeat and rule.

    What the folder has already stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in pd.read_csv(file).groupby("file", sort=False):
        if not (folder / name).exists():
            part.drop(columns="file").to_csv(folder / name, index=False)


def pack(folder: Path, file: Path) -> None:
    """Write the rounds of all files of a folder into one file."""
    names = sorted(path.name for path in folder.glob("*.csv"))
    parts = [pd.read_csv(folder / name).assign(file=name) for name in names]
    pd.concat(parts).to_csv(file, index=False, float_format="%.6g")


def run(
    tables: Sequence[str], rules: Sequence[str], n_splits: int, folder: Path | None
) -> pd.DataFrame:
    """Return the rounds of all tables and repeats, computed on all cores."""
    cases = []
    for name in tables:
        is_regression = name in REGRESSIONS
        names = tuple(rule for rule in rules if not (is_regression and rule in FOR_CLASSES))
        # One after another, since the repeats of a table share compiled programs.
        cases += [Case(name, repeat, names) for repeat in range(n_splits)]
    context = multiprocessing.get_context("spawn")
    parts = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as executor:
        futures = [executor.submit(kept, case, folder) for case in cases]
        for number, future in enumerate(as_completed(futures), 1):
            parts.append(future.result())
            print(f"{number} of {len(cases)} repeats", file=sys.stderr, flush=True)
    return pd.concat(parts, ignore_index=True)


def describe(names: Sequence[str]) -> str:
    """Return the size and the source of each table."""
    lines = []
    for name in names:
        table = label_tables.load(name)
        n_rows, n_columns = table.inputs.shape
        n_pool = len(split(table, 0).inputs)
        lines.append(f"{name:13s} {n_rows} × {n_columns}, pools of {n_pool}: {table.source}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--rounds", type=Path)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.keep is None:
        parser.error("--rounds needs the folder of --keep")
    if options.rounds is not None and options.rounds.exists():
        unpack(options.rounds, options.keep)
    # Each process has one core.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    played = run(options.tables, options.rules, options.splits, options.keep)
    if options.rounds is not None:
        pack(options.keep, options.rounds)
    if options.csv is not None:
        label_results.means(played).to_csv(options.csv, index=False, float_format="%.6g")
    print(describe(options.tables), label_results.report(played, MADE), sep="\n\n")


if __name__ == "__main__":
    main()
