import jax
import numpy as np
import pytest
from scipy import stats

from collective_variables.selection import base

KEY = jax.random.key(3)


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


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"n_selected": 500}, ValueError, "n_selected must not exceed the pool: 500 > 272."),
        ({"n_selected": True}, TypeError, "n_selected must be an integer: received True."),
        ({"n_members": 2.0}, TypeError, "n_members must be an integer: received 2.0."),
    ],
)
def test_wrong_arguments_of_random_are_one_error_that_names_them(changed, error, message):
    with pytest.raises(error) as caught:
        base.random(272, **{"n_selected": 5, "key": KEY} | changed)
    assert str(caught.value) == message


# what all selections share


def test_a_selection_without_distances_has_none_in_its_history():
    found = base.without_distances(np.array([[3, 1], [0, 2]]))
    assert found.indices.tolist() == [[3, 1], [0, 2]]
    for name in ("distances", "mean_distances", "max_distances"):
        assert getattr(found, name).shape == (2, 2) and np.isnan(getattr(found, name)).all()


def test_a_selection_that_a_threshold_cut_short_is_not_whole():
    base.check_whole(base.without_distances(np.array([[3, 1], [0, 2]])))
    with pytest.raises(ValueError) as caught:
        base.check_whole(base.without_distances(np.array([[3, 1], [0, -1]])))
    assert str(caught.value) == (
        "Every member must choose 2 points: member 1 was within the threshold after 1. "
        "Lower the threshold or the subset sizes."
    )
