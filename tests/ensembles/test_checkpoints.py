"""Names of results: the same for the same arguments, another for any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables.ensembles import checkpoints
from collective_variables.networks import sequential

CALL = {
    "network": sequential.build_network(["dense 3", "dense 1"]),
    "key": jax.random.key(3),
    "points": np.arange(6.0).reshape(2, 3),
    "labelled": [1, 2],
    "classes": None,
}


def test_the_same_arguments_have_the_same_name_wherever_their_arrays_are():
    again = CALL | {
        "network": sequential.build_network(["dense 3", "dense 1"]),
        "key": jax.random.key(3),
    }
    assert checkpoints.fingerprint(*again.values()) == checkpoints.fingerprint(*CALL.values())
    numbers = np.arange(4, dtype=np.int32)
    assert checkpoints.fingerprint(jnp.asarray(numbers)) == checkpoints.fingerprint(numbers)


@pytest.mark.parametrize(
    "changed",
    [
        {"network": sequential.build_network(["dense 3", "dense 1"], activation="tanh")},
        {"key": jax.random.key(4)},
        {"points": np.arange(6.0).reshape(3, 2)},
        {"points": np.arange(6).reshape(2, 3)},
        {"points": np.array([[0.0, 1, 2], [3, 4, 5 + 1e-15 * 8]])},
        {"labelled": [2, 1]},
        {"classes": np.zeros(2, int)},
    ],
    ids=["network", "key", "shape", "dtype", "last digit", "order", "classes"],
)
def test_any_other_argument_gives_another_name(changed):
    assert checkpoints.fingerprint(*(CALL | changed).values()) != checkpoints.fingerprint(
        *CALL.values()
    )
