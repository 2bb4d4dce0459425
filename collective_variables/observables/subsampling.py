"""Entropy and trace from random sub-samples of the points (Tovey et al. 2024), and how many of what
size it takes.

Tr/k of k points is an unbiased estimate of Tr/n_points. Their entropy is no such estimate of the
entropy of all points: it is at most ln k and grows with k, so that no number of samples makes up
for samples that are too small.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.observables import spectrum

KernelOf = Callable[[Int[np.ndarray, " k"]], Float[Array, "k k"]]
N_FITTED = 4  # sizes that a fit takes; the pilot has one more, so that the fit can be tried without its largest
RISK = 0.2  # of the range from no growth to a logarithmic one beyond the pilot, for a law that changes there
EXPONENTS = np.linspace(
    0.02, 2.0, 199
)  # from the logarithm of an unbounded spectrum beyond the 1/k of a short one


@dataclass(frozen=True, eq=False)
class Sampled:
    """A quantity of independent random samples: values (n_samples,)."""

    values: Float[np.ndarray, " n_samples"]

    @property
    def mean(self) -> float:
        """Mean over the samples."""
        return float(self.values.mean())

    @property
    def standard_deviation(self) -> float:
        """Between samples, n_samples − 1 degrees of freedom: the error bar of Tovey et al. 2024."""
        return float(self.values.std(ddof=1))

    @property
    def standard_error(self) -> float:
        """Of the mean as an estimate of the mean over all samples of this size; nothing about other
        sizes.
        """
        return self.standard_deviation / math.sqrt(len(self.values))


@dataclass(frozen=True, eq=False)
class Subsample:
    """Entropy (nats) and trace of samples of sample_size = k points, and S/ln k (NaN for k = 1) and
    Tr/k.
    """

    sample_size: int
    entropy: Sampled
    trace: Sampled
    effective_entropy: Sampled
    trace_per_point: Sampled


@dataclass(frozen=True, eq=False)
class Required:
    """What sub-samples must be for a wanted accuracy of the entropy of all points, and that entropy
    extrapolated.

    sample_size, n_samples: the smallest, from the smallest fitted size up, such that the bias of
    the mean entropy and two of its standard errors are each at most half of the accuracy; n_points
    and 1 if no smaller size reaches it
    (`reachable` is then False). relative_cost: entries of these kernels relative to those of the
    whole kernel, which is cheaper where this exceeds 1.
    bias, standard_deviation: predicted at sample_size, nats; the bias is that of the mean and not
    positive.
    entropy, entropy_uncertainty: extrapolated to n_points, nats; the uncertainty, about one
    standard deviation, joins the jackknife over the pilot's repeats, the change when the largest
    size is left out, and a fifth of what the entropy would still gain if it grew on as ln k. Where
    it is not well below the wanted accuracy the answer is a
    guess: take a larger pilot.
    exponent: γ of the bias −c (k^−γ − n_points^−γ). sizes, means, standard_deviations: of the
    pilot, (n_sizes,).
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


def subsampled(
    kernel_of: KernelOf, n_points: int, *, n_samples: int, sample_size: int, key: PRNGKeyArray
) -> Subsample:
    """Entropy and trace of `n_samples` independent samples of `sample_size` points (Tovey et al.
    2024).

    kernel_of(rows) gives the kernel of the points `rows`, drawn without replacement from n_points.
    The same key draws the same rows. Raises TypeError or ValueError for a wrong argument or a
    matrix that is no kernel (see `spectrum.decompose`).
    """
    n_points = _checks.integer("n_points", n_points, minimum=1)
    n_samples = _checks.integer("n_samples", n_samples, minimum=2)
    sample_size = _size("sample_size", sample_size, n_points, minimum=1)
    spectra = [
        _nested_spectra(kernel_of, n_points, [sample_size], k)[0]
        for k in jax.random.split(key, n_samples)
    ]
    entropy = np.array([spectrum.entropy(values) for values in spectra])
    trace = np.array([spectrum.trace(values) for values in spectra])
    effective = entropy / math.log(sample_size) if sample_size > 1 else np.full(n_samples, np.nan)
    return Subsample(
        sample_size,
        Sampled(entropy),
        Sampled(trace),
        Sampled(effective),
        Sampled(trace / sample_size),
    )


