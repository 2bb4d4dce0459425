"""Scale the inputs of a table so that no cell, rare value or column outweighs the others.

Selection methods look for rows that lie far from others, so the scale of the inputs decides what
they find. With z-scores, a text that one row in a thousand has lies about 31 standard deviations
from the others, and such rows are often errors. `make bench-tables` compares the scalings.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collective_variables import _checks, _scaling

if TYPE_CHECKING:
    from collective_variables.data.encoding import Table  # which splits tables with this module

DEFAULT = "bounded"
SCALINGS = {
    "bounded": "mean of ranks and robust, so that no cell lies far out",
    "ranks": "ranks from -1.7 to 1.7",
    "robust": "by median and quartiles, cut at 2.5 deviations",
    "standard": "z-scores, in which a rare value weighs most",
    "none": "numbers of the file, for embeddings",
}
"""The ways to scale the inputs of a table, by name.

With the first three, a text is an input of 0 and 1, centred but not divided by its standard
deviation. Two rows with different texts are then as far apart as two typical numbers. If a column
holds only two numbers, such as truth values, they count as two texts. Values in a smaller share of
rows than `COMMON` weigh less, in proportion. These are rare texts, missing values, numbers farther
from the quartiles than `FAR_OUT` interquartile ranges, and numbers that differ where nearly all are
equal.

- ranks: a number becomes its rank among the reference, from −√3 to √3, with variance 1. The unit
  of a column, outliers, heavy tails and distances within a column do not matter.
- robust: (x − median) / (interquartile range / 1.349), cut at ±2.5, as z-scores. Distances matter,
  and outliers are as far away as the tails of a normal distribution.
- bounded: the mean of both, which keeps some of the distances and does better than either.
- standard: z-scores.
- none: numbers stay as they are, which keeps the angles between embeddings.
"""

FEW = 100  # at most one row in so many counts as single
SPREAD = 20  # with more than one such row in so many, a column counts as spread
FAR_OUT = 5.0  # interquartile ranges from the nearest quartile
MOST_NAMED = 10  # columns in a note
COMMON = 0.05  # smallest share of rows with which a value has its full weight
FARTHEST = 2.5  # robust standard deviations from the median
NORMAL_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution

Column = np.ndarray  # (n_rows,) float64, NaN where a value is missing


class Known(NamedTuple):
    """Present values of the reference, the different ones in ascending order, and their counts."""

    values: np.ndarray
    distinct: np.ndarray
    counts: np.ndarray


def scale_table(table: "Table", reference: np.ndarray, /, *, scaling: str = DEFAULT) -> np.ndarray:
    """Return the scaled inputs of a table, for networks and for methods that compare inputs.

    Raises ValueError for an unknown scaling.

    Args:
        table: The rows.
        reference: Numbers of the rows that give ranks, quartiles, means and deviations.
        scaling: One of `SCALINGS`. Images of bytes are always divided by 255. Other arrays of
            several dimensions become z-scores, or stay as they are with "none".

    Returns:
        (n_rows, n_features) float64, in which missing numbers are the mean of the scaled others.
        For images of bytes, (n_rows, height, width, n_channels) float32. An input that is constant
        in the reference is 0, except with "none".

    Example:
        >>> import numpy as np
        >>> from collective_variables.data.encoding import encode_table
        >>> from collective_variables.data.scaling import scale_table
        >>> area = np.array([50.0, 80.0, 65.0, np.nan, 9e9])
        >>> table = encode_table({"area": area})
        >>> table.features
        ('area', 'area missing')
        >>> scale_table(table, np.arange(5))[:, 0].round(2).tolist()
        [-0.94, -0.07, -0.51, 0.0, 1.52]
    """
    _checks.choice("scaling", scaling, SCALINGS)
    inputs = table.inputs
    if inputs.dtype == np.uint8:
        return np.divide(inputs, 255, dtype=np.float32)
    if scaling == "none":
        return _fill(inputs, reference)
    if inputs.ndim != 2 or scaling == "standard":
        return _standardise(inputs, reference)
    scaled = np.empty(inputs.shape)
    kinds = table.kinds or ("number",) * inputs.shape[1]
    for places in _groups(table.sources, kinds):
        columns, known = inputs[:, places], inputs[np.ix_(reference, places)]
        if kinds[places[0]] == "category":
            scaled[:, places] = _scale_texts(columns, known)
        else:
            kind = kinds[places[0]]
            scaled[:, places[0]] = _scale_column(columns[:, 0], kind, known[:, 0], scaling)
    return _centre(scaled, reference)


def _groups(sources: Sequence[str], kinds: Sequence[str]) -> list[list[int]]:
    """Return the places of inputs that are scaled together: the texts of one column."""
    # A group of texts begins with a text, and includes the input that marks missing ones.
    texts: dict[str, list[int]] = {}
    groups = []
    for place, (source, kind) in enumerate(zip(sources or map(str, range(len(kinds))), kinds)):
        if source in texts:
            texts[source].append(place)
            continue
        groups.append([place])
        if kind == "category":
            texts[source] = groups[-1]
    return groups


def _centre(scaled: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return inputs minus their mean over the reference; missing numbers become 0."""
    known = ~np.isnan(scaled)
    n_known = known[reference].sum(axis=0)
    means = np.where(known, scaled, 0.0)[reference].sum(axis=0) / np.maximum(n_known, 1)
    return np.where(known, scaled - means, 0.0)


