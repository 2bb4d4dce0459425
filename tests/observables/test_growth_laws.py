"""The laws of growth against plain sums over points and pairs, and against larger kernels."""

import itertools
import math

import numpy as np
import pytest

from collective_variables.observables.growth import laws

GENERATOR = np.random.default_rng(0)


def drawn(n_groups, k, n_features=6):
    """Kernels of random features that share a mean, so their entries are not centred."""
    features = GENERATOR.normal(size=(n_groups, k, n_features)) + 0.7
    return features @ features.swapaxes(1, 2)


def plain(kernels, n):
    k = len(kernels[0])
    entries = [kernel[i, i] for kernel in kernels for i in range(k)]
    pairs = [
        kernel[i, j] ** 2 for kernel in kernels for i, j in itertools.permutations(range(k), 2)
    ]
    diagonal, between = sum(entries) / len(entries), sum(pairs) / len(pairs)
    squared = sum(entry**2 for entry in entries) / len(entries)
    norm = n * squared + n * (n - 1) * between
    return n * diagonal, (n * diagonal) ** 2 / norm, diagonal**2 / between


@pytest.mark.parametrize("n", [1, 7, 1000])
@pytest.mark.parametrize("k", [2, 3])
def test_predictions_and_errors_are_those_of_plain_sums(n, k):
    kernels = drawn(9, k)
    found, expected = laws.growth_laws(kernels, n), plain(kernels, n)
    assert (found.trace, found.renyi2_rank, found.limit) == pytest.approx(expected)
    for place, error in ((0, found.trace_error), (1, found.renyi2_rank_error)):
        left_out = [plain(np.delete(kernels, i, axis=0), n)[place] for i in range(9)]
        mean = sum(left_out) / 9
        expected = math.sqrt(8 / 9 * sum((value - mean) ** 2 for value in left_out))
        assert error == pytest.approx(expected, abs=1e-9)


def test_groups_predict_the_kernel_of_many_points_within_their_errors():
    (kernel,) = drawn(1, 3000)
    trace, rank = np.trace(kernel), np.trace(kernel) ** 2 / np.sum(kernel**2)
    misses = []
    for _ in range(200):
        found = laws.growth_laws(drawn(300, 2), 3000)
        misses.append(
            [
                (found.trace - trace) / found.trace_error,
                (found.renyi2_rank - rank) / found.renyi2_rank_error,
            ]
        )
    inside = np.mean(np.abs(misses) < 1.96, axis=0)
    assert (inside > 0.85).all(), inside


def test_kernels_of_equal_entries_have_rank_one_without_error():
    found = laws.growth_laws(np.full((5, 2, 2), 2.0), 50)
    assert found == pytest.approx((100.0, 0.0, 1.0, 0.0, 1.0))


def test_kernels_that_are_zero_have_no_rank():
    found = laws.growth_laws(np.zeros((4, 2, 2)), 10)
    assert found.trace == 0.0 and math.isnan(found.renyi2_rank)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"shape \(n_groups, k, k\).*received \(4, 4\)"):
        laws.growth_laws(np.eye(4), 10)
    with pytest.raises(ValueError, match=r"at least 2 points in a group: received \(4, 1, 1\)"):
        laws.growth_laws(np.ones((4, 1, 1)), 10)
    with pytest.raises(ValueError, match="at least 3 groups: received 2"):
        laws.growth_laws(np.ones((2, 2, 2)), 10)
    with pytest.raises(ValueError, match="kernels must be finite"):
        laws.growth_laws(np.full((3, 2, 2), np.nan), 10)
    with pytest.raises(ValueError, match="n_points must be at least 1: received 0"):
        laws.growth_laws(np.ones((3, 2, 2)), 0)
