"""Read the runs at the papers' scale from reference/paper/, and make their tables."""

import json
from typing import Any, NamedTuple

import pandas as pd

from benchmarks._markdown import table
from benchmarks.pages.experiments import MEASURED
from benchmarks.pages.files import PAPER
from collective_variables.analysis import statistics

About = dict[str, dict[str, Any]]


class Analysis(NamedTuple):
    """The tables of CorrelationAnalysis for the groups of Experiment 2."""

    summary: pd.DataFrame
    differences: pd.DataFrame


def read_runs() -> tuple[pd.DataFrame, About]:
    """Return the runs of all groups of the first paper, and the settings behind them."""
    about = describe_groups("TrainModel")
    tables = [pd.read_csv(PAPER / f"{group}.csv.gz") for group in about]
    runs = pd.concat(tables, ignore_index=True)
    fraction = runs["largest_eigenvalue"] / runs["trace"]
    return runs.assign(largest_eigenvalue_fraction=fraction), about


def describe_groups(stage: str) -> About:
    """Return the settings of the groups with a stage."""
    about = {path.stem: json.loads(path.read_text()) for path in sorted(PAPER.glob("*.json"))}
    return {group: run for group, run in about.items() if stage in run["params"]}


def networks_of(about: About) -> dict[str, tuple[str, list[str]]]:
    """Return problem and layers of each group."""
    return {
        group: (run["params"]["LoadDataset"]["problem"], run["params"]["Network"]["layers"])
        for group, run in about.items()
    }


def split_experiments(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs of Experiment 1 and those of Experiment 2."""
    compared = statistics.compares_methods(runs)
    return runs[~compared], runs[compared]


def analyse(runs: pd.DataFrame) -> Analysis:
    """Return the tables of the groups of Experiment 2."""
    return Analysis(
        statistics.summary(runs, MEASURED), statistics.paired_differences(runs, MEASURED)
    )


def machines_table(about: About) -> str:
    """Return the machine of each group, and the seconds of its parts."""
    rows = []
    for group, run in about.items():
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        parts = "; ".join(
            f"{part.replace(', ', ' by ')}: {value:.0f}" for part, value in run["seconds"].items()
        )
        rows.append([group, run["device"], versions, f"`{run['commit']}`", parts])
    return table(["network", "device", "versions", "commit", "seconds"], rows)