def _standardise(inputs: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return z-scores; a missing number is the mean of the others."""
    filled = _fill(_in_range(inputs), reference)
    return _scaling.standardise(filled, filled[reference])


def _fill(inputs: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the inputs with missing numbers replaced by the mean of the reference."""
    means = [
        column[np.isfinite(column)].mean() if np.isfinite(column).any() else 0.0
        for column in inputs[reference].reshape(len(reference), -1).T
    ]
    means = np.reshape(means, inputs.shape[1:])
    return np.where(np.isnan(inputs), means, inputs)


def _in_range(inputs: np.ndarray) -> np.ndarray:
    """Return the inputs divided by powers of two, so that squares of large numbers are finite."""
    # This rounds nothing, and z-scores do not depend on the unit of a column.
    largest = np.fmax.reduce(np.abs(inputs), axis=0, initial=0.0)
    return np.ldexp(inputs, -np.frexp(largest)[1])


def _scale_texts(texts: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the inputs of 0 and 1 of a column of texts, rare texts close to the common one."""
    # If all inputs of a rare text were small, its rows would lie in the middle of all others.
    shares = known.mean(axis=0)
    weights = np.minimum(1.0, shares / COMMON)
    # Among equally frequent texts the first in the file wins, so that no name decides.
    common = np.lexsort((texts.argmax(axis=0), -shares))[0]
    scaled = texts * weights
    scaled[:, common] += texts @ (1.0 - weights)
    return scaled


def _scale_column(column: Column, kind: str, known: Column, scaling: str) -> Column:
    """Return a scaled column of numbers, truth values, dates or marks of missing values."""
    known = known[~np.isnan(known)]
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) < 2:
        return np.zeros(len(column))
    weight = min(1.0, (1.0 - counts.max() / len(known)) / COMMON)
    if kind == "missing":
        return weight * column
    if len(distinct) == 2 and len(np.unique(column[~np.isnan(column)])) == 2:
        # This is the distance of two texts, each of which has an input of 0 and 1.
        is_high = np.sqrt(2) * (column == distinct[1])
        return weight * np.where(np.isnan(column), np.nan, is_high)
    scaled = weight * NUMBERS[scaling](column, Known(known, distinct, counts))
    far = _far_from(column, known)
    share = _far_from(known, known).mean()
    return np.where(far, min(1.0, share / COMMON) * scaled, scaled)


def _far_from(column: Column, known: Column) -> np.ndarray:
    """Return which values lie farther than FAR_OUT interquartile ranges from the quartiles."""
    halves = column / 2  # their differences are finite
    lower, upper = np.quantile(known / 2, [0.25, 0.75])
    if lower == upper:
        return np.zeros(len(column), bool)
    apart = np.maximum(lower - halves, halves - upper)
    with np.errstate(over="ignore"):
        return apart > FAR_OUT * (upper - lower)


def _rank(column: Column, known: Known) -> Column:
    """Return ranks among the known values, from −√3 to √3.

    Equal values share the mean of their ranks. Ranks between two known values are interpolated.
    """
    middle = (np.cumsum(known.counts) - known.counts / 2) / len(known.values)
    # Halves, because the difference of two large numbers may be infinite.
    places = np.interp(column / 2, known.distinct / 2, middle)
    return np.where(np.isnan(column), np.nan, np.sqrt(12) * (places - 0.5))


def _cut(column: Column, known: Known) -> Column:
    """Return distances from the median in robust standard deviations, cut and standardised.

    If both quartiles are equal, a typical other value is one deviation away from them. If
    standardised, it would be farther away the rarer it is.
    """
    values, column = known.values / 2, column / 2  # their differences are finite
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    deviation = (upper - lower) / NORMAL_QUARTILES
    if deviation == 0:
        distances = np.abs(values - median)
        return _scores(column, median, np.median(distances[distances > 0]))
    scores = (_scores(cells, median, deviation) for cells in (column, values))
    return _scaling.standardise(*scores)


def _scores(column: Column, median: float, deviation: float) -> Column:
    with np.errstate(over="ignore"):
        return np.clip((column - median) / deviation, -FARTHEST, FARTHEST)


def _bound(column: Column, known: Known) -> Column:
    return (_rank(column, known) + _cut(column, known)) / 2


NUMBERS: dict[str, Callable[[Column, Known], Column]] = {
    "bounded": _bound,
    "ranks": _rank,
    "robust": _cut,
}


class StandingOut(NamedTuple):
    """Rows that differ from nearly all others in one column.

    Attributes:
        column: Name of the column of the file.
        how: How they differ, such as "without a value".
        rows: (n,) numbers of the rows.
    """

    column: str
    how: str
    rows: np.ndarray


def standing_out(table: "Table", /) -> list[StandingOut]:
    """Return the columns in which single rows stand out, in the order of the file.

    A row stands out if its text, truth value or lack of a value occurs in at most one row in a
    hundred (one row in smaller tables). It also stands out if its number is farther from
    the nearest quartile than `FAR_OUT` times the interquartile range. Where nearly all numbers are
    equal, it stands out if it differs from them. A column in which more than one row in twenty
    would stand out counts as spread, and is left out.
    """
    places: dict[str, list[int]] = {}
    for place, source in enumerate(table.sources):
        places.setdefault(source, []).append(place)
    found = []
    for source, columns in places.items():
        by_how: dict[str, np.ndarray] = {}
        for place in columns:
            how, is_rare = _find_rare(table.inputs[:, place], table.kinds[place])
            by_how[how] = by_how.get(how, False) | is_rare
        for how, is_rare in by_how.items():
            if 0 < is_rare.sum() <= max(1, len(is_rare) // SPREAD):
                found.append(StandingOut(source, how, np.flatnonzero(is_rare)))
    return found


def _find_rare(column: Column, kind: str) -> tuple[str, np.ndarray]:
    """Return how rows of an input stand out, and (n_rows,) whether each does."""
    few = max(1, len(column) // FEW)
    if kind in ("missing", "category"):
        how = "without a value" if kind == "missing" else "with a rare text"
        return how, (column == 1) & (np.sum(column) <= few)
    distinct, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    if len(distinct) == 2:
        return "with a rare value", (column == distinct[counts.argmin()]) & (counts.min() <= few)
    present = column[~np.isnan(column)]
    lower, upper = np.quantile(present, [0.25, 0.75])
    if lower == upper:
        is_apart = ~np.isnan(column) & (column != lower)
        return "with a rare value", is_apart & (is_apart.sum() <= few)
    return "far from the others", _far_from(column, present)


def notes(table: "Table", chosen: np.ndarray, /) -> list[str]:
    """Return sentences on the rows that stand out, and on how many of them were chosen.

    Args:
        table: The rows.
        chosen: Numbers of the chosen rows of the table.

    Returns:
        The sentences; none if no row stands out.
    """
    found = standing_out(table)
    if not found:
        return []
    columns = [
        f"{column.column} ({len(column.rows)} {column.how})" for column in found[:MOST_NAMED]
    ]
    named = ", ".join(columns)
    if len(found) > MOST_NAMED:
        named += f" and {len(found) - MOST_NAMED} others"
    rows = np.unique(np.concatenate([column.rows for column in found]))
    n_chosen = int(np.isin(chosen, rows).sum())
    return [
        f"Single rows stand out in {named}.",
        f"Of the {len(chosen)} chosen rows {n_chosen} stand out, "
        f"of all {len(table.inputs)} rows {len(rows)}.",
    ]
