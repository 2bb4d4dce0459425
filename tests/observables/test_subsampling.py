"""Entropy and trace of samples, and the predictions of `plan_samples`, against whole kernels."""

import math

import jax
import numpy as np
import pytest
from spectra import naive_entropy

from collective_variables.data import problems
from collective_variables.kernels import empirical
from collective_variables.networks import parameters, sequential
from collective_variables.observables import spectrum, subsampling


def gaussian_kernel(variances, n_points, seed=0):
    """Return a Gram matrix whose eigenvalues per point are about `variances`."""
    normal = np.random.default_rng(seed).normal(size=(n_points, len(variances)))
    features = normal * np.sqrt(variances)
    return features @ features.T


def kernel_function(kernel):
    return lambda rows: kernel[np.ix_(rows, rows)]


def entropy(kernel):
    return spectrum.entropy(spectrum.eigenvalues(kernel))


INDEX = np.arange(1.0, 401.0)
KERNELS = {
    "power law": gaussian_kernel(INDEX**-1.5, 400),
    "exponential": gaussian_kernel(np.exp(-INDEX / 10), 400),
    "few dominant": gaussian_kernel(np.r_[10.0, 5.0, 3.0, np.full(397, 0.02)], 400),
    "identity": np.eye(400),
}
ENTROPIES = {name: entropy(kernel) for name, kernel in KERNELS.items()}


@pytest.fixture(scope="module")
def fuel_kernel():
    inputs = problems.load_problem("fuel").inputs
    network = sequential.build_network(["dense 32", "dense 32", "dense 1"], parametrisation="ntk")
    return np.asarray(
        empirical.empirical_ntk(
            network.apply, parameters.initialise(network, jax.random.key(0), inputs), inputs
        )
    )


# sub-samples


def test_samples_have_the_entropy_and_trace_of_their_kernels():
    kernel = KERNELS["power law"]
    draws = []

    def record_and_slice(rows):
        draws.append(rows)
        return kernel[np.ix_(rows, rows)]

    result = subsampling.draw_samples(
        record_and_slice, 400, n_samples=5, sample_size=20, key=jax.random.key(0)
    )
    for rows, value, trace in zip(draws, result.entropy.values, result.trace.values, strict=True):
        assert len(set(rows.tolist())) == 20 and rows.min() >= 0 and rows.max() < 400
        assert value == pytest.approx(naive_entropy(np.linalg.eigvalsh(kernel[np.ix_(rows, rows)])))
        assert trace == pytest.approx(math.fsum(kernel[row, row] for row in rows))
    assert len({tuple(rows) for rows in draws}) == 5
    assert result.effective_entropy.values == pytest.approx(result.entropy.values / math.log(20))
    assert result.trace_per_point.values == pytest.approx(result.trace.values / 20)


def test_mean_deviation_and_error_are_those_of_the_values():
    samples = subsampling.Samples(np.array([1.0, 2.0, 6.0]))
    assert (samples.mean, samples.standard_deviation) == pytest.approx((3, math.sqrt(7)))
    assert samples.standard_error == pytest.approx(math.sqrt(7 / 3))


def test_every_point_is_drawn_as_often():
    counts = np.zeros(10)

    def count(rows):
        counts[rows] += 1
        return np.eye(3)

    subsampling.draw_samples(count, 10, n_samples=1000, sample_size=3, key=jax.random.key(0))
    # 300 each; a standard deviation is √(1000 · 0.3 · 0.7) = 14.5.
    assert np.abs(counts - 300).max() < 4 * 14.5


def test_trace_per_point_is_unbiased_and_the_entropy_is_not():
    kernel = KERNELS["power law"]
    result = subsampling.draw_samples(
        kernel_function(kernel), 400, n_samples=200, sample_size=20, key=jax.random.key(0)
    )
    trace, entropies = result.trace_per_point, result.entropy
    assert abs(trace.mean - np.trace(kernel) / 400) < 4 * trace.standard_error
    assert entropies.mean < ENTROPIES["power law"] - 20 * entropies.standard_error


def test_all_points_are_the_whole_kernel():
    kernel = KERNELS["power law"]
    result = subsampling.draw_samples(
        kernel_function(kernel), 400, n_samples=2, sample_size=400, key=jax.random.key(0)
    )
    assert result.entropy.mean == pytest.approx(ENTROPIES["power law"])
    assert result.entropy.standard_error == pytest.approx(0, abs=1e-12)


def test_one_point_has_no_entropy_and_no_effective_entropy():
    result = subsampling.draw_samples(
        kernel_function(np.eye(5)), 5, n_samples=3, sample_size=1, key=jax.random.key(0)
    )
    assert result.entropy.values.tolist() == [0, 0, 0]
    assert np.isnan(result.effective_entropy.values).all()


def test_same_key_draws_the_same_samples_and_another_key_others():
    kernel = kernel_function(KERNELS["power law"])
    values = [
        subsampling.draw_samples(
            kernel, 400, n_samples=3, sample_size=9, key=jax.random.key(k)
        ).entropy.values.tolist()
        for k in (1, 1, 2)
    ]
    assert values[0] == values[1] != values[2]


