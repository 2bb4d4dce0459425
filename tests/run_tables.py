"""Small tables of runs with columns of any kind."""

import numpy as np
import pandas as pd

# Float64 keeps this much of independent sums in another order, for tables of some hundred rows.
TOLERANCE = dict(rtol=1e-9, atol=1e-12)


def table(
    n_points,
    *,
    group="fuel",
    parametrisation="ntk",
    method="random",
    member=None,
    diverged=False,
    **variables,
):
    """A table of runs with the given columns; members count the repetitions of a size."""
    n_points = np.asarray(n_points)
    member = (
        pd.Series(n_points).groupby(n_points).cumcount().to_numpy() if member is None else member
    )
    columns = {
        "group": group,
        "parametrisation": parametrisation,
        "method": method,
        "member": member,
    }
    return pd.DataFrame({**columns, "n_points": n_points, "diverged": diverged, **variables})


def two_methods(n_members=20, sizes=(5, 10), seed=0):
    generator = np.random.default_rng(seed)
    n_points = np.repeat(sizes, n_members)
    loss = generator.lognormal(size=(2, n_points.size))
    return pd.concat(
        table(n_points, method=method, loss=values, trace=1 + values**2)
        for method, values in zip(("random", "rnd"), loss, strict=True)
    )


def sized(n_runs, link, seed=0):
    """Two variables that both follow the size; at fixed size they are normal with correlation
    `link`.
    """
    generator = np.random.default_rng(seed)
    n_points = np.round(np.exp(generator.uniform(np.log(5), np.log(300), n_runs))).astype(int)
    a, b = generator.multivariate_normal([0, 0], [[1, link], [link, 1]], n_runs).T
    return table(n_points, a=np.log(n_points) + 0.3 * a, b=-2 * np.log(n_points) + 0.6 * b)
