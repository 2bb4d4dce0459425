"""Predictors of the test loss against kernel regressions that are solved one by one."""

import math

import numpy as np
import pytest

from collective_variables.observables import collective, predictors

GENERATOR = np.random.default_rng(0)
FEATURES, TARGETS = GENERATOR.normal(size=(9, 5)), GENERATOR.normal(size=(9, 2))
KERNEL = FEATURES @ FEATURES.T
SHIFT = 0.02 * np.trace(KERNEL) / 9


def found(kernel=KERNEL, targets=TARGETS, ridge=0.02):
    return predictors.kernel_predictors(kernel, targets, ridge=ridge)


def test_all_have_a_name():
    assert tuple(found()) == predictors.NAMES


def test_the_leave_one_out_error_is_that_of_fits_without_each_point():
    errors = []
    for left_out in range(9):
        rest = np.delete(np.arange(9), left_out)
        weights = np.linalg.solve(KERNEL[np.ix_(rest, rest)] + SHIFT * np.eye(8), TARGETS[rest])
        errors.append(KERNEL[left_out, rest] @ weights - TARGETS[left_out])
    assert found()["leave_one_out_error"] == pytest.approx(np.mean(np.square(errors)), rel=1e-10)


def test_cross_validation_divides_residuals_by_the_mean_share_that_is_not_fitted():
    smoother = KERNEL @ np.linalg.inv(KERNEL + SHIFT * np.eye(9))
    residuals = TARGETS - smoother @ TARGETS
    expected = np.mean(residuals**2) / (1 - np.trace(smoother) / 9) ** 2
    assert found()["generalised_cross_validation"] == pytest.approx(expected, rel=1e-10)


def test_the_complexity_is_the_norm_of_the_fit():
    weights = np.linalg.solve(KERNEL + SHIFT * np.eye(9), TARGETS)
    expected = np.sqrt(2 * np.mean([y @ w for y, w in zip(TARGETS.T, weights.T)]) / 9)
    assert found()["complexity"] == pytest.approx(expected, rel=1e-10)


def test_ranks_and_condition_numbers_follow_from_eigenvalues():
    values = np.linalg.eigvalsh(KERNEL)
    assert found()["renyi2_rank"] == pytest.approx(values.sum() ** 2 / np.sum(values**2))
    # Five features leave four eigenvalues at 0.
    assert found()["condition_number"] == pytest.approx((values[-1] + SHIFT) / SHIFT)
    assert found()["target_alignment"] == collective.target_alignment(KERNEL, TARGETS)


def test_equal_eigenvalues_have_closed_forms():
    values = found(np.eye(4), np.ones((4, 1)), ridge=1.0)
    assert values["renyi2_rank"] == pytest.approx(4)
    assert values["condition_number"] == pytest.approx(1)
    assert values["complexity"] == pytest.approx(1)
    assert values["generalised_cross_validation"] == pytest.approx(1)
    assert values["leave_one_out_error"] == pytest.approx(1)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_only_the_complexity_depends_on_the_unit_of_the_kernel(factor):
    before, after = found(), found(factor * KERNEL)
    assert after.pop("complexity") == pytest.approx(before.pop("complexity") / np.sqrt(factor))
    assert after == pytest.approx(before, rel=1e-9)


def test_a_kernel_of_0_predicts_nothing():
    assert all(np.isnan(value) for value in found(np.zeros((9, 9))).values())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ridge": 0.0}, "ridge must be greater than 0"),
        ({"targets": TARGETS[:4]}, r"targets must be \(9, n_outputs\)"),
        ({"kernel": np.full((9, 9), np.nan)}, "finite"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        found(**changes)


def test_the_near_score_is_the_sum_of_effective_ranks():
    generator = np.random.default_rng(0)
    matrices = [generator.normal(size=shape) for shape in ((6, 4), (6, 9))]
    expected = 0.0
    for matrix in matrices:
        squares = np.linalg.eigvalsh(matrix @ matrix.T)
        lengths = [math.sqrt(value) for value in squares if value > 1e-12]
        shares = [length / sum(lengths) for length in lengths]
        expected += math.exp(-sum(share * math.log(share) for share in shares))
    assert predictors.near_score(matrices) == pytest.approx(expected)
    assert predictors.near_score([np.zeros((3, 2))]) == 1.0  # as of any matrix of rank one


def test_the_near_score_refuses_no_and_infinite_activations():
    with pytest.raises(ValueError, match="at least one matrix: received none"):
        predictors.near_score([])
    with pytest.raises(ValueError, match="activations must be finite"):
        predictors.near_score([np.full((2, 2), np.nan)])
