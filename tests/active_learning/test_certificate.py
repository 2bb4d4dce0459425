"""Certificates against the posterior of a Gaussian process over the full kernel matrix."""

import itertools

import numpy as np
import pytest
from batch_pools import POOLS

from collective_variables.active_learning import certificate
from collective_variables.selection.batches.rules import max_det, max_dist

IDENTITY = np.eye(12)


def variances_left(features, known, noise):
    kernel = features @ features.T
    across = kernel[:, known]
    inner = kernel[np.ix_(known, known)] + noise**2 * np.eye(len(known))
    return np.diag(kernel) - np.diag(across @ np.linalg.inv(inner) @ across.T)


def distances(features, known):
    return np.array([[np.linalg.norm(x - features[y]) for y in known] for x in features])


def halving(features, known, score):
    """How many further points halve what a score of the known points returns."""
    known, first = list(known), summary(features, known, score)
    for step in itertools.count():
        if summary(features, known, score) <= first / 2:
            return step
        scores = score(features, known)
        scores[known] = -1
        known.append(int(np.argmax(scores)))


def summary(features, known, score):
    values = score(features, known)
    return values.max() if score is nearest else values.mean()


def nearest(features, known):
    return distances(features, known).min(axis=1)


@pytest.mark.parametrize("labelled", [[], [5], [30, 3, 17]], ids=len)
@pytest.mark.parametrize("pool", POOLS)
def test_variances_and_distances_are_those_of_the_full_matrix(pool, labelled):
    features, rows = POOLS[pool](), [1, 40, 25, 8]
    result = certificate.certify(features, rows, labelled, noise=0.5, n_random=3, seed=1)
    prior = np.vecdot(features, features).mean()
    left = variances_left(features, [*labelled, *rows], 0.5) / prior
    np.testing.assert_allclose(result.mean_variance, left.mean(), rtol=1e-9)
    np.testing.assert_allclose(result.largest_variance, left.max(), rtol=1e-9)
    radius = nearest(features, [*labelled, *rows]).max()
    np.testing.assert_allclose(result.covering_radius, radius, rtol=1e-9)
    counts = (result.n_pool, result.n_evaluated, result.n_labelled, result.n_chosen)
    assert counts == (len(features), len(features), len(labelled), 4)


@pytest.mark.parametrize("pool", POOLS)
def test_further_points_are_counted_as_by_hand(pool):
    features, known = POOLS[pool](), [1, 40, 3]
    result = certificate.certify(features, known[:2], known[2:], noise=0.5, n_random=2, seed=1)
    expected = halving(features, known, lambda *arguments: variances_left(*arguments, 0.5))
    assert result.n_to_halve_variance == expected
    assert result.n_to_halve_radius == halving(features, known, nearest)


def test_random_rows_are_all_subsets_of_the_unlabelled_rows():
    features = np.random.default_rng(0).normal(size=(9, 4)) * [1, 2, 3, 4]
    result = certificate.certify(features, [4, 6], [0], noise=0.3, n_random=2000, seed=0)
    prior = np.vecdot(features, features).mean()
    subsets = [[0, *pair] for pair in itertools.combinations(range(1, 9), 2)]
    left = np.array([variances_left(features, known, 0.3) / prior for known in subsets])
    means = left.mean(axis=1)
    error = means.std() / np.sqrt(2000)
    assert abs(result.random_mean_variance - means.mean()) < 4 * error
    largest = left.max(axis=1)
    assert abs(result.random_largest_variance - largest.mean()) < 4 * largest.std() / np.sqrt(2000)
    radii = np.array([nearest(features, known).max() for known in subsets])
    assert abs(result.random_covering_radius - radii.mean()) < 4 * radii.std() / np.sqrt(2000)
    np.testing.assert_allclose(
        result.gain, 1 - result.mean_variance / result.random_mean_variance, rtol=1e-12
    )
    np.testing.assert_allclose(
        result.gain_error, result.mean_variance / means.mean() ** 2 * error, rtol=0.1
    )
    gains = 1 - result.mean_variance / means
    # One of 28 subsets is more than a quantile, so that the interval ends near the extremes.
    assert np.sort(gains)[0] <= result.gain_lower <= np.sort(gains)[1]
    assert np.sort(gains)[-2] <= result.gain_upper <= np.sort(gains)[-1] + 1e-9


def clusters():
    """A large cluster and nine small ones."""
    generator = np.random.default_rng(3)
    centres = 5 * np.eye(10)
    numbers = np.concatenate([np.zeros(110, int), np.repeat(np.arange(1, 10), 10)])
    return centres[numbers] + 0.1 * generator.normal(size=(200, 10))


def test_one_row_from_each_cluster_beats_random_rows():
    features = clusters()
    rows = max_det.max_det(features, 10, noise=0.3)
    result = certificate.certify(features, rows, seed=0)
    assert result.is_better
    assert 0 < result.gain_lower < result.gain < result.gain_upper < 1
    assert "below that of random rows" in result.in_words()[-1]
    assert "take random" not in result.in_words()[-1]


