"""Write tables in Markdown for benchmarks, studies and the pages of results."""

import pandas as pd

PARAMETRISATIONS = {"lecun": "LeCun", "ntk": "NTK"}
NONE = "–"  # a cell without a value
# The number of sizes with each verdict on the loss.
VERDICT_COLUMNS = ("sizes with lower loss", "undecided", "higher")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: float | None, digits: int, *, sign: bool = False) -> str:
    """Return a fraction in percent; a missing one is a dash."""
    if value is None or pd.isna(value):
        return NONE
    return f"{100 * value:{'+' if sign else ''}.{digits}f} %"


def verdict(lower: float, upper: float) -> str:
    """Return the verdict of the interval of a difference in loss."""
    return "lower" if upper < 0 else "higher" if lower > 0 else "undecided"


def count_verdicts(lower: pd.Series, upper: pd.Series) -> list[str]:
    """Return the number of sizes with each verdict, in the `VERDICT_COLUMNS`."""
    verdicts = [verdict(*ends) for ends in zip(lower, upper)]
    return [str(verdicts.count(name)) for name in ("lower", "undecided", "higher")]


def fold(title: str, text: str) -> str:
    """Return a text that the site shows when its title is clicked."""
    lines = (f"    {line}" if line else "" for line in text.splitlines())
    return f'??? note "{title}"\n\n' + "\n".join(lines)


def join_sections(parts: dict[str, str]) -> str:
    """Return parts with their titles."""
    return "\n\n".join(f"**{title}**\n\n{content}" for title, content in parts.items())
