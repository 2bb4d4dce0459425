import functools
import itertools
import math

import jax
import numpy as np
import pytest
from helpers import assert_close
from scipy import stats
from sklearn.cluster import kmeans_plusplus

from collective_variables import _memory
from collective_variables.selection import coverage

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
POOL = np.random.default_rng(0).normal(size=(24, 2, 2))
COPIES = np.repeat(POOL[:3], 4, axis=0)
CENTRES = np.array([[0.0, 0.0], [9.0, 1.0], [2.0, 11.0], [-8.0, 5.0], [-3.0, -12.0], [14.0, -9.0]])
CLUSTERS = np.repeat(CENTRES, 8, axis=0) + 1e-3 * np.random.default_rng(1).normal(size=(48, 2))
METHODS = (
    coverage.k_center,
    coverage.k_means_plus_plus,
    coverage.kernel_herding,
    coverage.facility_location,
)
KERNEL_METHODS = (coverage.kernel_herding, coverage.facility_location)
LABELLED = (11, 2, 7)

every_method = pytest.mark.parametrize("method", METHODS)
methods_of_kernels = pytest.mark.parametrize("method", KERNEL_METHODS)


@functools.cache
def whole_pool(method):
    """Three members that choose every point of the pool."""
    with jax.enable_x64(False):
        return method(POOL, n_selected=24, key=KEY, n_members=3)


# the same in plain Python: lists, double loops and float64


def listed(pool):
    return np.asarray(pool, np.float64).reshape(len(pool), -1).tolist()


def gaussians(pool, bandwidth):
    return [
        [math.exp(-(math.dist(x, y) ** 2) / (2 * bandwidth**2)) for y in listed(pool)]
        for x in listed(pool)
    ]


def farthest_first(pool, *beginning):
    pool, chosen, traces = listed(pool), [*beginning], [(math.nan,) * 3] * len(beginning)
    while len(chosen) < len(pool):
        nearest = [min(math.dist(x, pool[p]) for p in chosen) for x in pool]
        rest = [x for x in range(len(pool)) if x not in chosen]
        chosen.append(max(rest, key=lambda x: nearest[x]))  # the first of equals
        traces.append((nearest[chosen[-1]], sum(nearest) / len(pool), max(nearest)))
    return chosen, np.transpose(traces)


def squared_distance_draws(pool, seed):
    pool, random_state = listed(pool), np.random.RandomState(seed)
    chosen = [random_state.choice(len(pool), p=np.full(len(pool), 1 / len(pool)))]
    while len(chosen) < len(pool):
        squared = [min(math.dist(x, pool[p]) ** 2 for p in chosen) for x in pool]
        threshold = random_state.uniform() * sum(squared)
        chosen.append(
            next(x for x, total in enumerate(itertools.accumulate(squared)) if total >= threshold)
        )
    return chosen


def squared_distance_draws_after(pool, seed, *beginning):
    pool, generator, chosen = listed(pool), np.random.default_rng(seed), [*beginning]
    while len(chosen) < len(pool):
        squared = [min(math.dist(x, pool[p]) ** 2 for p in chosen) for x in pool]
        threshold = generator.random() * sum(squared)
        chosen.append(
            next(x for x, total in enumerate(itertools.accumulate(squared)) if total > threshold)
        )
    return chosen


def herd(kernel, *beginning):
    n_pool, chosen = len(kernel), [*beginning]
    while len(chosen) < n_pool:
        scores = {
            x: sum(kernel[x]) / n_pool - sum(kernel[x][p] for p in chosen) / (len(chosen) + 1)
            for x in range(n_pool)
            if x not in chosen
        }
        chosen.append(max(scores, key=scores.get))
    return chosen


def similarity_to_nearest(kernel, chosen):
    return sum(max(row[p] for p in chosen) for row in kernel)


