import functools
from fractions import Fraction

import jax
import numpy as np
import pytest
from scipy import stats

from collective_variables.selection.stratified import stratified

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
ALLOCATIONS = ("proportional", "equal")
SIZES = (9, 5, 4, 2)
MIXED = np.random.default_rng(0).permutation(np.repeat(np.arange(4), SIZES))

both_allocations = pytest.mark.parametrize("allocation", ALLOCATIONS)


def one_hot(classes):
    return np.eye(np.max(classes) + 1, dtype=np.float32)[classes]


@functools.cache
def whole_pool(allocation):
    """Three members that choose every point of the pool."""
    return stratified(one_hot(MIXED), n_selected=20, key=KEY, n_members=3, allocation=allocation)


def counts_of_prefixes(strata):
    """(n_selected, n_strata) points of every stratum among the first 1, 2, … chosen."""
    return np.cumsum(np.eye(np.max(strata) + 1, dtype=int)[strata], axis=0)


def in_turns(strata, seed, allocation, labelled=()):
    """The strata's turns in rational numbers and growing lists, with the draws of the library."""
    generator = np.random.default_rng(seed)
    order, n_pool, n_strata = (
        generator.permutation(len(strata)).tolist(),
        len(strata),
        max(strata) + 1,
    )
    shares = [Fraction(list(strata).count(k), n_pool) for k in range(n_strata)]
    queues = [[i for i in order if strata[i] == k and i not in labelled] for k in range(n_strata)]
    slack, chosen = Fraction(1, 2 * n_strata - 2), [*labelled]
    while len(chosen) < n_pool:
        counts = [sum(strata[i] == k for i in chosen) for k in range(n_strata)]
        lags = [(len(chosen) + 1) * share - count for share, count in zip(shares, counts)]
        if allocation == "equal":
            turns = {k: counts[k] for k in range(n_strata) if queues[k]}
        else:
            turns = {
                k: (1 - slack - lags[k]) / shares[k] for k in range(n_strata) if lags[k] >= slack
            }
        tied = [k for k in turns if turns[k] == min(turns.values())]
        chosen.append(queues[tied[generator.integers(len(tied))]].pop(0))
    return chosen


# turns


@both_allocations
def test_the_strata_take_the_turns_of_their_allocation(allocation):
    for m in range(3):
        seed = np.asarray(jax.random.key_data(jax.random.fold_in(KEY, m)))
        np.testing.assert_array_equal(
            whole_pool(allocation).indices[m], in_turns(MIXED, seed, allocation)
        )


@both_allocations
@pytest.mark.parametrize("labelled", [[4], [3, 9, 1], np.flatnonzero(MIXED == 0)[:6].tolist()])
def test_labelled_points_count_in_their_strata(labelled, allocation):
    options = dict(n_selected=20, key=KEY, n_members=3, allocation=allocation)
    indices = stratified(one_hot(MIXED), labelled=labelled, **options).indices
    for m in range(3):
        seed = np.asarray(jax.random.key_data(jax.random.fold_in(KEY, m)))
        np.testing.assert_array_equal(indices[m], in_turns(MIXED, seed, allocation, labelled))


def test_quotas_that_labelled_points_exceed_are_met_as_soon_as_others_make_up_for_it():
    labelled = np.flatnonzero(MIXED == 0)[:6]
    options = dict(n_selected=20, key=KEY, n_members=3, labelled=labelled)
    for row in stratified(one_hot(MIXED), **options).indices:
        counts = counts_of_prefixes(MIXED[row])
        quotas = np.outer(np.arange(1, 21), SIZES) / 20
        assert np.abs(counts - quotas)[5].max() > 3
        assert np.abs(counts - quotas)[13:].max() < 1


MANY_SIZES = [
    SIZES,
    (7,),
    (5, 5),
    (1, 30),
    (10,) * 10 + (1,) * 30,
    (1, 10, 10, 652, 682, 1, 1, 1, 1, 4),
    (15, 15, 18),
]


