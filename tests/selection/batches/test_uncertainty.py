"""Margin, entropy and variance against plain loops, and by hand."""

import doctest
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables.selection.batches import uncertainty

GENERATOR = np.random.default_rng(0)
PROBABILITIES = GENERATOR.dirichlet([0.5, 1.0, 2.0], size=(4, 30))
OUTPUTS = GENERATOR.normal(size=(4, 30, 3))
RULES = [uncertainty.margin, uncertainty.predictive_entropy, uncertainty.ensemble_variance]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


def predictions(rule):
    return OUTPUTS if rule is uncertainty.ensemble_variance else PROBABILITIES


def mean_probabilities(point):
    networks = [PROBABILITIES[number][point].tolist() for number in range(4)]
    return [sum(column) / 4 for column in zip(*networks)]


def margin(point):
    largest, second, _ = sorted(mean_probabilities(point), reverse=True)
    return second - largest


def predictive_entropy(point):
    return -sum(p * math.log(p) for p in mean_probabilities(point))


def ensemble_variance(point):
    total = 0.0
    for output in range(3):
        values = [float(OUTPUTS[number, point, output]) for number in range(4)]
        mean = sum(values) / 4
        total += sum((value - mean) ** 2 for value in values) / 4
    return total


SCORES = {score.__name__: score for score in (margin, predictive_entropy, ensemble_variance)}


@every_rule
@pytest.mark.parametrize("labelled", [[], [7], [5, 29, 0]], ids=str)
def test_a_rule_takes_the_largest_scores(rule, labelled):
    score = SCORES[rule.__name__]
    left = [point for point in range(30) if point not in labelled]
    expected = sorted(left, key=score, reverse=True)
    chosen = rule(predictions(rule), len(left), labelled)
    assert chosen.dtype == np.int64 and chosen.tolist() == expected
    assert rule(predictions(rule), 4, labelled).tolist() == expected[:4]


@pytest.mark.parametrize("rule", RULES[:2])
def test_the_probabilities_of_one_network_need_no_axis_of_networks(rule):
    expected = rule(PROBABILITIES[:1], 9).tolist()
    assert rule(PROBABILITIES[0], 9).tolist() == expected


@every_rule
def test_equal_points_are_taken_from_the_lowest_row(rule):
    equal = np.repeat(predictions(rule)[:, :2], [3, 5], axis=1)[:, [0, 7, 1, 6, 2, 5, 4, 3]]
    rows = rule(equal, 8).tolist()
    assert rows in ([0, 2, 4, 1, 3, 5, 6, 7], [1, 3, 5, 6, 7, 0, 2, 4])


def test_margins_that_differ_by_round_off_are_equal():
    assert 0.4 - 0.3 != 0.3 - 0.2
    assert uncertainty.margin([[0.4, 0.3, 0.3], [0.3, 0.2, 0.5], [0.4, 0.3, 0.3]], 1) == [0]
    assert uncertainty.margin([[0.45, 0.55], [0.55, 0.45]], 2).tolist() == [0, 1]


def test_the_mean_of_networks_counts_and_not_each_of_them():
    """Networks that are sure of different classes leave a margin of 0."""
    sure = [[[1.0, 0.0], [0.7, 0.3]], [[0.0, 1.0], [0.7, 0.3]]]
    assert uncertainty.margin(sure, 1).tolist() == [0]
    assert uncertainty.predictive_entropy(sure, 1).tolist() == [0]
    assert uncertainty.ensemble_variance(sure, 1).tolist() == [0]


def test_large_outputs_keep_their_variance():
    expected = uncertainty.ensemble_variance(OUTPUTS, 30).tolist()
    assert uncertainty.ensemble_variance(1e250 * OUTPUTS, 30).tolist() == expected


@every_rule
@pytest.mark.parametrize("kind", [np.float32, jnp.float32, jnp.bfloat16], ids=str)
def test_numbers_of_every_kind_are_taken_as_float64(rule, kind):
    whole = np.zeros((2, 12, 4))
    whole[:, np.arange(12), np.arange(12) % 4] = 1.0
    whole[1, 5] = [0.25, 0.5, 0.125, 0.125]
    array = whole.astype(kind) if kind is np.float32 else jnp.asarray(whole, kind)
    assert rule(array, 4, [1]).tolist() == rule(whole, 4, [1]).tolist()


@pytest.mark.parametrize("rule", RULES[:2])
@pytest.mark.parametrize(
    "values, error, message",
    [
        (np.full((3, 2), 0.49), ValueError, "sum up to 1 for each point: received a sum of 0.98."),
        ([[1.2, -0.2]], ValueError, "probabilities from 0 to 1: received -0.2. Outputs of a"),
        (np.ones((3, 1)), ValueError, "at least two classes: received the shape (3, 1)."),
        (np.ones(3), ValueError, "received the shape (3,)."),
        (np.ones((0, 2)), ValueError, "received the shape (0, 2)."),
        ([[np.nan, 1.0]], ValueError, "predictions must be finite: 1 of 2 values"),
        ([["a", "b"]], TypeError, "predictions must be real numbers: received the dtype <U1."),
    ],
)
def test_what_is_no_probability_is_one_sentence(rule, values, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        rule(values, 1)
    assert str(caught.value).endswith(".")


def test_sums_may_miss_1_by_the_round_off_of_a_softmax():
    assert uncertainty.margin([[0.5004, 0.5], [0.3, 0.7005]], 1).tolist() == [0]


@pytest.mark.parametrize(
    "values, message",
    [
        (OUTPUTS[:1], "of at least two networks: received the shape (1, 30, 3)."),
        (OUTPUTS[0], "received the shape (30, 3)."),
        (np.where(OUTPUTS > 2, np.inf, OUTPUTS), "predictions must be finite"),
    ],
)
def test_a_variance_needs_finite_outputs_of_two_networks(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        uncertainty.ensemble_variance(values, 1)


@every_rule
@pytest.mark.parametrize(
    "n_selected, labelled, error, message",
    [
        (0, [], ValueError, "n_selected must be at least 1: received 0."),
        (1.0, [], TypeError, "n_selected must be an integer: received 1.0."),
        (29, [3, 4], ValueError, "n_selected must not exceed"),
        (2, [30], ValueError, "labelled must be rows of the pool, 0 to 29: received 30."),
        (2, [3, 3], ValueError, "labelled must not repeat a row"),
    ],
)
def test_what_cannot_be_chosen_is_one_sentence(rule, n_selected, labelled, error, message):
    with pytest.raises(error, match=message):
        rule(predictions(rule), n_selected, labelled)


def test_the_examples_print_what_they_say():
    results = doctest.testmod(uncertainty)
    assert results.attempted == 3 and results.failed == 0
