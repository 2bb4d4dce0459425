"""Estimates from products alone, held against kernels whose eigenvalues are known."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from spectra import entropy_of, rotated

from collective_variables.kernels import empirical
from collective_variables.networks import parameters, sequential
from collective_variables.observables import _quadrature, lanczos, spectrum

pytestmark = pytest.mark.usefixtures("quick_compilation")

INDEX = np.arange(1.0, 301.0)
SPECTRA = {
    "power law": INDEX**-1.3,
    "exponential": np.exp(-INDEX / 20),
    "few dominant": np.r_[50.0, 20.0, 10.0, np.full(297, 0.1)],
    "flat": np.linspace(0.5, 1.5, 300),
    "rank 40": np.r_[np.linspace(1, 2, 40), np.zeros(260)],
}
SMALL = {"n_leading": 8, "n_probes": 8, "n_steps": 20}


def product_of(kernel):
    kernel = jnp.asarray(kernel, jnp.zeros(0).dtype)
    return jax.jit(lambda vectors: jnp.matmul(kernel, vectors, precision="highest"))


def diagonal_product(values):
    """Products with a diagonal matrix: its eigenvalues are its entries."""
    values = jnp.asarray(values, jnp.zeros(0).dtype)
    return jax.jit(lambda vectors: values[:, None] * vectors)


@functools.cache
def known_kernel(name):
    """One of SPECTRA as a kernel and its product, which is compiled once."""
    kernel = rotated(SPECTRA[name])
    return kernel, product_of(kernel)


def with_few_probes(kernel, seed=0, **options):
    kernel, product = (
        known_kernel(kernel) if isinstance(kernel, str) else (kernel, product_of(kernel))
    )
    if options.get("diagonal") is True:
        options["diagonal"] = np.diag(kernel)
    return lanczos.estimate_entropy(
        product, len(kernel), key=jax.random.key(seed), **{**SMALL, **options}
    )


def close(result, eigenvalues, *, errors=4.0):
    """Whether entropy and trace are within `errors` standard errors plus what else is bounded, and
    λ_max is found.
    """
    round_off = 1e-5
    margin = errors * result.entropy_standard_error + result.entropy_quadrature_error + round_off
    trace_margin = errors * result.trace_standard_error + round_off * eigenvalues.sum()
    return (
        abs(result.entropy - entropy_of(eigenvalues)) <= margin
        and abs(result.trace - eigenvalues.sum()) <= trace_margin
        and result.largest_eigenvalue <= eigenvalues.max() * (1 + round_off)
    )


# known spectra


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("known", [False, True])
def test_entropy_and_trace_agree_with_the_spectrum_within_their_errors(name, known):
    values = SPECTRA[name]
    result = with_few_probes(name, diagonal=known or None)
    assert close(result, values)
    assert result.n_products < len(values)
    assert result.entropy_standard_error < 0.05 * result.entropy
    assert (result.trace_standard_error == 0) == known
    if known:
        assert result.trace == pytest.approx(values.sum())


@pytest.mark.parametrize("name", ["power law", "few dominant"])
def test_largest_eigenvalue_comes_to_single_precision_where_it_stands_apart(name):
    result = with_few_probes(name)
    assert result.largest_eigenvalue == pytest.approx(SPECTRA[name].max(), rel=1e-5)


def test_an_eigenvalue_lies_within_the_residual_of_the_largest_ritz_value():
    for name, values in SPECTRA.items():
        result = with_few_probes(name)
        distance = np.abs(values - result.largest_eigenvalue).min()
        assert distance <= result.largest_eigenvalue_residual + 1e-5 * values.max(), name


def test_known_diagonal_takes_scatter_out_of_the_entropy():
    plain, known = with_few_probes("power law"), with_few_probes("power law", diagonal=True)
    assert known.entropy_standard_error < plain.entropy_standard_error / 2
    assert (plain.degrees_of_freedom, known.degrees_of_freedom) == (7, 6)


def test_leading_directions_take_scatter_out_of_the_entropy():
    kernel = rotated(np.r_[100.0, INDEX[:-1] ** -1.3])
    few, many = with_few_probes(kernel, n_leading=1), with_few_probes(kernel)
    assert many.entropy_standard_error < few.entropy_standard_error / 2


def test_kernel_of_many_points_needs_far_fewer_products_than_points():
    values = np.arange(1.0, 5001.0) ** -1.5
    options = {**SMALL, "n_leading": 16}
    result = lanczos.estimate_entropy(
        diagonal_product(values), 5000, key=jax.random.key(0), diagonal=values, **options
    )
    assert result.n_products == 16 * 7 + 8 * 20
    assert abs(result.entropy / entropy_of(values) - 1) < 0.01
    assert close(result, values)


def test_empirical_ntk_agrees_with_its_decomposition():
    points = jax.random.normal(jax.random.key(0), (300, 6))
    network = sequential.build_network(["dense 16", "dense 1"], parametrisation="ntk")
    kernel = empirical.empirical_ntk(
        network.apply, parameters.initialise(network, jax.random.key(1), points), points
    )
    assert close(with_few_probes(kernel), spectrum.eigenvalues(kernel))


def test_double_precision_is_used_where_it_is_on(float64):
    values = np.r_[np.linspace(1, 2, 6), np.full(294, 1e-9)]
    result = with_few_probes(rotated(values), n_steps=4)
    assert result.entropy == pytest.approx(entropy_of(values), abs=1e-9)
    assert result.trace == pytest.approx(values.sum(), rel=1e-12)


# errors


@functools.cache
def repeated(known):
    """200 estimates of one kernel with different keys."""
    kernel, product = known_kernel("power law")
    diagonal = np.diag(kernel) if known else None
    keys = (jax.random.key(seed) for seed in range(200))
    return [
        lanczos.estimate_entropy(product, 300, key=key, diagonal=diagonal, **SMALL) for key in keys
    ]


def n_covered(results, variable, exact, *, shrink=1.0):
    """How many t intervals of 95 %, without the quadrature's error, hold the exact value."""
    quantile = shrink * stats.t.isf(0.025, results[0].degrees_of_freedom)
    return sum(
        abs(getattr(result, variable) - exact)
        <= quantile * getattr(result, f"{variable}_standard_error")
        for result in results
    )


