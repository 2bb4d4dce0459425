"""What the tables of the benchmarks share."""

import pandas as pd


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def verdict(lower: float, upper: float) -> str:
    """What the interval of a difference in loss says of the loss."""
    return "lower" if upper < 0 else "higher" if lower > 0 else "undecided"


def verdicts(lower: pd.Series, upper: pd.Series) -> str:
    """How many sizes have which verdict, by the intervals at each."""
    found = [verdict(*ends) for ends in zip(lower, upper)]
    return " / ".join(str(found.count(name)) for name in ("lower", "undecided", "higher"))
