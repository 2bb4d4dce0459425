"""A small pool, an ensemble on it, and its kernels from a network written out in NumPy."""

import numpy as np

from collective_variables.ensembles import seeding
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.observables.measurement import Pool, Settings

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
    """Write out the Jacobian (n_points, 2, n_parameters) of `NETWORK` in float64."""
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
    jacobian = gradients(member, POOL.inputs[rows])
    if outputs == "full":
        jacobian = jacobian.reshape(2 * len(rows), 1, -1)
    kernels = np.einsum("icp,jcp->cij", jacobian, jacobian)
    if outputs == "per-output":
        return kernels
    return kernels.sum(axis=0) / (2 if outputs == "mean" else 1)
