"""Estimates from products, compared with kernels whose eigenvalues are known."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lanczos_kernels import INDEX, SMALL, SPECTRA, diagonal_product, with_few_probes
from spectra import naive_entropy, rotated

from collective_variables.kernels import empirical
from collective_variables.networks import parameters, sequential
from collective_variables.observables import lanczos, spectrum

pytestmark = pytest.mark.usefixtures("quick_compilation")


def close(result, eigenvalues, *, errors=4.0):
    """Tell if entropy and trace are within `errors` standard errors and other bounds, and λ_max."""
    round_off = 1e-5
    margin = errors * result.entropy_standard_error + result.entropy_quadrature_error + round_off
    trace_margin = errors * result.trace_standard_error + round_off * eigenvalues.sum()
    return (
        abs(result.entropy - naive_entropy(eigenvalues)) <= margin
        and abs(result.trace - eigenvalues.sum()) <= trace_margin
        and result.largest_eigenvalue <= eigenvalues.max() * (1 + round_off)
    )


# known spectra


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("has_diagonal", [False, True])
def test_entropy_and_trace_agree_with_the_spectrum_within_their_errors(name, has_diagonal):
    values = SPECTRA[name]
    result = with_few_probes(name, diagonal=has_diagonal or None)
    assert close(result, values)
    assert result.n_products < len(values)
    assert result.entropy_standard_error < 0.05 * result.entropy
    assert (result.trace_standard_error == 0) == has_diagonal
    if has_diagonal:
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
    plain = with_few_probes("power law")
    exact_trace = with_few_probes("power law", diagonal=True)
    assert exact_trace.entropy_standard_error < plain.entropy_standard_error / 2
    assert (plain.degrees_of_freedom, exact_trace.degrees_of_freedom) == (7, 6)


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
    assert abs(result.entropy / naive_entropy(values) - 1) < 0.01
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
    assert result.entropy == pytest.approx(naive_entropy(values), abs=1e-9)
    assert result.trace == pytest.approx(values.sum(), rel=1e-12)


# properties


def test_same_key_gives_the_same_estimate_and_another_key_another():
    first, again, other = (with_few_probes("power law", seed) for seed in (3, 3, 4))
    assert first == again
    assert first.entropy != other.entropy


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
@pytest.mark.parametrize("has_diagonal", [False, True])
def test_scale_changes_the_trace_but_not_the_entropy(scale, has_diagonal):
    kernel = rotated(SPECTRA["power law"])
    plain, scaled = (
        dataclasses.asdict(with_few_probes(matrix, diagonal=has_diagonal or None))
        for matrix in (kernel, scale * kernel)
    )
    for name, value in plain.items():
        unit = scale if name.startswith(("trace", "largest")) else 1.0
        assert scaled[name] == pytest.approx(unit * value, rel=1e-3, abs=1e-6 * unit), name


# kernels that are degenerate or small


@pytest.mark.parametrize("n_points", [1, 2, 3, 20, 200])
@pytest.mark.parametrize("has_diagonal", [False, True])
def test_few_points_are_exact(n_points, has_diagonal):
    values = INDEX[:n_points]
    kernel = rotated(values)
    result = with_few_probes(kernel, diagonal=has_diagonal or None)
    assert result.entropy == pytest.approx(naive_entropy(values), abs=1e-5)
    assert result.trace == pytest.approx(values.sum(), rel=1e-5)
    assert result.largest_eigenvalue == pytest.approx(values.max(), rel=1e-5)
    assert (result.entropy_standard_error, result.trace_standard_error, result.n_leading) == (
        0,
        0,
        n_points,
    )
    assert result.interval() == (result.entropy, result.entropy)


@pytest.mark.parametrize("n_points", [3, 300])
@pytest.mark.parametrize("has_diagonal", [False, True])
def test_zero_kernel_has_a_trace_but_no_entropy(n_points, has_diagonal):
    result = with_few_probes(np.zeros((n_points, n_points)), diagonal=has_diagonal or None)
    assert math.isnan(result.entropy)
    assert (result.trace, result.trace_standard_error, result.largest_eigenvalue) == (0, 0, 0)


@pytest.mark.parametrize("n_points", [3, 300])
@pytest.mark.parametrize("has_diagonal", [False, True])
def test_kernel_of_rank_one_has_no_entropy(n_points, has_diagonal):
    vector = np.random.default_rng(0).normal(size=n_points)
    result = with_few_probes(np.outer(vector, vector), diagonal=has_diagonal or None)
    assert result.entropy == pytest.approx(0, abs=1e-4)
    assert result.entropy_standard_error + result.entropy_quadrature_error < 1e-4
    assert result.trace == pytest.approx(vector @ vector, rel=1e-5)
    assert result.largest_eigenvalue == pytest.approx(vector @ vector, rel=1e-5)


@pytest.mark.parametrize("has_diagonal", [False, True])
def test_kernel_of_a_rank_below_the_leading_directions_is_exact(has_diagonal):
    kernel = rotated(np.r_[4.0, 3.0, 2.0, np.zeros(297)])
    result = with_few_probes(kernel, diagonal=has_diagonal or None)
    assert result.entropy == pytest.approx(naive_entropy([4, 3, 2]), abs=1e-4)
    assert result.entropy_standard_error < 1e-4


def test_identity_is_exact_as_every_probe_gives_the_same():
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
