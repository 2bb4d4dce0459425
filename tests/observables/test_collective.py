"""Variables of a kernel and of its classes, against closed forms and loops."""

import numpy as np
import pytest

from collective_variables.observables import collective, spectrum

GENERATOR = np.random.default_rng(0)
GRADIENTS = GENERATOR.normal(size=(7, 5))
KERNEL = GRADIENTS @ GRADIENTS.T


def test_cosines_are_those_between_the_gradients():
    expected = [
        [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in GRADIENTS] for a in GRADIENTS
    ]
    np.testing.assert_allclose(collective.cosine(KERNEL), expected, atol=1e-14)


@pytest.mark.parametrize("lengths", [np.ones(4), np.array([1.0, 2.0, 5.0, 0.5])])
def test_orthogonal_gradients_have_the_largest_cosine_entropy_and_that_of_their_lengths(lengths):
    kernel = np.diag(lengths**2)
    shares = lengths / lengths.sum()
    assert collective.cosine_entropy(kernel) == pytest.approx(np.log(4), rel=1e-12)
    assert collective.magnitude_entropy(kernel) == pytest.approx(
        -sum(p * np.log(p) for p in shares), rel=1e-12
    )


def test_parallel_gradients_have_no_cosine_entropy():
    kernel = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert collective.cosine_entropy(kernel) == pytest.approx(0.0, abs=1e-7)
    assert spectrum.entropy(spectrum.eigenvalues(kernel)) == pytest.approx(0.0, abs=1e-7)


def test_a_point_without_gradient_adds_nothing():
    with_zero = np.zeros((8, 8))
    with_zero[:7, :7] = KERNEL
    assert collective.cosine_entropy(with_zero) == pytest.approx(
        collective.cosine_entropy(KERNEL), rel=1e-9
    )
    assert collective.magnitude_entropy(with_zero) == pytest.approx(
        collective.magnitude_entropy(KERNEL), rel=1e-12
    )
    assert np.isnan(collective.magnitude_entropy(np.zeros((3, 3))))
    assert np.isnan(collective.cosine_entropy(np.zeros((3, 3))))


def test_round_off_of_a_kernel_in_float32_is_no_error_of_its_cosines():
    kernel = np.exp(-(np.subtract.outer(np.arange(30), np.arange(30)) ** 2) / 200).astype(
        np.float32
    )
    assert np.linalg.eigvalsh(kernel.astype(np.float64))[0] < -1e-8
    tripled = collective.cosine_entropy(kernel * np.float32(3))
    assert collective.cosine_entropy(kernel) == pytest.approx(tripled, rel=1e-5)
    with pytest.raises(ValueError, match="kernel must be positive semi-definite"):
        collective.cosine_entropy(kernel.astype(np.float64))


@pytest.mark.parametrize("centred", [False, True])
def test_alignment_is_the_cosine_between_kernel_and_targets_kernel(centred):
    targets = GENERATOR.normal(size=(7, 3))
    k, y = KERNEL, targets @ targets.T
    if centred:
        centre = np.eye(7) - 1 / 7
        k, y = centre @ k @ centre, centre @ y @ centre
    expected = np.sum(k * y) / np.sqrt(np.sum(k * k) * np.sum(y * y))
    assert collective.target_alignment(KERNEL, targets, centred=centred) == pytest.approx(
        expected, rel=1e-12
    )


def test_alignment_with_the_kernel_s_features_is_one_and_with_orthogonal_ones_zero():
    assert collective.target_alignment(KERNEL, GRADIENTS) == pytest.approx(1.0, rel=1e-12)
    assert collective.target_alignment(np.diag([1.0, 0.0]), np.array([[0.0], [2.0]])) == 0.0
    assert np.isnan(collective.target_alignment(KERNEL, np.ones((7, 1)), centred=True))


