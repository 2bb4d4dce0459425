"""Every rule for batches against its reference, and what all of them promise."""

import doctest
import importlib
import inspect
import re

import batch_references as references
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables.selection import coverage
from collective_variables.selection.batches import _pool
from collective_variables.selection.batches.first_batch import max_herding, prob_cover, typiclust
from collective_variables.selection.batches.rules import (
    bait,
    frank_wolfe,
    k_means_plus_plus,
    lcmd,
    max_det,
    max_diag,
    max_dist,
)

RULES = [
    max_diag.max_diag,
    max_det.max_det,
    bait.bait,
    max_dist.max_dist,
    k_means_plus_plus.k_means_plus_plus,
    lcmd.lcmd,
    frank_wolfe.frank_wolfe,
    typiclust.typiclust,
    prob_cover.prob_cover,
    max_herding.max_herding,
]
# The choices of these fit the whole batch, whose size decides on clusters.
NOT_NESTED = (typiclust.typiclust, prob_cover.prob_cover)
GENERATOR = np.random.default_rng(0)
DISTINCT = GENERATOR.normal(size=(7, 4))
POOLS = {
    "plain": GENERATOR.normal(size=(24, 5)),
    "far from 0": 30.0 + GENERATOR.normal(size=(20, 3)),
    "low rank": GENERATOR.normal(size=(20, 2)) @ GENERATOR.normal(size=(2, 6)),
    "copies": DISTINCT[np.array([0, 1, 1, 2, 0, 3, 4, 5, 3, 6, 6, 6, 2, 1])],
    "zeros": np.concatenate([np.zeros((3, 2)), [[1.0, 2.0], [-3.0, 1.0], [0.5, 0.5]]]),
    "one feature": GENERATOR.normal(size=(15, 1)),
}

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
every_pool = pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)


def has(rule, name):
    return name in inspect.signature(rule).parameters


def options(rule, **more):
    """Those of `more` that the rule has, and a seed where it is random."""
    return {name: value for name, value in {"seed": 4, **more}.items() if has(rule, name)}


def choose(rule, pool, n_selected, labelled=(), **more):
    return rule(pool, n_selected, labelled, **options(rule, **more)).tolist()


