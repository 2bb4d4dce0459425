"""Find columns that tell rows apart instead of describing them: ids, row numbers, paths."""

import re

import numpy as np
import pandas as pd

from collective_variables.data._errors import DataError
from collective_variables.data.columns import inputs, values

# Why a column tells rows apart, beginning with the best identity.
ID = "an id"
FILE = "paths"
TEXTS = "nearly every text is different"
INDEX = "an index"
NUMBERS = "row numbers"
REASONS = (ID, FILE, TEXTS, INDEX, NUMBERS)

# Names that pandas, Parquet and R give an index, and that readers give a column without a name.
INDEX_NAME = re.compile(r"Unnamed: 0(_level_0)?(\.\d+)*|__index_level_\d+__|level_0|\.\.\.1|")
ID_WORDS = {"id", "ids", "uid", "uuid", "guid", "oid"}
LAST_WORDS = ID_WORDS | {"identifier", "idx", "key", "no", "nr"}
# Ids whose words are joined.
JOINED = re.compile(
    "(case|client|customer|document|entry|file|house|image|item|listing|object|order|participant"
    "|passenger|patient|person|product|record|row|sample|station|student|subject|user)"
    "(id|key|no|nr|number)"
)
ROW_NAMES = {"index", "nummer", "no", "nr", "num", "number", "obs", "observation", "serial number"}
ROW_NAMES |= {"row", "rows", "row name", "row names", "rowname", "rownames", "row number", "rownum"}
TIMES = {"date", "day", "epoch", "hour", "minute", "month", "quarter", "second", "t", "time"}
TIMES |= {"week", "year"}

MIN_TEXTS = 10  # fewest texts of which nearly every one can count as different
MIN_COUNTED = 5  # fewest rows that 0, 1, 2, … or 1, 2, 3, … must number
MIN_SHUFFLED = 15  # fewest rows if the numbers have another order or begin elsewhere
MIN_COLLISIONS = 7  # equal pairs expected by chance; none occurs with probability e^-7


def find_reason(name: str, array: np.ndarray) -> str | None:
    """Return why a column tells rows apart, one of `REASONS`; None if it does not.

    The name and the values decide together. `looks_like_row_numbers` judges by values alone.
    """
    present = array[~values.is_missing(array)] if array.ndim == 1 else array[:0]
    if len(present) < 2 or array.dtype.kind == "b":
        return None
    is_text, is_whole = array.dtype == object, values.are_whole(present)
    is_index, words = INDEX_NAME.fullmatch(name) is not None, _split_words(name)
    if not (is_text or is_whole or is_index):
        return None
    n, n_distinct = len(present), values.count_distinct(present)
    # Joined tables number their rows more than once, and a customer may have two rows.
    is_varied = 2 * n_distinct >= n or n_distinct > inputs.MAX_CATEGORIES
    if is_index and (n_distinct == n or (is_whole and is_varied)):
        return INDEX
    if is_whole and n_distinct == n and " ".join(words) in ROW_NAMES:
        return NUMBERS
    if _is_id_name(words) and ((is_text and is_varied) or (is_whole and 2 * n_distinct >= n)):
        return ID
    if is_text and n >= MIN_TEXTS and n_distinct > 0.9 * n:
        return TEXTS
    return None


def is_named_as_one(name: str) -> bool:
    """Return whether a column tells rows apart by its name alone."""
    words = _split_words(name)
    return bool(INDEX_NAME.fullmatch(name)) or _is_id_name(words) or " ".join(words) in ROW_NAMES


def _split_words(name: str) -> list[str]:
    """Return the words of a name such as "house_id", "HouseID" or "House Id", in lower case."""
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word.lower() for word in re.split(r"[\W_]+", parted) if word]


def _is_id_name(words: list[str]) -> bool:
    if not words:
        return False
    is_joined = JOINED.fullmatch("".join(words)) is not None
    return words[0] in ID_WORDS or words[-1] in LAST_WORDS or is_joined


def looks_like_row_numbers(name: str, array: np.ndarray) -> bool:
    """Return whether a column holds consecutive whole numbers in any order.

    Ordered numbers 0, 1, 2, … or 1, 2, 3, … need fewer rows to count as row numbers.
    """
    numbers = _different_whole_numbers(name, array)
    if numbers is None or np.ptp(numbers) + 1 != len(numbers):
        return False
    is_counted = numbers[0] in (0, 1) and _counts(numbers)
    return len(numbers) >= (MIN_COUNTED if is_counted else MIN_SHUFFLED)


def has_gaps(name: str, array: np.ndarray) -> bool:
    """Return whether whole numbers differ more than chance allows, as row numbers with gaps do.

    Among n numbers drawn at random from R, n (n - 1) / (2 R) pairs are equal on average. Row
    numbers have no equal pair, even after rows were removed.
    """
    numbers = _different_whole_numbers(name, array)
    if numbers is None or len(np.unique(np.diff(numbers))) == 1:
        return False  # a grid such as 0, 5, 10, … differs on purpose
    n, n_possible = len(numbers), float(np.ptp(numbers)) + 1
    return n * (n - 1) / (2 * n_possible) >= MIN_COLLISIONS


def may_number_rows(name: str, array: np.ndarray) -> bool:
    """Return whether an input may be a row number, which a warning points out."""
    is_counter = array.ndim == 1 and array.dtype.kind in "iu" and len(array) > 2 and _counts(array)
    return is_counter or looks_like_row_numbers(name, array) or has_gaps(name, array)


def _counts(numbers: np.ndarray) -> bool:
    return bool((np.diff(numbers) == 1).all())


def _different_whole_numbers(name: str, array: np.ndarray) -> np.ndarray | None:
    """Return a column of whole numbers if all are present, exact and different, else None."""
    if array.ndim > 1 or array.dtype.kind not in "iuf" or set(_split_words(name)) & TIMES:
        return None
    if len(array) < 3 or values.is_missing(array).any() or not values.are_whole(array):
        return None
    if np.abs(array.astype(float)).max() > 2**53:  # differences would overflow or lose digits
        return None
    return array if values.count_distinct(array) == len(array) else None


def are_different(array: np.ndarray) -> bool:
    """Return whether every row has a value that no other row has."""
    return array.ndim == 1 and values.count_distinct(array) == len(array)


def has_leading_zeros(texts: np.ndarray) -> bool:
    """Return whether any text, such as 007, would lose its zeros as a number."""
    return any(re.match(r"[+-]?0\d", text) is not None for text in texts if text is not None)


def read_identities(name: str, array: np.ndarray) -> np.ndarray:
    """Return the values of a column as texts that tell rows apart.

    Whole numbers are written without a decimal point, days in ISO 8601.

    Raises:
        DataError: The column is an array, a row has no value, or two rows have the same value.
    """
    if array.ndim > 1:
        raise DataError(
            f"The identity {name} must be a column: received an array of shape {array.shape}."
        )
    missing = values.is_missing(array)
    if missing.any():
        raise DataError(
            f"The identity {name} must have a value in each row: {int(missing.sum())} rows have "
            f"none, the first is row {int(np.argmax(missing))}."
        )
    texts = values.name_values(array)
    is_repeated = pd.Series(texts).duplicated().to_numpy()
    if is_repeated.any():
        row = int(np.argmax(is_repeated))
        first = int(np.argmax(texts == texts[row]))
        raise DataError(
            f"The identity {name} must be different in each row: rows {first} and {row} have "
            f"{values.shorten(texts[row])!r}."
        )
    return texts
