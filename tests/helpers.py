"""Comparison of arrays with a tolerance that follows from their dtype."""

import numpy as np


def assert_close(actual, expected, *, operations=100):
    """Fail, showing the worst entries, unless |actual − expected| ≤ operations · eps · max|expected|.

    `operations` is the number of roundings whose errors may add up; eps is that of the dtype of `actual`.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shapes differ: {actual.shape} and {expected.shape}"
    error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    allowed = operations * np.finfo(actual.dtype).eps * max(np.abs(expected).max(initial=0.0), 1e-30)
    worst = np.argsort(error.ravel())[::-1][:5]
    rows = "\n".join(f"{actual.ravel()[i]} for {expected.ravel()[i]}" for i in worst)
    assert error.size == 0 or error.max() <= allowed, f"error {error.max():.3g} > {allowed:.3g}; worst entries:\n{rows}"
