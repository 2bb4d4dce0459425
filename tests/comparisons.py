"""Comparisons of methods whose losses are known."""

import numpy as np
import pandas as pd

from collective_variables.analysis import statistics
from collective_variables.cli import commands
from collective_variables.cli.results import comparison


def compared(loss, *, sizes=(10, 20, 40), n_members=4, accuracy=np.nan):
    """A comparison with the losses loss(method, size), which a factor of each member spreads."""
    rows = [
        (method, member, size, (1 + 0.01 * member) * loss(method, size))
        for method in ("random", "k-center")
        for member in range(n_members)
        for size in sizes
    ]
    runs = pd.DataFrame(rows, columns=["method", "member", "n_points", "min_test_loss"])
    others = dict.fromkeys(statistics.VARIABLES, 1.0) | dict.fromkeys(
        statistics.ACCURACIES, accuracy
    )
    del others["min_test_loss"]
    runs = runs.assign(group="houses", parametrisation="lecun", **others)
    runs["diverged"] = ~np.isfinite(runs["min_test_loss"])
    return commands.Comparison(runs, statistics.summary(runs), statistics.paired_differences(runs))


def setting(**changes):
    """What such a comparison was made of."""
    setting = comparison.Setting("regression", "mse", 0.005, 200, 50, 4, 500, ("price", 3.0))
    return setting._replace(**changes)