@pytest.mark.parametrize("labelled", [[], [4], [5, 1, 2]], ids=str)
@every_pool
@pytest.mark.parametrize(
    "rule, noise",
    [
        (rule, noise)
        for rule in RULES
        for noise in (1e-3, 0.5)
        if rule not in NOT_NESTED and (noise == 1e-3 or has(rule, "noise"))
    ],
)
def test_a_rule_is_its_formula_over_the_kernel_matrix(rule, pool, labelled, noise):
    n_selected = min(9, len(pool) - len(labelled))
    reference = getattr(references, rule.__name__)
    expected = reference(pool, n_selected, labelled, **options(rule, noise=noise))
    assert choose(rule, pool, n_selected, labelled, noise=noise) == expected


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in NOT_NESTED])
def test_a_rule_is_its_formula_for_small_pools_of_every_kind(rule):
    """Whole numbers, copies, one direction, large offsets and scales; all rows are chosen."""
    for number in range(40):
        generator = np.random.default_rng(number)
        n_points, n_features = generator.integers(2, 12), generator.integers(1, 6)
        pool = generator.normal(size=(n_points, n_features))
        match number % 5:
            case 1:
                pool = np.round(2 * pool)
            case 2:
                pool = pool[generator.integers(0, (n_points + 1) // 2, n_points)]
            case 3:
                pool = np.outer(pool[:, 0], np.arange(1, n_features + 1))
            case 4:
                pool = 10 + pool * 10.0 ** generator.integers(-1, 4)
        labelled = generator.permutation(n_points)[: generator.integers(0, n_points)].tolist()
        more = options(rule, noise=float(10.0 ** generator.integers(-1, 1)))
        n_selected = len(pool) - len(labelled)
        expected = getattr(references, rule.__name__)(pool, n_selected, labelled, **more)
        assert choose(rule, pool, n_selected, labelled, **more) == expected


@pytest.mark.parametrize(
    "rule, noise", [(max_diag.max_diag, 1e-4), (max_det.max_det, 1e-4), (bait.bait, 3.0)]
)
def test_large_features_and_a_small_noise_cost_no_digits(rule, noise):
    """Variances fall by up to 16 orders of magnitude once all three directions are known.

    BAIT could then not tell the points of the last direction apart, but for s² / k(x, x).
    """
    pool = 1e4 * np.random.default_rng(1).normal(size=(15, 3))
    expected = getattr(references, rule.__name__)(pool, 10, [2], noise)
    assert choose(rule, pool, 10, [2], noise=noise) == expected


@every_rule
@every_pool
def test_all_rows_can_be_chosen_and_none_twice(pool, rule):
    labelled = [2, 0]
    chosen = rule(pool, len(pool) - 2, labelled, **options(rule))
    assert chosen.dtype == np.int64
    assert sorted([*chosen, *labelled]) == list(range(len(pool)))


@every_rule
def test_a_label_on_a_copy_of_the_first_choice_changes_it(rule):
    pool = POOLS["plain"]
    first = choose(rule, pool, 3)[0]
    with_copy = np.concatenate([pool, pool[[first]]])
    assert first not in choose(rule, with_copy, 3, [len(pool)], n_neighbours=5)


@every_rule
def test_a_label_on_top_of_the_farthest_point_changes_the_choice(rule):
    """Around the far point lie others, so that rules that look for dense places go there too."""
    near = np.random.default_rng(2).normal(size=(8, 5))
    middle = np.array([20.0, 1.0, 0.0, 0.0, 0.0])
    far = middle + 0.1 * np.random.default_rng(3).normal(size=(9, 5))
    pool = np.concatenate([near, far, [1.5 * middle], [1.5 * middle], far[[4]]])
    more = {"radius": 3.0} if rule is prob_cover.prob_cover else {}
    before = choose(rule, pool, 2, **more)
    assert any(row >= 8 for row in before)
    after = choose(rule, pool, 2, [18, 19], **more)
    assert after != before
    assert 17 not in after


@every_rule
def test_the_order_of_labelled_rows_does_not_matter(rule):
    pool = POOLS["plain"]
    expected = choose(rule, pool, 5, [7, 3, 11])
    assert choose(rule, pool, 5, np.array([3, 11, 7])) == expected


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in NOT_NESTED])
def test_a_choice_begins_with_the_choice_of_fewer(rule):
    pool = POOLS["plain"]
    assert choose(rule, pool, 4, [1]) == choose(rule, pool, 9, [1])[:4]


@every_rule
def test_small_blocks_give_the_same_choice(rule, monkeypatch):
    expected = choose(rule, POOLS["plain"], 6, [3, 9])
    monkeypatch.setattr(_pool, "BLOCK", 50)
    monkeypatch.setattr(coverage, "CACHED", 20)
    monkeypatch.setattr(max_herding, "N_TESTED", 3)
    assert choose(rule, POOLS["plain"], 6, [3, 9]) == expected


@every_rule
@pytest.mark.parametrize("kind", [np.float32, np.int16, jnp.float32, jnp.bfloat16], ids=str)
def test_numbers_of_every_kind_are_taken_as_float64(rule, kind):
    numbers = np.random.default_rng(6).integers(-90, 90, size=(12, 3))
    array = jnp.asarray(numbers, kind) if kind in (jnp.float32, jnp.bfloat16) else numbers
    assert choose(rule, array, 4, [1]) == choose(rule, numbers.astype(float), 4, [1])


