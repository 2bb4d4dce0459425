"""The kernel against explicit float64 Jacobians, for every way in which a network can use a parameter."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from collective_variables import networks
from collective_variables.ntk import OUTPUTS, empirical_ntk

N1, N2 = 7, 5


class SharedDense(nn.Module):
    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(4)
        return nn.Dense(3)(jnp.tanh(dense(jnp.tanh(dense(x)))))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x + nn.gelu(nn.Dense(4)(x)))


class FlaxConv(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Conv(2, (3, 2), strides=2)(x)).reshape(len(x), -1))


class LayerNormalisation(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.LayerNorm()(nn.Dense(4)(x)))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x + nn.MultiHeadDotProductAttention(num_heads=2)(x, x)).mean(axis=1)


@jax.custom_vjp
def straight_through(x):
    return jnp.sign(x)


straight_through.defvjp(lambda x: (jnp.sign(x), None), lambda _, g: (g,))

TANH = networks.build(["dense 6", "dense 5", "dense 3"], activation="tanh", parametrisation="ntk", b_std=0.5)
CNN = ["conv 3 3x2 stride 2", "avgpool 2x2 stride 1", "conv 2 2x2", "dense 4", "dense 3"]
# Modules with the shape of a point.
MODULES = {
    "dense": (TANH, (4,)),
    "dense with one output": (networks.build(["dense 6", "dense 1"]), (4,)),
    "dense on images": (networks.build(["dense 5", "dense 2"]), (2, 3, 1)),
    "conv": (networks.build(CNN), (6, 7, 2)),
    "conv without padding or biases": (networks.build(CNN, parametrisation="ntk", padding="VALID"), (8, 7, 2)),
    "conv of Flax": (FlaxConv(), (5, 4, 2)),
    "shared dense": (SharedDense(), (4,)),
    "residual": (Residual(), (4,)),
    "layer normalisation": (LayerNormalisation(), (3,)),
    "attention": (Attention(), (3, 4)),
}
# Functions with the shapes of a point and of the parameters.
FUNCTIONS = {
    "transposed": (lambda p, x: jnp.tanh(x @ p["w"].T) @ p["v"], (4,), {"w": (5, 4), "v": (5, 2)}),
    "on the left": (lambda p, x: jnp.einsum("mk,nk->nm", p["w"], x), (4,), {"w": (3, 4)}),
    "reshaped": (lambda p, x: jnp.tanh(x @ p["w"].reshape(4, 3)) @ p["v"], (4,), {"w": (2, 6), "v": (3, 2)}),
    "at each position": (lambda p, x: jnp.tanh(x @ p["w"]).sum(1) @ p["v"], (3, 4), {"w": (4, 5), "v": (5, 2)}),
    "scale": (lambda p, x: (x @ p["w"] * p["s"]) @ p["v"], (4,), {"w": (4, 5), "s": (1, 5), "v": (5, 2)}),
    "unused": (lambda p, x: x @ p["w"], (4,), {"w": (4, 2), "v": (4, 2), "u": (3,)}),
    "product and sum": (lambda p, x: x @ p["w"] + jnp.sum(p["w"] ** 2), (4,), {"w": (4, 3)}),
    "product and reshaped": (lambda p, x: x @ p["w"] + p["w"].reshape(1, 12)[:, :3], (4,), {"w": (4, 3)}),
    "two products": (lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"], (4,), {"w": (4, 4)}),
    "times itself": (lambda p, x: x @ (p["w"] @ p["w"]), (4,), {"w": (4, 4)}),
    "times another": (lambda p, x: x @ (p["w"] @ p["v"]), (4,), {"w": (4, 3), "v": (3, 2)}),
    "returned": (lambda p, x: jnp.broadcast_to(p["w"].reshape(1, 4), (len(x), 4)), (4,), {"w": (4,)}),
    "embedding": (lambda p, x: p["t"][jnp.abs(x).astype(int)].sum(1) @ p["w"], (3,), {"t": (9, 4), "w": (4, 2)}),
    "stop_gradient": (lambda p, x: jax.lax.stop_gradient(x @ p["w"]) @ p["v"], (4,), {"w": (4, 3), "v": (3, 2)}),
    "scan": (
        lambda p, x: jax.lax.scan(lambda y, w: (jnp.tanh(y @ w), None), x @ p["v"], p["w"])[0],
        (4,),
        {"v": (4, 3), "w": (2, 3, 3)},
    ),
    "checkpoint": (
        lambda p, x: jax.checkpoint(lambda w, x: jnp.tanh(x @ w))(p["w"], x) @ p["v"],
        (4,),
        {"w": (4, 3), "v": (3, 2)},
    ),
    "own derivative": (lambda p, x: straight_through(x @ p["w"]) @ p["v"], (4,), {"w": (4, 3), "v": (3, 2)}),
    "scalar points": (lambda p, x: jnp.tanh(jnp.outer(x, p["w"])) @ p["v"], (), {"w": (3,), "v": (3, 2)}),
}


def case(name):
    """apply_fn, parameters and N1 + N2 points of a case in float64; every parameter is random, the biases too."""
    if name in MODULES:
        module, shape = MODULES[name]
        function = module.apply
        leaves = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape), jnp.float32))
    else:
        function, shape, sizes = FUNCTIONS[name]
        leaves = {leaf: jax.ShapeDtypeStruct(size, float) for leaf, size in sizes.items()}
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape) / 2), leaves)
    return function, params, jnp.asarray(generator.normal(size=(N1 + N2, *shape)))


def gradients(function, params, x):
    """J[i, c, k]: the derivative of output c of point i with respect to parameter k, all leaves one after another."""
    leaves = jax.tree.leaves(jax.jit(jax.jacobian(function))(params, x))
    return np.concatenate([np.asarray(leaf, float).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1)


def contracted(j1, j2, outputs):
    n_outputs = j1.shape[1]
    kernels = np.stack([j1[:, c] @ j2[:, c].T for c in range(n_outputs)])
    if outputs == "full":
        return np.reshape([[a @ b for b in j2.reshape(-1, j2.shape[-1])] for a in j1.reshape(-1, j1.shape[-1])], -1)
    return {"mean": kernels.sum(0) / n_outputs, "sum": kernels.sum(0), "per-output": kernels}[outputs]


def dense(seed=0, n_points=13, dtype=jnp.float32, **options):
    """A network of two layers with three outputs, its parameters and points."""
    network = networks.build(["dense 32", "dense 3"], **options)
    x = jax.random.normal(jax.random.key(seed), (n_points, 4), dtype)
    return network, networks.initialise(network, jax.random.key(seed + 1), x), x


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_kernel_is_the_contraction_of_explicit_jacobians(name):
    function, params, x = case(name)
    # The modules of Flax rely on promotion from float32 to float64 in their normalisation.
    strict = name not in ("layer normalisation", "attention")
    with contextlib.nullcontext() if strict else jax.numpy_dtype_promotion("standard"):
        j = gradients(function, params, x)
        j1, j2 = j[:N1], j[N1:]
        kernels = jax.jit(
            lambda p, x1, x2: {
                outputs: (empirical_ntk(function, p, x1, outputs=outputs), empirical_ntk(function, p, x1, x2, outputs=outputs))
                for outputs in OUTPUTS
            }
        )(params, x[:N1], x[N1:])
    for outputs, (square, rectangle) in kernels.items():
        for kernel, second in ((square, j1), (rectangle, j2)):
            assert_close(kernel, contracted(j1, second, outputs).reshape(kernel.shape), operations=1000)