LOW, HIGH = stats.binom.ppf([0.0005, 0.9995], 200, 0.95)


@pytest.mark.parametrize(
    "known, variable", [(False, "entropy"), (True, "entropy"), (False, "trace")]
)
def test_intervals_hold_the_exact_value_as_often_as_they_say(known, variable):
    values, results = SPECTRA["power law"], repeated(known)
    exact = entropy_of(values) if variable == "entropy" else values.sum()
    assert LOW <= n_covered(results, variable, exact) <= HIGH
    # Negative control: the test can tell errors that are half of what they should be.
    assert n_covered(results, variable, exact, shrink=0.5) < LOW


@pytest.mark.parametrize("known", [False, True])
def test_repeated_estimates_scatter_as_their_errors_say_about_the_exact_value(known):
    results, exact = repeated(known), entropy_of(SPECTRA["power law"])
    entropies = np.array([result.entropy for result in results])
    expected = math.sqrt(np.mean([result.entropy_standard_error**2 for result in results]))
    assert entropies.std() == pytest.approx(expected, rel=0.2)
    # The bias of the quadrature, of the leading directions and of the logarithm of the trace
    # together.
    assert abs(entropies.mean() - exact) < 0.3 * expected
    assert max(result.entropy_quadrature_error for result in results) < 0.3 * expected


