"""Comparison of arrays with a tolerance that follows from their dtype, and points that are
refused.
"""

import jax.numpy as jnp
import numpy as np


def assert_close(actual, expected, *, operations=100):
    """Fail, showing the worst entries, unless |actual − expected| ≤ operations · eps ·
    max|expected|.

    `operations` is the number of roundings whose errors may add up; eps is that of the dtype of
    `actual`.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shapes differ: {actual.shape} and {expected.shape}"
    error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    allowed = (
        operations * np.finfo(actual.dtype).eps * max(np.abs(expected).max(initial=0.0), 1e-30)
    )
    worst = np.argsort(error.ravel())[::-1][:5]
    rows = "\n".join(f"{actual.ravel()[i]} for {expected.ravel()[i]}" for i in worst)
    assert error.size == 0 or error.max() <= allowed, (
        f"error {error.max():.3g} > {allowed:.3g}; worst entries:\n{rows}"
    )


# Points (n, 4) that no kernel takes, as changes of the arguments x1 and x2.
UNFIT_POINTS = [
    ({"x1": jnp.ones((0, 4))}, ValueError, "x1 must hold at least one point"),
    ({"x1": jnp.ones(())}, ValueError, "x1 must hold at least one point"),
    ({"x2": jnp.ones((0, 4))}, ValueError, "x2 must hold at least one point"),
    (
        {"x1": jnp.ones((5, 4)).at[2, 1].set(jnp.nan)},
        ValueError,
        r"x1 must be finite: 1 of 20 .* \(2, 1\)",
    ),
    ({"x2": jnp.full((5, 4), jnp.inf)}, ValueError, "x2 must be finite: 20 of 20"),
    (
        {"x2": jnp.ones((5, 3))},
        ValueError,
        r"x2 must have points shaped like those of x1, \(4,\): received \(3,\)",
    ),
]

_POOL = np.random.default_rng(0).normal(size=(20, 4))
# Pools and changes of a choice of 5 points that no method takes that knows of labelled points,
# classes and a threshold.
UNFIT_BUDGETS = [
    (
        np.zeros((272, 4)),
        {"n_selected": 500},
        ValueError,
        "n_selected must not exceed the pool: 500 > 272.",
    ),
    (np.zeros((0, 4)), {}, ValueError, "n_selected must not exceed the pool: 5 > 0."),
    (_POOL, {"n_selected": 0}, ValueError, "n_selected must be at least 1: received 0."),
    (_POOL, {"n_selected": 5.0}, TypeError, "n_selected must be an integer: received 5.0."),
    (
        _POOL,
        {"n_selected": None},
        ValueError,
        "n_selected or threshold must be given: received None for both.",
    ),
    (_POOL, {"n_members": 0}, ValueError, "n_members must be at least 1: received 0."),
    (
        np.where(np.arange(20)[:, None] == 5, np.nan, _POOL),
        {},
        ValueError,
        "pool must be finite: 4 of 80 values are NaN or infinite, the first at (5, 0).",
    ),
    (
        _POOL,
        {"labelled": [20]},
        ValueError,
        "labelled must be rows of the pool, 0 to 19: received 20.",
    ),
    (_POOL, {"labelled": [3, 3]}, ValueError, "labelled must not repeat a row: received [3, 3]."),
    (
        _POOL,
        {"labelled": [1, 2, 3, 4, 5]},
        ValueError,
        "n_selected must exceed the points already labelled: 5 <= 5.",
    ),
    (
        _POOL,
        {"classes": np.zeros(19, int)},
        ValueError,
        "classes must be an integer from 0 for each of the 20 points: "
        "received the shape (19,) and dtype int64.",
    ),
]
