"""The selector of scikit-learn's conventions: those conventions, and that it chooses what the
library chooses.
"""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from collective_variables.ensembles import seeding
from collective_variables.selection import rnd_linearised
from collective_variables.selection.estimator import RNDSelector


@parametrize_with_checks([RNDSelector()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture
def table(rng=np.random.default_rng(0)):
    return rng.normal(size=(40, 3)) * [1, 10, 100]


def test_it_chooses_what_the_library_chooses(table):
    settings = rnd_linearised.LinearisedRNDSettings(normalisation="standard", first="random")
    expected = rnd_linearised.select(table, settings, n_selected=7, key=seeding.key(11, "rnd"))
    selector = RNDSelector(7, first="random", random_state=FixedSeed(11)).fit(table)
    np.testing.assert_array_equal(selector.indices_, expected.indices[0])
    np.testing.assert_array_equal(selector.distances_, expected.distances[0])


class FixedSeed(np.random.RandomState):
    """A generator whose next integer is known."""

    def randint(self, high, dtype):
        return self.seed_wanted

    def __init__(self, seed):
        super().__init__(0)
        self.seed_wanted = seed


def test_rows_already_labelled_count_as_chosen_and_are_not_chosen_again(table):
    whole = RNDSelector(10).fit(table).indices_
    later = RNDSelector(6).fit(table, labelled=whole[:4]).indices_
    np.testing.assert_array_equal(later, whole[4:])


def test_without_a_number_all_rows_are_ranked_and_the_first_are_those_of_a_smaller_choice(table):
    ranking = RNDSelector().fit(table).indices_
    np.testing.assert_array_equal(np.sort(ranking), np.arange(40))
    np.testing.assert_array_equal(RNDSelector(5).fit(table).indices_, ranking[:5])


def test_a_seed_gives_one_choice_and_others_another(table):
    choices = [
        RNDSelector(3, first="random", random_state=seed).fit(table).indices_.tolist()
        for seed in (1, 1, 2, 3, 4)
    ]
    assert choices[0] == choices[1] and len(set(map(tuple, choices))) > 1


def test_settings_are_those_of_the_constructor_and_are_checked_in_fit(table):
    selector = clone(RNDSelector(4, depth=0))
    with pytest.raises(ValueError, match="depth must be at least 1: received 0"):
        selector.fit(table)
    with pytest.raises(ValueError, match="n_selected must not exceed the pool: 41 > 40"):
        RNDSelector(41).fit(table)
    with pytest.raises(ValueError, match="rows of the pool, 0 to 39: received 40"):
        RNDSelector(2).fit(table, labelled=[40])


@pytest.fixture(scope="module")
def large():
    """More rows than are computed in float64."""
    rows = np.random.default_rng(0).normal(size=(4100, 3))
    return rows, RNDSelector(8, random_state=0).fit(rows).indices_


@pytest.mark.parametrize(
    "moved",
    [
        lambda rows: rows + 1.7e9,  # seconds since 1970
        lambda rows: rows * [1.0, 1e3, 1e-3] - [1e5, 4e8, 3.0],
        lambda rows: (rows * 1e9 + 1.7e18).astype(np.int64),  # nanoseconds
        lambda rows: (rows * 1e6).astype(np.int32),
        lambda rows: (rows * 100 + 1e4).astype(np.float32),
    ],
)
def test_an_offset_and_a_scale_of_a_column_change_nothing_in_a_large_table(moved, large):
    rows, expected = large
    chosen = RNDSelector(8, random_state=0).fit(moved(rows)).indices_
    assert len(set(chosen) & set(expected)) >= 7  # near ties may turn