@pytest.mark.parametrize("sizes", MANY_SIZES, ids=str)
def test_proportional_counts_are_within_one_of_their_quota_at_every_number_of_points(sizes):
    classes = np.repeat(np.arange(len(sizes)), sizes)
    indices = stratified(one_hot(classes), n_selected=len(classes), key=KEY, n_members=2).indices
    quotas = np.outer(np.arange(1, len(classes) + 1), sizes) / len(classes)
    for row in indices:
        errors = np.abs(counts_of_prefixes(classes[row]) - quotas)
        assert errors.max() <= 1 - 1 / max(2 * len(sizes) - 2, 1) + 1e-9


def test_serving_always_the_stratum_that_lags_most_would_miss_quotas_by_more_than_one():
    sizes = np.array(MANY_SIZES[4])
    counts, worst = np.zeros(len(sizes)), 0.0
    for step in range(1, sizes.sum() + 1):
        lags = step * sizes / sizes.sum() - counts
        counts[np.argmax(lags)] += 1
        worst = max(worst, np.abs(step * sizes / sizes.sum() - counts).max())
    assert worst > 1.3


def test_equal_counts_differ_by_at_most_one_among_classes_that_have_points_left():
    for row in whole_pool("equal").indices:
        for counts in counts_of_prefixes(MIXED[row]):
            assert counts.max() - counts[counts < SIZES].min(initial=counts.max()) <= 1


@both_allocations
def test_equal_classes_come_in_an_order_that_is_random_for_every_member(allocation):
    """Chi-square over the 6 orders: a right generator fails for 1 key in 10^6."""
    classes = np.repeat(np.arange(3), 4)
    indices = stratified(
        one_hot(classes), n_selected=3, key=KEY, n_members=600, allocation=allocation
    ).indices
    _, frequencies = np.unique(classes[indices], axis=0, return_counts=True)
    assert len(frequencies) == 6 and stats.chisquare(frequencies).pvalue > 1e-6


@both_allocations
def test_within_a_class_every_pair_of_points_is_drawn_equally_often(allocation):
    classes = np.array([0, 1, 0, 1, 0, 1, 1, 0])
    indices = stratified(
        one_hot(classes), n_selected=4, key=KEY, n_members=900, allocation=allocation
    ).indices
    for k in range(2):
        pairs = np.array([row[classes[row] == k] for row in indices])
        _, frequencies = np.unique(pairs, axis=0, return_counts=True)
        assert len(frequencies) == 12 and stats.chisquare(frequencies).pvalue > 1e-6


# members and subsets


@both_allocations
def test_a_shorter_run_of_fewer_members_is_the_start_of_a_longer_one_of_more(allocation):
    short = stratified(one_hot(MIXED), n_selected=7, key=KEY, n_members=2, allocation=allocation)
    np.testing.assert_array_equal(short.indices, whole_pool(allocation).indices[:2, :7])
    assert np.isnan(short.distances).all() and short.distances.shape == (2, 7)


@both_allocations
def test_the_key_alone_decides_the_members_which_differ_and_choose_no_point_twice(allocation):
    again, other = (
        stratified(
            one_hot(MIXED), n_selected=20, key=key, n_members=3, allocation=allocation
        ).indices
        for key in (KEY, jax.random.key(4))
    )
    np.testing.assert_array_equal(again, whole_pool(allocation).indices)
    assert not np.array_equal(other, again) and len({tuple(row) for row in again}) == 3
    assert np.sort(again).tolist() == [list(range(20))] * 3


# regression


def bins_of_rounds(targets, bins, n_strata):
    """The bins in which the points of every round of an equal allocation lie, sorted."""
    indices = stratified(
        targets, n_selected=50, key=KEY, task="regression", allocation="equal", n_strata=n_strata
    ).indices
    return np.sort(bins[indices[0]].reshape(-1, n_strata)).tolist()