@pytest.mark.parametrize("name", ["power law", "exponential", "flat"])
@pytest.mark.parametrize("n_steps", [1, 2, 6])
def test_quadrature_is_within_its_bound_for_every_number_of_steps(name, n_steps):
    fine, coarse = with_few_probes(name), with_few_probes(name, n_steps=n_steps)
    # The same probes: the difference is the quadrature's alone.
    assert (
        abs(coarse.entropy - fine.entropy)
        <= coarse.entropy_quadrature_error + fine.entropy_quadrature_error
    )
    assert coarse.entropy_quadrature_error > fine.entropy_quadrature_error or name == "flat"


def test_gauss_and_radau_rules_enclose_the_form_of_every_vector(float64):
    values = jnp.asarray(SPECTRA["exponential"])
    vectors = jax.random.normal(jax.random.key(0), (300, 5))
    vectors = vectors / jnp.linalg.norm(vectors, axis=0, keepdims=True)
    exact = np.einsum("nv,n->v", vectors**2, values * jnp.log(values))
    widths = []
    for n_steps in (1, 3, 9):
        forms = _quadrature.quadratic_forms(diagonal_product(values), vectors, n_steps, 1.0)
        assert (forms.lower <= exact).all() and (exact <= forms.upper).all()
        widths.append((forms.upper - forms.lower).max())
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0] / 10


def test_known_mean_enters_by_the_intercept_of_a_regression_and_its_error():
    x, y = np.random.default_rng(0).normal(size=(2, 6))
    expected = stats.linregress(x - 0.7, y)
    assert lanczos._line_at(x, y, 0.7) == pytest.approx(
        (expected.intercept, expected.intercept_stderr)
    )
    assert lanczos._line_at(np.ones(6), y, 1.0)[0] == pytest.approx(y.mean())


def test_leading_directions_that_have_not_converged_make_no_bias():
    """A flat spectrum has no leading directions: what is left of a bias is below what 50 estimates
    can tell.
    """
    results = [with_few_probes("flat", seed) for seed in range(50)]
    entropies = np.array([result.entropy for result in results])
    allowed = 4 * entropies.std() / math.sqrt(50) + results[0].entropy_quadrature_error
    assert abs(entropies.mean() - entropy_of(SPECTRA["flat"])) < allowed < 1e-3


def test_interval_is_student_s_plus_the_quadrature_s_error():
    result = with_few_probes("power law", n_steps=6)
    low, high = result.interval(0.9)
    margin = stats.t.ppf(0.95, 7) * result.entropy_standard_error + result.entropy_quadrature_error
    assert (low, high) == pytest.approx((result.entropy - margin, result.entropy + margin))
    with pytest.raises(ValueError, match="confidence must be less than 1: received 95"):
        result.interval(95)


# properties


def test_same_key_gives_the_same_estimate_and_another_key_another():
    first, again, other = (with_few_probes("power law", seed) for seed in (3, 3, 4))
    assert first == again
    assert first.entropy != other.entropy


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
@pytest.mark.parametrize("known", [False, True])
def test_scale_changes_the_trace_but_not_the_entropy(scale, known):
    kernel = rotated(SPECTRA["power law"])
    plain, scaled = (
        dataclasses.asdict(with_few_probes(matrix, diagonal=known or None))
        for matrix in (kernel, scale * kernel)
    )
    for name, value in plain.items():
        unit = scale if name.startswith(("trace", "largest")) else 1.0
        assert scaled[name] == pytest.approx(unit * value, rel=1e-3, abs=1e-6 * unit), name


# kernels that are degenerate or small


@pytest.mark.parametrize("n_points", [1, 2, 3, 20, 200])
@pytest.mark.parametrize("known", [False, True])
def test_few_points_are_exact(n_points, known):
    values = INDEX[:n_points]
    kernel = rotated(values)
    result = with_few_probes(kernel, diagonal=known or None)
    assert result.entropy == pytest.approx(entropy_of(values), abs=1e-5)
    assert result.trace == pytest.approx(values.sum(), rel=1e-5)
    assert result.largest_eigenvalue == pytest.approx(values.max(), rel=1e-5)
    assert (result.entropy_standard_error, result.trace_standard_error, result.n_leading) == (
        0,
        0,
        n_points,
    )
    assert result.interval() == (result.entropy, result.entropy)