@every_rule
def test_the_features_are_not_changed(rule):
    pool = POOLS["plain"].copy()
    rule(pool, 5, [1], **options(rule))
    np.testing.assert_array_equal(pool, POOLS["plain"])


@every_rule
@pytest.mark.parametrize(
    "pool, n_selected, labelled, error, message",
    [
        (np.ones((3, 2)), 1, [2, 0, 1], ValueError, "all 3 rows are labelled."),
        (np.ones((3, 2)), 3, [2], ValueError, "not labelled: 3 > 2."),
        (np.ones((3, 2)), 4, [], ValueError, "not labelled: 4 > 3."),
        (np.ones((3, 2)), 0, [], ValueError, "n_selected must be at least 1: received 0."),
        (np.ones((3, 2)), 1.0, [], TypeError, "n_selected must be an integer: received 1.0."),
        (np.ones((0, 2)), 1, [], ValueError, "received the shape (0, 2)."),
        (np.ones((3, 0)), 1, [], ValueError, "received the shape (3, 0)."),
        (np.ones(3), 1, [], ValueError, "received the shape (3,)."),
        (np.ones((3, 2, 2)), 1, [], ValueError, "received the shape (3, 2, 2)."),
        ([[1.0], [np.nan]], 1, [], ValueError, "features must be finite: 1 of 2"),
        ([[1.0], [np.inf]], 1, [], ValueError, "features must be finite: 1 of 2"),
        ([[1.0], [-2e70]], 1, [], ValueError, "features must be at most 1e+70, since their"),
        (np.ones((3, 2), complex), 1, [], TypeError, "the dtype complex128."),
        ([["a"], ["b"]], 1, [], TypeError, "features must be real numbers"),
        (np.ones((3, 2)), 1, [3], ValueError, "labelled must be rows of the pool, 0 to 2"),
        (np.ones((3, 2)), 1, [-1], ValueError, "labelled must be rows of the pool, 0 to 2"),
        (np.ones((3, 2)), 1, [1, 1], ValueError, "labelled must not repeat a row"),
    ],
)
def test_what_cannot_be_chosen_from_is_one_sentence(
    rule, pool, n_selected, labelled, error, message
):
    with pytest.raises(error, match=re.escape(message)) as caught:
        choose(rule, pool, n_selected, labelled)
    assert str(caught.value).endswith(".")


SCALES = ("noise", "radius", "bandwidth", "n_neighbours")


@pytest.mark.parametrize(
    "rule, name", [(rule, name) for rule in RULES for name in SCALES if has(rule, name)]
)
def test_scales_must_be_positive(rule, name):
    with pytest.raises(ValueError, match=name):
        choose(rule, POOLS["plain"], 2, **{name: 0})


@pytest.mark.parametrize(
    "module", ["features", "posterior", *sorted({rule.__module__ for rule in RULES})]
)
def test_examples_print_what_they_say(module):
    package = _pool.__name__.rpartition(".")[0]
    module = importlib.import_module(module if "." in module else f"{package}.{module}")
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


# by hand


