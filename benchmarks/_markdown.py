"""Write the tables in Markdown that benchmarks and studies share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from collective_variables.papers import results_2023

PARAMETRISATIONS = {"lecun": "LeCun", "ntk": "NTK"}
README = Path(__file__).resolve().parents[1] / "README.md"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def compare_with_table_2(
    runs: pd.DataFrame, networks: Mapping[str, tuple[str, Sequence[str]]]
) -> str:
    """Return the networks of Experiment 1 next to those of the paper's Table 2.

    networks: problem and layers of each group.
    """
    rows = []
    for (group, parametrisation), part in runs.groupby(["group", "parametrisation"], sort=False):
        problem, layers = networks[group]
        n_runs, accuracy, loss = results_2023.TABLE_2.get(
            (problem, ", ".join(layers)), (None, None, None)
        )
        best = part[~part["diverged"]]
        rows.append(
            [
                f"{group}, {PARAMETRISATIONS[parametrisation]}",
                "–" if n_runs is None else f"{n_runs}",
                f"{len(part)} (≤ {part['n_points'].max()} points)",
                _in_percent(accuracy, 0),
                _in_percent(best["max_test_accuracy"].max(), 1),
                "–" if loss is None else f"{loss:.3f}",
                f"{best['min_test_loss'].min():.3f}",
            ]
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
    """Return what the interval of a difference in loss says about the loss."""
    return "lower" if upper < 0 else "higher" if lower > 0 else "undecided"


# How many sizes have which verdict on the loss.
VERDICT_COLUMNS = ("sizes with lower loss", "undecided", "higher")


def count_verdicts(lower: pd.Series, upper: pd.Series) -> list[str]:
    """Return how many sizes have which verdict, by their intervals: the `VERDICT_COLUMNS`."""
    verdicts = [verdict(*ends) for ends in zip(lower, upper)]
    return [str(verdicts.count(name)) for name in ("lower", "undecided", "higher")]


def fold(title: str, text: str) -> str:
    """Return a text that is shown when its title is clicked."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def insert_into_readme(name: str, text: str) -> None:
    """Replace the text between the comments `name` and `/name` of README.md."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    head, _, rest = README.read_text().partition(start)
    _, separator, tail = rest.partition(end)
    if not separator:
        raise ValueError(f"README.md must have the lines {start.strip()} and {end.strip()}.")
    README.write_text(f"{head}{start}{text}\n{end}{tail}")
