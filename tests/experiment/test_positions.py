"""Positions before training are those of `decompose` with the same networks and points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from collective_variables.data import problems
from collective_variables.ensembles import seeding
from collective_variables.experiment import measure
from collective_variables.networks import parameters, sequential
from collective_variables.observables import measurement
from collective_variables.training.position import decomposition, factors

NETWORK = sequential.build_network(["dense 5", "dense 3"], activation="tanh")
GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=(30, 4)).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
DATASET = problems.Dataset(
    INPUTS[:24], TARGETS[:24], INPUTS[24:], TARGETS[24:], "classification", np.arange(24),
    np.arange(24, 30), "toy",
)  # fmt: skip
ROWS = np.stack([GENERATOR.permutation(24)[:9] for _ in range(2)])
SIZES = np.array([[3, 9], [2, 8]])
SEED = 5

pytestmark = pytest.mark.usefixtures("quick_float64")


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
@pytest.mark.parametrize("outputs", ["mean", "sum", "per-output", "full"])
def test_positions_before_training_are_those_of_the_decomposition(outputs, loss):
    settings = measurement.Settings(dtype="float64", outputs=outputs)
    found = measure.measure_subsets(
        DATASET,
        {"lecun": NETWORK},
        {"random": ROWS},
        SIZES,
        seed=SEED,
        settings=settings,
        loss=loss,
    )
    table = found["lecun/random"].tables["collective_variables"]
    assert table[["member", "n_points"]].values.tolist() == [[0, 3], [0, 9], [1, 2], [1, 8]]
    keys = seeding.member_keys(seeding.key(SEED, "initialisation"), 2)
    for row in table.itertuples():
        params = parameters.initialise(NETWORK, keys[row.member], jnp.asarray(INPUTS[:1]))
        params = jax.tree.map(lambda leaf: leaf.astype(float), params)
        chosen = ROWS[row.member, : row.n_points]
        points = INPUTS[chosen].astype(float), TARGETS[chosen].astype(float)
        expected = decomposition.decompose(NETWORK.apply, params, *points, loss)
        names = factors.Factors._fields
        assert_close(
            np.array([getattr(row, name) for name in names]),
            np.array([getattr(expected, name) for name in names]),
            operations=1e5,
        )


def test_without_a_loss_there_is_no_position():
    found = measure.measure_subsets(DATASET, {"lecun": NETWORK}, {"random": ROWS}, SIZES, seed=SEED)
    assert "chi_pos" not in found["lecun/random"].tables["collective_variables"]
