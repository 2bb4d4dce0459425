"""Remarks on single columns, and the sentences that say them for many columns at once."""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

MAX_NAMED = 3  # columns that a sentence names


class Remark(NamedTuple):
    """What a user should know of how one column was read.

    kind: remarks of one kind become one sentence, that of the first, with all their columns.
    sentence: has {columns} and {count} where the columns and the sum of the counts go.
    """

    kind: Hashable
    column: str
    sentence: str
    count: int = 0


def sentences(remarks: Iterable[Remark]) -> tuple[str, ...]:
    """Return a sentence for each kind of remark, in the order of their first columns."""
    kinds: dict[Hashable, list[Remark]] = {}
    for remark in remarks:
        kinds.setdefault(remark.kind, []).append(remark)
    return tuple(_sentence(alike) for alike in kinds.values())


def _sentence(alike: Sequence[Remark]) -> str:
    count = sum(remark.count for remark in alike)
    # Not `format`: cells and names may have braces. The names come last for the same reason.
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
