"""Remarks on single columns, and the sentences that join those of many columns."""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

MAX_NAMED = 3  # columns that a sentence names


class Remark(NamedTuple):
    """A remark for the user on how one column was read.

    Attributes:
        kind: Remarks of one kind share the sentence of the first, which names all their columns.
        column: Name of the column.
        sentence: Has {columns} and {count} in place of the columns and the sum of the counts.
        count: Number of cells, which {count} adds up.
    """

    kind: Hashable
    column: str
    sentence: str
    count: int = 0


def sentences(remarks: Iterable[Remark]) -> tuple[str, ...]:
    """Return a sentence for each kind of remark, in the order in which the kinds first occur."""
    kinds: dict[Hashable, list[Remark]] = {}
    for remark in remarks:
        kinds.setdefault(remark.kind, []).append(remark)
    return tuple(_sentence(alike) for alike in kinds.values())


def _sentence(alike: Sequence[Remark]) -> str:
    count = sum(remark.count for remark in alike)
    # `format` would fail for cells and names with braces; the names come last for the same reason.
    before, _, after = alike[0].sentence.partition("{columns}")
    columns = name_columns([remark.column for remark in alike])
    return before.replace("{count}", str(count)) + columns + after.replace("{count}", str(count))


def name_columns(names: Sequence[str]) -> str:
    """Return "column a", "columns a and b", or the first few of many."""
    words = [name[:50] for name in names]
    if len(words) == 1:
        return f"column {words[0]}"
    if len(words) <= MAX_NAMED:
        return f"columns {', '.join(words[:-1])} and {words[-1]}"
    return f"columns {', '.join(words[:MAX_NAMED])} and {len(words) - MAX_NAMED} others"


def cell(text: str) -> str:
    """Return a cell as a message shows it."""
    return repr(text[:50])
