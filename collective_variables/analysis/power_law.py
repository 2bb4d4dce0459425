"""Power laws fitted to the columns of a table."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats


class PowerLaw(NamedTuple):
    """A fitted law: variable ∝ axis^exponent.

    standard_error: of the exponent. r_squared: the fraction of the variance that the law explains.
    """

    exponent: float
    standard_error: float
    r_squared: float


def fit_power_law(table: pd.DataFrame, axis: str, variable: str, /) -> PowerLaw:
    """Fit `variable` as a power of `axis` by least squares of logarithms.

    Rows with a value of zero or less are left out. Raises ValueError for fewer than three different
    values of the axis.
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
