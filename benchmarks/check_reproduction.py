"""Run groups of the graph in a clean clone and compare their numbers with those of reference/.

    python -m benchmarks.check_reproduction [GROUP ...] [--here]

Without a group all groups run, and the claims are compared, too. --here compares the results of the
workspace without a run. If a number has moved beyond its tolerance, it is named and the exit status
is 1. `python -m benchmarks.update_results` writes the reference.

Another machine, number of cores or version of XLA adds float32 numbers in another order, so these
numbers may differ:

kernels: entropy, trace and numbers that follow from them, for subsets that no network chooses.
    Nothing chaotic precedes these: the tolerance is a part in 10 000, a hundred times the round-off
    of a kernel.
losses: losses of networks trained on these subsets. Hundreds of steps of Adam amplify round-off, in
    some members more than in others: half a standard error of the mean over members.
choices: all numbers of subsets that random network distillation chose. If two points are equal
    except for round-off, the argmax takes another one, and later points are like a new draw: two
    standard errors.
statistics: correlations and the effects of claims: a quarter of the interval, as for losses. For
    train losses it is half of the interval: if a network fits its subset, they are round-off, and
    so are their ranks.

Between a processor with AVX2 and one with AVX-512, over all groups, the largest difference was 0.85
of the tolerance.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from collective_variables.analysis import correlation, statistics

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reference"
STAGE = "CorrelationAnalysis"

NETWORK_METHODS = ("rnd", "rnd-linearised")  # a network or its kernel chooses the subsets
RELATIVE = 1e-4  # of values in float32
SMALLEST = 1e-6  # losses below it are round-off themselves
ERRORS = {"kernels": 0.0, "losses": 0.5, "choices": 2.0}
HALF_WIDTHS, HALF_WIDTHS_IN_TRAINING = 0.5, 1.0
TRAIN_LOSSES = ("min_train_loss", "final_train_loss")
SIZE = [*statistics.ENSEMBLE, "n_points_low", "n_points_high"]
CASE = ["claim", "group", "parametrisation", "variable"]
KEYS = ["table", "row", "quantity"]
COLUMNS = [*KEYS, "reference", "present", "allowed"]


def means(summary: pd.DataFrame) -> pd.DataFrame:
    """Return every mean of a summary with its tolerance."""
    by_network = summary["method"].isin(NETWORK_METHODS)
    parts = []
    for variable in statistics.VARIABLES:
        values = summary[variable]
        kind = "kernels" if variable in statistics.COLLECTIVE_VARIABLES else "losses"
        errors = by_network.map({True: ERRORS["choices"], False: ERRORS[kind]})
        by_error = errors * summary[f"{variable}_standard_error"].fillna(0)
        allowed = by_error + RELATIVE * values.abs() + SMALLEST
        parts.append(summary[SIZE].assign(quantity=variable, value=values, allowed=allowed))
    return _rows("summary", pd.concat(parts), SIZE)


def effects(table: pd.DataFrame, name: str, keys: list[str], quantity: str) -> pd.DataFrame:
    """Return every coefficient or effect with its tolerance."""
    in_training = table["y_variable"].isin(TRAIN_LOSSES) if "y_variable" in table else False
    share = np.where(in_training, HALF_WIDTHS_IN_TRAINING, HALF_WIDTHS)
    allowed = share * (table["upper"] - table["lower"]) / 2 + SMALLEST
    rows = table.assign(quantity=quantity, value=table[quantity], allowed=allowed.fillna(SMALLEST))
    return _rows(name, rows, keys)


def _rows(name: str, table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    row = table[keys].astype(str).agg(", ".join, axis=1)
    return table.assign(table=name, row=row)[[*KEYS, "value", "allowed"]]


def loss_correlations(correlations: pd.DataFrame) -> pd.DataFrame:
    """Return the correlations of entropy and trace with the losses."""
    is_x = correlations["x_variable"].isin(["entropy", "trace"])
    return correlations[is_x & correlations["y_variable"].isin(statistics.LOSSES)]


def numbers(folder: Path, groups: Collection[str], with_claims: bool) -> pd.DataFrame:
    """Return all numbers that are compared, from the tables in a folder."""
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("summary", "correlations")}
    tables = {name: table[table["group"].isin(groups)] for name, table in tables.items()}
    correlations = loss_correlations(tables["correlations"])
    parts = [
        means(tables["summary"]),
        effects(correlations, "correlations", correlation.ROWS, "coefficient"),
    ]
    if with_claims:
        parts.append(effects(pd.read_csv(folder / "evidence.csv"), "claims", CASE, "effect"))
    return pd.concat(parts, ignore_index=True)


def compare(reference: pd.DataFrame, present: pd.DataFrame) -> pd.DataFrame:
    """Return both values of every number, NaN if one of the two tables lacks it.

    The tolerance is that of the reference.
    """
    table = reference.merge(
        present[[*KEYS, "value"]], on=KEYS, how="outer", suffixes=("", "_present")
    )
    return table.rename(columns={"value": "reference", "value_present": "present"})[COLUMNS]


def has_moved(table: pd.DataFrame) -> pd.Series:
    """Return which rows of `compare` differ by more than their tolerance, or lack a value."""
    is_missing = table["reference"].isna() != table["present"].isna()
    return is_missing | (_differences(table) > table["allowed"])


def _differences(table: pd.DataFrame) -> pd.Series:
    return (table["present"] - table["reference"]).abs()


def collect(project: Path, groups: Collection[str], with_claims: bool, folder: Path) -> None:
    """Write the tables of a project's stages into a folder, all groups in each."""
    for name in ("summary", "correlations"):
        tables = [
            pd.read_csv(project / "nodes" / group / STAGE / f"{name}.csv") for group in groups
        ]
        table = pd.concat(tables, ignore_index=True)
        table = loss_correlations(table) if name == "correlations" else table
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    if with_claims:
        evidence = pd.read_csv(project / "nodes/all/Report/evidence.csv")
        evidence.to_csv(folder / "evidence.csv", index=False, float_format="%.6g")


