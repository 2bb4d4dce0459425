"""Simulated tables of runs whose relations are known, and independent regressions on them."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer

# Float64 keeps this much of independent sums in another order, for tables of some hundred rows.
TOLERANCE = dict(rtol=1e-8, atol=1e-10)


def table(n_points, *, entropy, trace, loss, n_groups=1, **columns):
    """A table of runs, cut into n_groups groups of neighbouring rows."""
    group = np.repeat(np.arange(n_groups), len(n_points) // n_groups).astype(str)
    keys = {
        "group": group,
        "parametrisation": "ntk",
        "method": "random",
        "member": range(len(n_points)),
    }
    values = {
        "n_points": n_points,
        "diverged": False,
        "entropy": entropy,
        "trace": trace,
        "min_test_loss": loss,
    }
    return pd.DataFrame(keys | values | columns)


def simulated(
    n_runs, n_groups=1, *, link=0.0, shrink=0.0, skewed=False, grows=False, few_sizes=False, seed=0
):
    """Entropy, trace and loss that all follow the size steeply, with noise that shrinks, or
    `grows`, with the size.

    Given the size, ln loss changes by `link` for each standard deviation of the entropy, and the
    logarithm of its spread by -`shrink`; the trace is unrelated.
    """
    generator, n = np.random.default_rng(seed), n_runs * n_groups
    n_points = (
        generator.choice([5, 10, 20, 40, 80], n)
        if few_sizes
        else np.exp(generator.uniform(1.6, 5.5, n)).round()
    )
    u = np.log(n_points / 5) / np.log(256 / 5)
    noise = 0.02 + 2 * u**3 if grows else 0.1 + 0.3 * (1 - u)
    first = generator.gamma(1.5, 1, n) - 1.5 if skewed else generator.normal(size=n)
    second, third = generator.normal(size=(2, n))
    loss = 2.5 * np.exp(-6 * u) + noise * (link * first + np.exp(-shrink * first) * third)
    trace = n_points * np.exp(noise * second)
    return table(
        n_points, entropy=3 * u + noise * first, trace=trace, loss=np.exp(loss), n_groups=n_groups
    )


def independent(n_runs, slopes, noise, seed=0):
    """Size, entropy and trace that are independent of each other, with standard effects `slopes` on
    ln loss.
    """
    x = np.random.default_rng(seed).uniform(-(3**0.5), 3**0.5, (3, n_runs))
    y = slopes @ x + noise * np.random.default_rng(seed + 1).normal(size=n_runs)
    return table(np.exp(3 + x[0]), entropy=2 + x[1], trace=np.exp(1 + x[2]), loss=np.exp(y))


def residuals(x, values, degree):
    features = PolynomialFeatures(degree, include_bias=False).fit_transform(x[:, None])
    return values - LinearRegression().fit(features, values).predict(features)


def smooth(runs, names, n_knots):
    """Splines [runs functions] of the predictors by name, each made separately."""
    logarithm = {"n_points": np.log, "entropy": np.asarray, "trace": np.log}
    transformer = SplineTransformer(n_knots, knots="quantile", include_bias=False)
    return np.hstack(
        [transformer.fit_transform(logarithm[name](runs[[name]].to_numpy(float))) for name in names]
    )


def is_rate(values, rate):
    """Whether the mean of independent events is within four standard deviations of their rate."""
    return abs(np.mean(values) - rate) < 4 * np.sqrt(rate * (1 - rate) / np.size(values))
