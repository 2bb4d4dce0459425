"""Plans for an amount of free memory."""

from types import SimpleNamespace

import numpy as np
import pytest

from collective_variables import _machine, _memory
from collective_variables.kernels import empirical
from collective_variables.networks import sequential
from collective_variables.observables import _capacity
from collective_variables.observables._capacity import Plan, Requirements
from collective_variables.observables._settings import Settings

POINTS = np.zeros((32, 4), np.float32)
NETWORK = sequential.build_network(["dense 5", "dense 3"])
N_POINTS = np.array([[4, 20], [8, 30]])


def requirements(points=POINTS, *, has_limit=False, network=NETWORK, **settings):
    return Requirements(network, points, Settings(**settings), has_limit)


def plan(monkeypatch, free, points=POINTS, n_points=N_POINTS, **options):
    memory = SimpleNamespace(available=lambda: free, GIB=_memory.GIB)
    monkeypatch.setattr(_capacity, "_memory", memory)
    return _capacity.plan_ensemble(requirements(points, **options), n_points)


def n_bytes(n, points=POINTS, **options):
    return requirements(points, **options).n_bytes(n)


def test_small_kernels_are_computed_on_all_cores_at_once(monkeypatch):
    assert plan(monkeypatch, 2**30) == Plan(30, True)


def test_kernels_that_fit_one_by_one_but_not_on_all_cores_come_one_after_another(monkeypatch):
    assert plan(monkeypatch, n_bytes(32)) == Plan(30, False)
    # This leaves no memory for the derivatives.
    free = 2 * _machine.n_cores() * n_bytes(32) + 100
    assert plan(monkeypatch, free) == Plan(30, False)


def test_an_implementation_that_needs_no_jacobian_takes_all_cores_where_that_does_not_fit(
    monkeypatch,
):
    network = sequential.build_network(["dense 60", "dense 60", "dense 3"])
    calls = []
    original = empirical.estimate_cost
    jacobian = 32 * 3 * (5 * 60 + 61 * 60 + 61 * 3) * 4
    free = 2 * _machine.n_cores() * (n_bytes(32, network=network) + jacobian)

    def estimate(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(empirical, "estimate_cost", estimate)
    options = {"network": network, "implementation": "jacobian"}
    assert plan(monkeypatch, free, **options) == Plan(30, True)
    assert not calls
    assert plan(monkeypatch, free // 2, network=network) == Plan(30, True)
    assert plan(monkeypatch, free // 2, **options) == Plan(30, False)
    assert len(calls) == 2


@pytest.mark.parametrize("outputs, n", [("mean", 2049), ("full", 683)])
def test_large_kernels_come_one_after_another(monkeypatch, outputs, n):
    large, sizes = np.zeros((n, 4), np.float32), np.array([[n]])
    assert plan(monkeypatch, 2**40, large, sizes, outputs=outputs) == Plan(n, False)
    assert plan(monkeypatch, 2**40, large[1:], sizes - 1, outputs=outputs) == Plan(n - 1, True)


def test_blocks_smaller_than_a_kernel_are_not_one_block(monkeypatch):
    assert plan(monkeypatch, 2**30, block_size=31) == Plan(30, False)
    assert plan(monkeypatch, 2**30, block_size=32) == Plan(30, True)


def test_sizes_that_do_not_fit_are_estimated_if_they_may_be(monkeypatch):
    for n, n_exact in ((30, 30), (29, 20), (19, 8), (3, 0)):
        assert plan(monkeypatch, n_bytes(n)).n_exact == n_exact
    assert plan(monkeypatch, 2**30, spectrum="stochastic") == Plan(0, False)


@pytest.mark.parametrize(
    "settings",
    [{"spectrum": "exact"}, {"outputs": "full"}, {"outputs": "per-output"}, {"has_limit": True}],
)
def test_a_kernel_that_must_be_formed_and_does_not_fit_is_one_error_with_its_size(
    monkeypatch, settings
):
    n = np.array([[100_000]])
    needed = n_bytes(100_000, **settings)
    message = (
        rf"^A kernel of 100000 points .* need {needed / 2**30:.1f} GiB, and 2\.0 GiB are free\.$"
    )
    with pytest.raises(MemoryError, match=message):
        plan(monkeypatch, 2**31, n_points=n, **settings)
    assert needed / 2**30 > 298


def test_a_limit_of_infinite_width_must_fit_even_where_variables_are_estimated(monkeypatch):
    with pytest.raises(MemoryError, match="A kernel of 30 points"):
        plan(monkeypatch, n_bytes(30, has_limit=True) - 1, has_limit=True, spectrum="stochastic")
    free = n_bytes(30, has_limit=True)
    assert plan(monkeypatch, free, has_limit=True, spectrum="stochastic") == Plan(0, False)


def test_bytes_count_outputs_digits_and_pairs_of_pixels():
    assert n_bytes(10) == 10**2 * (2 * 4 + 3 * 8)
    assert n_bytes(10, dtype="float64", outputs="per-output") == 10**2 * (2 * 3 * 8 + 3 * 8)
    assert n_bytes(10, outputs="full") == 9 * n_bytes(10)
    images = np.zeros((2, 6, 4, 1), np.float32)
    for layers, per_pair in (
        (["dense 3"], 2 * 4 + 3 * 8 + 8),
        (["conv 2 3x3", "dense 3"], 5 * 8 * 24),
        (["conv 2 3x3", "avgpool 2x2", "dense 3"], 5 * 8 * 24**2),
    ):
        network = sequential.build_network(layers)
        assert n_bytes(10, images, has_limit=True, network=network) == 10**2 * per_pair


@pytest.mark.parametrize(
    "n_exact, together, settings, expected",
    [
        (
            30,
            True,
            {},
            ("structured", "one block", "float64, negative ones from round-off set to 0"),
        ),
        (
            30,
            False,
            {"implementation": "jacobian", "block_size": 7},
            (
                "jacobian",
                "tiles of at most 7 points",
                "float64, negative ones from round-off set to 0",
            ),
        ),
        (
            0,
            False,
            {"n_probes": 5},
            (
                "products",
                "tiles of at most 1024 points",
                "stochastic Lanczos quadrature, 32 leading vectors, 5 probes, 24 steps",
            ),
        ),
        (
            20,
            False,
            {},
            (
                "structured up to 20 points, products beyond",
                "tiles of at most 2048 points up to 20 points, tiles of at most 1024 points beyond",
                "float64, negative ones from round-off set to 0 up to 20 points, "
                "stochastic Lanczos quadrature, 32 leading vectors, 32 probes, 24 steps beyond",
            ),
        ),
    ],
)
def test_a_plan_is_described_in_words(n_exact, together, settings, expected):
    description = _capacity.describe_plan(Plan(n_exact, together), 30, Settings(**settings))
    assert description == {
        "implementation": expected[0],
        "blocks": expected[1],
        "eigenvalues": expected[2],
    } | {
        "dtype": "float32",
        "matmul_precision": "highest",
    }