@pytest.mark.parametrize("n_points", [3, 300])
@pytest.mark.parametrize("known", [False, True])
def test_zero_kernel_has_a_trace_but_no_entropy(n_points, known):
    result = with_few_probes(np.zeros((n_points, n_points)), diagonal=known or None)
    assert math.isnan(result.entropy)
    assert (result.trace, result.trace_standard_error, result.largest_eigenvalue) == (0, 0, 0)


@pytest.mark.parametrize("n_points", [3, 300])
@pytest.mark.parametrize("known", [False, True])
def test_kernel_of_rank_one_has_no_entropy(n_points, known):
    vector = np.random.default_rng(0).normal(size=n_points)
    result = with_few_probes(np.outer(vector, vector), diagonal=known or None)
    assert result.entropy == pytest.approx(0, abs=1e-4)
    assert result.entropy_standard_error + result.entropy_quadrature_error < 1e-4
    assert result.trace == pytest.approx(vector @ vector, rel=1e-5)
    assert result.largest_eigenvalue == pytest.approx(vector @ vector, rel=1e-5)


@pytest.mark.parametrize("known", [False, True])
def test_kernel_of_a_rank_below_the_leading_directions_is_exact(known):
    kernel = rotated(np.r_[4.0, 3.0, 2.0, np.zeros(297)])
    result = with_few_probes(kernel, diagonal=known or None)
    assert result.entropy == pytest.approx(entropy_of([4, 3, 2]), abs=1e-4)
    assert result.entropy_standard_error < 1e-4


def test_identity_is_exact_as_every_probe_tells_the_same():
    result = with_few_probes(3 * np.eye(300), diagonal=True)
    assert result.entropy == pytest.approx(math.log(300), abs=1e-5)
    assert result.entropy_standard_error < 1e-5


# what is refused


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"n_leading": 0}, ValueError, "n_leading must be at least 1: received 0"),
        ({"n_probes": 2}, ValueError, "n_probes must be at least 3: received 2"),
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1: received 0"),
        ({"n_steps": 2.0}, TypeError, "n_steps must be an integer: received 2.0"),
        ({"n_points": 0}, ValueError, "n_points must be at least 1: received 0"),
        (
            {"diagonal": np.ones(299)},
            ValueError,
            r"diagonal must be \(300,\): received the shape \(299,\)",
        ),
        ({"diagonal": np.full(300, np.nan)}, ValueError, "diagonal must be finite: 300 of 300"),
        ({"diagonal": -np.ones(300)}, ValueError, "diagonal must not be negative: received -1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, error, message):
    options = {"n_points": 300, "key": jax.random.key(0), **SMALL, **options}
    with pytest.raises(error, match=message):
        lanczos.estimate_entropy(diagonal_product(np.ones(300)), **options)


@pytest.mark.parametrize("n_points", [20, 300])
@pytest.mark.parametrize(
    "matrix, message",
    [
        (lambda n: np.full((n, n), np.nan), "product must be finite"),
        (
            lambda n: -np.eye(n),
            "must be positive semi-definite|must be that of a positive semi-definite kernel",
        ),
        (
            lambda n: np.triu(np.ones((n, n))),
            "product must be that of a symmetric kernel: received entries",
        ),
    ],
)
def test_products_that_are_no_kernel_s_are_refused(n_points, matrix, message):
    with pytest.raises(ValueError, match=message):
        with_few_probes(matrix(n_points))


def test_product_of_another_shape_is_refused():
    with pytest.raises(
        ValueError,
        match=r"product must give the shape \(300, 8\) of its vectors: received \(8, 300\)",
    ):
        lanczos.estimate_entropy(jnp.transpose, 300, key=jax.random.key(0), **SMALL)