def run_in_clone(groups: Collection[str], everything: bool, folder: Path) -> Path:
    """Return a clean clone in which the stages of the groups have run."""
    clone = folder / "clone"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    targets = [] if everything else [f"{group}_{STAGE}" for group in groups]
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(
        ["dvc", "repro", *targets], cwd=clone, env=os.environ | {"PATH": path}, check=True
    )
    return clone


def known_groups() -> list[str]:
    """Return the groups of params.yaml that have results to compare."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    suffix = f"_{STAGE}"
    return [name.removesuffix(suffix) for name in params if name.endswith(suffix)]


def main() -> None:
    """Compare the named groups, or all, and exit with 1 if a number has moved."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--here", action="store_true", help="compare the workspace, without a run")
    arguments = parser.parse_args()
    known = known_groups()
    if unknown := set(arguments.groups) - set(known):
        parser.error(
            f"GROUP must be one of {', '.join(known)}: received {', '.join(sorted(unknown))}."
        )
    groups, everything = arguments.groups or known, not arguments.groups
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = ROOT if arguments.here else run_in_clone(groups, everything, folder)
        collect(project, groups, everything, folder)
        tables = [numbers(place, groups, everything) for place in (REFERENCE, folder)]
    table = compare(*tables)
    moved = table[has_moved(table)]
    if len(moved):
        print(moved.to_string(index=False, max_colwidth=80))
    share = (_differences(table) / table["allowed"]).max()
    print(
        f"{len(table)} numbers of {', '.join(groups)}: {len(moved)} moved; "
        f"the largest difference is {share:.2g} of its tolerance."
    )
    sys.exit(bool(len(moved)))


if __name__ == "__main__":
    main()