def test_one_target_is_cut_into_bins_of_equally_many_points():
    targets = np.random.default_rng(1).exponential(size=(50, 1))
    ranks = np.argsort(np.argsort(targets[:, 0]))
    assert bins_of_rounds(targets, ranks * 5 // 50, 5) == [list(range(5))] * 10


def test_a_constant_target_is_ignored_also_where_its_standard_deviation_is_round_off():
    targets = np.random.default_rng(1).exponential(size=(50, 1))
    ranks = np.argsort(np.argsort(targets[:, 0]))
    for value in (0.1, 0.3, 2.7):
        constant = np.full((50, 1), value)
        assert constant.std() > 0
        both = np.hstack([constant, targets])
        assert bins_of_rounds(both, ranks * 5 // 50, 5) == [list(range(5))] * 10


def test_several_targets_are_cut_along_the_first_principal_component_whatever_their_units():
    targets = np.random.default_rng(2).normal(size=(50, 1)) + 0.5 * np.random.default_rng(3).normal(
        size=(50, 3)
    )
    standardised = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    left, _, _ = np.linalg.svd(standardised)
    ranks = np.argsort(np.argsort(left[:, 0]))
    units = np.array([1e-3, 1.0, 1e6])
    constant = np.full((50, 1), 7.0)
    for scaled in (targets * units, np.hstack([targets, constant])):
        assert bins_of_rounds(scaled, ranks * 5 // 50, 5) == [list(range(5))] * 10


def test_equal_targets_share_a_bin():
    targets = np.repeat([[0.0, 5.0], [1.0, 5.0]], 25, axis=0)
    indices = stratified(targets, n_selected=50, key=KEY, task="regression").indices[0]
    assert np.sort(indices.reshape(25, 2) // 25).tolist() == [[0, 1]] * 25
    constant = stratified(np.ones((8, 2)), n_selected=8, key=KEY, task="regression").indices
    assert sorted(constant[0]) == list(range(8))


# errors

TARGETS = one_hot(MIXED)
NAN = np.where(np.arange(20)[:, None] == 5, np.nan, TARGETS)
SOFT = np.where(np.arange(20)[:, None] == 6, 0.25, TARGETS)
TWICE = np.where(np.arange(20)[:, None] == 6, 1.0, TARGETS)
MISSING = np.insert(np.delete(TARGETS, np.flatnonzero(MIXED == 3), axis=0), 1, 0.0, axis=1)[:, :4]


@pytest.mark.parametrize(
    "targets, changed, error, message",
    [
        (TARGETS, {"n_selected": 21}, ValueError, "n_selected must not exceed the pool: 21 > 20."),
        (TARGETS, {"n_selected": 5.0}, TypeError, "n_selected must be an integer: received 5.0."),
        (TARGETS, {"n_members": 0}, ValueError, "n_members must be at least 1: received 0."),
        (
            TARGETS,
            {"task": "ranking"},
            ValueError,
            "task must be one of classification, regression: received 'ranking'.",
        ),
        (
            TARGETS,
            {"allocation": None},
            TypeError,
            "allocation must be one of equal, proportional: received None.",
        ),
        (TARGETS, {"n_strata": 0}, ValueError, "n_strata must be at least 1: received 0."),
        (
            NAN,
            {},
            ValueError,
            "targets must be finite: 4 of 80 values are NaN or infinite, the first at (5, 0).",
        ),
        (MIXED, {}, ValueError, "targets must have the shape (n_pool, n_outputs): received (20,)."),
        (
            SOFT,
            {},
            ValueError,
            "targets must be one-hot for a classification: point 6 has [0.25, 0.25, 0.25, 0.25].",
        ),
        (
            TWICE,
            {},
            ValueError,
            "targets must be one-hot for a classification: point 6 has [1.0, 1.0, 1.0, 1.0].",
        ),
        (
            MISSING,
            {},
            ValueError,
            "Class 1 has no point in the pool, so it cannot be stratified: "
            "expected points of all 4 classes.",
        ),
    ],
)
def test_wrong_arguments_are_one_error_that_names_them(targets, changed, error, message):
    with pytest.raises(error) as caught:
        stratified(targets, **{"n_selected": 5, "key": KEY} | changed)
    assert str(caught.value) == message
