"""Read targets that are known for some rows, and turn outputs of networks into predictions."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors
from collective_variables.selection import stratified

TASKS = stratified.TASKS


class Labels(NamedTuple):
    """Hold the labelled rows, and their targets as a network learns them.

    Attributes:
        rows: (n_labelled,) labelled rows, in ascending order.
        targets: (n_labelled, n_outputs) float32, z-scores of the labelled rows in a regression, and
            one-hot in a classification.
        task: "regression" or "classification".
        classes: (n_classes,) the classes in ascending order; empty for a regression.
        mean: (n_outputs,) mean of the labelled targets; 0 for a classification.
        std: (n_outputs,) their standard deviation, 1 for a constant one and for a classification.
        is_vector: Whether the targets came without a second axis.
    """

    rows: Int[np.ndarray, " n_labelled"]
    targets: Float[np.ndarray, "n_labelled n_outputs"]
    task: str
    classes: np.ndarray
    mean: Float[np.ndarray, " n_outputs"]
    std: Float[np.ndarray, " n_outputs"]
    is_vector: bool

    @property
    def n_kinds(self) -> int:
        """The number of different targets: of classes that occur, or of rows of numbers."""
        return len(np.unique(self.targets, axis=0))

    def probabilities(
        self, outputs: Float[np.ndarray, "n_networks n_points n_outputs"], /
    ) -> Float[np.ndarray, "n_networks n_points n_outputs"]:
        """Return the softmax of the outputs, in float64."""
        outputs = outputs.astype(np.float64)
        powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def predictions(
        self, outputs: Float[np.ndarray, "n_networks n_points n_outputs"], /
    ) -> np.ndarray:
        """Return the mean over networks in the unit of the targets, or the most probable class."""
        if self.task == "classification":
            likeliest = self.probabilities(outputs).mean(axis=0).argmax(axis=1)
            return self.classes[likeliest]
        means = outputs.astype(np.float64).mean(axis=0) * self.std + self.mean
        return means[:, 0] if self.is_vector else means


def read_labels(y: ArrayLike, n_rows: int, /, *, task: str | None = None) -> Labels | None:
    """Return the labels among targets that are known in part; None if no row has one.

    A row is labelled if all its targets are known. NaN and None stand for unknown targets, as for
    scikit-activeml.

    Args:
        y: (n_rows,) or (n_rows, n_outputs) targets. Texts are classes. So are whole numbers without
            a fraction in an integer or boolean array, or in an array of objects, and rows that are
            one-hot.
        n_rows: Number of rows of the pool.
        task: "regression" or "classification", or None to follow these rules.

    Returns:
        The labels.

    Raises:
        InvalidValueError: The targets have another number of rows.

    Also raises TypeError or ValueError for an unknown task, for targets that are neither numbers
    nor texts, and for infinite ones.

    Example:
        >>> labels = read_labels([1.0, float("nan"), 3.0], 3)
        >>> print(labels.rows, labels.targets[:, 0], labels.mean, labels.std)
        [0 2] [-1.  1.] [2.] [1.]
    """
    if task is not None:
        _checks.choice("task", task, TASKS)
    table = np.asarray(y)
    if table.ndim not in (1, 2) or len(table) != n_rows:
        raise _errors.InvalidValueError(
            f"y must have a target for each of the {n_rows} rows of X, NaN where it is unknown: "
            f"received the shape {table.shape}."
        )
    is_vector = table.ndim == 1
    table = table.reshape(n_rows, -1)
    rows = np.flatnonzero(~pd.isna(table).any(axis=1))
    if len(rows) == 0:
        return None
    known = _plain(table[rows])
    if task is None:
        task = "classification" if _are_classes(known, table.dtype) else "regression"
    if task == "classification":
        return _classification(rows, known, is_vector)
    return _regression(rows, known, is_vector)


def _plain(known: np.ndarray) -> np.ndarray:
    """Return an array of numbers or texts, which may have been an array of objects."""
    if known.dtype.kind == "O":
        plain = np.array(known.tolist())
        # NumPy would turn numbers among texts into texts.
        is_mixed = plain.dtype.kind in "US" and not all(isinstance(v, str) for v in known.flat)
        if plain.shape != known.shape or is_mixed:
            plain = known
        known = plain
    if known.dtype.kind not in "biufUS":
        raise _errors.InvalidTypeError(
            f"y must be numbers or texts, with NaN or None where unknown: received "
            f"{known.flat[0]!r} among targets of the dtype {known.dtype}."
        )
    if known.dtype.kind == "f":
        _checks.finite("y", known)
    return known


def _are_classes(known: np.ndarray, dtype: np.dtype) -> bool:
    if known.shape[1] == 1:
        return known.dtype.kind in "biuUS"
    is_one_hot = np.isin(known, (0, 1)).all() and (known.sum(axis=1) == 1).all()
    return known.dtype.kind not in "US" and bool(is_one_hot)


def _classification(
    rows: Int[np.ndarray, " n_labelled"], known: np.ndarray, is_vector: bool
) -> Labels:
    if known.shape[1] == 1:
        classes, numbers = np.unique(known[:, 0], return_inverse=True)
        targets = np.eye(len(classes))[numbers]
    else:
        if not _are_classes(known, known.dtype):
            raise _errors.InvalidValueError(
                "y must be one column of classes, or one-hot rows, for a classification: "
                f"received {known[0].tolist()}."
            )
        classes, targets = np.arange(known.shape[1]), known
    n_outputs = targets.shape[1]
    return Labels(
        rows,
        targets.astype(np.float32),
        "classification",
        classes,
        np.zeros(n_outputs),
        np.ones(n_outputs),
        is_vector,
    )


def _regression(rows: Int[np.ndarray, " n_labelled"], known: np.ndarray, is_vector: bool) -> Labels:
    if known.dtype.kind in "US":
        raise _errors.InvalidTypeError(
            f"y must be numbers for a regression: received {str(known.flat[0])!r}."
        )
    known = known.astype(np.float64)
    mean, std = known.mean(axis=0), known.std(axis=0)
    std = np.where(std > np.finfo(float).eps * np.abs(mean), std, 1.0)
    targets = ((known - mean) / std).astype(np.float32)
    return Labels(rows, targets, "regression", np.empty(0), mean, std, is_vector)
