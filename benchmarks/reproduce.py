"""Run groups of the graph in a clean clone of the last commit and hold their numbers against those
of reference/.

    python benchmarks/reproduce.py [GROUP ...] [--here]

Without a group all of them, and the claims as well. --here: hold what is in the workspace against
the reference, without a run. Every number that has moved is named, and then it ends with 1. `make
pictures` writes the reference.

What may differ, and why (another machine, number of cores or version of XLA adds float32 numbers in
another order):

kernels     Entropy, trace and what follows from them for subsets that no network chooses. Between the random numbers and these
            is nothing chaotic: a part in 10 000, a hundred times the round-off of a kernel.
losses      Of networks trained on these subsets. Hundreds of steps of Adam amplify round-off, in some members more than in
            others: half a standard error of the mean over members.
choices     All numbers of subsets that random network distillation chose. Where two points are equal but for round-off the
            argmax takes another one, and all that follow are as if drawn anew: two standard errors.
statistics  Correlations and the effects of claims: half of the interval's half width, as for losses. Of train losses the
            whole: where a network fits its subset they are round-off, and so are their ranks.

Of all groups, between a processor with AVX2 and one with AVX-512, the largest difference was 0.85
of what is allowed.
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
sys.path.insert(0, str(ROOT))

CHOSEN = ("rnd", "paper")
RELATIVE, SMALLEST = (
    1e-4,
    1e-6,
)  # of values in float32; losses below the second are round-off themselves
ERRORS = {"kernels": 0.0, "losses": 0.5, "choices": 2.0}
OF_WIDTH, OF_WIDTH_IN_TRAINING = 0.5, 1.0
TRAIN_LOSSES = ("min_train_loss", "final_train_loss")
SIZE = [*statistics.ENSEMBLE, "n_points_low", "n_points_high"]
CASE = ["claim", "group", "parametrisation", "variable"]
COLUMNS = ["table", "of", "quantity", "reference", "found", "allowed"]


def means(summary: pd.DataFrame) -> pd.DataFrame:
    """Every mean of a summary with what it may differ by."""
    parts = []
    for variable in statistics.VARIABLES:
        of = summary[SIZE].assign(quantity=variable, value=summary[variable])
        kind = "kernels" if variable in statistics.COLLECTIVE_VARIABLES else "losses"
        errors = summary["method"].isin(CHOSEN).map({True: ERRORS["choices"], False: ERRORS[kind]})
        by_error = errors * summary[f"{variable}_standard_error"].fillna(0)
        parts.append(of.assign(allowed=by_error + RELATIVE * summary[variable].abs() + SMALLEST))
    return _rows("summary", pd.concat(parts), SIZE)


def effects(table: pd.DataFrame, name: str, keys: list[str], quantity: str) -> pd.DataFrame:
    """Every coefficient or effect with what it may differ by."""
    is_of_training = table["y_variable"].isin(TRAIN_LOSSES) if "y_variable" in table else False
    share = np.where(is_of_training, OF_WIDTH_IN_TRAINING, OF_WIDTH)
    allowed = share * (table["upper"] - table["lower"]) / 2 + SMALLEST
    return _rows(
        name,
        table.assign(quantity=quantity, value=table[quantity], allowed=allowed.fillna(SMALLEST)),
        keys,
    )


def _rows(name: str, table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    of = table[keys].astype(str).agg(", ".join, axis=1)
    return table.assign(table=name, of=of)[["table", "of", "quantity", "value", "allowed"]]


def of_loss(correlations: pd.DataFrame) -> pd.DataFrame:
    """The correlations of entropy and trace with the losses."""
    is_pair = correlations["x_variable"].isin(["entropy", "trace"]) & correlations[
        "y_variable"
    ].isin(statistics.LOSSES)
    return correlations[is_pair]


def numbers(folder: Path, groups: Collection[str], with_claims: bool) -> pd.DataFrame:
    """All that is compared, from the tables in a folder."""
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("summary", "correlations")}
    tables = {name: table[table["group"].isin(groups)] for name, table in tables.items()}
    parts = [
        means(tables["summary"]),
        effects(of_loss(tables["correlations"]), "correlations", correlation.ROWS, "coefficient"),
    ]
    if with_claims:
        parts.append(effects(pd.read_csv(folder / "evidence.csv"), "claims", CASE, "effect"))
    return pd.concat(parts, ignore_index=True)


def compared(reference: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Both values of every number; NaN where one of the two has none. What may differ is the
    reference's.
    """
    keys = ["table", "of", "quantity"]
    return reference.merge(
        found[[*keys, "value"]], on=keys, how="outer", suffixes=("", "_found")
    ).rename(columns={"value": "reference", "value_found": "found"})[COLUMNS]


def moved(table: pd.DataFrame) -> pd.Series:
    """Which rows of `compared` differ by more than is allowed, or are missing in one of the two."""
    missing = table["reference"].isna() != table["found"].isna()
    return missing | ((table["found"] - table["reference"]).abs() > table["allowed"])


def collect(project: Path, groups: Collection[str], with_claims: bool, folder: Path) -> None:
    """Write the tables of a project's stages into a folder, all groups in each."""
    for name in ("summary", "correlations"):
        of_groups = [
            pd.read_csv(project / f"nodes/{group}/CorrelationAnalysis/{name}.csv")
            for group in groups
        ]
        table = pd.concat(of_groups, ignore_index=True)
        table = of_loss(table) if name == "correlations" else table
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    if with_claims:
        evidence = pd.read_csv(project / "nodes/all/Report/evidence.csv")
        evidence.to_csv(folder / "evidence.csv", index=False, float_format="%.6g")


def run_again(groups: Collection[str], everything: bool, folder: Path) -> Path:
    """A clean clone in which the stages of the groups were run."""
    clone = folder / "clone"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    targets = [] if everything else [f"{group}_CorrelationAnalysis" for group in groups]
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(
        ["dvc", "repro", *targets], cwd=clone, env=os.environ | {"PATH": path}, check=True
    )
    return clone


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--here", action="store_true")
    given = parser.parse_args()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    known = [
        name.removesuffix("_CorrelationAnalysis")
        for name in params
        if name.endswith("_CorrelationAnalysis")
    ]
    if unknown := set(given.groups) - set(known):
        parser.error(
            f"GROUP must be one of {', '.join(known)}: received {', '.join(sorted(unknown))}."
        )
    groups, everything = given.groups or known, not given.groups
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = ROOT if given.here else run_again(groups, everything, folder)
        collect(project, groups, everything, folder)
        table = compared(*(numbers(of, groups, everything) for of in (REFERENCE, folder)))
    changed = table[moved(table)]
    share = ((table["found"] - table["reference"]).abs() / table["allowed"]).max()
    if len(changed):
        print(changed.to_string(index=False, max_colwidth=80))
    print(
        f"{len(table)} numbers of {', '.join(groups)}: {len(changed)} moved; the largest difference is {share:.2g} of what is allowed."
    )
    sys.exit(bool(len(changed)))


if __name__ == "__main__":
    main()
