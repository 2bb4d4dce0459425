"""What is measured of one member, on kernels made of given gradients, against loops in NumPy."""

import jax
import numpy as np
import pytest

from collective_variables.kernels import products
from collective_variables.observables import _member, spectrum
from collective_variables.observables._member import Member, Settings

pytestmark = pytest.mark.usefixtures("quick_compilation")
N, C, N_PARAMETERS = 80, 3, 30
GENERATOR = np.random.default_rng(0)
GRADIENTS = GENERATOR.normal(size=(N, C, N_PARAMETERS)) / np.arange(1, N_PARAMETERS + 1)
TARGETS = GENERATOR.normal(size=(N, C))
CLASSES = GENERATOR.integers(0, 4, N)
SIZES = np.array([6, 20, N])
MEAN = np.einsum("icp,jcp->ij", GRADIENTS, GRADIENTS) / C
FULL = GRADIENTS.reshape(N * C, -1) @ GRADIENTS.reshape(N * C, -1).T
PER_OUTPUT = np.einsum("icp,jcp->cij", GRADIENTS, GRADIENTS)


def member(kernel=MEAN, *, formed=True, classes=None, limit=None, seed=0):
    """A member that has its kernel, or one whose kernel is only had block by block and by
    products.
    """
    return Member(
        kernel=kernel if formed else None,
        kernel_of=lambda rows: kernel[np.ix_(rows, rows)],
        product_of=lambda n: products.KernelProduct(
            lambda v: kernel[:n, :n].astype(v.dtype) @ v, np.diag(kernel)[:n]
        ),
        targets=TARGETS,
        classes=classes,
        limit=limit,
        key=lambda purpose: jax.random.fold_in(jax.random.key(seed), len(purpose)),
    )


def measure(of=None, n_exact=N, **settings):
    return _member.measure_member(of or member(), SIZES, n_exact, Settings(**settings))


def entropy(kernel):
    p = np.clip(np.linalg.eigvalsh(kernel), 0, None)
    p = p[p > 0] / p.sum()
    return -(p * np.log(p)).sum()


def naive(kernel, targets=None, n_points=None):
    """All collective variables of a kernel, from their definitions."""
    values, lengths, s = np.linalg.eigvalsh(kernel), np.sqrt(np.diag(kernel)), entropy(kernel)
    n = len(kernel)
    found = {
        "entropy": s,
        "trace": values.sum(),
        "largest_eigenvalue": values[-1],
        "effective_entropy": s / np.log(n),
        "effective_rank": np.exp(s),
        "trace_per_point": values.sum() / (n_points or n),
        "largest_eigenvalue_fraction": values[-1] / values.sum(),
        "cosine_entropy": entropy(
            [[kernel[i, j] / lengths[i] / lengths[j] for j in range(n)] for i in range(n)]
        ),
        "magnitude_entropy": -sum(p * np.log(p) for p in lengths / lengths.sum()),
    }
    if targets is None:
        return found
    centre = np.eye(n) - 1 / n
    for name, m in (("target_alignment", np.eye(n)), ("centred_target_alignment", centre)):
        k, y = m @ kernel @ m, m @ targets @ targets.T @ m
        found[name] = np.trace(k @ y) / np.sqrt(np.trace(k @ k) * np.trace(y @ y))
    return found


def test_a_kernel_gives_every_collective_variable_of_each_leading_block():
    result = measure()
    assert [row.pop("n_points") for row in result.rows["collective_variables"]] == SIZES.tolist()
    for n, row, spectra in zip(SIZES, result.rows["collective_variables"], result.spectra):
        assert tuple(row) == _member.VARIABLES
        assert row == pytest.approx(naive(MEAN[:n, :n], TARGETS[:n]), rel=1e-9)
        np.testing.assert_allclose(
            spectra[0].eigenvalues, np.linalg.eigvalsh(MEAN[:n, :n]), atol=1e-12
        )
    assert not any(rows for name, rows in result.rows.items() if name != "collective_variables")


def test_a_kernel_over_all_outputs_is_cut_at_points_and_has_no_alignment_with_targets():
    result = measure(member(FULL), outputs="full")
    for n, row, spectra in zip(SIZES, result.rows["collective_variables"], result.spectra):
        assert row == pytest.approx(
            {"n_points": n} | naive(FULL[: n * C, : n * C], n_points=n), rel=1e-9
        )
        assert len(spectra[0].eigenvalues) == n * C


