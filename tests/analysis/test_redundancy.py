"""Kernels of redundant data whose entropy is known: copies of points, and clusters."""

import math

import numpy as np
import pytest
from helpers import assert_close

from collective_variables.analysis import entropy_phases
from collective_variables.networks import sequential
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
)

N_CLUSTERS, N_MEMBERS, N_COPIES = 4, 3, 5
SCHEDULE = schedules.Schedule(n_epochs=60, evaluate_every=10, learning_rate=0.02)
SETTINGS = recording.Settings(epochs={"every": 10}, observables=[])
CENTRES = np.eye(N_CLUSTERS)
TARGETS = np.sin(np.arange(2 * N_CLUSTERS)).reshape(N_CLUSTERS, 2)
TEST = loop.Points(CENTRES, TARGETS)

pytestmark = pytest.mark.usefixtures("quick_float64")


def entropies(network, inputs, targets):
    """The recorded epochs, and the entropy of the train points (n_members, n_recorded).

    Each member trains on all points in another order.
    """
    n = len(inputs)
    indices = np.stack([np.roll(np.arange(n), member) for member in range(N_MEMBERS)])
    runs = ensemble_training.runs(indices, np.full((N_MEMBERS, 1), n), seed=0)
    pool = loop.Points(inputs, targets)
    (result,) = recorded_training.train_ensemble(
        network, pool, TEST, [runs], schedule=SCHEDULE, settings=SETTINGS
    )
    table = result.tables["recording"].query("points == 'train'")
    curves = table.pivot(index="run", columns="epoch", values="entropy")
    return curves.columns.to_numpy(), curves.to_numpy()


def test_copies_of_points_add_no_entropy_at_any_epoch_and_change_no_regime():
    network = sequential.build_network(["dense 6", "dense 2"], activation="tanh")
    epochs, once = entropies(network, CENTRES, TARGETS)
    _, copied = entropies(
        network, np.repeat(CENTRES, N_COPIES, axis=0), np.repeat(TARGETS, N_COPIES, axis=0)
    )
    # K of copies is K ⊗ 1 1ᵀ, whose normalised eigenvalues are those of K and zeros; and the mean
    # loss is the same.
    assert_close(copied, once, operations=1e6)
    assert np.ptp(once, axis=1).min() > 1e-3  # the kernel does change
    options = {"resolution": 1e-3}
    assert entropy_phases.regime(
        entropy_phases.phases(epochs, copied, **options)
    ) == entropy_phases.regime(entropy_phases.phases(epochs, once, **options))


@pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (1, 2, 3, 14)], ids=str)
def test_clusters_in_a_linear_network_have_the_entropy_of_their_sizes_and_no_regime(sizes):
    """One layer with a bias has K = X Xᵀ + 1 1ᵀ at all times; points are unit vectors."""
    epochs, curves = entropies(
        sequential.build_network(["dense 2"]),
        np.repeat(CENTRES, sizes, axis=0),
        np.repeat(TARGETS, sizes, axis=0),
    )
    # On vectors that are constant within a cluster, K acts as the matrix √nᵢ (δᵢⱼ + 1) √nⱼ.
    root = np.sqrt(sizes)
    values = np.linalg.eigvalsh(np.outer(root, root) * (np.eye(N_CLUSTERS) + 1)) / (2 * sum(sizes))
    expected = -sum(p * math.log(p) for p in values)
    assert_close(curves, np.full(curves.shape, expected), operations=1e4)
    assert entropy_phases.phases(epochs, curves) == []


def test_what_tells_clusters_apart_bounds_the_entropy():
    """Points of a cluster that differ little add little entropy.

    S lies between that of the centres and ln of their number.
    """
    network = sequential.build_network(["dense 6", "dense 2"], activation="tanh")
    noise = 0.01 * np.random.default_rng(0).normal(size=(N_CLUSTERS * N_COPIES, N_CLUSTERS))
    inputs, targets = (
        np.repeat(CENTRES, N_COPIES, axis=0) + noise,
        np.repeat(TARGETS, N_COPIES, axis=0),
    )
    _, once = entropies(network, CENTRES, TARGETS)
    _, spread = entropies(network, inputs, targets)
    assert (np.abs(spread[:, 0] - once[:, 0]) < 0.05).all() and (
        spread < math.log(N_CLUSTERS)
    ).all()