@pytest.mark.parametrize("rows", [range(10), [7, 60, 111, 121, 131, 141, 151, 2, 3, 161]], ids=len)
def test_random_rows_are_recommended_if_nothing_is_gained(rows):
    result = certificate.certify(clusters(), list(rows)[:7], seed=0)
    assert result.is_better == (list(rows)[1] == 60)
    words = "Nothing is gained over random rows in this kernel: take random ones."
    assert (result.in_words()[-1] == words) != result.is_better


def test_between_a_sure_gain_and_none_the_last_sentence_says_so():
    features = clusters()
    likely = certificate.certify(features, max_det.max_det(features, 10, noise=0.3), seed=0)
    likely = likely._replace(gain_lower=-0.1, gain=0.2, gain_error=0.02)
    assert not likely.is_better and not likely.is_useless
    assert likely.in_words()[-1] == (
        "Random rows are worse on average, but a lucky draw may be as good."
    )
    doubtful = likely._replace(gain=0.03)
    assert doubtful.is_useless and "take random ones" in doubtful.in_words()[-1]


def test_round_off_is_no_gain():
    """Every subset of an identity matrix is as good as any other."""
    result = certificate.certify(IDENTITY, [0, 5, 7], [2], seed=0)
    assert not result.is_better
    assert abs(result.gain) < 1e-12


def test_the_whole_pool_has_no_gain_and_no_distance():
    features = clusters()[::4]
    result = certificate.certify(features, np.arange(12, 50), np.arange(12), n_random=5, seed=0)
    assert result.gain == pytest.approx(0.0, abs=1e-12)
    assert not result.is_better
    assert result.covering_radius == result.random_covering_radius == 0.0
    assert (result.n_to_halve_variance, result.n_to_halve_radius) == (None, 0)
    assert result.n_further == 0
    assert not any("halve" in sentence for sentence in result.in_words())


def test_a_fully_labelled_pool_and_an_empty_choice_have_certificates():
    result = certificate.certify(IDENTITY, [], range(12), seed=0)
    np.testing.assert_allclose(result.mean_variance, 0.01 / 1.01)
    assert result.in_words()[-1] == "No row was chosen, so there is no gain over random rows."
    nothing = certificate.certify(IDENTITY, [], seed=0)
    assert (nothing.mean_variance, nothing.covering_radius) == (1.0, np.inf)
    assert nothing.n_to_halve_variance == 7  # 6 of 12 leave 0.505
    assert nothing.n_to_halve_radius is None
    assert not any("within" in words or "distance" in words for words in nothing.in_words())


def test_features_of_zeros_have_a_certificate():
    result = certificate.certify(np.zeros((5, 2)), [1], seed=0)
    assert (result.mean_variance, result.gain, result.covering_radius) == (0.0, 0.0, 0.0)
    assert not result.is_better


def test_large_pools_are_evaluated_on_a_sample():
    features = np.random.default_rng(2).normal(size=(3000, 6))
    rows = max_dist.max_dist(features, 20)
    whole = certificate.certify(features, rows, n_evaluated=3000, n_random=10, seed=0)
    part = certificate.certify(features, rows, n_evaluated=600, n_random=10, seed=0)
    assert (whole.n_evaluated, part.n_evaluated) == (3000, 600)
    assert part.mean_variance == pytest.approx(whole.mean_variance, rel=0.1)
    assert part.covering_radius <= whole.covering_radius
    assert "These numbers are over 600 random rows of the 3000." in part.in_words()
    assert part == certificate.certify(features, rows, n_evaluated=600, n_random=10, seed=0)


def test_the_order_of_rows_does_not_matter():
    features = clusters()
    first = certificate.certify(features, [3, 1, 150], [7, 9], seed=0)
    second = certificate.certify(features, [150, 3, 1], [9, 7], seed=0)
    np.testing.assert_allclose(second, first, rtol=1e-9)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rows": [1, 1]}, "rows must be different rows that are not labelled: received 1"),
        ({"rows": [0, 2], "labelled": [2]}, "rows must be different rows that are not labelled"),
        ({"rows": [12]}, "rows must be rows of the pool, 0 to 11: received 12."),
        ({"rows": [0.5]}, "rows must be an integer"),
        ({"rows": [0], "labelled": [40]}, "labelled must be rows of the pool"),
        ({"rows": [0], "noise": 1e-9}, "noise must be at least 1e-05"),
        ({"rows": [0], "n_random": 1}, "n_random must be at least 2"),
        ({"rows": [0], "n_evaluated": 0}, "n_evaluated must be at least 1"),
        ({"rows": [0], "seed": -1}, "seed must be at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        certificate.certify(IDENTITY, **({"seed": 0} | arguments))
    assert message in str(caught.value)
