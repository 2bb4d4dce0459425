"""Kernels of ensembles compared with their limit of infinite width, in closed form."""

import jax
import numpy as np
import pytest
from ensemble_kernels import N_POINTS, ONE, POOL, STOCHASTIC, SUBSETS, measure

from collective_variables.kernels import infinite_width
from collective_variables.networks import sequential
from collective_variables.observables import measurement

pytestmark = pytest.mark.usefixtures("quick_compilation")
ANALYTIC = ", ".join(infinite_width.ANALYTIC_ACTIVATIONS)
LAYERS = ["dense 6", "dense 2"]
LIMIT = measurement.infinite_width_limit(
    LAYERS, parametrisations=["ntk"], activation="relu", padding="SAME", b_std=None
)


def arc_cosine(x):
    """Compute the NTK of a hidden layer of infinitely many rectifiers without biases.

    Cho, Saul 2009; Jacot et al. 2018.
    """
    x = x.astype(np.float64)
    covariance = x @ x.T / x.shape[1]
    lengths = np.sqrt(np.diag(covariance))
    angle = np.arccos(np.clip(covariance / np.outer(lengths, lengths), -1, 1))
    sines = np.sin(angle) + (np.pi - angle) * np.cos(angle)
    last_layer = np.outer(lengths, lengths) * sines / (2 * np.pi)
    return last_layer + covariance * (np.pi - angle) / (2 * np.pi)


def compare(width=6, *, parametrisation="ntk", limit=LIMIT, **options):
    network = sequential.build_network(
        [f"dense {width}", "dense 2"], parametrisation=parametrisation
    )
    results = measure(network=network, limit=limit, **options)
    return [result.tables["limits"] for result in results]


@pytest.mark.parametrize("outputs", ["mean", "sum"])
def test_wide_networks_are_near_their_limit_of_infinite_width_and_narrow_ones_are_not(outputs):
    narrow, wide = (compare(width, outputs=outputs)[0] for width in (6, 20_000))
    assert narrow["n_points"].tolist() == N_POINTS.max(axis=1).tolist()
    assert (wide["relative_distance"] < 0.03).all() and (narrow["relative_distance"] > 0.1).all()
    assert (wide["alignment"] > 0.999).all() and (narrow["alignment"] < 0.999).all()
    for row in wide.itertuples():
        points = POOL.inputs[SUBSETS[0][row.member, : row.n_points]]
        right = arc_cosine(points) * (2 if outputs == "sum" else 1)
        p = np.linalg.eigvalsh(right) / np.trace(right)
        assert row.limit_trace == pytest.approx(np.trace(right), rel=1e-6)
        assert row.limit_entropy == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)
        assert (row.trace, row.entropy) == pytest.approx(
            (row.limit_trace, row.limit_entropy), rel=0.05
        )


def test_the_limit_is_compared_with_estimates_too():
    exact, estimated = (compare(**ONE, **settings)[0] for settings in ({}, STOCHASTIC))
    for name in ("relative_distance", "alignment", "limit_entropy"):
        np.testing.assert_allclose(estimated[name], exact[name], rtol=1e-4)


def test_the_limit_is_computed_once_for_the_same_points_and_not_for_other_parametrisations():
    calls = []

    def limit(points):
        jax.debug.callback(calls.append, points[0, 0])
        return LIMIT(points)

    shared = SUBSETS[0].copy()
    shared[1] = shared[2] = shared[0]
    first, second = compare(subsets=[shared, SUBSETS[1]], limit=limit)
    jax.effects_barrier()
    assert len(calls) == 1 + 3
    for row in first.itertuples():
        right = arc_cosine(POOL.inputs[shared[0, : row.n_points]])
        assert row.limit_trace == pytest.approx(np.trace(right), rel=1e-6)
    assert all(table.empty for table in compare(parametrisation="lecun", limit=limit))
    assert len(calls) == 4


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"parametrisations": ["lecun"]},
            "infinite_width needs the parametrisation ntk: received lecun.",
        ),
        (
            {"activation": "tanh"},
            rf"activation must have an analytic kernel \({ANALYTIC}\): received 'tanh'.",
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
