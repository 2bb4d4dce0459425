"""What the tables of the benchmarks share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from collective_variables.papers import results_2023

PARAMETRISATIONS = {"lecun": "LeCun", "ntk": "NTK"}
README = Path(__file__).resolve().parents[1] / "README.md"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]
    )


def against_table_2(runs: pd.DataFrame, networks: Mapping[str, tuple[str, Sequence[str]]]) -> str:
    """The networks of Experiment 1 beside the paper's. networks: of each group its problem and
    layers.
    """
    rows = []
    for (group, parametrisation), of in runs.groupby(["group", "parametrisation"], sort=False):
        problem, layers = networks[group]
        n_runs, accuracy, loss = results_2023.TABLE_2.get(
            (problem, ", ".join(layers)), (None, None, None)
        )
        best = of[~of["diverged"]]
        counts = (
            "–" if n_runs is None else f"{n_runs}",
            f"{len(of)} (≤ {of['n_points'].max()} points)",
        )
        accuracies = _in_percent(accuracy, 0), _in_percent(best["max_test_accuracy"].max(), 1)
        losses = "–" if loss is None else f"{loss:.3f}", f"{best['min_test_loss'].min():.3f}"
        rows.append(
            [f"{group}, {PARAMETRISATIONS[parametrisation]}", *counts, *accuracies, *losses]
        )
    header = [
        "network",
        "runs, paper",
        "runs, ours",
        "max accuracy, paper",
        "ours",
        "min test loss, paper",
        "ours",
    ]
    return table(header, rows)


def _in_percent(value: float | None, digits: int) -> str:
    return "–" if value is None or pd.isna(value) else f"{100 * value:.{digits}f} %"


def verdict(lower: float, upper: float) -> str:
    """What the interval of a difference in loss says of the loss."""
    return "lower" if upper < 0 else "higher" if lower > 0 else "undecided"


def verdicts(lower: pd.Series, upper: pd.Series) -> str:
    """How many sizes have which verdict, by the intervals at each."""
    found = [verdict(*ends) for ends in zip(lower, upper)]
    return " / ".join(str(found.count(name)) for name in ("lower", "undecided", "higher"))


def into_readme(name: str, text: str) -> None:
    """Replace what stands between the comments `name` and `/name` of README.md."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    head, _, rest = README.read_text().partition(start)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"README.md must have the lines {start.strip()} and {end.strip()}.")
    README.write_text(f"{head}{start}{text}\n{end}{tail}")
