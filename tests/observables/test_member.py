"""What is measured of one member, on kernels of known gradients, against loops in NumPy."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest

from collective_variables.ensembles import seeding
from collective_variables.kernels import products
from collective_variables.observables import _member, spectrum
from collective_variables.observables._member import Member
from collective_variables.observables._settings import Settings

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


@dataclass
class Kernel:
    """A known kernel in place of a network's; without a block, its parts and products only."""

    matrix: np.ndarray
    has_block: bool

    @property
    def block(self):
        return self.matrix if self.has_block else None

    def among(self, points):
        return self.matrix[np.ix_(points, points)]

    def product(self, n):
        part = self.matrix[:n, :n]
        return products.KernelProduct(lambda v: part.astype(v.dtype) @ v, np.diag(part))


def make_member(kernel=MEAN, *, has_block=True, classes=None, limit=None, seed=0):
    return Member(Kernel(kernel, has_block), TARGETS, classes, limit, seed, number=2)


def measure(member=None, n_exact=N, **settings):
    return _member.measure_member(member or make_member(), SIZES, n_exact, Settings(**settings))


def entropy(kernel):
    p = np.clip(np.linalg.eigvalsh(kernel), 0, None)
    p = p[p > 0] / p.sum()
    return -(p * np.log(p)).sum()