# plans of samples


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("largest_size", [50, 200])
def test_extrapolated_entropy_is_within_its_uncertainty(name, largest_size):
    kernel, exact = kernel_function(KERNELS[name]), ENTROPIES[name]
    result = subsampling.plan_samples(
        kernel, 400, accuracy=0.1, key=jax.random.key(0), largest_size=largest_size
    )
    assert abs(result.entropy - exact) < 2 * result.entropy_uncertainty
    # It is useful only if it is nearer than the largest sample.
    assert abs(result.entropy - exact) < abs(result.means[-1] - exact)
    assert result.sizes.tolist() == [largest_size // 2**i for i in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize("name", KERNELS)
def test_samples_as_planned_reach_the_accuracy(name):
    kernel, exact = kernel_function(KERNELS[name]), ENTROPIES[name]
    result = subsampling.plan_samples(
        kernel, 400, accuracy=0.15, key=jax.random.key(0), largest_size=100
    )
    assert result.reachable and 1 <= result.sample_size < 400
    size = result.sample_size
    samples = subsampling.draw_samples(
        kernel, 400, n_samples=20, sample_size=size, key=jax.random.key(1)
    ).entropy
    # Half of the accuracy, 0.075, is for the bias; it is predicted to within 50 %.
    assert abs(samples.mean / exact - 1) < 1.5 * 0.075
    assert samples.mean - exact == pytest.approx(result.bias, abs=0.5 * 0.075 * exact)
    assert 2 * samples.standard_deviation / math.sqrt(result.n_samples) < 1.5 * 0.075 * exact


def test_smaller_samples_than_planned_miss_the_accuracy():
    """No number of samples helps: a negative control of the test above."""
    kernel = KERNELS["power law"]
    result = subsampling.plan_samples(
        kernel_function(kernel), 400, accuracy=0.15, key=jax.random.key(0), largest_size=100
    )
    size = result.sample_size // 3
    samples = subsampling.draw_samples(
        kernel_function(kernel), 400, n_samples=50, sample_size=size, key=jax.random.key(1)
    )
    assert samples.entropy.mean < (1 - 1.5 * 0.075) * ENTROPIES["power law"]


def test_real_kernel_is_extrapolated_within_its_uncertainty(fuel_kernel):
    n_points, exact = len(fuel_kernel), entropy(fuel_kernel)
    results = [
        subsampling.plan_samples(
            kernel_function(fuel_kernel),
            n_points,
            accuracy=0.1,
            key=jax.random.key(seed),
            largest_size=136,
        )
        for seed in range(4)
    ]
    errors = np.array([result.entropy - exact for result in results])
    assert (np.abs(errors) < [2 * result.entropy_uncertainty for result in results]).all()
    assert np.abs(errors).max() < 0.06 * exact
    assert all(0.1 * n_points < result.sample_size < 0.6 * n_points for result in results)


def test_closed_form_of_the_identity_is_recovered():
    """S_k = ln k, so that one sample of n^(1 − accuracy/2) points is enough."""
    result = subsampling.plan_samples(
        kernel_function(np.eye(400)), 400, accuracy=0.2, key=jax.random.key(0)
    )
    assert result.sample_size == pytest.approx(400**0.9, rel=0.03)
    assert (result.n_samples, result.exponent) == (1, subsampling.EXPONENTS[0])
    assert result.standard_deviation == pytest.approx(0, abs=1e-12)
    assert result.relative_cost == pytest.approx((result.sample_size / 400) ** 2)


def test_fit_recovers_the_law_that_it_assumes():
    sizes, exponent = np.array([20, 40, 80, 160]), float(subsampling.EXPONENTS[50])
    means = 3.0 - 2.0 * (sizes**-exponent - 1000**-exponent) / exponent
    fit = subsampling._fit(sizes, means, 1000)
    assert (fit.entropy, fit.scale, fit.exponent) == pytest.approx((3.0, 2.0, exponent))
    assert fit.bias(40, 1000) == pytest.approx(means[1] - 3.0)
    size = fit.smallest_size(0.1, 1000)
    assert fit.bias(size, 1000) >= -0.1 > fit.bias(size - 1, 1000)
    assert fit.bias(1000, 1000) == 0


def test_spread_between_samples_recovers_its_law():
    sizes = np.array([10, 20, 40, 80, 160])
    deviations = 0.7 * sizes**-0.5 * np.sqrt(1 - sizes / 1000)
    assert subsampling._spread(sizes, deviations, 1000, 400) == pytest.approx(
        0.7 * 400**-0.5 * math.sqrt(0.6)
    )


def test_uncertainty_of_a_common_shift_of_all_sizes_is_the_standard_error_of_the_mean():
    shifts = np.random.default_rng(0).normal(size=6)
    entropies = 2.0 + np.repeat(shifts[:, None], 5, axis=1)
    uncertainty = subsampling._uncertainty(np.array([10, 20, 40, 80, 160]), entropies, 1000)
    assert uncertainty == pytest.approx(shifts.std(ddof=1) / math.sqrt(6))


def test_samples_are_the_fewest_and_no_smaller_than_the_pilot_s():
    kernel = kernel_function(gaussian_kernel(INDEX**-3, 400))
    result = subsampling.plan_samples(kernel, 400, accuracy=0.1, key=jax.random.key(0))
    tolerance = 0.05 * result.entropy
    assert result.n_samples > 2
    errors = [
        2 * result.standard_deviation / math.sqrt(n)
        for n in (result.n_samples, result.n_samples - 1)
    ]
    assert errors[0] <= tolerance < errors[1]
    rough = subsampling.plan_samples(kernel, 400, accuracy=5.0, key=jax.random.key(0))
    assert (rough.sample_size, rough.n_samples) == (rough.sizes[1], 1)


def test_greater_accuracy_takes_larger_samples():
    sizes = [
        subsampling.plan_samples(
            kernel_function(KERNELS["power law"]), 400, accuracy=a, key=jax.random.key(0)
        ).sample_size
        for a in (0.4, 0.2, 0.1, 0.05)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] / 3


def test_accuracy_out_of_reach_of_sub_samples_is_said_to_be():
    result = subsampling.plan_samples(
        kernel_function(KERNELS["power law"]), 400, accuracy=1e-5, key=jax.random.key(0)
    )
    assert not result.reachable
    assert (result.sample_size, result.n_samples, result.relative_cost) == (400, 1, 1)
    assert (result.bias, result.standard_deviation) == (0, 0)


def test_cost_above_one_says_that_the_whole_kernel_is_cheaper():
    result = subsampling.plan_samples(
        kernel_function(KERNELS["power law"]), 400, accuracy=0.01, key=jax.random.key(0)
    )
    assert result.reachable and result.relative_cost > 1


def test_same_key_gives_the_same_answer():
    kernel = kernel_function(KERNELS["power law"])
    first, again = (
        subsampling.plan_samples(kernel, 400, accuracy=0.1, key=jax.random.key(5)) for _ in range(2)
    )
    assert (first.entropy, first.entropy_uncertainty) == (again.entropy, again.entropy_uncertainty)


def test_scale_of_the_kernel_changes_nothing():
    plain, scaled = (
        subsampling.plan_samples(
            kernel_function(scale * KERNELS["power law"]), 400, accuracy=0.1, key=jax.random.key(0)
        )
        for scale in (1.0, 1e9)
    )
    assert (scaled.sample_size, scaled.n_samples) == (plain.sample_size, plain.n_samples)
    assert scaled.entropy == pytest.approx(plain.entropy)


# what is refused


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"n_samples": 1}, ValueError, "n_samples must be at least 2: received 1"),
        ({"sample_size": 0}, ValueError, "sample_size must be at least 1: received 0"),
        ({"sample_size": 11}, ValueError, "sample_size must not exceed the points: 11 > 10"),
        ({"sample_size": 2.5}, TypeError, "sample_size must be an integer: received 2.5"),
        ({"n_points": 0}, ValueError, "n_points must be at least 1: received 0"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(options, error, message):
    options = {"n_points": 10, "n_samples": 3, "sample_size": 4, **options}
    with pytest.raises(error, match=message):
        subsampling.draw_samples(kernel_function(np.eye(10)), key=jax.random.key(0), **options)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"n_points": 63}, ValueError, "n_points must be at least 64: received 63"),
        ({"accuracy": 0.0}, ValueError, "accuracy must be greater than 0"),
        ({"accuracy": "5 %"}, TypeError, "accuracy must be a number"),
        ({"n_repeats": 2}, ValueError, "n_repeats must be at least 3: received 2"),
        ({"largest_size": 31}, ValueError, "largest_size must be at least 32: received 31"),
        ({"largest_size": 101}, ValueError, "largest_size must not exceed the points: 101 > 100"),
    ],
)
def test_pilots_that_cannot_be_made_are_refused(options, error, message):
    options = {"n_points": 100, "accuracy": 0.1, **options}
    with pytest.raises(error, match=message):
        subsampling.plan_samples(kernel_function(np.eye(100)), key=jax.random.key(0), **options)


@pytest.mark.parametrize(
    "kernel, message",
    [
        (np.ones((100, 100)), "entropy must be positive for a relative accuracy: received"),
        (np.zeros((100, 100)), "entropy of the samples must be finite: 5 of 5"),
        (-np.eye(100), "kernel must be positive semi-definite"),
    ],
)
def test_kernels_without_an_entropy_are_refused(kernel, message):
    with pytest.raises(ValueError, match=message):
        subsampling.plan_samples(kernel_function(kernel), 100, accuracy=0.1, key=jax.random.key(0))


def test_kernel_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"kernel_function must return \(4, 4\): received the shape \(10, 10\)"
    ):
        subsampling.draw_samples(
            lambda rows: np.eye(10), 10, n_samples=2, sample_size=4, key=jax.random.key(0)
        )
