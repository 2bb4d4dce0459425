"""Observables against closed forms and loops."""

import numpy as np
import pytest

from collective_variables import observables, spectrum

GENERATOR = np.random.default_rng(0)
GRADIENTS = GENERATOR.normal(size=(7, 5))
KERNEL = GRADIENTS @ GRADIENTS.T


def test_cosines_are_those_between_the_gradients():
    expected = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in GRADIENTS] for a in GRADIENTS]
    np.testing.assert_allclose(observables.cosine(KERNEL), expected, atol=1e-14)


@pytest.mark.parametrize("lengths", [np.ones(4), np.array([1.0, 2.0, 5.0, 0.5])])
def test_orthogonal_gradients_have_the_largest_cosine_entropy_and_that_of_their_lengths(lengths):
    kernel = np.diag(lengths**2)
    shares = lengths / lengths.sum()
    assert observables.cosine_entropy(kernel) == pytest.approx(np.log(4), rel=1e-12)
    assert observables.magnitude_entropy(kernel) == pytest.approx(-sum(p * np.log(p) for p in shares), rel=1e-12)


def test_parallel_gradients_have_no_cosine_entropy():
    kernel = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert observables.cosine_entropy(kernel) == pytest.approx(0.0, abs=1e-7)
    assert spectrum.von_neumann_entropy(spectrum.eigenvalues(kernel)) == pytest.approx(0.0, abs=1e-7)


def test_a_point_without_gradient_adds_nothing():
    with_zero = np.zeros((8, 8))
    with_zero[:7, :7] = KERNEL
    assert observables.cosine_entropy(with_zero) == pytest.approx(observables.cosine_entropy(KERNEL), rel=1e-9)
    assert observables.magnitude_entropy(with_zero) == pytest.approx(observables.magnitude_entropy(KERNEL), rel=1e-12)
    assert np.isnan(observables.magnitude_entropy(np.zeros((3, 3))))
    assert np.isnan(observables.cosine_entropy(np.zeros((3, 3))))


@pytest.mark.parametrize("centred", [False, True])
def test_alignment_is_the_cosine_between_kernel_and_targets_kernel(centred):
    targets = GENERATOR.normal(size=(7, 3))
    k, y = KERNEL, targets @ targets.T
    if centred:
        centre = np.eye(7) - 1 / 7
        k, y = centre @ k @ centre, centre @ y @ centre
    expected = np.sum(k * y) / np.sqrt(np.sum(k * k) * np.sum(y * y))
    assert observables.target_alignment(KERNEL, targets, centred=centred) == pytest.approx(expected, rel=1e-12)


def test_alignment_with_its_own_features_is_one_and_with_orthogonal_ones_zero():
    assert observables.target_alignment(KERNEL, GRADIENTS) == pytest.approx(1.0, rel=1e-12)
    assert observables.target_alignment(np.diag([1.0, 0.0]), np.array([[0.0], [2.0]])) == 0.0
    assert np.isnan(observables.target_alignment(KERNEL, np.ones((7, 1)), centred=True))


def test_a_class_has_the_variables_of_its_own_block():
    classes = np.array([2, 0, 2, 2, 0, 5, 0])
    table = observables.of_classes(KERNEL, classes).set_index("class")
    assert table.index.tolist() == [0, 2, 5] and table["n_points"].tolist() == [3, 3, 1]
    for value in (0, 2, 5):
        rows = [i for i in range(7) if classes[i] == value]
        block = GRADIENTS[rows] @ GRADIENTS[rows].T
        expected = observables.of_kernel(block)
        assert table.loc[value, list(expected)].to_dict() == pytest.approx(expected, rel=1e-9, nan_ok=True)
        assert expected["trace"] == pytest.approx(sum(GRADIENTS[i] @ GRADIENTS[i] for i in rows))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: observables.cosine(np.ones((2, 3))), r"kernel must be a square matrix .* \(2, 3\)"),
        (lambda: observables.magnitude_entropy(np.full((2, 2), np.nan)), "kernel must be finite: 4 of 4"),
        (lambda: observables.target_alignment(KERNEL, np.ones((6, 1))), r"targets must be \(7, n_outputs\): .* \(6, 1\)"),
        (lambda: observables.target_alignment(KERNEL, np.full((7, 1), np.inf)), "targets must be finite: 7 of 7"),
        (lambda: observables.of_classes(KERNEL, np.zeros(6)), r"classes must be \(7,\): received the shape \(6,\)"),
    ],
)
def test_unfit_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
