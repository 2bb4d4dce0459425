import jax
import numpy as np
import pytest
from scipy import stats

from collective_variables.networks import sequential
from collective_variables.selection import base, rnd, rnd_linearised
from collective_variables.selection.estimator import RNDSelector

KEY = jax.random.key(3)
LABELLED = [7, 0, 4]


def test_random_subsets_repeat_no_point_and_are_nested_and_the_same_for_any_number_of_members():
    long = base.random(12, n_selected=12, key=KEY, n_members=6)
    assert all(sorted(row) == list(range(12)) for row in long.indices.tolist())
    short = base.random(12, n_selected=4, key=KEY, n_members=2)
    np.testing.assert_array_equal(short.indices, long.indices[:2, :4])
    assert np.isnan(long.distances).all() and long.distances.shape == (6, 12)
    other = base.random(12, n_selected=12, key=jax.random.key(4), n_members=6)
    assert not np.array_equal(other.indices, long.indices)


def test_random_subsets_draw_every_point_equally_often_at_every_place():
    """Chi-square at 3 places and of the pairs: a right generator fails for 4 keys in 10^6."""
    indices = base.random(6, n_selected=3, key=KEY, n_members=3000).indices
    for place in range(3):
        assert stats.chisquare(np.bincount(indices[:, place], minlength=6)).pvalue > 1e-6
    _, pairs = np.unique(np.sort(indices[:, :2], axis=1), axis=0, return_counts=True)
    assert len(pairs) == 15 and stats.chisquare(pairs).pvalue > 1e-6


def test_labelled_points_come_first_and_the_others_are_drawn_as_without_them():
    whole = base.random(12, n_selected=12, key=KEY, n_members=6).indices.tolist()
    selection = base.random(12, n_selected=8, key=KEY, n_members=6, labelled=LABELLED)
    for row, order in zip(selection.indices.tolist(), whole):
        assert row == [*LABELLED, *(x for x in order if x not in LABELLED)][:8]


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"n_selected": 500}, ValueError, "n_selected must not exceed the pool: 500 > 272."),
        ({"n_selected": True}, TypeError, "n_selected must be an integer: received True."),
        ({"n_members": 2.0}, TypeError, "n_members must be an integer: received 2.0."),
        (
            {"labelled": [272]},
            ValueError,
            "labelled must be rows of the pool, 0 to 271: received 272.",
        ),
        (
            {"labelled": [-1]},
            ValueError,
            "labelled must be rows of the pool, 0 to 271: received -1.",
        ),
        ({"labelled": [1.0]}, TypeError, "labelled must be an integer: received 1.0."),
        ({"labelled": [3, 3]}, ValueError, "labelled must not repeat a row: received [3, 3]."),
        (
            {"labelled": range(5)},
            ValueError,
            "n_selected must exceed the points already labelled: 5 <= 5.",
        ),
    ],
)
def test_wrong_arguments_of_random_are_one_error_that_names_them(changed, error, message):
    with pytest.raises(error) as caught:
        base.random(272, **{"n_selected": 5, "key": KEY} | changed)
    assert str(caught.value) == message


# what all selections share


def test_a_selection_without_distances_has_none_in_its_history():
    selection = base.without_distances(np.array([[3, 1], [0, 2]]))
    assert selection.indices.tolist() == [[3, 1], [0, 2]]
    for name in ("distances", "mean_distances", "max_distances"):
        assert getattr(selection, name).shape == (2, 2) and np.isnan(getattr(selection, name)).all()


def test_a_selection_that_a_threshold_cut_short_is_not_whole():
    base.check_whole(base.without_distances(np.array([[3, 1], [0, 2]])))
    with pytest.raises(ValueError) as caught:
        base.check_whole(base.without_distances(np.array([[3, 1], [0, -1]])))
    assert str(caught.value) == (
        "Every member must choose 2 points: member 1 was within the threshold after 1. "
        "Lower the threshold or the subset sizes."
    )


# constant features


CONSTANT = (0.1, 0.3, 2.7)


@pytest.mark.parametrize("value", CONSTANT)
@pytest.mark.parametrize("n", [10, 23, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_feature_is_0_after_normalisation(dtype, n, value):
    pool = np.random.default_rng(0).normal(size=(n, 3)).astype(dtype)
    pool[:, 1] = value
    with jax.enable_x64(dtype == np.float64):
        for array in (pool, jax.numpy.asarray(pool)):
            result = np.asarray(base.normalise(array, "standard"))
            assert result.dtype == dtype
            np.testing.assert_array_equal(result[:, 1], 0.0)
            assert np.abs(result[:, [0, 2]].std(axis=0) - 1).max() < 1e-5


@pytest.mark.parametrize("how", ["standard", "unit"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.float64])
def test_normalisation_is_computed_in_float64_from_what_is_given(how, dtype):
    offset = 1e4 if dtype == np.float32 else 1.7e9
    pool = (np.random.default_rng(0).normal(size=(50, 3)) * 100 + offset).astype(dtype)
    exact = pool.astype(np.longdouble)
    if how == "standard":
        expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    else:
        expected = exact / np.sqrt((exact**2).sum(axis=1, keepdims=True))
    result = base.normalise(pool, how)
    assert result.dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.usefixtures("standard_promotion")
def test_an_offset_of_the_pool_does_not_change_what_rnd_chooses():
    pool = np.random.default_rng(0).normal(size=(23, 4))
    pool_of_seconds = (1e6 * pool + 1.7e15).astype(np.int64)
    chosen = [select_trained(points).tolist() for points in (pool, pool_of_seconds)]
    assert chosen[0] == chosen[1]


def select_linearised(pool):
    settings = rnd_linearised.LinearisedRNDSettings(normalisation="standard", depth=1, b_std=0.3)
    return rnd_linearised.select(pool, settings, n_selected=9, key=KEY).indices[0]


def select_trained(pool):
    network = sequential.build_network(["dense 5", "dense 3"])
    settings = rnd.RNDSettings(normalisation="standard", n_epochs=5)
    return rnd.select(pool, network, settings, n_selected=9, key=KEY).indices[0]


def select_rows(pool):
    return RNDSelector(9, depth=1, random_state=0).fit(pool).indices_


@pytest.mark.usefixtures("quick_float64")
@pytest.mark.parametrize("select", [select_linearised, select_trained, select_rows])
def test_a_constant_feature_does_not_change_what_is_chosen(select):
    pool = np.random.default_rng(0).normal(size=(23, 4))
    pool[:, 3] = 0.0
    expected = select(pool)
    for value in CONSTANT:
        pool[:, 3] = value
        np.testing.assert_array_equal(select(pool), expected)


def test_a_mask_of_labelled_rows_is_refused_with_what_to_give():
    with pytest.raises(
        ValueError, match=r"a mask of 3 truth values\. Give numpy\.flatnonzero\(mask"
    ):
        base.random(3, n_selected=2, key=jax.random.key(0), labelled=np.array([True, False, True]))
