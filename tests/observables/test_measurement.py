"""Kernels of ensembles against those of a network written out in NumPy, one subset at a time."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest

from collective_variables import _memory
from collective_variables.ensembles import execution, seeding
from collective_variables.kernels import empirical
from collective_variables.networks import sequential
from collective_variables.observables import _capacity, _member, measurement, spectrum
from collective_variables.observables.measurement import Pool, Settings
from collective_variables.observables.spectrum import Spectrum

pytestmark = pytest.mark.usefixtures("quick_compilation")
GENERATOR = np.random.default_rng(0)
POOL = Pool(
    GENERATOR.normal(size=(40, 3)).astype(np.float32),
    GENERATOR.normal(size=(40, 2)).astype(np.float32),
)
CLASSES = GENERATOR.integers(0, 3, 40)
NETWORK = sequential.build_network(["dense 6", "dense 2"])
KEYS = seeding.member_keys(seeding.key(0, "initialisation"), 3)
# The sizes are ragged, and lie below, at and above the padded size of 16.
SUBSETS = [np.stack([GENERATOR.permutation(40)[:20] for _ in range(3)]) for _ in range(2)]
N_POINTS = np.array([[2, 5], [3, 18], [7, 16]])
STOCHASTIC = {"spectrum": "stochastic", "n_leading": 1, "n_probes": 4, "n_steps": 2}
# One member and size, for what is compiled for every size.
ONE = {"subsets": [SUBSETS[1][:1]], "n_points": np.array([[18]])}


def measure(
    subsets=SUBSETS,
    n_points=N_POINTS,
    *,
    network=NETWORK,
    pool=POOL,
    seed=0,
    limit=None,
    **settings,
):
    return measurement.measure_ensemble(
        network, pool, subsets, n_points, seed=seed, settings=Settings(**settings), limit=limit
    )


def gradients(member, x):
    """(n_points, 2, n_parameters) of `NETWORK` in float64, with the Jacobian written out for every
    point.
    """
    params = NETWORK.init(KEYS[member], POOL.inputs[:1])["params"]
    w1, b1, w2 = (
        np.asarray(params[layer][name], np.float64)
        for layer, name in (("Dense_0", "kernel"), ("Dense_0", "bias"), ("Dense_1", "kernel"))
    )
    rows = np.zeros((len(x), 2, w1.size + b1.size + w2.size + 2))
    for row, point in zip(rows, x.astype(np.float64)):
        before = point @ w1 + b1
        for c in range(2):
            back = w2[:, c] * (before > 0)
            hidden = np.zeros((6, 2))
            hidden[:, c] = np.maximum(before, 0)
            row[c] = np.concatenate(
                [np.outer(point, back).ravel(), back, hidden.ravel(), np.eye(2)[c]]
            )
    return rows


def kernel(member, rows, outputs="mean"):
    found = gradients(member, POOL.inputs[rows])
    if outputs == "full":
        found = found.reshape(2 * len(rows), 1, -1)
    of_outputs = np.einsum("icp,jcp->cij", found, found)
    return (
        of_outputs
        if outputs == "per-output"
        else of_outputs.sum(axis=0) / (2 if outputs == "mean" else 1)
    )


def each():
    """Every subset array, member and size, with the number of points."""
    return [(*where, N_POINTS[where[1:]]) for where in np.ndindex(2, 3, 2)]


@pytest.fixture(scope="module")
def measured():
    return measure([*SUBSETS, *SUBSETS])


@pytest.fixture(scope="module")
def expected():
    """Eigenvalues by subset array, member and size."""
    kernels = {
        (s, member, place): kernel(member, SUBSETS[s][member, :n]) for s, member, place, n in each()
    }
    return {where: np.linalg.eigvalsh(of) for where, of in kernels.items()}


def test_measure_gives_the_spectrum_of_every_subset_member_and_size(measured, expected):
    for subset, member, place, n in each():
        actual, right = measured[subset].eigenvalues[member, place], expected[subset, member, place]
        assert np.abs(actual[:n] - right).max() < 1e-5 * right[-1]
        assert np.isnan(actual[n:]).all()
        # Neither another member's subset nor the other array's would do.
        wrong = [expected[1 - subset, member, place], expected[subset, (member + 1) % 3, place]]
        assert all(abs(actual[n - 1] - other[-1]) > 1e-3 * right[-1] for other in wrong)


def test_network_of_a_member_is_the_same_for_every_subset_array(measured):
    first, second, *again = (of.eigenvalues for of in measured)
    np.testing.assert_array_equal(again, [first, second])
    assert not np.array_equal(first, second, equal_nan=True)


def test_table_has_a_row_per_member_and_size_with_all_variables(measured):
    table = measured[0].tables["collective_variables"]
    assert list(table.columns) == ["member", "n_points", *_member.VARIABLES, *_member.ERRORS]
    assert table["member"].tolist() == [0, 0, 1, 1, 2, 2]
    assert table["n_points"].tolist() == N_POINTS.ravel().tolist()
    assert table[list(_member.VARIABLES)].notna().all(axis=None) and table[
        list(_member.ERRORS)
    ].isna().all(axis=None)
    for row in table.itertuples():
        rows = SUBSETS[0][row.member, : row.n_points]
        right, y = kernel(row.member, rows), POOL.targets[rows].astype(np.float64)
        aligned = (right * (y @ y.T)).sum() / np.linalg.norm(right) / np.linalg.norm(y @ y.T)
        assert row.trace == pytest.approx(np.trace(right), rel=1e-5)
        assert row.target_alignment == pytest.approx(aligned, rel=1e-4)


def test_tables_that_are_not_asked_for_are_empty_with_their_columns(measured):
    tables = measured[0].tables
    assert {name for name, table in tables.items() if table.empty} == {*_member.COLUMNS} - {
        "collective_variables"
    }
    assert all(
        list(tables[name].columns) == ["member", "n_points", *of]
        for name, of in _member.COLUMNS.items()
    )


@pytest.mark.parametrize("outputs", ["sum", "full", "per-output"])
def test_outputs_are_those_of_the_kernel(outputs):
    found = measure(outputs=outputs)
    for subset, member, place, n in each():
        right = np.linalg.eigvalsh(kernel(member, SUBSETS[subset][member, :n], outputs))
        actual = found[subset].eigenvalues[member, place]
        np.testing.assert_allclose(actual[..., : right.shape[-1]], right, atol=1e-5 * right.max())
        assert np.isnan(actual[..., right.shape[-1] :]).all()
    table = found[0].tables["collective_variables"]
    assert table["target_alignment"].isna().all() == (outputs == "full")
    assert table["cosine_entropy"].notna().all()
    assert len(found[0].tables["per_output"]) == (12 if outputs == "per-output" else 0)


def test_float64_is_the_same_networks_in_more_digits(measured, expected):
    wide = measure(dtype="float64")
    for subset, member, place, n in each():
        right = expected[subset, member, place]
        assert np.abs(wide[subset].eigenvalues[member, place, :n] - right).max() < 1e-12 * right[-1]
    assert wide[0].done["dtype"] == "float64" and not jax.config.jax_enable_x64
    assert (
        max(np.nanmax(np.abs(a.eigenvalues - b.eigenvalues)) for a, b in zip(wide, measured)) > 1e-8
    )


def no_memory(monkeypatch, free):
    """So much for the planning of ensembles alone."""
    monkeypatch.setattr(
        _capacity, "_memory", SimpleNamespace(available=lambda: free, GIB=_memory.GIB)
    )


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
def test_every_implementation_and_block_gives_the_same_and_says_what_it_was(
    measured, settings, implementation, blocks
):
    found = measure(**settings)
    for actual, right in zip(found, measured):
        np.testing.assert_allclose(
            actual.eigenvalues, right.eigenvalues, atol=1e-5 * np.nanmax(right.eigenvalues)
        )
    assert (found[0].done["implementation"], found[0].done["blocks"]) == (implementation, blocks)


def test_large_kernels_are_measured_one_after_another_with_the_same_result(measured, monkeypatch):
    monkeypatch.setattr(_capacity, "LARGE", 17)
    monkeypatch.setattr(execution, "_in_threads", None)
    found = measure()
    for actual, right in zip(found, measured):
        np.testing.assert_allclose(
            actual.eigenvalues, right.eigenvalues, atol=1e-5 * np.nanmax(right.eigenvalues)
        )
        tables = (of.tables["collective_variables"] for of in (actual, right))
        pd.testing.assert_frame_equal(*tables, rtol=1e-3)


@pytest.mark.parametrize("outputs", ["mean", "sum"])
def test_estimates_lie_within_their_errors_and_nothing_is_decomposed(outputs):
    (found,), (again,), (other,) = (
        measure(**ONE, outputs=outputs, seed=seed, **STOCHASTIC) for seed in (0, 0, 1)
    )
    assert np.isnan(found.eigenvalues).all() and found.round_off == (0, 0, 0.0)
    table = found.tables["collective_variables"]
    pd.testing.assert_frame_equal(table, again.tables["collective_variables"])
    assert not np.allclose(table["entropy"], other.tables["collective_variables"]["entropy"])
    assert table[list(_member.VARIABLES[len(spectrum.SPECTRAL) :])].isna().all(axis=None)
    (row,) = table.itertuples()
    right = np.linalg.eigvalsh(kernel(0, SUBSETS[1][0, :18], outputs)).clip(0)
    p = right[right > 0] / right.sum()
    assert row.trace == pytest.approx(right.sum(), rel=1e-5)
    assert (
        abs(row.entropy + (p * np.log(p)).sum())
        < 20 * row.entropy_standard_error + row.entropy_quadrature_error
        < 1
    )
    assert row.largest_eigenvalue <= right[-1] * (1 + 1e-5)


def test_sizes_that_fit_are_exact_and_larger_ones_estimated(measured, monkeypatch):
    no_memory(monkeypatch, _capacity.n_bytes(NETWORK, POOL.inputs, 7, Settings(), has_limit=False))
    found = measure(SUBSETS[:1], N_POINTS[:2], n_leading=1, n_probes=3, n_steps=1)
    table, right = (
        found[0].tables["collective_variables"],
        measured[0].tables["collective_variables"][:4],
    )
    is_exact = table["n_points"] <= 7
    assert table["n_points"][~is_exact].tolist() == [18]
    pd.testing.assert_frame_equal(table[is_exact], right[is_exact], rtol=1e-3)
    assert table.loc[~is_exact, list(_member.ERRORS)].notna().all(axis=None)
    assert found[0].done["implementation"] == "structured up to 5 points, products beyond"
    assert found[0].round_off.n_eigenvalues == 2 + 5 + 3


@pytest.mark.parametrize("settings", [{"spectrum": "exact"}, {"outputs": "full"}])
def test_a_kernel_that_cannot_fit_is_one_error_before_any_is_computed(monkeypatch, settings):
    no_memory(monkeypatch, 1000)
    monkeypatch.setattr(empirical, "empirical_ntk", None)
    with pytest.raises(MemoryError, match="A kernel of 18 points .* GiB, and 0.0 GiB are free"):
        measure(**settings)


@pytest.mark.parametrize(
    "subsets, n_points, settings", [(SUBSETS[1:], N_POINTS, {}), (*ONE.values(), STOCHASTIC)]
)
def test_classes_are_measured_by_themselves(subsets, n_points, settings):
    table = measure(subsets, n_points, pool=POOL._replace(classes=CLASSES), **settings)[0].tables[
        "classes"
    ]
    sizes = [(member, n) for member, of_member in enumerate(n_points) for n in of_member]
    assert len(table) == sum(len(set(CLASSES[SUBSETS[1][member, :n]])) for member, n in sizes)
    for row in table.rename(columns={"class": "of"}).itertuples():
        rows = SUBSETS[1][row.member, : row.n_points]
        right = kernel(row.member, rows[CLASSES[rows] == row.of])
        assert row.n_in_class == len(right) and row.trace == pytest.approx(
            np.trace(right), rel=1e-5
        )


@pytest.mark.parametrize(
    "subsets, n_points, settings", [(SUBSETS[1:], N_POINTS, {}), (*ONE.values(), STOCHASTIC)]
)
def test_samples_stand_beside_all_points_of_the_largest_subset(subsets, n_points, settings):
    (found,) = measure(subsets, n_points, subsample={"n_samples": 3, "sample_size": 5}, **settings)
    samples, of_all = (
        found.tables["samples"],
        found.tables["collective_variables"].groupby("member").last(),
    )
    assert (samples["n_points"].unique() == n_points.max(axis=1)).all()
    table = samples.pivot(index="member", columns="variable", values=["estimate", "exact"])
    for name in _member.SAMPLED:
        np.testing.assert_array_equal(table["exact", name], of_all[name])
    # Five points are in every sample of five; samples of more are smaller than all.
    for ratio, n in zip((table["estimate"] / table["exact"])["entropy"], of_all["n_points"]):
        assert ratio < 0.99 if n > 5 else ratio == pytest.approx(1, rel=1e-3)


def test_an_accuracy_is_planned_for_every_member():
    pool = Pool(np.tile(POOL.inputs, (2, 1)), np.tile(POOL.targets, (2, 1)))
    table = measure([np.arange(80)[None]], np.array([[64, 70]]), pool=pool, accuracy=0.3)[0].tables[
        "required"
    ]
    assert table["n_points"].tolist() == [70] and table.notna().all(axis=None)


# Infinite width

LAYERS = ["dense 6", "dense 2"]
LIMIT = measurement.infinite_width_limit(
    LAYERS, parametrisations=["ntk"], activation="relu", padding="SAME", b_std=None
)


def arc_cosine(x):
    """The NTK of a hidden layer of infinitely many rectifiers without biases (Cho, Saul 2009; Jacot
    et al. 2018).
    """
    x = x.astype(np.float64)
    covariance = x @ x.T / x.shape[1]
    lengths = np.sqrt(np.diag(covariance))
    angle = np.arccos(np.clip(covariance / np.outer(lengths, lengths), -1, 1))
    of_outputs = (
        np.outer(lengths, lengths) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    )
    return of_outputs + covariance * (np.pi - angle) / (2 * np.pi)


def against_limit(width=6, *, parametrisation="ntk", limit=LIMIT, **options):
    network = sequential.build_network(
        [f"dense {width}", "dense 2"], parametrisation=parametrisation
    )
    return [of.tables["limits"] for of in measure(network=network, limit=limit, **options)]


@pytest.mark.parametrize("outputs", ["mean", "sum"])
def test_wide_networks_are_near_their_limit_of_infinite_width_and_narrow_ones_are_not(outputs):
    narrow, wide = (against_limit(width, outputs=outputs)[0] for width in (6, 20_000))
    assert narrow["n_points"].tolist() == N_POINTS.max(axis=1).tolist()
    assert (wide["relative_distance"] < 0.03).all() and (narrow["relative_distance"] > 0.1).all()
    assert (wide["alignment"] > 0.999).all() and (narrow["alignment"] < 0.999).all()
    for row in wide.itertuples():
        right = arc_cosine(POOL.inputs[SUBSETS[0][row.member, : row.n_points]]) * (
            2 if outputs == "sum" else 1
        )
        p = np.linalg.eigvalsh(right) / np.trace(right)
        assert row.limit_trace == pytest.approx(np.trace(right), rel=1e-6)
        assert row.limit_entropy == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)
        assert (row.trace, row.entropy) == pytest.approx(
            (row.limit_trace, row.limit_entropy), rel=0.05
        )


def test_the_limit_stands_beside_estimates_too():
    exact, estimated = (against_limit(**ONE, **settings)[0] for settings in ({}, STOCHASTIC))
    for name in ("relative_distance", "alignment", "limit_entropy"):
        np.testing.assert_allclose(estimated[name], exact[name], rtol=1e-4)


def test_the_limit_is_computed_once_for_the_same_points_and_not_for_other_parametrisations():
    computed = []

    def limit(points):
        jax.debug.callback(computed.append, points[0, 0])
        return LIMIT(points)

    shared = SUBSETS[0].copy()
    shared[1] = shared[2] = shared[0]
    first, second = against_limit(subsets=[shared, SUBSETS[1]], limit=limit)
    jax.effects_barrier()
    assert len(computed) == 1 + 3
    for row in first.itertuples():
        right = arc_cosine(POOL.inputs[shared[0, : row.n_points]])
        assert row.limit_trace == pytest.approx(np.trace(right), rel=1e-6)
    assert (
        all(table.empty for table in against_limit(parametrisation="lecun", limit=limit))
        and len(computed) == 4
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"parametrisations": ["lecun"]},
            "infinite_width needs the parametrisation ntk: received lecun.",
        ),
        (
            {"activation": "tanh"},
            "activation for infinite_width must be one of relu: received 'tanh'.",
        ),
    ],
)
def test_a_network_without_a_limit_is_refused(changes, message):
    architecture = {
        "parametrisations": ["lecun", "ntk"],
        "activation": "relu",
        "padding": "SAME",
        "b_std": 0.1,
    }
    assert measurement.infinite_width_limit(LAYERS, **architecture)(POOL.inputs[:3]).shape == (3, 3)
    with pytest.raises(ValueError, match=f"^{message}$"):
        measurement.infinite_width_limit(LAYERS, **architecture | changes)


def test_classes_are_those_of_one_hot_targets_and_a_regression_has_none():
    assert measurement.classes_of(np.eye(4)[[2, 0, 3]], "classification").tolist() == [2, 0, 3]
    with pytest.raises(
        ValueError,
        match="^per_class needs a problem of classification: received one of regression.$",
    ):
        measurement.classes_of(POOL.targets, "regression")


# Arguments and metrics


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
            {"limit": LIMIT, "outputs": "full"},
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


def test_metrics_say_what_was_done_and_what_round_off_and_width_did(measured):
    limits = pd.DataFrame({"relative_distance": [0.1, 0.3], "alignment": [0.9, 0.8]})
    other = measured[1]._replace(
        tables={"limits": limits}, done=measured[1].done | {"blocks": "tiles"}
    )
    metrics = measurement.metrics({"lecun/random": measured[0], "ntk/random": other})
    assert {name: text for name, text in metrics.items() if isinstance(text, str)} == {
        "implementation": "structured",
        "blocks": "one block; tiles",
        "dtype": "float32",
        "matmul_precision": "highest",
        "eigenvalues": "float64, negative ones from round-off set to 0",
    }
    assert metrics["lecun/random"] == measured[0].round_off._asdict()
    of_limit = {"infinite_width_relative_distance": 0.2, "infinite_width_alignment": 0.85}
    assert metrics["ntk/random"] == pytest.approx(other.round_off._asdict() | of_limit)
    assert json.loads(json.dumps(metrics)) == metrics


def of(eigenvalues, n_negative=0, most_negative=0.0):
    return Spectrum(np.array(eigenvalues), n_negative, most_negative)


def test_round_off_counts_over_all_members_sizes_and_outputs():
    flat = [
        of([1.0, 2.0]),
        of([0.0, 0.0, 4.0], 2, -4e-7),
        of([0.0, 0.5], 1, -3e-7),
        of([0.0, 0.0, 0.0]),
    ]
    assert measurement.round_off([[flat[:1], flat[1:2]], [flat[2:], []]]) == pytest.approx(
        (10, 3, -6e-7)
    )
    assert measurement.round_off([[[of([0.0])]]]) == (1, 0, 0.0)


def test_round_off_of_measured_kernels_is_below_the_tolerance(measured):
    result = measured[0].round_off
    assert result.n_eigenvalues == N_POINTS.sum()
    assert -1e-5 < result.worst_relative <= 0


def test_padded_holds_the_eigenvalues_and_nothing_behind_them():
    array = measurement.pad_eigenvalues(
        [[[of([1.0, 2.0]), of([3.0])], []], [[of([4.0])], [of([5.0])]]]
    )
    nan = np.nan
    expected = [
        [[[1, 2], [3, nan]], [[nan, nan]] * 2],
        [[[4, nan], [nan, nan]], [[5, nan], [nan, nan]]],
    ]
    np.testing.assert_array_equal(array, expected)
    assert measurement.pad_eigenvalues([[[]]]).shape == (1, 1, 1, 0)