def required(
    kernel_of: KernelOf,
    n_points: int,
    *,
    accuracy: float,
    key: PRNGKeyArray,
    largest_size: int | None = None,
    n_repeats: int = 10,
) -> Required:
    """How large and how many sub-samples give the entropy of all `n_points` ≥ 64 points to a
    relative `accuracy`.

    A pilot of `n_repeats` nested samples, of largest_size, a half, a quarter, … of it (default: an
    eighth of the points, or the lesser of 80 and half of them if that is more), gives the mean
    entropy S_k of k points. The law S_k = S − c (k^−γ − n_points^−γ), fitted by least squares to
    the four largest sizes, gives the bias, which ends where k is all points; γ is about 1 for a few
    leading eigenvalues and nearer 0 the slower the eigenvalues fall. σ_k² ∝ k^−2h (1 − k/n_points),
    fitted to the logarithms, gives the spread between samples. kernel_of is as in `subsampled`, and
    called n_repeats times.

    The fit is no theorem: a spectrum whose decay changes beyond what the pilot sees moves the
    answer. A plateau of small eigenvalues below a few large ones, for instance, hardly shows in
    small samples.

    Raises TypeError or ValueError for a wrong argument, a matrix that is no kernel, or a kernel of
    entropy zero.
    """
    n_points = _checks.integer("n_points", n_points, minimum=64)
    accuracy = _checks.number("accuracy", accuracy, above=0.0)
    n_repeats = _checks.integer("n_repeats", n_repeats, minimum=3)
    if largest_size is None:
        largest_size = max(n_points // 8, min(n_points // 2, 80))
    largest = _size("largest_size", largest_size, n_points, minimum=2 ** (N_FITTED + 1))
    sizes = np.array([largest // 2**i for i in range(N_FITTED, -1, -1)])
    spectra = [
        _nested_spectra(kernel_of, n_points, sizes.tolist(), k)
        for k in jax.random.split(key, n_repeats)
    ]
    entropies = np.array([[spectrum.entropy(values) for values in nested] for nested in spectra])
    means, deviations = entropies.mean(axis=0), entropies.std(axis=0, ddof=1)
    _checks.finite("entropy of the samples", means)
    growth = _fit(sizes[1:], means[1:], n_points)
    if growth.entropy < 1e-6:
        raise ValueError(
            f"entropy must be positive for a relative accuracy: received {growth.entropy:.3g}."
        )
    tolerance = accuracy / 2 * growth.entropy
    # Below the fitted sizes the fit says nothing.
    sample_size = max(growth.size_of(tolerance, n_points), int(sizes[1]))
    reachable = sample_size < n_points
    deviation = _spread(sizes, deviations, n_points, sample_size) if reachable else 0.0
    n_samples = max(1, math.ceil((2 * deviation / tolerance) ** 2))
    return Required(
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


def _size(name: str, value: object, n_points: int, *, minimum: int) -> int:
    size = _checks.integer(name, value, minimum=minimum)
    if size > n_points:
        raise ValueError(f"{name} must not exceed the points: {size} > {n_points}.")
    return size


def _nested_spectra(
    kernel_of: KernelOf, n_points: int, sizes: list[int], key: PRNGKeyArray
) -> list[Float[np.ndarray, " size"]]:
    """Eigenvalues of the first points of one random order, for every size."""
    rows = np.asarray(jax.random.permutation(key, n_points)[: max(sizes)])
    kernel = np.asarray(kernel_of(rows))
    if kernel.shape != (len(rows), len(rows)):
        raise ValueError(
            f"kernel_of must give ({len(rows)}, {len(rows)}): received the shape {kernel.shape}."
        )
    return [result.eigenvalues for result in spectrum.leading(kernel, sizes)]


class _Growth(NamedTuple):
    """S_k = entropy − scale (k^−γ − n_points^−γ)/γ with the exponent γ; a logarithm as γ goes to
    0.
    """

    entropy: float
    scale: float
    exponent: float

    def bias(self, size: int, n_points: int) -> float:
        return -self.scale * float(_distance(np.array([size]), self.exponent, n_points)[0])

    def size_of(self, bias: float, n_points: int) -> int:
        """The smallest size, of at most n_points, with a bias no larger than `bias`."""
        if self.scale == 0.0:
            return 1
        power = n_points**-self.exponent + self.exponent * bias / self.scale
        return min(n_points, max(1, math.ceil(power ** (-1 / self.exponent))))


def _distance(
    sizes: Int[np.ndarray, " n_sizes"], exponent: float, n_points: int
) -> Float[np.ndarray, " n_sizes"]:
    return (sizes.astype(float) ** -exponent - float(n_points) ** -exponent) / exponent


def _fit(
    sizes: Int[np.ndarray, " n_sizes"], means: Float[np.ndarray, " n_sizes"], n_points: int
) -> _Growth:
    """Least squares in entropy and scale ≥ 0 for each of EXPONENTS, and the best of them."""
    fits = []
    for exponent in EXPONENTS:
        x = _distance(sizes, exponent, n_points)
        scale = max(-float((x - x.mean()) @ means) / float((x - x.mean()) @ x), 0.0)
        entropy = float(means.mean() + scale * x.mean())
        fits.append(
            (
                float(np.sum((means - entropy + scale * x) ** 2)),
                _Growth(entropy, scale, float(exponent)),
            )
        )
    return min(fits)[1]


def _uncertainty(
    sizes: Int[np.ndarray, " n_sizes"],
    entropies: Float[np.ndarray, "n_repeats n_sizes"],
    n_points: int,
) -> float:
    """Jackknife over repeats, change of the extrapolation as its sizes double, and `RISK`, in
    quadrature.
    """
    n_repeats, means = len(entropies), entropies.mean(axis=0)
    left_out = [
        _fit(sizes[1:], np.delete(entropies, i, axis=0).mean(axis=0)[1:], n_points).entropy
        for i in range(n_repeats)
    ]
    scatter = math.sqrt((n_repeats - 1) * np.var(left_out))
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
    """Standard deviation between samples of `size`, from a power law on top of the effect of a
    finite population.
    """
    if (deviations <= 0).any():
        return float(deviations.max())
    finite = np.sqrt(1 - sizes / n_points)
    law = np.polyfit(np.log(sizes), np.log(deviations / finite), 1)
    return float(np.exp(np.polyval(law, math.log(size))) * math.sqrt(1 - size / n_points))


def check_subsample(subsample: dict[str, int], /, *, smallest: int) -> None:
    """Raise TypeError or ValueError unless it has n_samples of at least 2 and sample_size of at
    least `smallest`.
    """
    if not isinstance(subsample, dict) or set(subsample) != {"n_samples", "sample_size"}:
        raise ValueError(f"subsample must have n_samples and sample_size: received {subsample!r}.")
    _checks.integer("subsample.n_samples", subsample["n_samples"], minimum=2)
    _checks.integer("subsample.sample_size", subsample["sample_size"], minimum=smallest)
