"""Check what every rule for batches takes, and what they share: scores and squared distances."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors
from collective_variables.selection import base, coverage

BLOCK = 2**22  # entries of a block of distances or similarities
LARGEST = 1e70
SAME = 1e-12  # squared distances that differ by this share of the squared norms are equal

Features = Float[np.ndarray, "n_points n_features"]
Rows = Int[np.ndarray, " n_rows"]


def check_features(features: ArrayLike) -> Features:
    """Return the features in float64, or raise TypeError or ValueError."""
    array = np.asarray(features)
    if not (array.dtype.kind in "biu" or jnp.issubdtype(array.dtype, jnp.floating)):
        raise _errors.InvalidTypeError(
            f"features must be real numbers: received the dtype {array.dtype}."
        )
    if array.ndim != 2 or 0 in array.shape:
        raise _errors.InvalidValueError(
            f"features must have at least one row and one column, (n_points, n_features): "
            f"received the shape {array.shape}."
        )
    array = array.astype(np.float64, copy=False)
    _checks.finite("features", array)
    if (largest := np.abs(array).max()) > LARGEST:
        raise _errors.InvalidValueError(
            f"features must be at most {LARGEST:g}, since their fourth powers are summed: "
            f"received {largest:g}. Divide all by one number."
        )
    return array


def check(
    features: ArrayLike, n_selected: int, labelled: Sequence[int] | np.ndarray
) -> tuple[Features, Rows]:
    """Return the features in float64 and the labelled rows in ascending order, or raise.

    Raises:
        InvalidValueError: The other rows cannot fill the batch.

    Also raises TypeError or ValueError for features that are not a finite table, and for labelled
    rows that are not distinct rows of it.
    """
    features = check_features(features)
    n_selected = _checks.integer("n_selected", n_selected, minimum=1)
    rows = np.sort(np.array(base.check_labelled(labelled, len(features)), np.int64))
    n_left = len(features) - len(rows)
    if n_left == 0:
        raise _errors.InvalidValueError(
            f"labelled must leave a row to choose: all {len(features)} rows are labelled."
        )
    if n_selected > n_left:
        raise _errors.InvalidValueError(
            f"n_selected must not exceed the rows that are not labelled: {n_selected} > {n_left}."
        )
    return features, rows


def unlabelled(n_points: int, labelled: Rows) -> Bool[np.ndarray, " n_points"]:
    """Return which rows may be chosen."""
    allowed = np.ones(n_points, bool)
    allowed[labelled] = False
    return allowed


def first_largest(
    scores: Float[np.ndarray, " n_points"],
    allowed: Bool[np.ndarray, " n_points"],
    round_off: float = 0.0,
) -> int:
    """Return the first allowed row whose score is the largest, within `round_off`.

    Copies of a point may have scores that differ in their last digits, which must not decide.
    """
    among = np.where(allowed, scores, -np.inf)
    return int(np.argmax(among >= among.max() - round_off))


def centred(features: Features) -> Features:
    """Return the features less those of a point in their midst.

    Distances are the same, and lose fewer digits. Whole numbers stay whole, so that equal distances
    between them stay equal.
    """
    deviations = features - features.mean(axis=0)
    return features - features[np.argmin(np.vecdot(deviations, deviations))]


def squared_distances(features: Features, row: int) -> Float[np.ndarray, " n_points"]:
    """Return |φ(x) − φ(row)|² = k(x, x) − 2 k(x, row) + k(row, row) of all x; 0 for copies."""
    return coverage.squared_distances(features, row)


def squares_between(features: Features, rows: Rows) -> Float[np.ndarray, "n_rows n_points"]:
    """Return |φ(x) − φ(y)|² for x in rows and all y by a product, with round-off of the norms."""
    norms = np.vecdot(features, features)
    squared = features[rows] @ features.T
    squared *= -2.0
    squared += norms[rows, None]
    squared += norms
    return np.maximum(squared, 0.0, out=squared)


def blocks(rows: Rows, n_points: int) -> list[Rows]:
    """Return the rows in parts, whose distances from all points are `BLOCK` numbers each."""
    size = max(1, BLOCK // n_points)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def nearest_centres(
    features: Features, centres: Rows
) -> tuple[Float[np.ndarray, " n_points"], Int[np.ndarray, " n_points"]]:
    """Return the squared distance of each point from its nearest centre, and the centre's number.

    Of several centres at the same distance the first counts, so that copies of a centre do not
    share its points. Without centres, distances are infinite.
    """
    nearest = np.full(len(features), np.inf)
    numbers = np.zeros(len(features), np.int64)
    if len(centres) == 0:
        return nearest, numbers
    norms = np.vecdot(features, features)
    among = features[centres]
    size = max(1, BLOCK // max(len(centres), features.shape[1]))
    for start in range(0, len(features), size):
        block = slice(start, start + size)
        squared = norms[centres] - 2.0 * features[block] @ among.T
        limits = squared.min(axis=1) + SAME * (norms[block] + norms[centres].max())
        numbers[block] = np.argmax(squared <= limits[:, None], axis=1)
        differences = features[block] - among[numbers[block]]
        nearest[block] = np.vecdot(differences, differences)
    return nearest, numbers
