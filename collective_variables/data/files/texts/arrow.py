"""Wrap the operations of Arrow on columns of texts."""

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow


class Plain(NamedTuple):
    """Numbers or dates in their plainest form, and whether they are floating-point numbers."""

    values: np.ndarray
    has_parts: bool


def plain(texts: "pyarrow.StringArray") -> Plain | None:
    """Return cells that are all numbers or ISO 8601 dates in their plainest form, else None."""
    # This is fast for files that a program wrote. A cell such as "nan" takes the long way.
    import pyarrow
    from pyarrow import compute

    trimmed = compute.utf8_trim_whitespace(texts)
    for kind in (pyarrow.int64(), pyarrow.float64(), pyarrow.timestamp("s")):
        try:
            values = compute.cast(trimmed, kind)
        except pyarrow.ArrowInvalid:
            continue
        array = to_numpy(values)
        is_float = kind == pyarrow.float64()
        has_words = is_float and np.isnan(array).sum() > values.null_count
        return None if has_words else Plain(array, is_float)
    return None


def without(texts: "pyarrow.StringArray", markers: Collection[str]) -> "pyarrow.StringArray":
    """Return cells with the markers among them as null."""
    import pyarrow
    from pyarrow import compute

    known = pyarrow.array(sorted(marker.strip() for marker in markers), pyarrow.string())
    is_missing = compute.is_in(compute.utf8_trim_whitespace(texts), value_set=known)
    return compute.if_else(is_missing, None, texts)


def contains(texts: "pyarrow.StringArray", pattern: str) -> bool:
    """Return whether any text contains a pattern."""
    from pyarrow import compute

    return bool(compute.any(compute.match_substring_regex(texts, pattern)).as_py())


def first_with_zero(texts: "pyarrow.StringArray") -> str | None:
    """Return the first whole number with leading zeros; None without one."""
    from pyarrow import compute

    starts = compute.starts_with(texts, "0")
    if not compute.any(starts).as_py():
        return None
    codes = texts.filter(compute.match_substring_regex(texts, r"^0\d+\s*$"))
    return codes[0].as_py() if len(codes) else None


def to_numpy(column: "pyarrow.Array") -> np.ndarray:
    """Return numbers, truth values or times as an array; missing ones are NaN or NaT."""
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    if types.is_timestamp(kind):
        return column.to_numpy(zero_copy_only=False)
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return compute.cast(column, pyarrow.float64()).to_numpy(zero_copy_only=False)
    # int64 and bool have no NaN, and unsigned 64 bits do not fit into int64.
    has_floats = column.null_count > 0 or types.is_uint64(kind)
    if types.is_boolean(kind):
        column = compute.cast(column, pyarrow.uint8())  # Arrow casts no bool to float64
    numbers = compute.cast(column, pyarrow.float64(), safe=False) if has_floats else column
    dtype = np.float64 if has_floats else np.bool_ if types.is_boolean(kind) else np.int64
    return numbers.to_numpy(zero_copy_only=False).astype(dtype)


def instants(column: "pyarrow.Array") -> np.ndarray:
    """Return dates or times, in seconds unless some have parts of a second."""
    import pyarrow
    from pyarrow import compute

    exact = compute.cast(column, pyarrow.timestamp("us"), safe=False)
    return shortest(exact.to_numpy(zero_copy_only=False))


def shortest(times: np.ndarray) -> np.ndarray:
    """Return times as datetime64[s], or [us] if some have parts of a second."""
    times = times.astype("datetime64[us]")
    seconds = times.astype("datetime64[s]")
    return seconds if ((seconds == times) | np.isnat(times)).all() else times


def is_text(kind: "pyarrow.DataType") -> bool:
    """Return whether a type holds texts."""
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def whole(column: "pyarrow.Array | pyarrow.ChunkedArray") -> "pyarrow.StringArray":
    """Return texts in one piece of Arrow's usual type, which holds at most 2 GiB."""
    import pyarrow
    from pyarrow import compute

    column = compute.cast(column, pyarrow.string())
    return column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
