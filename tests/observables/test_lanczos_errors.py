"""Errors of estimates: whether intervals hold the exact value as often as they say."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lanczos_kernels import SMALL, SPECTRA, diagonal_product, kernel_and_product, with_few_probes
from scipy import stats
from spectra import naive_entropy

from collective_variables.observables import _quadrature, lanczos

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def repeated(has_diagonal):
    """200 estimates of one kernel with different keys."""
    kernel, product = kernel_and_product("power law")
    diagonal = np.diag(kernel) if has_diagonal else None
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
    "has_diagonal, variable", [(False, "entropy"), (True, "entropy"), (False, "trace")]
)
def test_intervals_hold_the_exact_value_as_often_as_they_say(has_diagonal, variable):
    values, results = SPECTRA["power law"], repeated(has_diagonal)
    exact = naive_entropy(values) if variable == "entropy" else values.sum()
    assert LOW <= n_covered(results, variable, exact) <= HIGH
    # Negative control: the test can tell errors that are half of what they should be.
    assert n_covered(results, variable, exact, shrink=0.5) < LOW


@pytest.mark.parametrize("has_diagonal", [False, True])
def test_repeated_estimates_scatter_as_their_errors_say_about_the_exact_value(has_diagonal):
    results, exact = repeated(has_diagonal), naive_entropy(SPECTRA["power law"])
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
    assert abs(entropies.mean() - naive_entropy(SPECTRA["flat"])) < allowed < 1e-3


def test_interval_is_student_s_plus_the_quadrature_s_error():
    result = with_few_probes("power law", n_steps=6)
    low, high = result.interval(0.9)
    margin = stats.t.ppf(0.95, 7) * result.entropy_standard_error + result.entropy_quadrature_error
    assert (low, high) == pytest.approx((result.entropy - margin, result.entropy + margin))
    with pytest.raises(ValueError, match="confidence must be less than 1: received 95"):
        result.interval(95)
