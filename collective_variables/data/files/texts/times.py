"""Read times of day and durations as hours."""

from typing import TYPE_CHECKING

import numpy as np

from collective_variables.data.files.remarks import Remark, cell
from collective_variables.data.files.texts.number_columns import Found, NumberCells

if TYPE_CHECKING:
    import pyarrow

PATTERN = (
    r"^(?P<sign>-?)(?:(?P<day>\d+) days?,?\s+)?(?P<hour>\d{1,4}):(?P<minute>[0-5]\d)"
    r"(?::(?P<second>[0-5]\d(?:[.,]\d+)?))?\s*(?P<half>(?:[AaPp]\.?[Mm]\.?)?)$"
)
# Scores such as 25:17 and dilutions such as 1:10 do not match this.
PROOF = r":\d\d:|:0\d|[AaPp]\.?[Mm]"


def read_times(column: NumberCells) -> Found | None:
    """Return a column of times as hours; None unless all cells are times in one form."""
    # 0:45 may be minutes and seconds. The unit is then wrong, but the proportions are right.
    from pyarrow import compute

    cells, present = column.cells, column.is_present
    if not present.any() or not cells.matches(PATTERN)[present].all():
        return None
    has_seconds, has_half = (cells.matches(form)[present] for form in (r":\d\d:", r"[Mm]\.?$"))
    if not cells.matches(PROOF)[present].any() or len({*has_seconds}) + len({*has_half}) > 2:
        return None
    groups = compute.extract_regex(cells.distinct.filter(present), PATTERN)

    def number(name: str) -> np.ndarray:
        return _numbers(compute.struct_field(groups, name))

    hours = number("hour")
    if has_half.any():
        halves = compute.utf8_lower(compute.struct_field(groups, "half"))
        is_late = compute.starts_with(halves, "p").to_numpy(zero_copy_only=False)
        hours = hours % 12 + 12 * is_late
    hours = 24 * number("day") + hours + number("minute") / 60 + number("second") / 3600
    is_negative = compute.equal(compute.struct_field(groups, "sign"), "-")
    hours = np.where(is_negative.to_numpy(zero_copy_only=False), -hours, hours)
    first = cell(cells.text(np.flatnonzero(present)[0]))
    sentence = f"Times are read as hours: {first} is {hours[0]:.6g} in {{columns}}."
    return Found(
        "times", present, cells.count(present), hours, (Remark("times", cells.name, sentence),)
    )


def _numbers(texts: "pyarrow.StringArray") -> np.ndarray:
    """Return texts as numbers, 0 where a text is empty."""
    import pyarrow
    from pyarrow import compute

    texts = compute.replace_substring(compute.fill_null(texts, ""), ",", ".")
    texts = compute.if_else(compute.equal(texts, ""), "0", texts)
    return compute.cast(texts, pyarrow.float64()).to_numpy(zero_copy_only=False)