def test_max_diag_ignores_what_the_batch_itself_teaches():
    pool = [[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]
    assert choose(max_diag.max_diag, pool, 2) == [0, 1]
    assert choose(max_det.max_det, pool, 2) == [0, 2]


def test_max_det_maximises_the_determinant_of_three_of_six_points():
    """Orthogonal features: greedy is exact, and the determinant the product of k + s²."""
    pool = np.diag([1.0, 4.0, 2.0, 3.0, 0.5, 0.1])
    assert choose(max_det.max_det, pool, 3) == [1, 3, 2]


def test_bait_prefers_what_many_points_share():
    """Known after (2, 0): the variance falls by 4²/(4 + s²); after (0, 1) by 6 · 1/(1 + s²)."""
    pool = [[2.0, 0.0], *[[0.0, 1.0]] * 6]
    assert choose(bait.bait, pool, 2) == [1, 0]
    assert choose(max_det.max_det, pool, 2) == [0, 1]


def test_lcmd_goes_where_the_squares_add_up():
    """Around 0 lie 3 · 3² = 27, around 10 lie 4.5² = 20.25, where the farthest point is."""
    pool = [[0.0], [3.0], [3.0], [-3.0], [10.0], [14.5]]
    assert choose(lcmd.lcmd, pool, 1, [0, 4]) == [1]
    assert choose(max_dist.max_dist, pool, 1, [0, 4]) == [5]


def test_copies_of_a_labelled_point_do_not_share_its_cluster():
    """Split between two copies the cluster around 0 would be lighter than the other."""
    pool = [[0.0], [3.0], [3.0], [-3.0], [10.0], [14.5], [0.0], [0.0]]
    assert choose(lcmd.lcmd, pool, 1, [0, 4, 6, 7]) == [1]
    copied = np.concatenate([POOLS["plain"], np.repeat(POOLS["plain"][[0]], 40, axis=0)])
    _, numbers = _pool.nearest_centres(copied, np.array([0, 24, 30, 50]))
    assert set(numbers) == {0}


def test_equal_distances_between_whole_numbers_stay_equal():
    """The point between two centres belongs to the first, whose cluster is then the heavier."""
    pool = 7 + np.array([[-1.0], [1.0], [0.0], [-3.0], [3.0]])
    assert choose(lcmd.lcmd, pool, 3, [0, 1]) == [3, 4, 2]


def test_k_means_plus_plus_draws_by_squared_distances():
    """From 0: squares 1, 4 and 9."""
    pool = [[0.0], [1.0], [2.0], [-3.0]]
    draws = [
        choose(k_means_plus_plus.k_means_plus_plus, pool, 1, [0], seed=s)[0] for s in range(2000)
    ]
    np.testing.assert_allclose(np.bincount(draws) / 2000, [0, 1 / 14, 4 / 14, 9 / 14], atol=0.03)
    first = [
        choose(k_means_plus_plus.k_means_plus_plus, pool, 1, seed=[7, s])[0] for s in range(2000)
    ]
    np.testing.assert_allclose(np.bincount(first) / 2000, np.full(4, 0.25), atol=0.03)


def test_frank_wolfe_follows_the_sum_of_the_pool():
    """The sum is (5, 3). After (2, 2) it lacks something along (1, −1)."""
    assert choose(frank_wolfe.frank_wolfe, [[0.0, 1.0], [2.0, 2.0], [3.0, 0.0]], 3) == [1, 2, 0]


@pytest.mark.parametrize("labelled", [[], [3], [3, 8, 11]])
def test_lcmd_weighs_distances(labelled):
    weights = np.random.default_rng(1).choice([0.25, 0.5, 1.0, 2.0], size=24)
    chosen = lcmd.lcmd(POOLS["plain"], 8, labelled, weights=weights)
    expected = references.lcmd(POOLS["plain"], 8, labelled, weights.tolist())
    assert chosen.tolist() == list(expected)
    assert chosen.tolist() != lcmd.lcmd(POOLS["plain"], 8, labelled).tolist()


def test_lcmd_takes_points_of_weight_0_last():
    weights = np.r_[np.zeros(20), np.ones(4)]
    assert set(lcmd.lcmd(POOLS["plain"], 4, [0], weights=weights)) == {20, 21, 22, 23}
    same = lcmd.lcmd(POOLS["plain"], 5, [0], weights=np.zeros(24))
    assert same.tolist() == lcmd.lcmd(POOLS["plain"], 5, [0]).tolist()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "each of the 24 points"),
        (-np.ones(24), "at least 0"),
        (np.full(24, np.nan), "finite"),
    ],
)
def test_wrong_weights_are_one_sentence(weights, message):
    with pytest.raises(ValueError, match=f"weights must be .*{message}"):
        lcmd.lcmd(POOLS["plain"], 2, [0], weights=weights)