def cover(kernel, *beginning):
    chosen = [*beginning]
    while len(chosen) < len(kernel):
        rest = [x for x in range(len(kernel)) if x not in chosen]
        sums = [similarity_to_nearest(kernel, [*chosen, x]) for x in rest]
        # Two points that are nearest to each other tie but for round-off.
        chosen.append(next(x for x, value in zip(rest, sums) if value > max(sums) - 1e-6))
    return chosen


@pytest.mark.parametrize("cached", [coverage.CACHED, 20], ids=["one block", "blocks of 5 points"])
def test_k_center_is_the_farthest_first_traversal_with_its_distances(cached, monkeypatch):
    monkeypatch.setattr(coverage, "CACHED", cached)
    result = coverage.k_center(POOL, n_selected=24, key=KEY, n_members=3)
    for m in range(3):
        indices, traces = farthest_first(POOL, result.indices[m, 0])
        np.testing.assert_array_equal(result.indices[m], indices)
        names = ("distances", "mean_distances", "max_distances")
        for values, expected in zip((getattr(result, name)[m] for name in names), traces):
            assert np.isnan(values[0])
            assert_close(values[1:], expected[1:])


def test_k_means_plus_plus_draws_by_the_squared_distances():
    for m in range(3):
        seed = np.asarray(jax.random.key_data(jax.random.fold_in(KEY, m)))
        expected = squared_distance_draws(POOL, seed)
        np.testing.assert_array_equal(whole_pool(coverage.k_means_plus_plus).indices[m], expected)


@pytest.mark.parametrize("bandwidth", [None, 0.8])
@pytest.mark.parametrize(
    "entries", [coverage.BLOCK, 24 * 5], ids=["one block", "blocks of 5 points"]
)
@pytest.mark.parametrize(
    "method, naive", [(coverage.kernel_herding, herd), (coverage.facility_location, cover)]
)
def test_herding_and_facility_location_are_their_greedy_rules(
    method, naive, entries, bandwidth, monkeypatch
):
    monkeypatch.setattr(coverage, "BLOCK", entries)
    result = method(POOL, n_selected=24, key=KEY, n_members=2, bandwidth=bandwidth)
    kernel = gaussians(POOL, bandwidth or coverage.median_distance(POOL))
    for row in result.indices:
        np.testing.assert_array_equal(row, naive(kernel, row[0]))


# labelled points


def test_after_labelled_points_each_method_follows_its_rule():
    options = dict(n_selected=24, key=KEY, n_members=2, labelled=LABELLED)
    kernel = gaussians(POOL, coverage.median_distance(POOL))
    rules = {
        coverage.k_center: farthest_first(POOL, *LABELLED)[0],
        coverage.kernel_herding: herd(kernel, *LABELLED),
        coverage.facility_location: cover(kernel, *LABELLED),
    }
    for method, expected in rules.items():
        np.testing.assert_array_equal(method(POOL, **options).indices, [expected] * 2)
    draws = coverage.k_means_plus_plus(POOL, **options).indices
    for m in range(2):
        seed = np.asarray(jax.random.key_data(jax.random.fold_in(KEY, m)))
        expected = squared_distance_draws_after(POOL, seed, *LABELLED)
        np.testing.assert_array_equal(draws[m], expected)


@pytest.mark.parametrize("method", [method for method in METHODS if "means" not in method.__name__])
@pytest.mark.parametrize("n_labelled", [1, 5, 23])
def test_a_run_continues_after_its_first_points_whatever_the_key(method, n_labelled):
    whole = whole_pool(method)
    labelled = whole.indices[1, :n_labelled]
    rest = method(POOL, n_selected=24, key=jax.random.key(9), n_members=2, labelled=labelled)
    np.testing.assert_array_equal(rest.indices, whole.indices[[1, 1]])
    for name in ("distances", "mean_distances", "max_distances"):
        values, expected = getattr(rest, name), getattr(whole, name)[[1, 1]]
        assert np.isnan(values[:, :n_labelled]).all()
        np.testing.assert_array_equal(values[:, n_labelled:], expected[:, n_labelled:])


