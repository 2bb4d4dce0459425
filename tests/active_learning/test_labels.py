"""Labels that are known in part: what counts as labelled, as a class, and as a prediction."""

import numpy as np
import pytest

from collective_variables.active_learning import labels

NAN = float("nan")


def test_numbers_with_blanks_are_a_regression_with_z_scores():
    found = labels.read_labels([10.0, NAN, 30.0, NAN], 4)
    assert found.task == "regression" and found.rows.tolist() == [0, 2]
    assert found.targets.tolist() == [[-1.0], [1.0]]
    outputs = np.array([[[0.5], [2.0]], [[1.5], [2.0]]])  # of two networks
    assert found.predictions(outputs).tolist() == [30.0, 40.0]


def test_a_row_with_one_of_two_targets_is_not_labelled():
    found = labels.read_labels([[1.0, 2.0], [3.0, NAN], [5.0, 6.0]], 3)
    assert found.rows.tolist() == [0, 2]
    assert found.predictions(np.zeros((1, 1, 2))).tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", None, "a"], ["a", "b"]),
        (np.array(["b", NAN, "a"], object), ["a", "b"]),
        (np.array([7, None, 3], object), [3, 7]),
        (np.array([True, None, False], object), [False, True]),
    ],
)
def test_texts_and_whole_numbers_among_unknown_ones_are_classes(y, classes):
    found = labels.read_labels(y, 3)
    assert found.task == "classification" and found.rows.tolist() == [0, 2]
    assert found.classes.tolist() == classes
    assert found.targets.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert found.predictions(np.array([[[0.0, 9.0]]])).tolist() == [classes[1]]


def test_one_hot_rows_are_classes_and_keep_those_without_a_point():
    found = labels.read_labels([[0, 0, 1.0], [NAN] * 3, [1.0, 0, 0]], 3)
    assert found.task == "classification" and found.classes.tolist() == [0, 1, 2]
    assert found.targets.shape == (2, 3) and found.n_kinds == 2


def test_floats_are_classes_if_the_task_says_so():
    found = labels.read_labels([2.0, NAN, 0.0], 3, task="classification")
    assert found.classes.tolist() == [0.0, 2.0]


def test_probabilities_are_a_softmax_without_overflow():
    found = labels.read_labels(["a", "b"], 2)
    outputs = np.array([[[1000.0, 1000.0 + np.log(3.0)]]])
    np.testing.assert_allclose(found.probabilities(outputs), [[[0.25, 0.75]]], rtol=1e-12)


def test_without_a_label_there_are_none():
    assert labels.read_labels([NAN, NAN], 2) is None
    assert labels.read_labels([None, None], 2) is None


def test_a_constant_target_has_no_scale():
    found = labels.read_labels([0.1 + 0.2, 0.3, NAN], 3)
    assert found.std.tolist() == [1.0] and np.abs(found.targets).max() < 1e-9


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([1.0], {}, "each of the 2 rows"),
        ([np.inf, 1.0], {}, "finite"),
        (np.array([1, "a"], object), {}, "numbers or texts"),
        (["a", "b"], {"task": "regression"}, "must be numbers for a regression: received 'a'"),
        ([[0.5, 0.5], [1, 0]], {"task": "classification"}, "one-hot rows"),
        ([1.0, 2.0], {"task": "ranking"}, "task"),
    ],
)
def test_wrong_targets_are_one_sentence(y, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        labels.read_labels(y, 2, **options)
