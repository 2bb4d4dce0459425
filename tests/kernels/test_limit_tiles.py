"""The limit of infinite width in tiles, where all pairs of points do not fit the memory."""

import jax
import numpy as np
import pytest

from collective_variables import _memory
from collective_variables.kernels import infinite_width
from collective_variables.kernels._limit_tiles import tiling

LAYERS = {
    "dense": ["dense 1", "dense 1"],
    "pooling": ["conv 8 2x2", "avgpool 2x2", "dense 1"],
}
X = np.random.default_rng(0).normal(size=(7, 4, 4, 1)).astype(np.float32)


def bytes_for(layers, n_pairs, n_results):
    """Free memory in which so many pairs fit together, next to so many numbers of the result."""
    network = infinite_width.network_with_limit(
        layers, activation="relu", padding="SAME", b_std=None
    )
    return 2 * n_pairs * tiling.pair_bytes(network, X) + 2 * n_results * 4


@pytest.mark.parametrize("more", [None, X[:5] + 1])
@pytest.mark.parametrize("name", LAYERS)
def test_tiles_that_fit_make_the_kernel_of_all_points(name, more, monkeypatch):
    layers = LAYERS[name]
    whole = infinite_width.infinite_width_ntk(layers, X, more)
    shapes = []
    kernel_of = infinite_width._kernel

    def watched(network):
        kernel = kernel_of(network)
        return lambda x1, x2: shapes.append((len(x1), len(x2))) or kernel(x1, x2)

    monkeypatch.setattr(infinite_width, "_kernel", watched)
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(_memory, "available", lambda: bytes_for(layers, 9, whole.size))
    tiled = infinite_width.infinite_width_ntk(layers, X, more)
    assert set(shapes) == {(3, 3)}
    assert len(shapes) == 6  # 3 x 2, or of 3 x 3 those on and above the diagonal
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-5)
    if more is None:
        assert np.array_equal(tiled, tiled.T)


def test_what_cannot_fit_is_refused_beforehand_with_both_numbers(monkeypatch):
    images = np.zeros((400, 28, 28, 1), np.float32)
    monkeypatch.setattr(_memory, "available", lambda: 2**20)
    with pytest.raises(
        MemoryError,
        match=r"The kernel of 400 x 400 points needs 0\.0 GiB at least, and 0\.0 GiB are free",
    ):
        infinite_width.infinite_width_ntk(LAYERS["pooling"], images)


def test_a_pair_of_pooled_images_takes_the_square_of_their_pixels():
    network = infinite_width.network_with_limit(
        LAYERS["pooling"], activation="relu", padding="SAME", b_std=None
    )
    images = jax.ShapeDtypeStruct((400, 28, 28, 1), np.float32)
    assert tiling.pair_bytes(network, images) == tiling.N_ARRAYS * 4 * 784**2
