"""Spectra of subsets against kernels of a network written out in NumPy, one subset at a time."""

import numpy as np
import pandas as pd
import pytest

from collective_variables import ensembles, measuring, networks, spectrum
from collective_variables.spectrum import Spectrum

GENERATOR = np.random.default_rng(0)
POOL = GENERATOR.normal(size=(40, 3)).astype(np.float32)
NETWORK = networks.build(["dense 6", "dense 2"])
KEYS = ensembles.member_keys(ensembles.key(0, "initialisation"), 3)
# The sizes are ragged, and lie below, at and above the padded size of 16.
SUBSETS = [np.stack([GENERATOR.permutation(40)[:20] for _ in range(3)]) for _ in range(2)]
N_POINTS = np.array([[2, 5], [3, 18], [7, 16]])


def naive_kernel(params, x):
    """(1/2) Σ_c J_c J_cᵀ of `NETWORK` in float64, with the Jacobian written out for every point."""
    w1, b1, w2 = (
        np.asarray(params[layer][name], np.float64)
        for layer, name in (("Dense_0", "kernel"), ("Dense_0", "bias"), ("Dense_1", "kernel"))
    )
    kernel = np.zeros((len(x), len(x)))
    for c in range(2):
        rows = []
        for point in x.astype(np.float64):
            before = point @ w1 + b1
            back = w2[:, c] * (before > 0)
            hidden = np.zeros((6, 2))
            hidden[:, c] = np.maximum(before, 0)
            rows.append(np.concatenate([np.outer(point, back).ravel(), back, hidden.ravel(), np.eye(2)[c]]))
        kernel += np.array(rows) @ np.array(rows).T / 2
    return kernel


@pytest.fixture(scope="module")
def measured():
    return measuring.measure(NETWORK, POOL, KEYS, [*SUBSETS, *SUBSETS], N_POINTS)


@pytest.fixture(scope="module")
def expected():
    """Eigenvalues by subset array, member and size."""
    params = [NETWORK.init(key, POOL[:1])["params"] for key in KEYS]
    return [
        [
            [np.linalg.eigvalsh(naive_kernel(params[member], POOL[subset[member, :n]])) for n in N_POINTS[member]]
            for member in range(3)
        ]
        for subset in SUBSETS
    ]


def test_measure_gives_the_spectrum_of_every_subset_member_and_size(measured, expected):
    assert [[len(row) for row in spectra] for spectra in measured] == [[2, 2, 2]] * 4
    for subset, member, place in np.ndindex(2, 3, 2):
        actual, right = measured[subset][member][place].eigenvalues, expected[subset][member][place]
        assert len(actual) == N_POINTS[member, place]
        assert np.abs(actual - right).max() < 1e-5 * right[-1]
        # Neither another member's subset nor the other array's would do.
        wrong = [expected[1 - subset][member][place], expected[subset][(member + 1) % 3][place]]
        assert all(abs(actual[-1] - other[-1]) > 1e-3 * right[-1] for other in wrong)


def test_network_of_a_member_is_the_same_for_every_subset_array(measured):
    first, second, *again = (measuring.padded(spectra) for spectra in measured)
    np.testing.assert_array_equal(again, [first, second])
    assert not np.array_equal(first, second, equal_nan=True)


def test_pool_that_is_not_finite_is_refused():
    pool = POOL.copy()
    pool[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"pool must be finite: 1 of 120 .* \(7, 1\)"):
        measuring.measure(NETWORK, pool, KEYS, SUBSETS, N_POINTS)


def test_an_index_outside_the_pool_is_refused():
    outside = [subset.copy() for subset in SUBSETS]
    outside[1][2, 0] = -1
    with pytest.raises(ValueError, match=f"^subsets must be rows of the pool, 0 to {len(POOL) - 1}: received -1.$"):
        measuring.measure(NETWORK, POOL, KEYS, outside, N_POINTS)


def test_table_has_a_row_per_member_and_size(measured, expected):
    table = measuring.table(measured[0], N_POINTS)
    variables = ["entropy", "trace", "largest_eigenvalue", "effective_entropy", "effective_rank", "trace_per_point"]
    assert list(table.columns) == ["member", "n_points", *variables, "largest_eigenvalue_fraction"]
    assert table["member"].tolist() == [0, 0, 1, 1, 2, 2]
    assert table["n_points"].tolist() == N_POINTS.ravel().tolist()
    rows = [spectrum.collective_variables(values) for row in expected[0] for values in row]
    pd.testing.assert_frame_equal(table.drop(columns=["member", "n_points"]), pd.DataFrame(rows), rtol=1e-3)


def test_padded_holds_the_eigenvalues_and_nothing_behind_them(measured):
    array = measuring.padded(measured[1])
    assert array.shape == (3, 2, 18)
    for member, place in np.ndindex(3, 2):
        n = N_POINTS[member, place]
        np.testing.assert_array_equal(array[member, place, :n], measured[1][member][place].eigenvalues)
        assert np.isnan(array[member, place, n:]).all()


def test_round_off_counts_over_all_members_and_sizes():
    def of(eigenvalues, n_negative=0, most_negative=0.0):
        return Spectrum(np.array(eigenvalues), n_negative, most_negative)

    spectra = [[of([1.0, 2.0]), of([0.0, 0.0, 4.0], 2, -4e-7)], [of([0.0, 0.5], 1, -3e-7), of([0.0, 0.0, 0.0])]]
    assert measuring.round_off(spectra) == pytest.approx((10, 3, -6e-7))
    assert measuring.round_off([[of([0.0])]]) == (1, 0, 0.0)


def test_round_off_of_measured_kernels_is_below_the_tolerance(measured):
    result = measuring.round_off(measured[0])
    assert result.n_eigenvalues == N_POINTS.sum()
    assert -1e-5 < result.worst_relative <= 0
