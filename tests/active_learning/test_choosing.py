"""The kernel that rules take from several networks, some of which may have none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from collective_variables.active_learning import choosing
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_float64")

KEY = jax.random.key(0)
POOL = np.random.default_rng(0).normal(size=(9, 3))
NETWORK = sequential.build_network(["dense 5", "dense 1"], parametrisation="ntk", b_std=0.0)
PARAMS = NETWORK.init(KEY, jnp.ones((1, 3)))
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


@pytest.mark.parametrize("kernel", ["ntk", "sketch"])
def test_a_network_without_a_kernel_counts_in_the_mean(kernel):
    def features(*params):
        fitted = choosing.Fitted(NETWORK, list(params), None)
        return choosing.compute_features(POOL, choosing.Rule("lcmd", kernel), fitted, KEY)

    kernels = [rows @ rows.T for rows in (features(PARAMS, ZEROS), features(PARAMS, PARAMS))]
    if kernel == "ntk":
        assert_close(kernels[0], kernels[1] / 2, operations=1000)
    assert kernels[0].any()
    with pytest.raises(ValueError, match=f"received the kernel {kernel} with K"):
        features(ZEROS, ZEROS)
