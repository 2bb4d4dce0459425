"""Choose the points whose predictions are least certain: baselines without a kernel.

Scores of points are compared one by one, so that a batch may hold many similar points. Labelled
points are left out, and change nothing else.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import entr

from collective_variables import _checks, _errors
from collective_variables.selection import base
from collective_variables.selection.batches import _pool

SUM = 1e-3  # by which the probabilities of a point may miss 1
TIE = 1e-12  # scores that differ by this share of the largest possible one are equal

Rows = Int[np.ndarray, " n_selected"]


def margin(
    predictions: ArrayLike, n_selected: int, labelled: Sequence[int] | np.ndarray = ()
) -> Rows:
    """Return the rows whose two largest class probabilities differ least (Scheffer et al. 2001).

    Ties go to the lowest row. The first k rows are the choice of k.

    Args:
        predictions: (n_points, n_classes) class probabilities, or (n_networks, n_points, n_classes)
            of which the mean over networks is taken.
        n_selected: number of rows that are chosen, beyond those in `labelled`.
        labelled: rows that are labelled already.

    Also raises TypeError or ValueError if predictions are not probabilities of at least two
    classes, the rows that are not labelled are too few, or labelled are not distinct rows.

    Example:
        >>> print(margin([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]], 2))
        [1 2]
    """
    ordered = np.sort(_probabilities(predictions), axis=1)
    return _largest(ordered[:, -2] - ordered[:, -1], n_selected, labelled, TIE)


def predictive_entropy(
    predictions: ArrayLike, n_selected: int, labelled: Sequence[int] | np.ndarray = ()
) -> Rows:
    """Return the rows whose class probabilities have the largest entropy −Σ p ln p, in nats.

    This is uncertainty sampling by entropy (Settles, Craven 2008). Arguments and errors are those
    of `margin`, and so are ties.

    Example:
        >>> print(predictive_entropy([[0.5, 0.5, 0.0], [0.6, 0.2, 0.2], [0.9, 0.1, 0.0]], 2))
        [1 0]
    """
    probabilities = _probabilities(predictions)
    scores = entr(probabilities).sum(axis=1)
    return _largest(scores, n_selected, labelled, TIE * np.log(probabilities.shape[1]))


def ensemble_variance(
    predictions: ArrayLike, n_selected: int, labelled: Sequence[int] | np.ndarray = ()
) -> Rows:
    """Return the rows on whose outputs networks differ most: query by committee.

    The score of a point is the sum over outputs of the variance between networks (Krogh, Vedelsby
    1995). Ties go to the lowest row. The first k rows are the choice of k.

    Args:
        predictions: (n_networks, n_points, n_outputs) outputs of at least two networks.
        n_selected: number of rows that are chosen, beyond those in `labelled`.
        labelled: rows that are labelled already.

    Raises:
        InvalidValueError: predictions are not the outputs of at least two networks.

    Also raises TypeError or ValueError if predictions are not finite, the rows that are not
    labelled are too few, or labelled are not distinct rows.

    Example:
        >>> print(ensemble_variance([[[0.0], [1.0], [5.0]], [[0.0], [3.0], [4.0]]], 2))
        [1 2]
    """
    outputs = _numbers(predictions)
    if outputs.ndim != 3 or 0 in outputs.shape or len(outputs) < 2:
        raise _errors.InvalidValueError(
            "predictions must be outputs (n_networks, n_points, n_outputs) of at least two "
            f"networks: received the shape {outputs.shape}."
        )
    # Squares of the largest numbers would leave the range of float64.
    outputs = outputs / max(1.0, float(np.abs(outputs).max()))
    scores = outputs.var(axis=0).sum(axis=1)
    return _largest(scores, n_selected, labelled, TIE * scores.max())


def _numbers(predictions: ArrayLike) -> Float[np.ndarray, "..."]:
    """Return predictions in float64.

    Raises:
        InvalidTypeError: They are not real numbers.
    """
    array = np.asarray(predictions)
    # Formats with fewer bits, such as bfloat16, have no kind of NumPy's.
    if array.dtype.kind in "OSUcmM":
        raise _errors.InvalidTypeError(
            f"predictions must be real numbers: received the dtype {array.dtype}."
        )
    array = array.astype(np.float64)
    _checks.finite("predictions", array)
    return array


def _probabilities(predictions: ArrayLike) -> Float[np.ndarray, "n_points n_classes"]:
    """Return the mean class probabilities of all networks.

    Raises:
        InvalidValueError: They have another shape, are negative, or do not sum up to 1.
    """
    array = _numbers(predictions)
    if array.ndim not in (2, 3) or 0 in array.shape or array.shape[-1] < 2:
        raise _errors.InvalidValueError(
            "predictions must be probabilities (n_points, n_classes) or (n_networks, n_points, "
            f"n_classes) of at least two classes: received the shape {array.shape}."
        )
    if array.min() < 0:
        raise _errors.InvalidValueError(
            f"predictions must be probabilities from 0 to 1: received {array.min()}. Outputs of a "
            "network need a softmax first."
        )
    totals = array.sum(axis=-1)
    farthest = totals.flat[np.abs(totals - 1.0).argmax()]
    if abs(farthest - 1.0) > SUM:
        raise _errors.InvalidValueError(
            f"predictions must have probabilities that sum up to 1 for each point: received a sum "
            f"of {farthest}. Outputs of a network need a softmax first."
        )
    return array.mean(axis=0) if array.ndim == 3 else array


def _largest(
    scores: Float[np.ndarray, " n_points"],
    n_selected: int,
    labelled: Sequence[int] | np.ndarray,
    round_off: float,
) -> Rows:
    """Return the rows with the largest scores that are not labelled, in descending order."""
    _checks.integer("n_selected", n_selected, minimum=1)
    rows = base.check_labelled(labelled, len(scores))
    base.check_budget(len(scores), n_selected + len(rows), 1, rows)
    allowed = _pool.unlabelled(len(scores), np.array(rows, np.int64))
    chosen = []
    for _ in range(n_selected):
        chosen.append(_pool.first_largest(scores, allowed, round_off))
        allowed[chosen[-1]] = False
    return np.array(chosen, np.int64)