def test_kernels_of_single_outputs_have_rows_of_their_own_and_their_mean_in_the_table():
    result = measure(member(PER_OUTPUT), outputs="per-output")
    rows = iter(result.rows["per_output"])
    for n, mean, spectra in zip(SIZES, result.rows["collective_variables"], result.spectra):
        of_outputs = [naive(PER_OUTPUT[c, :n, :n], TARGETS[:n, [c]]) for c in range(C)]
        for c, expected in enumerate(of_outputs):
            assert next(rows) == pytest.approx({"n_points": n, "output": c} | expected, rel=1e-9)
        expected = {name: np.mean([of[name] for of in of_outputs]) for name in _member.VARIABLES}
        assert mean == pytest.approx({"n_points": n} | expected, rel=1e-9)
        assert len(spectra) == C


def test_sizes_beyond_the_exact_ones_are_estimated_each_for_itself_with_errors():
    settings = {"n_leading": 3, "n_probes": 3, "n_steps": 4}
    result = measure(n_exact=20, **settings)
    *exact, estimated = result.rows["collective_variables"]
    assert [len(spectra) for spectra in result.spectra] == [1, 1, 0]
    assert not any(set(row) & set(_member.ERRORS) for row in exact)
    assert set(estimated) == {"n_points", *spectrum.SPECTRAL, *_member.ERRORS}
    right = naive(MEAN)
    assert estimated["trace"] == pytest.approx(right["trace"], rel=1e-5)
    error = estimated["entropy_standard_error"] * 15 + estimated["entropy_quadrature_error"]
    assert 1e-6 < abs(estimated["entropy"] - right["entropy"]) < error < 0.5
    assert estimated["effective_rank"] == pytest.approx(np.exp(estimated["entropy"]))
    assert measure(n_exact=20, **settings).rows == result.rows
    assert (
        measure(member(seed=1), n_exact=20, **settings).rows["collective_variables"][-1]
        != estimated
    )


def test_sizes_of_an_estimate_do_not_depend_on_the_others():
    settings = Settings(spectrum="stochastic", n_leading=1, n_probes=3, n_steps=2)
    together = _member.measure_member(member(formed=False), [40, N], 0, settings).rows[
        "collective_variables"
    ]
    alone = [
        _member.measure_member(member(formed=False), [n], 0, settings).rows["collective_variables"][
            0
        ]
        for n in (40, N)
    ]
    assert together == alone


