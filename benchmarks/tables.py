"""What the tables of the benchmarks share."""

from pathlib import Path

import pandas as pd

README = Path(__file__).resolve().parents[1] / "README.md"


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


def into_readme(name: str, text: str) -> None:
    """Replace what stands between the comments `name` and `/name` of README.md."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    head, _, rest = README.read_text().partition(start)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"README.md must have the lines {start.strip()} and {end.strip()}.")
    README.write_text(f"{head}{start}{text}\n{end}{tail}")
