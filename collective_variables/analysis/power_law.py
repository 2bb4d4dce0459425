"""Fit power laws to the columns of a table."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats


class PowerLaw(NamedTuple):
    """Hold a fitted law: variable ∝ axis^exponent.

    Attributes:
        exponent: The exponent.
        standard_error: Standard error of the exponent.
        r_squared: Fraction of the variance that the law explains.
    """

    exponent: float
    standard_error: float
    r_squared: float


def fit_power_law(table: pd.DataFrame, axis: str, variable: str, /) -> PowerLaw:
    """Fit `variable` as a power of `axis` by least squares of logarithms.

    Args:
        table: Rows with both columns. Those with a value of zero or less are left out.
        axis: Name of the column that varies.
        variable: Name of the column that depends on it.

    Returns:
        The law.

    Raises:
        ValueError: The axis has fewer than three different values.
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
