"""Collective variables of kernels whose eigenvalues are known."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from spectra import naive_entropy, rotated

from collective_variables import _memory
from collective_variables.observables import spectrum

# Functions of a kernel or of its eigenvalues.
EITHER = [spectrum.trace, spectrum.entropy, spectrum.collective_variables]


def gram(n_points, rank, seed=0):
    factor = np.random.default_rng(seed).normal(size=(n_points, rank))
    return factor @ factor.T


def variables(kernel):
    return spectrum.collective_variables(spectrum.eigenvalues(kernel))


# known spectra


@pytest.mark.parametrize("n_points", [2, 5, 100])
def test_identity_has_the_largest_entropy(n_points):
    result = variables(3 * np.eye(n_points))
    assert result == pytest.approx(
        {
            "entropy": math.log(n_points),
            "trace": 3 * n_points,
            "largest_eigenvalue": 3,
            "effective_entropy": 1,
            "effective_rank": n_points,
            "trace_per_point": 3,
            "largest_eigenvalue_fraction": 1 / n_points,
        }
    )


def test_kernel_of_rank_one_has_no_entropy():
    vector = np.random.default_rng(0).normal(size=20)
    result = variables(np.outer(vector, vector))
    assert 0 <= result["entropy"] < 1e-12
    assert result["effective_rank"] == pytest.approx(1)
    assert result["trace"] == pytest.approx(vector @ vector)
    assert result["largest_eigenvalue_fraction"] == pytest.approx(1)


@pytest.mark.parametrize("low, n_low, high, n_high", [(1, 3, 4, 2), (0.01, 19, 5, 1), (0, 7, 2, 4)])
def test_two_levels_have_their_closed_form(low, n_low, high, n_high):
    p_low = n_low * low / (n_low * low + n_high * high)
    entropy = (1 - p_low) * math.log(n_high / (1 - p_low)) + (
        p_low * math.log(n_low / p_low) if low else 0
    )
    kernel = rotated([low] * n_low + [high] * n_high)
    assert variables(kernel)["entropy"] == pytest.approx(entropy, abs=1e-12)


@pytest.mark.parametrize("n_points", [1, 2, 31])
def test_eigenvalues_of_a_rotated_diagonal_come_back_ascending(n_points):
    values = np.random.default_rng(1).lognormal(sigma=3, size=n_points)
    result = spectrum.decompose(rotated(values))
    assert result.eigenvalues.dtype == np.float64
    assert_close(result.eigenvalues, np.sort(values))
    assert (result.n_negative, result.most_negative) == (0, 0.0)
    assert np.array_equal(spectrum.eigenvalues(rotated(values)), result.eigenvalues)
    assert variables(rotated(values))["entropy"] == pytest.approx(naive_entropy(values))


def test_linear_model_has_the_squared_singular_values_of_its_inputs():
    x = np.random.default_rng(0).normal(size=(12, 3))
    singular = np.linalg.svd(x, compute_uv=False)
    result = variables(x @ x.T)
    assert result["entropy"] == pytest.approx(naive_entropy(singular**2))
    assert result["entropy"] <= math.log(3)
    assert result["trace"] == pytest.approx((x**2).sum())
    assert result["largest_eigenvalue"] == pytest.approx(singular[0] ** 2)


def test_entropy_is_in_nats():
    values = [0.5, 0.25, 0.25]
    assert spectrum.entropy(values) == pytest.approx(1.5 * math.log(2))
    assert spectrum.entropy(values) != pytest.approx(1.5)


# properties


@pytest.mark.parametrize("n_points, rank", [(2, 1), (10, 3), (30, 30), (17, 40)])
def test_entropy_lies_between_zero_and_the_logarithm_of_the_rank(n_points, rank):
    entropy = variables(gram(n_points, rank))["entropy"]
    assert -1e-12 <= entropy <= math.log(min(rank, n_points)) + 1e-9


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 7.0, 1e200])
def test_scale_changes_the_trace_but_not_the_entropy(scale):
    plain, scaled = variables(gram(15, 4)), variables(scale * gram(15, 4))
    for name in ("entropy", "effective_entropy", "effective_rank", "largest_eigenvalue_fraction"):
        assert scaled[name] == pytest.approx(plain[name])
    for name in ("trace", "trace_per_point", "largest_eigenvalue"):
        assert scaled[name] == pytest.approx(scale * plain[name], rel=1e-12, abs=0)


def test_trace_is_the_sum_of_the_diagonal_not_its_mean():
    kernel = gram(15, 40)
    assert spectrum.trace(spectrum.eigenvalues(kernel)) == pytest.approx(math.fsum(np.diag(kernel)))


def test_entropy_does_not_depend_on_the_order_of_the_eigenvalues():
    values = np.random.default_rng(0).lognormal(size=9)
    assert spectrum.entropy(values[::-1]) == pytest.approx(spectrum.entropy(values), abs=1e-14)


def test_size_free_forms_follow_from_their_definitions():
    kernel = gram(15, 40)
    values, result = np.linalg.eigvalsh(kernel), variables(kernel)
    entropy = naive_entropy(values)
    assert result == pytest.approx(
        {
            "entropy": entropy,
            "trace": values.sum(),
            "largest_eigenvalue": values[-1],
            "effective_entropy": entropy / math.log(15),
            "effective_rank": math.exp(entropy),
            "trace_per_point": values.sum() / 15,
            "largest_eigenvalue_fraction": values[-1] / values.sum(),
        }
    )
    assert list(result)[:2] == ["entropy", "trace"]
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize("sizes", [[3, 8, 20], [20], [8, 3, 3], [1]])
def test_leading_blocks_have_the_spectra_of_the_nested_kernels(sizes):
    factor = np.random.default_rng(0).normal(size=(20, 5))
    for n, result in zip(sizes, spectrum.leading(factor @ factor.T, sizes), strict=True):
        expected = np.linalg.eigvalsh(np.array([[a @ b for b in factor[:n]] for a in factor[:n]]))
        assert_close(result.eigenvalues, np.maximum(expected, 0), operations=10 * n)


# round-off


def test_negative_eigenvalues_of_round_off_are_counted_and_set_to_zero():
    result = spectrum.decompose(np.diag([1.0, -2e-16, 0.5, -1e-16, 0.0]))
    assert result.eigenvalues.tolist() == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert (result.n_negative, result.most_negative) == (2, -2e-16)


def test_kernel_may_be_as_indefinite_as_the_precision_of_its_dtype_allows():
    kernel = np.diag([1.0, -1e-7, 0.5])
    assert spectrum.decompose(kernel.astype(np.float32)).n_negative == 1
    with pytest.raises(ValueError, match="positive semi-definite: received the eigenvalue -1e-07"):
        spectrum.decompose(kernel)


def test_kernel_may_be_as_asymmetric_as_the_precision_of_its_dtype_allows():
    kernel = np.array([[1.0, 0.5], [0.5 + 1e-6, 1.0]])
    # Both halves count: the mean of the two entries is 0.5 + 5e-7.
    assert spectrum.eigenvalues(kernel.astype(np.float32)) == pytest.approx(
        [0.5 - 5e-7, 1.5 + 5e-7], abs=1e-7
    )
    with pytest.raises(
        ValueError, match="must be symmetric: received entries that differ by 1e-06"
    ):
        spectrum.decompose(kernel)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_float32_kernel_is_decomposed_in_float64(array):
    kernel = gram(40, 5).astype(np.float32)
    result = spectrum.decompose(array(kernel))
    assert result.eigenvalues.dtype == np.float64
    exact = np.linalg.eigvalsh(kernel.astype(np.float64))
    assert_close(result.eigenvalues, np.maximum(exact, 0), operations=400)
    assert result.n_negative == (exact < 0).sum() > 0
    assert result.most_negative == pytest.approx(exact.min(), abs=1e-12)
    assert variables(kernel)["entropy"] == pytest.approx(
        variables(gram(40, 5))["entropy"], abs=1e-5
    )


def test_integer_kernel_is_taken():
    assert spectrum.eigenvalues([[2, 1], [1, 2]]) == pytest.approx([1, 3])


@pytest.mark.parametrize(
    "kernel, message",
    [
        (np.diag([1.0, -1e-3]), "must be positive semi-definite: received the eigenvalue -0.001"),
        (np.diag([1.0, -1e-3]).astype(np.float32), "must be positive semi-definite"),
        (-np.eye(3), "must be positive semi-definite"),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), "must be positive semi-definite"),
        (
            np.array([[1.0, 0.2], [0.1, 1.0]]),
            "must be symmetric: received entries that differ by 0.1",
        ),
        (np.array([[1.0, 0.1], [-0.1, 1.0]]), "must be symmetric"),
        (np.full((2, 2), np.nan), "kernel must be finite: 4 of 4"),
        (np.diag([1.0, np.inf]), r"kernel must be finite: 1 of 4 .* \(1, 1\)"),
        (np.ones((2, 3)), r"square matrix of at least one point: received the shape \(2, 3\)"),
        (np.ones((0, 0)), r"received the shape \(0, 0\)"),
        (np.ones(4), r"received the shape \(4,\)"),
        (np.ones((2, 2, 2)), r"received the shape \(2, 2, 2\)"),
        (1.0, r"received the shape \(\)"),
    ],
)
def test_matrix_that_is_no_kernel_is_refused(kernel, message):
    with pytest.raises(ValueError, match=message):
        spectrum.decompose(kernel)


# degenerate kernels


def test_one_point_has_no_entropy_and_no_effective_entropy():
    result = variables([[2.5]])
    assert math.isnan(result.pop("effective_entropy"))
    assert result == {
        "entropy": 0.0,
        "trace": 2.5,
        "largest_eigenvalue": 2.5,
        "effective_rank": 1.0,
        "trace_per_point": 2.5,
        "largest_eigenvalue_fraction": 1.0,
    }


def test_zero_kernel_has_a_trace_but_no_entropy():
    result = variables(np.zeros((4, 4)))
    for name in ("trace", "largest_eigenvalue", "trace_per_point"):
        assert result[name] == 0.0
    for name in ("entropy", "effective_entropy", "effective_rank", "largest_eigenvalue_fraction"):
        assert math.isnan(result[name])


# eigenvalues in place of a kernel


@pytest.mark.parametrize(
    "convert", [list, tuple, lambda v: np.array(v, np.float32), lambda v: jnp.array(v, jnp.float32)]
)
def test_eigenvalues_are_taken_from_any_array_with_zeros_and_round_off(convert):
    values = convert([-1e-8, 0.0, 0.25, 0.75, 1e-45])
    assert spectrum.trace(values) == 1.0
    assert spectrum.entropy(values) == pytest.approx(naive_entropy([0.25, 0.75]))
    assert type(spectrum.trace(values)) is type(spectrum.entropy(values)) is float


def test_shares_below_the_smallest_float_count_as_zero():
    assert spectrum.entropy([5e-324, 1e300, 1e300]) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "values, message",
    [
        ([1.0, -1e-3], "eigenvalues must not be negative: received -0.001"),
        ([-1.0, -1.0], "must not be negative"),
        ([1.0, math.nan], "eigenvalues must be finite: 1 of 2"),
        ([], r"eigenvalues must hold at least one value: received the shape \(0,\)"),
        (1.0, r"received the shape \(\)"),
    ],
)
@pytest.mark.parametrize("function", EITHER)
def test_values_that_are_no_spectrum_are_refused(function, values, message):
    with pytest.raises(ValueError, match=message):
        function(values)


# a kernel in place of its eigenvalues


@pytest.mark.parametrize("convert", [np.float64, np.ndarray.tolist, np.float32, jnp.float32])
@pytest.mark.parametrize("function", [spectrum.entropy, spectrum.collective_variables])
def test_a_kernel_gives_the_same_digits_as_its_eigenvalues(function, convert):
    kernel = convert(gram(12, 30))
    assert function(kernel) == function(spectrum.eigenvalues(kernel))


def test_the_trace_of_a_kernel_is_that_of_its_eigenvalues_up_to_round_off():
    kernel = rotated([0.5, 1.5, 2.0, 4.0])
    assert spectrum.trace(kernel) == pytest.approx(8.0, rel=1e-14)
    assert spectrum.trace(kernel) == pytest.approx(spectrum.trace([0.5, 1.5, 2.0, 4.0]), rel=1e-14)
    assert type(spectrum.trace(kernel)) is float


def test_the_trace_of_a_kernel_needs_no_decomposition(monkeypatch):
    monkeypatch.setattr(spectrum, "decompose", None)
    assert spectrum.trace(np.diag([1.0, 2.0])) == 3.0


@pytest.mark.parametrize("function", [spectrum.eigenvalues, *EITHER])
def test_a_stack_of_kernels_is_refused_with_advice(function):
    stack = np.stack([np.eye(2)] * 3)
    message = (
        r"^kernel must be a square matrix of at least one point: received the shape \(3, 2, 2\)\. "
        r"Pass the kernels of a stack one at a time\.$"
    )
    with pytest.raises(ValueError, match=message):
        function(stack)


@pytest.mark.parametrize(
    "kernel, message",
    [
        (np.ones((2, 3)), r"square matrix .* received the shape \(2, 3\)"),
        (np.array([[1.0, 0.2], [0.1, 1.0]]), "must be symmetric"),
        (np.diag([1.0, np.nan]), "kernel must be finite"),
        (np.diag([1.0, -1.0]), "must be positive semi-definite|diagonal .* must not be negative"),
    ],
)
@pytest.mark.parametrize("function", EITHER)
def test_a_matrix_that_is_no_kernel_is_refused_in_place_of_eigenvalues(function, kernel, message):
    with pytest.raises(ValueError, match=message):
        function(kernel)


def test_eigenvalues_that_do_not_fit_say_what_they_need(monkeypatch):
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(_memory, "_machine_free", lambda: 8 * 30**2 - 1)
    spectrum.decompose(np.eye(29))
    with pytest.raises(
        MemoryError, match="^The eigenvalues of 30 points need 0.0 GiB, and 0.0 GiB are free.$"
    ):
        spectrum.decompose(np.eye(30))
