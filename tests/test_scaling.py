"""Z-scores, above all those of columns that are constant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables import _scaling

VALUES = (0.1, 0.3, 2.7)
LENGTHS = (2, 3, 7, 10, 100, 1000, 4097)
TABLE = np.random.default_rng(0).normal(size=(30, 4)) * [1, 10, 1e-3, 1e6] + [0, 5, 1, -1e6]


def constant(n, dtype):
    return np.repeat(np.array([VALUES], dtype), n, axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", LENGTHS)
def test_constant_columns_become_exactly_0(n, dtype):
    result = _scaling.standardise(constant(n, dtype))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.zeros((n, 3), dtype))
    with jax.enable_x64(dtype == np.float64):
        result = _scaling.standardise(jnp.asarray(constant(n, dtype)))
        assert isinstance(result, jax.Array) and result.dtype == dtype
        np.testing.assert_array_equal(result, np.zeros((n, 3), dtype))


def test_the_standard_deviation_of_equal_numbers_is_not_0():
    tables = [constant(n, dtype) for n in LENGTHS for dtype in (np.float32, np.float64)]
    assert sum((table.std(axis=0) > 0).sum() for table in tables) > 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_columns_have_the_digits_of_the_plain_formula(dtype):
    table = TABLE.astype(dtype)
    with_constant = np.concatenate([table, constant(30, dtype)], axis=1)
    result = _scaling.standardise(with_constant)
    np.testing.assert_array_equal(result[:, :4], (table - table.mean(axis=0)) / table.std(axis=0))
    np.testing.assert_array_equal(result[:, 4:], 0.0)


def test_mean_and_deviation_are_those_of_the_reference():
    reference = TABLE[:10].copy()
    reference[:, 1] = 0.1
    result = _scaling.standardise(TABLE, reference)
    np.testing.assert_array_equal(result[:, 1], 0.0)
    expected = (TABLE - reference.mean(axis=0)) / reference.std(axis=0)
    np.testing.assert_array_equal(result[:, [0, 2, 3]], expected[:, [0, 2, 3]])


def test_images_and_whole_numbers_are_tables_too():
    images = np.random.default_rng(1).integers(0, 9, size=(12, 3, 3, 1))
    images[:, 0, 0] = 4
    result = _scaling.standardise(images)
    flat = images.reshape(12, 9)
    expected = (flat - flat.mean(axis=0)) / np.where(np.ptp(flat, axis=0) > 0, flat.std(axis=0), 1)
    np.testing.assert_array_equal(result.reshape(12, 9), expected)
