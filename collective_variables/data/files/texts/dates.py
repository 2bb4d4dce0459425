"""Read texts as dates and times: ISO 8601, and the forms that spreadsheets write.

Times with a zone are converted to UTC. For dates such as 01/02/2020, numbers above 12 in the column
show whether the day comes first. Dates with dots always have the day first.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
TIME = (
    r"(?:(?:T|,?\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d+))?)?"
    r"\s*(?P<half>(?:[AaPp]\.?[Mm]\.?)?)\s*(?P<zone>(?:Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?))?$"
)
ORDINAL = r"(?:st|nd|rd|th)?"
WORD, YEAR = r"(?P<month>[A-Za-z]{3,9})\.?", r"(?P<year>\d{4})"
# In "slash" the day and the month may be exchanged: the column decides.
FORMS = {
    "year": r"^(?P<year>\d{4})(?P<sign>[-/.])\s?(?P<month>\d{1,2})(?:[-/.]\s?(?P<day>\d{1,2})\.?)?"
    + TIME,
    "slash": r"^(?P<day>\d{1,2})(?P<sign>[-/])(?P<month>\d{1,2})[-/](?P<year>\d{4})" + TIME,
    "dot": r"^(?P<day>\d{1,2})(?P<sign>\.)\s?(?P<month>\d{1,2})\.\s?(?P<year>\d{4})" + TIME,
    "day": rf"^(?P<day>\d{{1,2}}){ORDINAL}\.?(?P<sign>[-/\s]\s?){WORD}[-/,\s]\s?{YEAR}{TIME}",
    "month": rf"^{WORD}(?P<sign>\s)(?P<day>\d{{1,2}}){ORDINAL},?\s{YEAR}{TIME}",
}
SHORT_YEAR = (
    r"^(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.]\d{2}(?:\s+\d{1,2}:\d{2}.*)?$"
)
MICROSECONDS = 1_000_000
NOT_A_DATE = np.datetime64("NaT", "us")


class Dates(NamedTuple):
    """Texts read as dates, with an element for each text.

    Attributes:
        day_first: datetime64[us], read with the day first where the order is open; NaT where a text
            is not a date.
        month_first: The same with the month first.
        is_open: Texts whose order the column has to decide.
        has_zone: Texts with a zone.
    """

    day_first: np.ndarray
    month_first: np.ndarray
    is_open: np.ndarray
    has_zone: np.ndarray


def read_dates(texts: "pyarrow.StringArray") -> Dates:
    """Return texts read as dates in any form."""
    from pyarrow import compute

    n_texts = len(texts)
    dates = Dates(
        np.full(n_texts, NOT_A_DATE),
        np.full(n_texts, NOT_A_DATE),
        np.zeros(n_texts, bool),
        np.zeros(n_texts, bool),
    )
    for form, pattern in FORMS.items():
        matches = compute.match_substring_regex(texts, pattern)
        rows = np.flatnonzero(matches.to_numpy(zero_copy_only=False))
        if len(rows):
            _read_form(form, rows, compute.extract_regex(texts.take(rows), pattern), dates)
    _read_rest(texts, dates)
    return dates


def has_short_years(texts: "pyarrow.StringArray") -> np.ndarray:
    """Return which texts are dates whose years have two digits."""
    from pyarrow import compute

    return compute.match_substring_regex(texts, SHORT_YEAR).to_numpy(zero_copy_only=False)


def _read_form(form: str, rows: np.ndarray, groups: "pyarrow.StructArray", dates: Dates) -> None:
    """Enter the dates of one form, with the parts in `groups`."""
    year, day = _whole(groups, "year"), _whole(groups, "day", default=1)
    is_dated = np.ones(len(rows), bool)
    if form in ("day", "month"):
        words = _texts(groups, "month").to_pylist()
        month = np.array([_month(word) for word in words])
    else:
        month = _whole(groups, "month")
    if form == "year":
        # 2020-05 is a month, but 2020/05 and 2020.05 may be anything.
        no_day = _is_empty(groups, "day")
        is_dated = ~no_day | (_equal(groups, "sign", "-") & _is_empty(groups, "hour"))
    time, offset, is_time = _times(groups)
    seconds = time - offset
    usual = _instants(year, month, day, seconds, is_dated & is_time)
    dates.day_first[rows] = usual
    dates.month_first[rows] = usual
    dates.has_zone[rows] = ~_is_empty(groups, "zone")
    if form == "slash":
        dates.month_first[rows] = _instants(year, day, month, seconds, is_dated & is_time)
        dates.is_open[rows] = True


def _read_rest(texts: "pyarrow.StringArray", dates: Dates) -> None:
    """Enter dates that only Python reads: ISO 8601 without separators, with weeks or only hours."""
    rest = np.flatnonzero(np.isnat(dates.day_first) & np.isnat(dates.month_first))
    for row in rest:
        text = texts[row].as_py()
        if not 8 < len(text) < 40 or not text[:4].isdigit():
            continue
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            continue
        if moment.tzinfo is not None:
            dates.has_zone[row] = True
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        dates.day_first[row] = dates.month_first[row] = np.datetime64(moment, "us")


def _instants(
    year: np.ndarray, month: np.ndarray, day: np.ndarray, seconds: np.ndarray, is_valid: np.ndarray
) -> np.ndarray:
    """Return dates with times in microseconds; NaT where a day does not exist."""
    is_valid = is_valid & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (year >= 1)
    months = (year.astype("datetime64[Y]") - 1970).astype("datetime64[M]") + (month - 1)
    days = months.astype("datetime64[D]") + (day - 1)
    is_valid &= days.astype("datetime64[M]") == months
    instants = days.astype("datetime64[us]") + seconds.astype("timedelta64[us]")
    return np.where(is_valid, instants, NOT_A_DATE)


def _times(groups: "pyarrow.StructArray") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times of day and offsets of zones in microseconds, and which of them exist."""
    from pyarrow import compute

    hour, minute, second = (_whole(groups, name) for name in ("hour", "minute", "second"))
    part = compute.utf8_slice_codeunits(
        compute.binary_join_element_wise(_texts(groups, "part"), "000000", ""), 0, 6
    )
    is_half = ~_is_empty(groups, "half")
    is_afternoon = compute.starts_with(_texts(groups, "half"), "p", ignore_case=True)
    is_valid = (minute < 60) & (second < 60) & (hour < 24) & (~is_half | ((hour > 0) & (hour < 13)))
    hour = np.where(is_half, hour % 12 + 12 * is_afternoon.to_numpy(zero_copy_only=False), hour)
    time = ((hour * 60 + minute) * 60 + second) * MICROSECONDS + _integers(part)
    zone = _texts(groups, "zone")
    digits = compute.replace_substring_regex(zone, r"\D", "")
    digits = compute.utf8_slice_codeunits(
        compute.binary_join_element_wise(digits, "0000", ""), 0, 4
    )
    offset = _integers(digits)
    offset = (offset // 100 * 60 + offset % 100) * 60 * MICROSECONDS
    is_west = compute.starts_with(zone, "-").to_numpy(zero_copy_only=False)
    return time, np.where(is_west, -offset, offset), is_valid


def _month(word: str) -> int:
    """Return the number of a month; 0 if the word does not name one."""
    start = word[:3].lower()
    full = ("january", "february", "march", "april", "may", "june", "july", "august")
    full += ("september", "october", "november", "december")
    number = MONTHS.index(start) if start in MONTHS else -1
    return number + 1 if full[number].startswith(word.lower()) or word.lower() == "sept" else 0


def _texts(groups: "pyarrow.StructArray", name: str) -> "pyarrow.StringArray":
    from pyarrow import compute

    return compute.struct_field(groups, name)


def _is_empty(groups: "pyarrow.StructArray", name: str) -> np.ndarray:
    return _equal(groups, name, "")


def _equal(groups: "pyarrow.StructArray", name: str, text: str) -> np.ndarray:
    from pyarrow import compute

    return compute.equal(_texts(groups, name), text).to_numpy(zero_copy_only=False)


def _whole(groups: "pyarrow.StructArray", name: str, default: int = 0) -> np.ndarray:
    """Return digits as whole numbers, and a default where there are none."""
    from pyarrow import compute

    texts = _texts(groups, name)
    return _integers(compute.if_else(compute.equal(texts, ""), str(default), texts))


def _integers(texts: "pyarrow.StringArray") -> np.ndarray:
    import pyarrow
    from pyarrow import compute

    # Arrow also reads 08 as a whole number.
    return compute.cast(texts, pyarrow.int64()).to_numpy(zero_copy_only=False)
