"""Kernels of ensembles against those of a network written out in NumPy, one subset at a time."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest
from ensemble_kernels import (
    CLASSES,
    N_POINTS,
    NETWORK,
    ONE,
    POOL,
    STOCHASTIC,
    SUBSETS,
    kernel,
    measure,
)

from collective_variables import _memory
from collective_variables.ensembles import execution
from collective_variables.kernels import empirical
from collective_variables.observables import _capacity, _member, measurement, spectrum
from collective_variables.observables.measurement import Pool, Settings

pytestmark = pytest.mark.usefixtures("quick_compilation")


def each():
    """Return every subset array, member and size, with the number of points."""
    return [(*where, N_POINTS[where[1:]]) for where in np.ndindex(2, 3, 2)]


@pytest.fixture(scope="module")
def measurements():
    return measure([*SUBSETS, *SUBSETS])


@pytest.fixture(scope="module")
def expected():
    """Return the eigenvalues by subset array, member and size."""
    kernels = {
        (s, member, place): kernel(member, SUBSETS[s][member, :n]) for s, member, place, n in each()
    }
    return {where: np.linalg.eigvalsh(matrix) for where, matrix in kernels.items()}


def test_measure_gives_the_spectrum_of_every_subset_member_and_size(measurements, expected):
    for subset, member, place, n in each():
        actual = measurements[subset].eigenvalues[member, place]
        right = expected[subset, member, place]
        assert np.abs(actual[:n] - right).max() < 1e-5 * right[-1]
        assert np.isnan(actual[n:]).all()
        # Neither another member's subset nor the other array's would do.
        wrong = [expected[1 - subset, member, place], expected[subset, (member + 1) % 3, place]]
        assert all(abs(actual[n - 1] - other[-1]) > 1e-3 * right[-1] for other in wrong)


def test_network_of_a_member_is_the_same_for_every_subset_array(measurements):
    first, second, *again = (measurement.eigenvalues for measurement in measurements)
    np.testing.assert_array_equal(again, [first, second])
    assert not np.array_equal(first, second, equal_nan=True)


def test_table_has_a_row_per_member_and_size_with_all_variables(measurements):
    table = measurements[0].tables["collective_variables"]
    assert list(table.columns) == ["member", "n_points", *_member.VARIABLES, *_member.ERRORS]
    assert table["member"].tolist() == [0, 0, 1, 1, 2, 2]
    assert table["n_points"].tolist() == N_POINTS.ravel().tolist()
    assert table[list(_member.VARIABLES)].notna().all(axis=None)
    assert table[list(_member.ERRORS)].isna().all(axis=None)
    for row in table.itertuples():
        rows = SUBSETS[0][row.member, : row.n_points]
        right, y = kernel(row.member, rows), POOL.targets[rows].astype(np.float64)
        aligned = (right * (y @ y.T)).sum() / np.linalg.norm(right) / np.linalg.norm(y @ y.T)
        assert row.trace == pytest.approx(np.trace(right), rel=1e-5)
        assert row.target_alignment == pytest.approx(aligned, rel=1e-4)


def test_tables_that_are_not_requested_are_empty_with_their_columns(measurements):
    tables = measurements[0].tables
    empty = {name for name, table in tables.items() if table.empty}
    assert empty == {*_member.COLUMNS} - {"collective_variables"}
    for name, columns in _member.COLUMNS.items():
        assert list(tables[name].columns) == ["member", "n_points", *columns]


@pytest.mark.parametrize("outputs", ["sum", "full", "per-output"])
def test_outputs_are_those_of_the_kernel(outputs):
    results = measure(outputs=outputs)
    for subset, member, place, n in each():
        right = np.linalg.eigvalsh(kernel(member, SUBSETS[subset][member, :n], outputs))
        actual = results[subset].eigenvalues[member, place]
        np.testing.assert_allclose(actual[..., : right.shape[-1]], right, atol=1e-5 * right.max())
        assert np.isnan(actual[..., right.shape[-1] :]).all()
    table = results[0].tables["collective_variables"]
    assert table["target_alignment"].isna().all() == (outputs == "full")
    assert table["cosine_entropy"].notna().all()
    assert len(results[0].tables["per_output"]) == (12 if outputs == "per-output" else 0)


def test_float64_is_the_same_networks_in_more_digits(measurements, expected):
    wide = measure(dtype="float64")
    for subset, member, place, n in each():
        right = expected[subset, member, place]
        assert np.abs(wide[subset].eigenvalues[member, place, :n] - right).max() < 1e-12 * right[-1]
    assert wide[0].description["dtype"] == "float64" and not jax.config.jax_enable_x64
    pairs = zip(wide, measurements)
    assert max(np.nanmax(np.abs(a.eigenvalues - b.eigenvalues)) for a, b in pairs) > 1e-8


def limit_memory(monkeypatch, free):
    """Let the planning of ensembles, and nothing else, see `free` bytes."""
    memory = SimpleNamespace(available=lambda: free, GIB=_memory.GIB)
    monkeypatch.setattr(_capacity, "_memory", memory)


def assert_same_eigenvalues(results, measurements):
    for actual, right in zip(results, measurements):
        tolerance = 1e-5 * np.nanmax(right.eigenvalues)
        np.testing.assert_allclose(actual.eigenvalues, right.eigenvalues, atol=tolerance)


@pytest.mark.parametrize(
    "settings, implementation, blocks",
    [
        ({"implementation": "jacobian"}, "jacobian", "one block"),
        ({"implementation": "neural-tangents"}, "neural-tangents", "one block"),
        ({"block_size": 5}, "structured", "tiles of at most 5 points"),
        (
            {"block_size": 6, "outputs": "mean", "implementation": "jacobian"},
            "jacobian",
            "tiles of at most 6 points",
        ),
    ],
)
def test_every_implementation_and_block_gives_the_same_and_is_described(
    measurements, settings, implementation, blocks
):
    results = measure(**settings)
    assert_same_eigenvalues(results, measurements)
    description = results[0].description
    assert (description["implementation"], description["blocks"]) == (implementation, blocks)


def test_large_kernels_are_measured_one_after_another_with_the_same_result(
    measurements, monkeypatch
):
    monkeypatch.setattr(_capacity, "LARGE", 17)
    monkeypatch.setattr(execution, "_run_in_threads", None)
    results = measure()
    assert_same_eigenvalues(results, measurements)
    for pair in zip(results, measurements):
        tables = (result.tables["collective_variables"] for result in pair)
        pd.testing.assert_frame_equal(*tables, rtol=1e-3)


@pytest.mark.parametrize("outputs", ["mean", "sum"])
def test_estimates_lie_within_their_errors_and_nothing_is_decomposed(outputs):
    (first,), (again,), (other,) = (
        measure(**ONE, outputs=outputs, seed=seed, **STOCHASTIC) for seed in (0, 0, 1)
    )
    assert np.isnan(first.eigenvalues).all() and first.round_off == (0, 0, 0.0)
    table = first.tables["collective_variables"]
    pd.testing.assert_frame_equal(table, again.tables["collective_variables"])
    assert not np.allclose(table["entropy"], other.tables["collective_variables"]["entropy"])
    assert table[list(_member.VARIABLES[len(spectrum.SPECTRAL) :])].isna().all(axis=None)
    (row,) = table.itertuples()
    right = np.linalg.eigvalsh(kernel(0, SUBSETS[1][0, :18], outputs)).clip(0)
    p = right[right > 0] / right.sum()
    assert row.trace == pytest.approx(right.sum(), rel=1e-5)
    error = abs(row.entropy + (p * np.log(p)).sum())
    assert error < 20 * row.entropy_standard_error + row.entropy_quadrature_error < 1
    assert row.largest_eigenvalue <= right[-1] * (1 + 1e-5)


def test_sizes_that_fit_are_exact_and_larger_ones_estimated(measurements, monkeypatch):
    requirements = _capacity.Requirements(NETWORK, POOL.inputs, Settings(), has_limit=False)
    limit_memory(monkeypatch, requirements.n_bytes(7))
    (result,) = measure(SUBSETS[:1], N_POINTS[:2], n_leading=1, n_probes=3, n_steps=1)
    table = result.tables["collective_variables"]
    right = measurements[0].tables["collective_variables"][:4]
    is_exact = table["n_points"] <= 7
    assert table["n_points"][~is_exact].tolist() == [18]
    pd.testing.assert_frame_equal(table[is_exact], right[is_exact], rtol=1e-3)
    assert table.loc[~is_exact, list(_member.ERRORS)].notna().all(axis=None)
    implementation = result.description["implementation"]
    assert implementation == "structured up to 5 points, products beyond"
    assert result.round_off.n_eigenvalues == 2 + 5 + 3


@pytest.mark.parametrize("settings", [{"spectrum": "exact"}, {"outputs": "full"}])
def test_a_kernel_that_cannot_fit_is_one_error_before_any_is_computed(monkeypatch, settings):
    limit_memory(monkeypatch, 1000)
    monkeypatch.setattr(empirical, "empirical_ntk", None)
    with pytest.raises(MemoryError, match="A kernel of 18 points .* GiB, and 0.0 GiB are free"):
        measure(**settings)


@pytest.mark.parametrize(
    "subsets, n_points, settings", [(SUBSETS[1:], N_POINTS, {}), (*ONE.values(), STOCHASTIC)]
)
def test_classes_are_measured_separately(subsets, n_points, settings):
    pool = POOL._replace(classes=CLASSES)
    (result,) = measure(subsets, n_points, pool=pool, **settings)
    table = result.tables["classes"]
    sizes = [(member, n) for member, row in enumerate(n_points) for n in row]
    assert len(table) == sum(len(set(CLASSES[SUBSETS[1][member, :n]])) for member, n in sizes)
    for row in table.rename(columns={"class": "label"}).itertuples():
        rows = SUBSETS[1][row.member, : row.n_points]
        right = kernel(row.member, rows[CLASSES[rows] == row.label])
        assert row.n_in_class == len(right)
        assert row.trace == pytest.approx(np.trace(right), rel=1e-5)


@pytest.mark.parametrize(
    "subsets, n_points, settings", [(SUBSETS[1:], N_POINTS, {}), (*ONE.values(), STOCHASTIC)]
)
def test_samples_are_compared_with_all_points_of_the_largest_subset(subsets, n_points, settings):
    subsample = {"n_samples": 3, "sample_size": 5}
    (result,) = measure(subsets, n_points, subsample=subsample, **settings)
    samples = result.tables["samples"]
    whole = result.tables["collective_variables"].groupby("member").last()
    assert (samples["n_points"].unique() == n_points.max(axis=1)).all()
    table = samples.pivot(index="member", columns="variable", values=["estimate", "exact"])
    for name in _member.SAMPLED:
        np.testing.assert_array_equal(table["exact", name], whole[name])
    # A sample of five of five points is all of them; of more points it has less entropy.
    for ratio, n in zip((table["estimate"] / table["exact"])["entropy"], whole["n_points"]):
        assert ratio < 0.99 if n > 5 else ratio == pytest.approx(1, rel=1e-3)


def test_an_accuracy_is_planned_for_every_member():
    pool = Pool(np.tile(POOL.inputs, (2, 1)), np.tile(POOL.targets, (2, 1)))
    (result,) = measure([np.arange(80)[None]], np.array([[64, 70]]), pool=pool, accuracy=0.3)
    table = result.tables["required"]
    assert table["n_points"].tolist() == [70] and table.notna().all(axis=None)


def test_round_off_of_measured_kernels_is_below_the_tolerance(measurements):
    result = measurements[0].round_off
    assert result.n_eigenvalues == N_POINTS.sum()
    assert -1e-5 < result.worst_relative <= 0


# metrics


def test_metrics_say_how_kernels_were_computed_and_what_round_off_and_width_did(measurements):
    limits = pd.DataFrame({"relative_distance": [0.1, 0.3], "alignment": [0.9, 0.8]})
    first, second = measurements[:2]
    description = second.description | {"blocks": "tiles"}
    other = second._replace(tables={"limits": limits}, description=description)
    metrics = measurement.metrics({"lecun/random": first, "ntk/random": other})
    assert {name: text for name, text in metrics.items() if isinstance(text, str)} == {
        "implementation": "structured",
        "blocks": "one block; tiles",
        "dtype": "float32",
        "matmul_precision": "highest",
        "eigenvalues": "float64, negative ones from round-off set to 0",
    }
    assert metrics["lecun/random"] == first.round_off._asdict()
    means = {"infinite_width_relative_distance": 0.2, "infinite_width_alignment": 0.85}
    assert metrics["ntk/random"] == pytest.approx(other.round_off._asdict() | means)
    assert json.loads(json.dumps(metrics)) == metrics


# arguments


def test_classes_are_those_of_one_hot_targets_and_a_regression_has_none():
    assert measurement.classes_of(np.eye(4)[[2, 0, 3]], "classification").tolist() == [2, 0, 3]
    with pytest.raises(
        ValueError,
        match="^per_class needs a problem of classification: received one of regression.$",
    ):
        measurement.classes_of(POOL.targets, "regression")


def test_pool_that_is_not_finite_is_refused():
    inputs = POOL.inputs.copy()
    inputs[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"pool must be finite: 1 of 120 .* \(7, 1\)"):
        measure(pool=POOL._replace(inputs=inputs))


def test_an_index_outside_the_pool_is_refused():
    outside = [subset.copy() for subset in SUBSETS]
    outside[1][2, 0] = -1
    with pytest.raises(
        ValueError, match="^subsets must be rows of the pool, 0 to 39: received -1.$"
    ):
        measure(outside)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"n_points": N_POINTS[:, ::-1]},
            r"n_points must ascend along its rows: received \[\[5, 2\], .*\]\].",
        ),
        ({"n_points": N_POINTS + 3}, "n_points must not exceed the points selected: 21 > 20."),
        (
            {"subsample": {"n_samples": 2, "sample_size": 6}},
            "sample_size must not exceed the points of a member: 6 > 5.",
        ),
        ({"accuracy": 0.1}, "points of a member, for accuracy, must be at least 64: received 5."),
        (
            {"limit": np.outer, "outputs": "full"},
            "outputs must be mean or sum for infinite_width: received 'full'.",
        ),
        (
            {"pool": POOL._replace(classes=CLASSES), "outputs": "per-output"},
            "outputs must be mean or sum for per_class: received 'per-output'.",
        ),
    ],
)
def test_settings_that_do_not_suit_the_subsets_are_refused_before_any_kernel(
    monkeypatch, options, message
):
    monkeypatch.setattr(empirical, "empirical_ntk", None)
    with pytest.raises(ValueError, match=f"^{message}$"):
        measure(**options)
