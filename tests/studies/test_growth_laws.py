"""Trace and norm of kernels in tiles are those of whole kernels."""

import jax
import numpy as np
import pytest

from collective_variables.kernels import empirical
from collective_variables.networks import sequential
from studies import growth_laws


def test_tiles_add_up_to_the_whole_kernel_of_every_size():
    network = sequential.build_network(["dense 4", "dense 2"])
    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    params = network.init(jax.random.key(0), x)
    found = growth_laws.norms(network, params, x, (2, 7, 11), tile=3)
    kernel = np.asarray(empirical.empirical_ntk(network.apply, params, x), np.float64)
    assert list(found) == [2, 7, 11]
    for n, (trace, square) in found.items():
        block = kernel[:n, :n]
        assert trace == pytest.approx(np.trace(block), rel=1e-5)
        assert square == pytest.approx(np.sum(block**2), rel=1e-5)
