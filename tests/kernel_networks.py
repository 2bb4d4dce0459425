"""Networks that use a parameter in every possible way, and their explicit float64 Jacobians."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from collective_variables.kernels.empirical import empirical_ntk
from collective_variables.networks import sequential

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


class Pooling(nn.Module):
    """Average pooling with padding and overlap, and max pooling."""

    @nn.compact
    def __call__(self, x):
        y = jnp.tanh(nn.Conv(3, (2, 2))(x))
        # Flax divides by an integer.
        with jax.numpy_dtype_promotion("standard"):
            y = nn.avg_pool(y, (3, 2), (2, 1), padding="SAME") + nn.avg_pool(
                y, (2, 2), (2, 1), "SAME"
            )
        return nn.Dense(2)(nn.max_pool(nn.Conv(2, (2, 1))(y), (2, 2)).reshape(len(x), -1))


class LayerNormalisation(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.LayerNorm()(nn.Dense(4)(x)))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x + nn.MultiHeadDotProductAttention(num_heads=2)(x, x)).mean(axis=1)


class Tokens(nn.Module):
    """Looks up one table twice and attends over the positions; the last layer may be the table."""

    tied: bool = False

    @nn.compact
    def __call__(self, x):
        tokens = jnp.abs(x * 3).astype(int)
        embed = nn.Embed(8, 4)
        y = embed(tokens) + embed(tokens[:, ::-1])
        y = y + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(y), y)
        return (
            embed.attend(y) if self.tied else nn.DenseGeneral((2, 2))(y).reshape(*y.shape[:2], 4)
        ).mean(axis=1)


class Convolutions(nn.Module):
    """Convolutions in one dimension, dilated, grouped and shared, with a group normalisation."""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(4, (3,), padding=((2, 1),), kernel_dilation=2)(x)
        y = nn.GroupNorm(num_groups=2)(nn.Conv(4, (2,), feature_group_count=2)(nn.relu(y)))
        shared = nn.Conv(4, (2,), padding="VALID", strides=2)
        return nn.Dense(2)(shared(shared(jnp.tanh(y))).reshape(len(x), -1))


class TwoInputs(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(
            jnp.tanh(nn.Dense(3)(x["table"]) + nn.Dense(3)(x["image"].reshape(len(x["image"]), -1)))
        )


@jax.custom_vjp
def straight_through(x):
    return jnp.sign(x)


straight_through.defvjp(lambda x: (jnp.sign(x), None), lambda _, g: (g,))

TANH = sequential.build_network(
    ["dense 6", "dense 5", "dense 3"], activation="tanh", parametrisation="ntk", b_std=0.5
)
# Modules with the shape of a point.
MODULES = {
    "dense": (TANH, (4,)),
    "dense with one output": (sequential.build_network(["dense 6", "dense 1"]), (4,)),
    "dense on images": (sequential.build_network(["dense 5", "dense 2"]), (2, 3, 1)),
    "conv": (
        sequential.build_network(
            ["conv 3 3x2 stride 2", "avgpool 2x2 stride 1", "conv 2 2x2", "dense 3"]
        ),
        (6, 7, 2),
    ),
    "conv of Flax": (FlaxConv(), (5, 4, 2)),
    "pooling": (Pooling(), (6, 5, 2)),
    "shared dense": (SharedDense(), (4,)),
    "residual": (Residual(), (4,)),
    "layer normalisation": (LayerNormalisation(), (3,)),
    "attention": (Attention(), (3, 4)),
    "tokens": (Tokens(), (5,)),
    "tokens with a tied last layer": (Tokens(tied=True), (5,)),
    "convolutions": (Convolutions(), (9, 2)),
}
# These modules of Flax rely on promotion themselves.
PROMOTING = (
    "layer normalisation",
    "attention",
    "tokens",
    "tokens with a tied last layer",
    "convolutions",
)
# Functions with the shapes of a point and of the parameters.
FUNCTIONS = {
    "transposed": (lambda p, x: jnp.tanh(x @ p["w"].T) @ p["v"], (4,), {"w": (5, 4), "v": (5, 2)}),
    "on the left": (lambda p, x: jnp.einsum("mk,nk->nm", p["w"], x), (4,), {"w": (3, 4)}),
    "reshaped": (
        lambda p, x: jnp.tanh(x @ p["w"].reshape(4, 3)) @ p["v"],
        (4,),
        {"w": (2, 6), "v": (3, 2)},
    ),
    "at each position": (
        lambda p, x: jnp.tanh(x @ p["w"]).sum(1) @ p["v"],
        (3, 4),
        {"w": (4, 5), "v": (5, 2)},
    ),
    "along another axis": (
        lambda p, x: jnp.einsum("nkt,km->ntm", x, p["w"]).prod(1),
        (4, 3),
        {"w": (4, 2)},
    ),
    "one for each position": (
        lambda p, x: jnp.einsum("tk,ntk->nt", p["w"], x),
        (3, 4),
        {"w": (3, 4)},
    ),
    "scale": (
        lambda p, x: (x @ p["w"] * p["s"]) @ p["v"],
        (4,),
        {"w": (4, 5), "s": (1, 5), "v": (5, 2)},
    ),
    "unused": (lambda p, x: x @ p["w"], (4,), {"w": (4, 2), "v": (4, 2), "u": (3,)}),
    "bias": (
        lambda p, x: jnp.tanh(x @ p["w"] + p["b"][None]) @ p["v"],
        (4,),
        {"w": (4, 5), "b": (5,), "v": (5, 2)},
    ),
    "two biases": (
        lambda p, x: jnp.tanh(p["b"][None] + x @ p["w"] + p["c"][None]),
        (4,),
        {"w": (4, 3), "b": (3,), "c": (3,)},
    ),
    "bias added twice": (
        lambda p, x: jnp.tanh(x @ p["w"] + p["b"][None]) + p["b"][None],
        (4,),
        {"w": (4, 3), "b": (3,)},
    ),
    "product beside its bias": (
        lambda p, x: (lambda y: jnp.tanh(y + p["b"][None]) + y)(x @ p["w"]),
        (4,),
        {"w": (4, 3), "b": (3,)},
    ),
    "bias of two layers": (
        lambda p, x: jnp.tanh(x @ p["w"] + p["b"][None]) @ p["v"] + p["b"][None],
        (4,),
        {"w": (4, 3), "v": (3, 3), "b": (3,)},
    ),
    "bias at each position": (
        lambda p, x: jnp.tanh(x @ p["w"] + p["b"][None]).sum(1),
        (3, 4),
        {"w": (4, 2), "b": (3, 2)},
    ),
    "bias at all positions": (
        lambda p, x: jnp.tanh(x @ p["w"] + p["b"][None, None]).sum(1),
        (3, 4),
        {"w": (4, 2), "b": (2,)},
    ),
    "one bias for all": (
        lambda p, x: jnp.tanh(x @ p["w"] + p["b"][None]),
        (4,),
        {"w": (4, 3), "b": (1,)},
    ),
    "transposed bias": (
        lambda p, x: jnp.tanh(jnp.einsum("ni,ikl->nkl", x, p["w"]) + p["b"].T[None]).reshape(
            len(x), -1
        ),
        (4,),
        {"w": (4, 2, 3), "b": (3, 2)},
    ),
    "bias of two axes": (
        lambda p, x: jnp.tanh(jnp.einsum("ni,ikl->nkl", x, p["w"]) + p["b"][None]).reshape(
            len(x), -1
        ),
        (4,),
        {"w": (4, 2, 3), "b": (2, 3)},
    ),
    "product and sum": (lambda p, x: x @ p["w"] + jnp.sum(p["w"] ** 2), (4,), {"w": (4, 3)}),
    "product and reshaped": (
        lambda p, x: x @ p["w"] + p["w"].reshape(1, 12)[:, :3],
        (4,),
        {"w": (4, 3)},
    ),
    "two products": (lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"], (4,), {"w": (4, 4)}),
    "times itself": (lambda p, x: x @ (p["w"] @ p["w"]), (4,), {"w": (4, 4)}),
    "times another": (lambda p, x: x @ (p["w"] @ p["v"]), (4,), {"w": (4, 3), "v": (3, 2)}),
    "returned": (
        lambda p, x: jnp.broadcast_to(p["w"].reshape(1, 4), (len(x), 4)),
        (4,),
        {"w": (4,)},
    ),
    "embedding": (
        lambda p, x: p["t"][jnp.abs(x).astype(int)].sum(1) @ p["w"],
        (3,),
        {"t": (9, 4), "w": (4, 2)},
    ),
    "embedding of few rows": (
        lambda p, x: p["t"][jnp.abs(x).astype(int)].sum(1) @ p["w"],
        (6,),
        {"t": (4, 5), "w": (5, 2)},
    ),
    "rows filled in": (
        lambda p, x: p["t"].at[(4 * x).astype(int)].get(mode="fill", fill_value=0).sum(1) @ p["w"],
        (6,),
        {"t": (5, 3), "w": (3, 2)},
    ),
    "rows clipped": (
        lambda p, x: p["t"].at[(4 * x).astype(int)].get(mode="clip").prod(1) @ p["w"],
        (3,),
        {"t": (5, 3), "w": (3, 2)},
    ),
    "windows of sums": (
        lambda p, x: jax.lax.reduce_window(
            x @ p["w"],
            0.0,
            jax.lax.add,
            (1, 2, 3),
            (1, 2, 1),
            ((0, 0), (1, -1), (2, 0)),
            (1, 2, 1),
            (1, 2, 2),
        ).sum(1),
        (6, 4),
        {"w": (4, 5)},
    ),
    "stop_gradient": (
        lambda p, x: jax.lax.stop_gradient(x @ p["w"]) @ p["v"],
        (4,),
        {"w": (4, 3), "v": (3, 2)},
    ),
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
    "own derivative": (
        lambda p, x: straight_through(x @ p["w"]) @ p["v"],
        (4,),
        {"w": (4, 3), "v": (3, 2)},
    ),
    "scalar points": (
        lambda p, x: jnp.tanh(jnp.outer(x, p["w"])) @ p["v"],
        (),
        {"w": (3,), "v": (3, 2)},
    ),
}


def case(name):
    """apply_fn, parameters and N1 + N2 points of a case."""
    if name in MODULES:
        return random(*MODULES[name])
    function, shape, sizes = FUNCTIONS[name]
    generator = np.random.default_rng(0)
    params = {leaf: generator.normal(size=size) / 2 for leaf, size in sizes.items()}
    return function, params, generator.normal(size=(N1 + N2, *shape))


def random(module, shape, n_points=N1 + N2):
    """apply_fn, parameters, all of them random, and points of the given shape, in float64."""
    generator = np.random.default_rng(0)
    leaves = jax.eval_shape(
        module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    )
    params = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) / 2, leaves)
    return module.apply, params, generator.normal(size=(n_points, *shape))


# Small programs spend most of their time in the compiler.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

compiled_kernel = jax.jit(
    empirical_ntk, static_argnums=0, static_argnames="outputs", compiler_options=FAST
)
jacobian = jax.jit(
    lambda f, params, x: jax.jacobian(f)(params, x), static_argnums=0, compiler_options=FAST
)


def gradients(function, params, x):
    """J[i, c, k]: the derivative of output c of point i with respect to parameter k of all."""
    leaves = jax.tree.leaves(jacobian(function, params, x))
    return np.concatenate(
        [np.asarray(leaf, float).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1
    )


def full(j1, j2):
    """Row i·C + c for output c of point i, entry by entry."""
    kernel = np.full((j1.shape[0] * j1.shape[1], j2.shape[0] * j2.shape[1]), np.nan)
    for i, c in np.ndindex(j1.shape[:2]):
        for j, d in np.ndindex(j2.shape[:2]):
            kernel[i * j1.shape[1] + c, j * j2.shape[1] + d] = j1[i, c] @ j2[j, d]
    return kernel


def contracted(j1, j2, outputs):
    if outputs == "full":
        return full(j1, j2)
    each = np.stack([j1[:, c] @ j2[:, c].T for c in range(j1.shape[1])])
    return {"per-output": each, "sum": each.sum(0), "mean": each.sum(0) / len(each)}[outputs]


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), tree)
