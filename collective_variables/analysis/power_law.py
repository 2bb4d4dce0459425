"""Fit power laws."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats


class PowerLaw(NamedTuple):
    """variable ∝ axis^exponent, the standard error of the exponent, and the share of the variance
    that it explains.
    """

    exponent: float
    standard_error: float
    r_squared: float


def fit_power_law(table: pd.DataFrame, axis: str, variable: str, /) -> PowerLaw:
    """The power law of `variable` in `axis` by least squares of logarithms, over all rows with a
    positive value.

    Raises ValueError for fewer than three different values of the axis.
    """
    part = table[table[variable] > 0]
    if part[axis].nunique() < 3:
        raise ValueError(
            f"A power law needs at least 3 values of {axis}: received {part[axis].nunique()}."
        )
    fit = scipy.stats.linregress(
        np.log(part[axis].to_numpy(float)), np.log(part[variable].to_numpy(float))
    )
    return PowerLaw(float(fit.slope), float(fit.stderr), float(fit.rvalue**2))