def test_alignment_and_distance_of_two_kernels_are_those_of_their_entries():
    other = np.outer(GRADIENTS[:, 0], GRADIENTS[:, 0])
    norm = np.sqrt((KERNEL**2).sum())
    other_norm = np.sqrt((other**2).sum())
    assert collective.kernel_alignment(KERNEL, other) == pytest.approx(
        (KERNEL * other).sum() / norm / other_norm, rel=1e-12
    )
    expected = np.sqrt(((KERNEL - other) ** 2).sum()) / other_norm
    assert collective.relative_distance(KERNEL, other) == pytest.approx(expected, rel=1e-12)
    assert collective.relative_distance(other, KERNEL) == pytest.approx(
        expected * other_norm / norm, rel=1e-12
    )


def test_a_multiple_is_aligned_but_not_near():
    assert collective.kernel_alignment(3 * KERNEL, KERNEL) == pytest.approx(1, rel=1e-12)
    assert collective.relative_distance(3 * KERNEL, KERNEL) == pytest.approx(2, rel=1e-12)
    assert collective.relative_distance(KERNEL, KERNEL) == 0
    assert np.isnan(collective.kernel_alignment(KERNEL, np.zeros((7, 7))))
    assert np.isnan(collective.relative_distance(KERNEL, np.zeros((7, 7))))


def test_targets_and_known_eigenvalues_give_the_same_variables_and_the_alignments():
    targets = GENERATOR.normal(size=(7, 2))
    variables = collective.kernel_variables(
        KERNEL, targets, eigenvalues=np.linalg.eigvalsh(KERNEL).clip(0)
    )
    assert variables == pytest.approx(
        collective.kernel_variables(KERNEL)
        | {
            "target_alignment": collective.target_alignment(KERNEL, targets),
            "centred_target_alignment": collective.target_alignment(KERNEL, targets, centred=True),
        }
    )


def test_a_class_has_the_variables_of_its_block():
    classes = np.array([2, 0, 2, 2, 0, 5, 0])
    table = collective.class_variables(lambda rows: KERNEL[rows][:, rows], classes)
    assert [(row.pop("class"), row.pop("n_in_class")) for row in table] == [(0, 3), (2, 3), (5, 1)]
    for value, row in zip((0, 2, 5), table):
        rows = [i for i in range(7) if classes[i] == value]
        block = GRADIENTS[rows] @ GRADIENTS[rows].T
        assert row == pytest.approx(collective.kernel_variables(block), rel=1e-9, nan_ok=True)
        assert row["trace"] == pytest.approx(sum(GRADIENTS[i] @ GRADIENTS[i] for i in rows))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: collective.cosine(np.ones((2, 3))), r"kernel must be a square matrix .* \(2, 3\)"),
        (
            lambda: collective.magnitude_entropy(np.full((2, 2), np.nan)),
            "kernel must be finite: 4 of 4",
        ),
        (
            lambda: collective.target_alignment(KERNEL, np.ones((6, 1))),
            r"targets must be \(7, n_outputs\): .* \(6, 1\)",
        ),
        (
            lambda: collective.target_alignment(KERNEL, np.full((7, 1), np.inf)),
            "targets must be finite: 7 of 7",
        ),
        (
            lambda: collective.kernel_alignment(KERNEL, np.eye(6)),
            "Both kernels must be of the same points: 7 != 6",
        ),
        (
            lambda: collective.relative_distance(KERNEL, np.ones(7)),
            r"kernel must be a square matrix .* \(7,\)",
        ),
    ],
)
def test_unfit_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("seed", range(20))
def test_an_alignment_does_not_exceed_one_by_round_off(seed):
    root = np.random.default_rng(seed).normal(size=(7, 3))
    kernel = root @ root.T
    assert 1 - 1e-12 < collective.kernel_alignment(kernel, 3.7 * kernel) <= 1.0
    assert -1.0 <= collective.kernel_alignment(kernel, -0.3 * kernel) < -1 + 1e-12
    assert collective.target_alignment(kernel, root) <= 1.0
    assert collective.target_alignment(kernel, root, centred=True) <= 1.0
