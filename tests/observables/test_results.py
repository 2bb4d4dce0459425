"""Arrays of eigenvalues and counts of round-off from spectra written by hand."""

import numpy as np
import pytest

from collective_variables.observables import _results
from collective_variables.observables.spectrum import Spectrum


def spectrum(eigenvalues, n_negative=0, most_negative=0.0):
    return Spectrum(np.array(eigenvalues), n_negative, most_negative)


def test_round_off_counts_over_all_members_sizes_and_outputs():
    flat = [
        spectrum([1.0, 2.0]),
        spectrum([0.0, 0.0, 4.0], 2, -4e-7),
        spectrum([0.0, 0.5], 1, -3e-7),
        spectrum([0.0, 0.0, 0.0]),
    ]
    nested = [[flat[:1], flat[1:2]], [flat[2:], []]]
    assert _results.count_round_off(nested) == pytest.approx((10, 3, -6e-7))
    assert _results.count_round_off([[[spectrum([0.0])]]]) == (1, 0, 0.0)


def test_an_array_holds_the_eigenvalues_of_every_kernel_and_nan_after_them():
    first = [[spectrum([1.0, 2.0]), spectrum([3.0])], []]
    second = [[spectrum([4.0])], [spectrum([5.0])]]
    array = _results.pad_eigenvalues([first, second])
    nan = np.nan
    expected = [
        [[[1, 2], [3, nan]], [[nan, nan]] * 2],
        [[[4, nan], [nan, nan]], [[5, nan], [nan, nan]]],
    ]
    np.testing.assert_array_equal(array, expected)
    assert _results.pad_eigenvalues([[[]]]).shape == (1, 1, 1, 0)