@every_method
def test_copies_of_labelled_points_come_last_and_no_point_twice(method):
    result = method(COPIES, n_selected=12, key=KEY, n_members=3, labelled=[5, 1])
    assert np.sort(result.indices).tolist() == [list(range(12))] * 3
    assert (result.indices[:, :2] == [5, 1]).all()
    if method is not coverage.kernel_herding:
        assert (result.indices[:, 2] // 4 == 2).all()


def test_copies_of_labelled_points_are_drawn_uniformly_by_k_means_plus_plus():
    pool = np.repeat([[0.0], [1.0]], [1, 5], axis=0)
    options = dict(n_selected=3, key=KEY, n_members=600, labelled=[0, 1])
    last = coverage.k_means_plus_plus(pool, **options).indices[:, -1]
    assert stats.chisquare(np.bincount(last, minlength=6)[2:]).pvalue > 1e-6


# properties of every method


@every_method
def test_a_shorter_run_of_fewer_members_is_the_start_of_a_longer_one_of_more(method):
    short = method(POOL, n_selected=7, key=KEY, n_members=2)
    for name in ("indices", "distances", "mean_distances", "max_distances"):
        np.testing.assert_array_equal(
            getattr(short, name), getattr(whole_pool(method), name)[:2, :7]
        )


@every_method
def test_the_key_alone_decides_the_members_which_differ(method):
    again, other = (
        method(POOL, n_selected=24, key=key, n_members=3).indices
        for key in (KEY, jax.random.key(4))
    )
    np.testing.assert_array_equal(again, whole_pool(method).indices)
    assert not np.array_equal(other, again)
    assert len({tuple(row) for row in again}) == 3


@pytest.mark.usefixtures("float64")
@every_method
def test_64_bit_mode_draws_the_same_points(method):
    np.testing.assert_array_equal(
        method(POOL, n_selected=24, key=KEY, n_members=3).indices, whole_pool(method).indices
    )


@every_method
def test_the_whole_pool_can_be_chosen_and_no_point_twice(method):
    assert np.sort(whole_pool(method).indices).tolist() == [list(range(24))] * 3
    assert method(POOL[:1], n_selected=1, key=KEY).indices.tolist() == [[0]]


@every_method
def test_the_first_point_is_any_of_the_pool_with_the_same_probability(method):
    """Chi-square: a right generator fails for 1 key in 10^6."""
    first = method(POOL[:6], n_selected=1, key=KEY, n_members=600).indices[:, 0]
    assert stats.chisquare(np.bincount(first, minlength=6)).pvalue > 1e-6


@every_method
def test_copies_are_chosen_once_each(method):
    result = method(COPIES, n_selected=12, key=KEY, n_members=5)
    assert np.sort(result.indices).tolist() == [list(range(12))] * 5
    if method is not coverage.kernel_herding:  # the others gain nothing by a copy
        assert np.sort(result.indices[:, :3] // 4).tolist() == [[0, 1, 2]] * 5


@every_method
def test_a_pool_of_nothing_but_copies_is_a_permutation(method):
    assert sorted(method(np.ones((9, 2)), n_selected=9, key=KEY).indices[0]) == list(range(9))


def test_k_center_chooses_copies_last_by_their_index_at_a_distance_of_exactly_0():
    pool = COPIES.astype(np.float32) + np.float32(100.0)
    result = coverage.k_center(pool, n_selected=12, key=KEY)
    assert (result.distances[0, 1:3] > 0.1).all() and (result.distances[0, 3:] == 0).all()
    assert result.indices[0, 3:].tolist() == sorted(result.indices[0, 3:])


def test_k_means_plus_plus_needs_the_repair_of_repeats_which_scikit_learn_has():
    _, indices = kmeans_plusplus(COPIES.reshape(12, 4), 12, random_state=0, n_local_trials=1)
    assert len(set(indices)) < 12
    repaired = coverage._without_repeats(np.array([4, 2, 4, 0, 2, 1]), np.array([2, 1, 5, 4, 3, 0]))
    assert repaired.tolist() == [
        4,
        2,
        1,
        0,
        5,
        3,
    ]  # 1 replaces the second 4, so that 5 replaces it in turn


def test_k_means_plus_plus_of_copies_is_nested():
    short, long = (
        coverage.k_means_plus_plus(COPIES, n_selected=n, key=KEY, n_members=5).indices
        for n in (8, 12)
    )
    np.testing.assert_array_equal(short, long[:, :8])


def test_copies_left_over_by_k_means_plus_plus_are_drawn_uniformly():
    pool = np.repeat([[0.0], [1.0]], [1, 5], axis=0)
    last = coverage.k_means_plus_plus(pool, n_selected=6, key=KEY, n_members=600).indices[:, -1]
    assert stats.chisquare(np.bincount(last, minlength=6)[1:]).pvalue > 1e-6


@every_method
def test_images_of_integers_in_a_jax_array_are_taken_as_their_values(method):
    images = np.random.default_rng(2).integers(0, 256, size=(20, 3, 3, 1), dtype=np.uint8)
    expected = method(images.reshape(20, 9).astype(np.float32), n_selected=6, key=KEY).indices
    np.testing.assert_array_equal(
        method(jax.numpy.asarray(images), n_selected=6, key=KEY).indices, expected
    )


def test_near_points_far_from_the_origin_keep_their_distances_in_float32():
    pool = (
        np.float32(1000.0) + np.random.default_rng(2).normal(size=(24, 20)).astype(np.float32) / 100
    )
    result = coverage.k_center(pool, n_selected=24, key=KEY)
    indices, traces = farthest_first(pool, result.indices[0, 0])
    np.testing.assert_array_equal(result.indices[0], indices)
    np.testing.assert_allclose(result.distances[0], traces[0], rtol=1e-5)
    expanded = np.vecdot(pool, pool) + np.vecdot(pool[0], pool[0]) - 2 * pool @ pool[0]
    assert (
        np.abs(expanded - np.sum((pool - pool[0]) ** 2, axis=1)).max() > 0.1
    )  # all are below 0.02


# what the subsets are good for


@pytest.mark.parametrize(
    "method", [coverage.k_center, coverage.k_means_plus_plus, coverage.facility_location]
)
def test_each_of_six_tight_clusters_gets_one_of_the_first_six_points(method):
    indices = method(CLUSTERS, n_selected=6, key=KEY, n_members=4).indices
    assert np.sort(indices // 8).tolist() == [list(range(6))] * 4


def test_k_center_covers_the_pool_within_twice_the_smallest_radius():
    pool = listed(POOL[:10])

    def radius(subset):
        return max(min(math.dist(x, pool[p]) for p in subset) for x in pool)

    smallest = min(map(radius, itertools.combinations(range(10), 3)))
    chosen = coverage.k_center(POOL[:10], n_selected=3, key=KEY, n_members=10).indices
    assert all(smallest <= radius(row) <= 2 * smallest for row in chosen)


def test_facility_location_reaches_1_minus_1_over_e_of_the_largest_sum():
    kernel = gaussians(POOL[:10], 0.5)
    best = max(
        similarity_to_nearest(kernel, subset) for subset in itertools.combinations(range(10), 3)
    )
    chosen = coverage.facility_location(
        POOL[:10], n_selected=3, key=KEY, bandwidth=0.5, first="best"
    ).indices[0]
    assert (1 - 1 / math.e) * best <= similarity_to_nearest(kernel, chosen) <= best


@pytest.mark.parametrize("pool", [CLUSTERS, POOL], ids=["clusters", "normal"])
@pytest.mark.parametrize("first", ["random", "best"])
def test_a_herds_kernel_mean_is_nearer_to_the_pools_than_those_of_95_percent_of_random_subsets(
    pool, first
):
    kernel = np.array(gaussians(pool, coverage.median_distance(pool)))

    def discrepancy(subset):
        weights = np.bincount(subset, minlength=len(pool)) / len(subset) - 1 / len(pool)
        return weights @ kernel @ weights

    herds = coverage.kernel_herding(pool, n_selected=12, key=KEY, n_members=3, first=first).indices
    generator = np.random.default_rng(5)
    subsets = [generator.choice(len(pool), 12, replace=False) for _ in range(200)]
    assert max(map(discrepancy, herds)) < np.quantile(list(map(discrepancy, subsets)), 0.05)


@methods_of_kernels
def test_the_best_first_point_is_the_most_similar_to_the_pool_for_every_member(method):
    result = method(POOL, n_selected=24, key=KEY, n_members=2, first="best")
    np.testing.assert_array_equal(*result.indices)
    assert result.indices[0, 0] == np.argmax(
        np.sum(gaussians(POOL, coverage.median_distance(POOL)), axis=1)
    )


# the bandwidth


def test_the_median_distance_is_that_of_all_pairs_that_are_no_copies():
    pairs = [math.dist(x, y) for x, y in itertools.combinations(listed(POOL), 2)]
    assert math.isclose(coverage.median_distance(POOL), np.median(pairs))
    assert coverage.median_distance([[0.0], [0.0], [0.0], [3.0]]) == 3.0
    assert (
        coverage.median_distance(np.ones((4, 2)))
        == coverage.median_distance(np.ones((1, 2)))
        == 1.0
    )


def test_the_median_distance_of_a_large_pool_is_estimated_from_a_thousand_points():
    pool = np.random.default_rng(3).uniform(size=(1500, 1))
    assert math.isclose(coverage.median_distance(pool), 1 - math.sqrt(0.5), rel_tol=0.05)
    assert coverage.median_distance(pool) == coverage.median_distance(pool)


# errors

NAN = np.where(np.arange(24)[:, None, None] == 5, np.nan, POOL)


@pytest.mark.parametrize(
    "pool, changed, error, message",
    [
        (POOL, {"n_selected": 25}, ValueError, "n_selected must not exceed the pool: 25 > 24."),
        (POOL[:0], {}, ValueError, "n_selected must not exceed the pool: 5 > 0."),
        (POOL, {"n_selected": 0}, ValueError, "n_selected must be at least 1: received 0."),
        (POOL, {"n_selected": 5.0}, TypeError, "n_selected must be an integer: received 5.0."),
        (POOL, {"n_members": True}, TypeError, "n_members must be an integer: received True."),
        (
            NAN,
            {},
            ValueError,
            "pool must be finite: 4 of 96 values are NaN or infinite, the first at (5, 0, 0).",
        ),
    ],
)
@every_method
def test_wrong_arguments_are_one_error_that_names_them(method, pool, changed, error, message):
    with pytest.raises(error) as caught:
        method(pool, **{"n_selected": 5, "key": KEY} | changed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"bandwidth": 0.0}, ValueError, "bandwidth must be greater than 0.0: received 0.0."),
        (
            {"bandwidth": "1"},
            TypeError,
            "bandwidth must be a number: received '1'. YAML reads 1e-3 as text: write 0.001.",
        ),
        ({"first": "last"}, ValueError, "first must be one of best, random: received 'last'."),
        ({"first": 0}, TypeError, "first must be one of best, random: received 0."),
    ],
)
@methods_of_kernels
def test_wrong_options_are_one_error_that_names_them(method, changed, error, message):
    with pytest.raises(error) as caught:
        method(POOL, n_selected=5, key=KEY, **changed)
    assert str(caught.value) == message


def test_a_kernel_larger_than_the_free_memory_is_an_error_with_both_sizes(monkeypatch):
    monkeypatch.setattr(_memory, "_machine_free", lambda: 2**30)
    monkeypatch.setattr(_memory, "_cgroup_free", lambda: math.inf)
    with pytest.raises(MemoryError) as caught:
        coverage.facility_location(np.zeros((20_000, 1)), n_selected=5, key=KEY)
    assert (
        str(caught.value) == "The similarities of 20000 points need 1.5 GiB, and 1.0 GiB are free."
    )
