"""Make tables from the texts that benchmarks printed into reference/bench-*.txt."""

import re

from benchmarks._markdown import fold, table
from benchmarks.pages.files import REFERENCE


def read_lines(name: str) -> list[str]:
    """Return the lines of a text of reference/."""
    return (REFERENCE / name).read_text().splitlines()


def split_columns(line: str) -> list[str]:
    """Return the cells of a line, which two spaces or more separate."""
    cells = re.split(r"\s{2,}", re.sub(r"\bto\s+", "to ", line.strip()))
    return [re.sub(r"(\d)e-0(\d)", r"\1e-\2", cell) for cell in cells]


def bench_table(name: str, first: str) -> str:
    """Return a text of a benchmark: its machine, its table, and the lines after it.

    Args:
        name: Name of the file.
        first: The beginning of the line of headings.

    Returns:
        The text in Markdown.
    """
    lines = read_lines(name)
    (start,) = (number for number, line in enumerate(lines) if line.startswith(first))
    header = split_columns(lines[start])
    rows, notes = [], []
    for line in lines[start + 1 :]:
        cells = split_columns(line)
        if len(cells) < 2:
            notes.append(line.strip())
        else:
            rows.append([*cells, *[""] * (len(header) - len(cells))])
    about = [line.strip() for line in lines[:start] if line.strip()]
    parts = [
        "\n".join(f"- {line}" for line in about),
        table(header, rows),
        "\n".join(f"- {note}" for note in notes),
    ]
    return "\n\n".join(filter(None, parts))


def labels_tables() -> str:
    """Return the comparison of rules for labels: rules and verdicts, and the rest folded."""
    shown, folded = [], []
    for part in "\n".join(read_lines("bench-labels.txt")).split("\n\n"):
        first, *others = part.splitlines()
        if others and others[0].startswith("rule "):
            header, *rows = map(split_columns, others)
            shown.append(f"**{first[0].upper()}{first[1:]}**\n\n{table(header, rows)}")
        elif first.startswith(("PASS", "FAIL")):
            shown.append("\n".join(f"- {line}" for line in (first, *others)))
        else:
            folded.append(part)
    rest = "\n".join(["```text", "\n\n".join(folded), "```"])
    return "\n\n".join(
        [*shown, fold("The tables, each rule on each of them, and correlations", rest)]
    )


def verbatim(name: str) -> str:
    """Return a text as it was printed."""
    return "\n".join(["```text", *read_lines(name), "```"])