@pytest.mark.parametrize("formed", [True, False])
def test_each_class_is_measured_by_itself_at_every_size(formed):
    settings = {} if formed else {"spectrum": "stochastic", "n_exact": 0}
    rows = measure(member(formed=formed, classes=CLASSES), **settings).rows["classes"]
    expected = [(n, value) for n in SIZES for value in sorted(set(CLASSES[:n].tolist()))]
    assert [(row["n_points"], row["class"]) for row in rows] == expected
    for row in rows:
        chosen = [i for i in range(row["n_points"]) if CLASSES[i] == row["class"]]
        right = (
            naive(MEAN[chosen][:, chosen])
            if len(chosen) > 1
            else {"trace": MEAN[chosen[0], chosen[0]]}
        )
        assert row["n_in_class"] == len(chosen)
        assert {name: row[name] for name in right} == pytest.approx(right, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("formed", [True, False])
def test_the_largest_kernel_is_held_against_that_of_infinite_width(formed):
    noise = GENERATOR.normal(size=(N + 16, 5))
    limit = noise @ noise.T
    limit[:N, :N] += 2 * MEAN
    settings = {} if formed else {"spectrum": "stochastic", "n_exact": 0}
    result = measure(member(formed=formed, limit=limit), **settings)
    (row,) = result.rows["limits"]
    right = limit[:N, :N]
    norm = np.sqrt((right**2).sum())
    finite = result.rows["collective_variables"][-1]
    assert row == pytest.approx(
        {
            "n_points": N,
            "relative_distance": np.sqrt(((MEAN - right) ** 2).sum()) / norm,
            "alignment": (MEAN * right).sum() / np.sqrt((MEAN**2).sum()) / norm,
            "entropy": finite["entropy"],
            "trace": finite["trace"],
            "limit_entropy": entropy(right),
            "limit_trace": np.trace(right),
        },
        rel=1e-5,
    )


def test_a_limit_of_half_the_digits_is_no_error():
    """Equal points, whose analytic kernel has eigenvalues of some 1e-8 below zero."""
    limit = np.ones((N, N)) + 1e-8 * np.diag((-1.0) ** np.arange(N))
    assert np.linalg.eigvalsh(limit)[0] < -9e-9
    (row,) = measure(member(limit=limit)).rows["limits"]
    assert row["limit_trace"] == pytest.approx(N) and row["limit_entropy"] == pytest.approx(
        0, abs=1e-5
    )


@pytest.mark.parametrize("formed", [True, False])
def test_samples_of_all_points_are_exact_and_smaller_ones_scatter_around_the_trace(formed):
    settings = {} if formed else {"spectrum": "stochastic", "n_exact": 0}
    for sample_size in (N, 20):
        result = measure(
            member(formed=formed),
            subsample={"n_samples": 8, "sample_size": sample_size},
            **settings,
        )
        of, right = {row["variable"]: row for row in result.rows["samples"]}, naive(MEAN)
        assert tuple(of) == _member.SAMPLED
        assert all(
            row["n_samples"] == 8 and row["sample_size"] == sample_size for row in of.values()
        )
        for name, row in of.items():
            assert row["exact"] == result.rows["collective_variables"][-1][name]
            if sample_size == N:
                assert row["estimate"] == pytest.approx(right[name], rel=1e-9)
                assert row["standard_deviation"] == pytest.approx(0, abs=1e-9)
    trace = of["trace_per_point"]
    assert 0 < abs(trace["estimate"] - right["trace_per_point"]) < 2 * trace["standard_deviation"]
    # Twenty points can't hold the entropy of all.
    assert of["entropy"]["estimate"] < right["entropy"] - of["entropy"]["standard_deviation"]


def test_an_accuracy_gives_the_samples_it_takes_and_the_extrapolated_entropy_beside_the_exact_one():
    (row,) = measure(accuracy=0.2).rows["required"]
    assert set(row) == {"n_points", *_member.COLUMNS["required"]}
    assert row["accuracy"] == 0.2 and 1 <= row["sample_size"] <= N and row["n_samples"] >= 1
    assert row["exact_entropy"] == pytest.approx(entropy(MEAN))
    assert abs(row["entropy"] - row["exact_entropy"]) < 3 * row["entropy_uncertainty"]


def test_samples_and_pilot_are_drawn_with_keys_of_their_own():
    purposes = []
    of = member()

    def key(purpose):
        purposes.append(purpose)
        return jax.random.key(0)

    of = Member(**{name: getattr(of, name) for name in of.__dataclass_fields__} | {"key": key})
    settings = {"n_leading": 2, "n_probes": 3, "n_steps": 2, "accuracy": 0.2}
    measure(of, n_exact=20, subsample={"n_samples": 2, "sample_size": 5}, **settings)
    assert purposes == ["probes", "samples", "samples"]


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (
            {"outputs": "all"},
            ValueError,
            "outputs must be one of full, mean, per-output, sum: received 'all'.",
        ),
        (
            {"implementation": "fast"},
            ValueError,
            "implementation must be one of .*: received 'fast'.",
        ),
        (
            {"dtype": "float16"},
            ValueError,
            "dtype must be one of float32, float64: received 'float16'.",
        ),
        (
            {"spectrum": "some"},
            ValueError,
            "spectrum must be one of auto, exact, stochastic: received 'some'.",
        ),
        ({"block_size": 0}, ValueError, "block_size must be at least 1: received 0."),
        ({"n_leading": 0}, ValueError, "n_leading must be at least 1: received 0."),
        ({"n_probes": 2}, ValueError, "n_probes must be at least 3: received 2."),
        ({"n_steps": "ten"}, TypeError, "n_steps must be an integer: received 'ten'."),
        (
            {"subsample": 5},
            ValueError,
            "subsample must have n_samples and sample_size: received 5.",
        ),
        (
            {"subsample": {"n_samples": 5}},
            ValueError,
            "subsample must have n_samples and sample_size: .*{'n_samples",
        ),
        (
            {"subsample": {"n_samples": 1, "sample_size": 5}},
            ValueError,
            "subsample.n_samples must be at least 2: received 1.",
        ),
        (
            {"subsample": {"n_samples": 2, "sample_size": 0}},
            ValueError,
            "subsample.sample_size must be at least 1: received 0.",
        ),
        ({"accuracy": 0}, ValueError, "accuracy must be greater than 0.0: received 0."),
        (
            {"outputs": "full", "spectrum": "stochastic"},
            ValueError,
            "outputs must be mean or sum for spectrum stochastic: received 'full'.",
        ),
        (
            {"outputs": "per-output", "accuracy": 0.1},
            ValueError,
            "outputs must be mean or sum for subsample and accuracy: received 'per-output'.",
        ),
    ],
)
def test_unfit_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Settings(**settings)
