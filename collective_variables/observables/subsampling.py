"""Estimate entropy and trace from random samples of the points (Tovey et al. 2024).

Tr/k of k points is an unbiased estimate of Tr/n_points. The entropy of k points underestimates that
of all points: it is at most ln k and grows with k. More samples cannot make up for small ones.
`plan_samples` predicts the size and number of samples for an accuracy.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.observables import spectrum
from collective_variables.observables.collective import KernelFunction

# Sizes in one fit. The pilot has one more, so that the fit can be repeated without the largest.
N_FITTED = 4
# The law may change beyond the pilot. Its uncertainty includes this part of the range between no
# further growth and logarithmic growth.
RISK = 0.2
# From nearly a logarithm (an unbounded spectrum) to beyond 1/k (a short one).
EXPONENTS = np.linspace(0.02, 2.0, 199)


@dataclass(frozen=True, eq=False)
class Samples:
    """The values (n_samples,) of a quantity in independent random samples."""

    values: Float[np.ndarray, " n_samples"]

    @property
    def mean(self) -> float:
        """The mean over the samples."""
        return float(self.values.mean())

    @property
    def standard_deviation(self) -> float:
        """The standard deviation between samples, the error bar of Tovey et al. 2024.

        It has n_samples − 1 degrees of freedom.
        """
        return float(self.values.std(ddof=1))

    @property
    def standard_error(self) -> float:
        """The standard error of the mean, as an estimate for all samples of this size.

        It does not include the difference to other sizes.
        """
        return self.standard_deviation / math.sqrt(len(self.values))


@dataclass(frozen=True, eq=False)
class Subsample:
    """Entropy S and trace Tr of samples of k points.

    Attributes:
        sample_size: The number of points k.
        entropy: S, in nats.
        trace: Tr.
        effective_entropy: S/ln k, NaN for k = 1.
        trace_per_point: Tr/k.
    """

    sample_size: int
    entropy: Samples
    trace: Samples
    effective_entropy: Samples
    trace_per_point: Samples


@dataclass(frozen=True, eq=False)
class SamplePlan:
    """The samples that an accuracy of the entropy of all points takes, and that entropy.

    Attributes:
        sample_size: The smallest size k, from the smallest fitted size up, with a bias of at most
            half of the accuracy; n_points if no smaller size reaches it.
        n_samples: The smallest number with two standard errors of at most half of the accuracy;
            1 if `reachable` is False.
        reachable: Whether a size below n_points reaches the accuracy.
        relative_cost: Kernel entries of all samples, relative to those of the whole kernel; above 1
            the whole kernel is cheaper.
        bias: Predicted bias of the mean entropy at sample_size, in nats, not positive.
        standard_deviation: Predicted standard deviation between samples, in nats.
        entropy: Entropy extrapolated to n_points, in nats.
        entropy_uncertainty: About one standard deviation, from the jackknife over the pilot's
            repeats and the change without the largest size. It includes a fifth of the further gain
            if the entropy grew as ln k beyond the pilot. Unless it is well below the accuracy, the
            plan is a guess: take a larger pilot.
        exponent: γ of the bias −c (k^−γ − n_points^−γ).
        sizes: (n_sizes,) sizes of the pilot.
        means: (n_sizes,) mean entropies of the pilot.
        standard_deviations: (n_sizes,) standard deviations of the pilot.
    """

    sample_size: int
    n_samples: int
    reachable: bool
    relative_cost: float
    bias: float
    standard_deviation: float
    entropy: float
    entropy_uncertainty: float
    exponent: float
    sizes: Int[np.ndarray, " n_sizes"]
    means: Float[np.ndarray, " n_sizes"]
    standard_deviations: Float[np.ndarray, " n_sizes"]


def draw_samples(
    kernel_function: KernelFunction,
    n_points: int,
    *,
    n_samples: int,
    sample_size: int,
    key: PRNGKeyArray,
) -> Subsample:
    """Measure entropy and trace of independent random samples of points (Tovey et al. 2024).

    Raises TypeError or ValueError for a wrong argument, and the errors of `spectrum.decompose`.

    Args:
        kernel_function: Function that returns the kernel of the points in given rows.
        n_points: Number of points, from which rows are drawn without replacement.
        n_samples: Number of samples, at least 2.
        sample_size: Number of points in a sample.
        key: Random key; the same key draws the same rows.

    Returns:
        Entropy and trace of each sample.
    """
    n_points = _checks.integer("n_points", n_points, minimum=1)
    n_samples = _checks.integer("n_samples", n_samples, minimum=2)
    sample_size = _size("sample_size", sample_size, n_points, minimum=1)
    spectra = [
        _nested_spectra(kernel_function, n_points, [sample_size], k)[0]
        for k in jax.random.split(key, n_samples)
    ]
    entropy = np.array([spectrum.entropy(values) for values in spectra])
    trace = np.array([spectrum.trace(values) for values in spectra])
    effective = entropy / math.log(sample_size) if sample_size > 1 else np.full(n_samples, np.nan)
    return Subsample(
        sample_size,
        Samples(entropy),
        Samples(trace),
        Samples(effective),
        Samples(trace / sample_size),
    )


def plan_samples(
    kernel_function: KernelFunction,
    n_points: int,
    *,
    accuracy: float,
    key: PRNGKeyArray,
    largest_size: int | None = None,
    n_repeats: int = 10,
) -> SamplePlan:
    """Plan samples that give the entropy of all points to a relative accuracy.

    A pilot of nested samples gives the mean entropy S_k of k points. The law S_k = S − c (k^−γ −
    n_points^−γ), fitted by least squares to the four largest sizes, gives the bias, which vanishes
    at k = n_points. γ is about 1 for a few leading eigenvalues, and smaller if the eigenvalues fall
    slowly. σ_k² ∝ k^−2h (1 − k/n_points), fitted to the logarithms, gives the spread between
    samples.

    The fit is an assumption: a spectrum whose decay changes beyond the pilot changes the answer.
    For example, a plateau of small eigenvalues below a few large ones hardly shows in small
    samples.

    Also raises TypeError or ValueError for a wrong argument, and the errors of
    `spectrum.decompose`.

    Args:
        kernel_function: As in `draw_samples`; it is called n_repeats times.
        n_points: Number of points, at least 64.
        accuracy: Relative accuracy of the entropy.
        key: Random key.
        largest_size: Largest size of the pilot; the others are a half, a quarter, … of it. Defaults
            to an eighth of the points, or to the lesser of 80 and half of the points if that is
            more.
        n_repeats: Number of nested samples in the pilot, at least 3.

    Returns:
        The plan.

    Raises:
        ValueError: The entropy is zero.
    """
    n_points = _checks.integer("n_points", n_points, minimum=64)
    accuracy = _checks.number("accuracy", accuracy, above=0.0)
    n_repeats = _checks.integer("n_repeats", n_repeats, minimum=3)
    sizes = _pilot_sizes(largest_size, n_points)
    spectra = [
        _nested_spectra(kernel_function, n_points, sizes.tolist(), k)
        for k in jax.random.split(key, n_repeats)
    ]
    entropies = np.array([[spectrum.entropy(values) for values in nested] for nested in spectra])
    means = entropies.mean(axis=0)
    deviations = entropies.std(axis=0, ddof=1)
    _checks.finite("entropy of the samples", means)
    growth = _fit(sizes[1:], means[1:], n_points)
    if growth.entropy < 1e-6:
        raise ValueError(
            f"entropy must be positive for a relative accuracy: received {growth.entropy:.3g}."
        )
    tolerance = accuracy / 2 * growth.entropy
    # Below the fitted sizes the fit says nothing.
    sample_size = max(growth.smallest_size(tolerance, n_points), int(sizes[1]))
    reachable = sample_size < n_points
    deviation = _spread(sizes, deviations, n_points, sample_size) if reachable else 0.0
    n_samples = max(1, math.ceil((2 * deviation / tolerance) ** 2))
    return SamplePlan(
        sample_size=sample_size,
        n_samples=n_samples,
        reachable=reachable,
        relative_cost=n_samples * (sample_size / n_points) ** 2,
        bias=growth.bias(sample_size, n_points),
        standard_deviation=deviation,
        entropy=growth.entropy,
        entropy_uncertainty=_uncertainty(sizes, entropies, n_points),
        exponent=growth.exponent,
        sizes=sizes,
        means=means,
        standard_deviations=deviations,
    )


def _pilot_sizes(largest_size: int | None, n_points: int) -> Int[np.ndarray, " n_sizes"]:
    """Return the sizes of the pilot, ascending, each about twice the one before."""
    if largest_size is None:
        largest_size = max(n_points // 8, min(n_points // 2, 80))
    largest = _size("largest_size", largest_size, n_points, minimum=2 ** (N_FITTED + 1))
    return np.array([largest // 2**i for i in range(N_FITTED, -1, -1)])


def _size(name: str, value: object, n_points: int, *, minimum: int) -> int:
    """Return a size, or raise an error if it is not an integer from `minimum` to n_points."""
    size = _checks.integer(name, value, minimum=minimum)
    if size > n_points:
        raise ValueError(f"{name} must not exceed the points: {size} > {n_points}.")
    return size


def _nested_spectra(
    kernel_function: KernelFunction, n_points: int, sizes: list[int], key: PRNGKeyArray
) -> list[Float[np.ndarray, " size"]]:
    """Return the eigenvalues of the first points of one random order, for every size."""
    rows = np.asarray(jax.random.permutation(key, n_points)[: max(sizes)])
    kernel = np.asarray(kernel_function(rows))
    if kernel.shape != (len(rows), len(rows)):
        raise ValueError(
            f"kernel_function must return ({len(rows)}, {len(rows)}): "
            f"received the shape {kernel.shape}."
        )
    return [result.eigenvalues for result in spectrum.leading(kernel, sizes)]


class _Growth(NamedTuple):
    """The law S_k = entropy − scale (k^−γ − n_points^−γ)/γ with the exponent γ.

    As γ goes to 0 it becomes a logarithm.
    """

    entropy: float
    scale: float
    exponent: float

    def bias(self, size: int, n_points: int) -> float:
        """Return the bias at a size."""
        return -self.scale * float(_distance(np.array([size]), self.exponent, n_points)[0])

    def smallest_size(self, bias: float, n_points: int) -> int:
        """Return the smallest size, up to n_points, whose bias is at most `bias`."""
        if self.scale == 0.0:
            return 1
        power = n_points**-self.exponent + self.exponent * bias / self.scale
        return min(n_points, max(1, math.ceil(power ** (-1 / self.exponent))))


def _distance(
    sizes: Int[np.ndarray, " n_sizes"], exponent: float, n_points: int
) -> Float[np.ndarray, " n_sizes"]:
    """Return (k^−γ − n_points^−γ)/γ for each size k."""
    return (sizes.astype(float) ** -exponent - float(n_points) ** -exponent) / exponent


def _fit(
    sizes: Int[np.ndarray, " n_sizes"], means: Float[np.ndarray, " n_sizes"], n_points: int
) -> _Growth:
    """Fit entropy and scale ≥ 0 by least squares for each of EXPONENTS, and return the best."""
    fits = []
    for exponent in EXPONENTS:
        x = _distance(sizes, exponent, n_points)
        scale = max(-float((x - x.mean()) @ means) / float((x - x.mean()) @ x), 0.0)
        entropy = float(means.mean() + scale * x.mean())
        squares = float(np.sum((means - entropy + scale * x) ** 2))
        fits.append((squares, _Growth(entropy, scale, float(exponent))))
    return min(fits)[1]


def _uncertainty(
    sizes: Int[np.ndarray, " n_sizes"],
    entropies: Float[np.ndarray, "n_repeats n_sizes"],
    n_points: int,
) -> float:
    """Return scatter over repeats, change by the largest size and `RISK`, added in quadrature."""
    n_repeats = len(entropies)
    means = entropies.mean(axis=0)
    jackknife = [
        _fit(sizes[1:], np.delete(entropies, i, axis=0).mean(axis=0)[1:], n_points).entropy
        for i in range(n_repeats)
    ]
    scatter = math.sqrt((n_repeats - 1) * np.var(jackknife))
    change = (
        _fit(sizes[1:], means[1:], n_points).entropy
        - _fit(sizes[:-1], means[:-1], n_points).entropy
    )
    logarithmic = (means[-1] - means[-2]) * math.log2(n_points / sizes[-1])
    return math.hypot(scatter, change, RISK * logarithmic)


def _spread(
    sizes: Int[np.ndarray, " n_sizes"],
    deviations: Float[np.ndarray, " n_sizes"],
    n_points: int,
    size: int,
) -> float:
    """Return the predicted standard deviation between samples of `size`."""
    if (deviations <= 0).any():
        return float(deviations.max())
    # A power law, times the effect of a finite population: large samples share most points.
    finite = np.sqrt(1 - sizes / n_points)
    law = np.polyfit(np.log(sizes), np.log(deviations / finite), 1)
    return float(np.exp(np.polyval(law, math.log(size))) * math.sqrt(1 - size / n_points))


def check_subsample(subsample: dict[str, int], /, *, smallest: int) -> None:
    """Raise TypeError or ValueError unless n_samples ≥ 2 and sample_size ≥ `smallest`."""
    if not isinstance(subsample, dict) or set(subsample) != {"n_samples", "sample_size"}:
        raise ValueError(f"subsample must have n_samples and sample_size: received {subsample!r}.")
    _checks.integer("subsample.n_samples", subsample["n_samples"], minimum=2)
    _checks.integer("subsample.sample_size", subsample["sample_size"], minimum=smallest)
