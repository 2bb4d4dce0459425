"""Features of a posterior, and features of kernels that have none."""

import jax.numpy as jnp
import numpy as np
import pytest
from batch_references import conditioned, kernel_matrix
from helpers import assert_close

from collective_variables.selection.batches import features as kernel_features
from collective_variables.selection.batches import posterior

GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(20, 6))
LOW_RANK = GENERATOR.normal(size=(20, 2)) @ GENERATOR.normal(size=(2, 6))


@pytest.mark.parametrize("features", [FEATURES, LOW_RANK], ids=["full rank", "low rank"])
@pytest.mark.parametrize("labelled", [[], [3], [7, 1], list(range(12)), list(range(20))], ids=len)
@pytest.mark.parametrize("noise", [1e-6, 1e-3, 1.0])
def test_the_products_are_the_posterior_covariance(features, labelled, noise):
    result = posterior.posterior(features, labelled, noise=noise)
    expected = conditioned(kernel_matrix(features), labelled, noise).astype(float)
    assert result.dtype == np.float64
    assert_close(result @ result.T, expected, operations=1000 + 100 / noise)


def test_the_variance_of_a_labelled_point_is_that_of_its_noise():
    """k s² / (k + s²) for a single point, however small the noise."""
    for noise in (1e-8, 1e-3, 10.0):
        result = posterior.posterior([[3.0, 4.0]], [0], noise=noise)
        np.testing.assert_allclose((result**2).sum(), 25 * noise**2 / (25 + noise**2), rtol=1e-6)


def test_two_posteriors_count_each_label_twice():
    once = posterior.posterior(FEATURES, [2, 5], noise=0.5 / np.sqrt(2))
    twice = posterior.posterior(posterior.posterior(FEATURES, [2, 5], noise=0.5), [2, 5], noise=0.5)
    assert_close(twice @ twice.T, once @ once.T)


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan])
def test_a_posterior_needs_a_noise(noise):
    with pytest.raises(ValueError, match="noise must be"):
        posterior.posterior(FEATURES, [0], noise=noise)


def test_a_refresh_changes_nothing_but_digits():
    known = posterior.Conditioned(FEATURES, np.array([4]), 0.1, with_squares=True)
    known.learn(7)
    known.learn(2)
    before = known.variances.copy(), known.squares.copy()
    known.refresh()
    kernel = conditioned(kernel_matrix(FEATURES), [4, 7, 2], 0.1)
    for values in (before, (known.variances, known.squares)):
        assert_close(values[0], np.diag(kernel).astype(float), operations=1e4)
        assert_close(values[1], (kernel @ kernel).diagonal().astype(float), operations=1e4)
    assert not any(known.is_worn(row) for row in range(20))


# kernels without features


def matrix(name):
    squared = ((FEATURES[:, None] - FEATURES) ** 2).sum(axis=2)
    return {"low rank": LOW_RANK @ LOW_RANK.T, "smooth": np.exp(-squared / 50)}[name]


@pytest.mark.parametrize("rank", [1, 2, 3, 20, 30])
@pytest.mark.parametrize("name", ["low rank", "smooth"])
def test_the_error_bounds_every_entry(name, rank):
    kernel = matrix(name)
    features, error = kernel_features.from_kernel(kernel, 20, rank)
    assert features.shape[1] <= rank
    difference = np.abs(features @ features.T - kernel).max()
    assert difference <= error + 1e-12
    np.testing.assert_allclose(
        error, (np.diag(kernel) - (features**2).sum(axis=1)).max(), atol=1e-12
    )


def test_features_are_exact_where_the_rank_allows():
    features, error = kernel_features.from_kernel(matrix("low rank"), 20, 9)
    assert features.shape == (20, 2)
    assert error == 0
    assert_close(features @ features.T, matrix("low rank"))


def test_a_function_gives_the_features_of_its_matrix_without_all_of_it():
    seen = []

    def kernel(rows, columns):
        block = matrix("smooth")[rows]
        seen.append(len(rows))
        return jnp.asarray(block if columns is None else block[:, columns])

    features, error = kernel_features.from_kernel(kernel, 20, 4)
    expected = kernel_features.from_kernel(matrix("smooth").astype(np.float32), 20, 4)
    assert_close(features, expected.features, operations=1e4)
    assert error == pytest.approx(expected.error, rel=1e-4)


@pytest.mark.parametrize("noise", [0.3, 0.05])
def test_a_noise_ends_the_features_once_nothing_larger_is_left(noise):
    features, error = kernel_features.from_kernel(matrix("smooth"), 20, 20, noise=noise)
    assert error <= noise**2
    before = kernel_features.from_kernel(matrix("smooth"), 20, features.shape[1] - 1)
    assert before.error > noise**2


def test_a_kernel_in_float32_ends_at_its_round_off():
    kernel = matrix("low rank").astype(np.float32)
    features, error = kernel_features.from_kernel(kernel, 20, 20)
    assert features.shape == (20, 2)
    assert features.dtype == np.float64
    np.testing.assert_allclose(features @ features.T, kernel, atol=1e-5)
    assert error < 1e-4 * np.diag(kernel).max()


def test_a_kernel_of_zeros_has_features_of_zeros():
    features, error = kernel_features.from_kernel(np.zeros((3, 3)), 3, 2)
    assert error == 0
    assert not features.any()


@pytest.mark.parametrize(
    "kernel, message",
    [
        (np.eye(3), "kernel must have the shape (2, 2): received (3, 3)."),
        ([[1.0, np.nan], [0.0, 1.0]], "kernel must be finite"),
        ([[1.0, 0.5], [0.1, 1.0]], "kernel must be symmetric"),
        ([[-1.0, 0.0], [0.0, 1.0]], "K(x, x) is -1.0 for the point 0"),
        ([[1.0, 2.0], [2.0, 1.0]], "kernel must be positive semi-definite"),
        (lambda rows, columns: np.ones(3), "kernel must return the shape (2, 2)"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel, message):
    with pytest.raises(ValueError) as caught:
        kernel_features.from_kernel(kernel, 2, 2)
    assert message in str(caught.value)