def naive(kernel, targets=None, n_points=None):
    """Compute all collective variables of a kernel from their definitions."""
    values = np.linalg.eigvalsh(kernel)
    lengths = np.sqrt(np.diag(kernel))
    s = entropy(kernel)
    n = len(kernel)
    variables = {
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
        return variables
    centre = np.eye(n) - 1 / n
    for name, m in (("target_alignment", np.eye(n)), ("centred_target_alignment", centre)):
        k, y = m @ kernel @ m, m @ targets @ targets.T @ m
        variables[name] = np.trace(k @ y) / np.sqrt(np.trace(k @ k) * np.trace(y @ y))
    return variables


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
    result = measure(make_member(FULL), outputs="full")
    for n, row, spectra in zip(SIZES, result.rows["collective_variables"], result.spectra):
        assert row == pytest.approx(
            {"n_points": n} | naive(FULL[: n * C, : n * C], n_points=n), rel=1e-9
        )
        assert len(spectra[0].eigenvalues) == n * C


def test_kernels_of_single_outputs_have_a_row_each_and_their_mean_in_the_table():
    result = measure(make_member(PER_OUTPUT), outputs="per-output")
    rows = iter(result.rows["per_output"])
    for n, mean, spectra in zip(SIZES, result.rows["collective_variables"], result.spectra):
        outputs = [naive(PER_OUTPUT[c, :n, :n], TARGETS[:n, [c]]) for c in range(C)]
        for c, expected in enumerate(outputs):
            assert next(rows) == pytest.approx({"n_points": n, "output": c} | expected, rel=1e-9)
        expected = {name: np.mean([row[name] for row in outputs]) for name in _member.VARIABLES}
        assert mean == pytest.approx({"n_points": n} | expected, rel=1e-9)
        assert len(spectra) == C


def test_sizes_beyond_the_exact_ones_are_estimated_separately_with_errors():
    settings = {"n_leading": 3, "n_probes": 6, "n_steps": 4}
    result = measure(n_exact=20, **settings)
    *exact, estimated = result.rows["collective_variables"]
    assert [len(spectra) for spectra in result.spectra] == [1, 1, 0]
    assert not any(set(row) & set(_member.ERRORS) for row in exact)
    assert set(estimated) == {"n_points", *spectrum.SPECTRAL, *_member.ERRORS}
    right = naive(MEAN)
    assert estimated["trace"] == pytest.approx(right["trace"], rel=1e-5)
    error = estimated["entropy_standard_error"] * 5 + estimated["entropy_quadrature_error"]
    assert 1e-6 < abs(estimated["entropy"] - right["entropy"]) < error < 0.5
    assert estimated["effective_rank"] == pytest.approx(np.exp(estimated["entropy"]))
    assert measure(n_exact=20, **settings).rows == result.rows
    assert (
        measure(make_member(seed=1), n_exact=20, **settings).rows["collective_variables"][-1]
        != estimated
    )


def test_sizes_of_an_estimate_do_not_depend_on_the_others():
    settings = Settings(spectrum="stochastic", n_leading=1, n_probes=3, n_steps=2)
    member = make_member(has_block=False)

    def rows(sizes):
        result = _member.measure_member(member, sizes, 0, settings)
        return result.rows["collective_variables"]

    assert rows([40, N]) == rows([40]) + rows([N])


@pytest.mark.parametrize("has_block", [True, False])
def test_each_class_is_measured_separately_at_every_size(has_block):
    settings = {} if has_block else {"spectrum": "stochastic", "n_exact": 0}
    rows = measure(make_member(has_block=has_block, classes=CLASSES), **settings).rows["classes"]
    expected = [(n, value) for n in SIZES for value in sorted(set(CLASSES[:n].tolist()))]
    assert [(row["n_points"], row["class"]) for row in rows] == expected
    for row in rows:
        points = [i for i in range(row["n_points"]) if CLASSES[i] == row["class"]]
        right = {"trace": MEAN[points[0], points[0]]}
        if len(points) > 1:
            right = naive(MEAN[points][:, points])
        assert row["n_in_class"] == len(points)
        assert {name: row[name] for name in right} == pytest.approx(right, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("has_block", [True, False])
def test_the_largest_kernel_is_compared_with_that_of_infinite_width(has_block):
    noise = GENERATOR.normal(size=(N + 16, 5))
    limit = noise @ noise.T
    limit[:N, :N] += 2 * MEAN
    settings = {} if has_block else {"spectrum": "stochastic", "n_exact": 0}
    result = measure(make_member(has_block=has_block, limit=limit), **settings)
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
    (row,) = measure(make_member(limit=limit)).rows["limits"]
    assert row["limit_trace"] == pytest.approx(N)
    assert row["limit_entropy"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("has_block", [True, False])
def test_samples_of_all_points_are_exact_and_smaller_ones_scatter_around_the_trace(has_block):
    settings = {} if has_block else {"spectrum": "stochastic", "n_exact": 0}
    for sample_size in (N, 20):
        result = measure(
            make_member(has_block=has_block),
            subsample={"n_samples": 8, "sample_size": sample_size},
            **settings,
        )
        samples = {row["variable"]: row for row in result.rows["samples"]}
        right = naive(MEAN)
        assert tuple(samples) == _member.SAMPLED
        for name, row in samples.items():
            assert (row["n_samples"], row["sample_size"]) == (8, sample_size)
            assert row["exact"] == result.rows["collective_variables"][-1][name]
            if sample_size == N:
                assert row["estimate"] == pytest.approx(right[name], rel=1e-9)
                assert row["standard_deviation"] == pytest.approx(0, abs=1e-9)
    trace = samples["trace_per_point"]
    assert 0 < abs(trace["estimate"] - right["trace_per_point"]) < 2 * trace["standard_deviation"]
    # Twenty points cannot have the entropy of all.
    entropies = samples["entropy"]
    assert entropies["estimate"] < right["entropy"] - entropies["standard_deviation"]


def test_an_accuracy_gives_the_samples_it_takes_and_an_extrapolated_entropy():
    (row,) = measure(accuracy=0.2).rows["required"]
    assert set(row) == {"n_points", *_member.COLUMNS["required"]}
    assert row["accuracy"] == 0.2 and 1 <= row["sample_size"] <= N and row["n_samples"] >= 1
    assert row["exact_entropy"] == pytest.approx(entropy(MEAN))
    assert abs(row["entropy"] - row["exact_entropy"]) < 3 * row["entropy_uncertainty"]


def test_probes_and_samples_are_drawn_with_keys_of_their_purposes(monkeypatch):
    purposes = []

    def key(member, purpose):
        purposes.append(purpose)
        return jax.random.key(0)

    monkeypatch.setattr(Member, "key", key)
    settings = {"n_leading": 2, "n_probes": 3, "n_steps": 2, "accuracy": 0.2}
    measure(n_exact=20, subsample={"n_samples": 2, "sample_size": 5}, **settings)
    assert purposes == ["probes", "samples", "samples"]


def test_a_member_has_its_key_of_the_ensemble_for_each_purpose():
    for purpose in ("probes", "samples"):
        keys = seeding.member_keys(seeding.key(7, purpose), 4)
        assert make_member(seed=7).key(purpose) == keys[2]
