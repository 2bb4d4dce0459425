"""Predict the targets of rows that have none, as a table to write."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float

from collective_variables.active_learning import learner
from collective_variables.cli import _pool
from collective_variables.cli.labels.known import Known
from collective_variables.cli.results import chosen
from collective_variables.data import scaling as scalings
from collective_variables.data.columns import values

N_DIGITS = 7  # of a prediction, as in float32


def predict(
    trained: learner.ActiveLearner,
    known: Known,
    pool: _pool.Pool,
    inputs: Float[np.ndarray, "n_pool ..."],
    scaling: str,
) -> pd.DataFrame:
    """Return the predictions for all rows of the file without a target.

    Args:
        trained: The trained networks.
        known: The labels.
        pool: The rows of which some were chosen.
        inputs: (n_pool, ...) scaled inputs of these rows.
        scaling: How they were scaled.

    Returns:
        The row, and the prediction in the unit of the target or as a class with its probability.
    """
    table = known.table
    rows = np.flatnonzero(~table.is_labelled[: known.n_rows])
    points = inputs
    if len(pool.rows) < len(table.inputs):
        # Excluded rows are scaled like the others, which do not depend on them.
        points = scalings.scale_table(table, pool.rows, scaling=scaling).astype(np.float32)
        points[pool.rows] = inputs
    columns = {chosen.ROW: rows}
    if table.task == "classification":
        names = class_names(known)
        shares = trained.predict_proba(points[rows])[:, : len(names)]
        columns["prediction"] = names[shares.argmax(axis=1)]
        columns["probability"] = shares.max(axis=1).round(4)
        return pd.DataFrame(columns)
    predicted = _rounded(trained.predict(points[rows]))
    names = ["prediction"]
    if predicted.shape[1] > 1:
        names = [f"prediction {number}" for number in range(1, predicted.shape[1] + 1)]
        if len(known.targets) == predicted.shape[1]:
            names = [f"prediction of {name}" for name in known.targets]
    return pd.DataFrame(columns | dict(zip(names, predicted.T)))


_rounded: Callable[[np.ndarray], np.ndarray] = np.vectorize(
    lambda number: float(f"{number:.{N_DIGITS}g}"), otypes=[float]
)


def class_names(known: Known, /) -> np.ndarray:
    """Return the classes as texts, as long as they are in the file."""
    column = known.table.contents[known.targets[0]]
    if column.ndim > 1:
        return np.array(known.table.classes, object)
    present = column[~values.is_missing(column)]
    classes = np.unique(present.astype(str) if present.dtype == object else present)
    return np.array([chosen.escaped(values.name_value(value)) for value in classes], object)
