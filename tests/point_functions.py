"""Functions of parameters and points: those that treat points separately, and those that do not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

X = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)


def _until_small(y):
    return jax.lax.while_loop(lambda y: jnp.max(jnp.abs(y)) > 1, lambda y: y / 2, y)


def _attention(y):
    return jax.nn.softmax(y @ y.T) @ y


def _normalised(w, x):
    module = nn.BatchNorm(use_running_average=False, use_bias=False, use_scale=False)
    variables = {"batch_stats": {"mean": jnp.zeros(4), "var": jnp.ones(4)}}
    return module.apply(variables, x, mutable=["batch_stats"])[0] @ w


# A step of a scan over points that adds up what it has seen.
_total = lambda w, x: jax.lax.scan(lambda sum_, row: (sum_ + row, (sum_ + row) @ w), x[0] * 0, x)[1]

MIXING = {
    "batch normalisation": _normalised,
    "centred": lambda w, x: (x - x.mean(0, keepdims=True)) @ w,
    "standardised": lambda w, x: (x / x.std(0, keepdims=True)) @ w,
    "divided by the largest": lambda w, x: (x / jnp.abs(x).max()) @ w,
    "divided by the norm of all": lambda w, x: (x / jnp.linalg.norm(x)) @ w,
    "softmax over points": lambda w, x: jax.nn.softmax(x @ w, axis=0),
    "attention over points": lambda w, x: _attention(x) @ w,
    "products of points": lambda w, x: (x @ x.T) @ x @ w,
    "sorted": lambda w, x: jnp.sort(x, axis=0) @ w,
    "ranks": lambda w, x: jnp.argsort(x, axis=0).astype(jnp.float32) @ w,
    "cumulative": lambda w, x: jnp.cumsum(x, axis=0) @ w,
    "cumulative by a tree": lambda w, x: jax.lax.associative_scan(jnp.add, x) @ w,
    "cumulative in a scan": _total,
    "differences": lambda w, x: jnp.diff(x, axis=0, prepend=0.0) @ w,
    "next point": lambda w, x: (x + jnp.roll(x, 1, axis=0)) @ w,
    "reversed": lambda w, x: x[::-1] @ w,
    "first point": lambda w, x: (x - x[:1]) @ w,
    "average over neighbours": lambda w, x: nn.avg_pool(x[None], (3,), padding="SAME")[0] @ w,
    "convolution over points": lambda w, x: (
        jnp.convolve(x[:, 0], jnp.ones(3), "same")[:, None] * w[:1]
    ),
    "spectrum over points": lambda w, x: jnp.abs(jnp.fft.fft(x, axis=0)) @ w,
    "reshaped across points": lambda w, x: x.T.reshape(x.shape) @ w,
    "iterated until all are small": lambda w, x: _until_small(x) @ w,
    "number of points": lambda w, x: x @ w / len(x),
    "power of the number of points": lambda w, x: x ** len(x) @ w,
    "row numbers": lambda w, x: x @ w + jnp.arange(len(x), dtype=x.dtype)[:, None],
    "table of rows": lambda w, x: (x + np.eye(len(x), 4, dtype=np.float32)) @ w,
    "noise": lambda w, x: (x + jax.random.normal(jax.random.key(0), x.shape)) @ w,
    "dropout": lambda w, x: nn.Dropout(0.5, deterministic=False).apply(
        {}, x @ w, rngs={"dropout": jax.random.key(0)}
    ),
}

SEPARATE = {
    "layer normalisation": lambda w, x: (
        ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)) @ w
    ),
    "softmax over outputs": lambda w, x: jax.nn.softmax(x @ w),
    "transposed": lambda w, x: (w.T @ x.T).T,
    "einsum": lambda w, x: jnp.einsum("io,ni->no", w, x),
    "positions in one axis": lambda w, x: (
        jnp.tanh(x.reshape(-1, 2) @ w[:2]).reshape(len(x), 2, 2).sum(1)
    ),
    "attention within a point": lambda w, x: (
        jax.vmap(_attention)(x.reshape(-1, 2, 2)).reshape(-1, 4) @ w
    ),
    "vmap": lambda w, x: jax.vmap(lambda row: jnp.tanh(row @ w))(x),
    "map": lambda w, x: jax.lax.map(lambda row: row @ w, x),
    "map in batches": lambda w, x: jax.lax.map(lambda row: row @ w, x, batch_size=2),
    "scan over points": lambda w, x: jax.lax.scan(lambda none, row: (none, row @ w), 0.0, x)[1],
    "scan over layers": lambda w, x: jax.lax.scan(
        lambda y, gain: (jnp.tanh(gain * y), None), x @ w, jnp.ones(3)
    )[0],
    "loop": lambda w, x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y), x @ w),
    "iterated until each is small": lambda w, x: jax.vmap(_until_small)(x) @ w,
    "list of points": lambda w, x: jnp.stack([row @ w for row in x]),
    "branch by a parameter": lambda w, x: jax.lax.cond(
        w[0, 0] > 0, lambda: x @ w, lambda: -(x @ w)
    ),
    "sorted features": lambda w, x: jnp.sort(x, axis=1) @ w,
    "features taken in order": lambda w, x: jnp.take_along_axis(x, jnp.argsort(x, axis=1), 1) @ w,
    "a feature replaced": lambda w, x: x.at[:, 0].set(0.0) @ w,
    "features turned round": lambda w, x: jnp.roll(x[:, ::-1], 1, axis=1) @ w,
    "largest feature": lambda w, x: jax.nn.one_hot(jnp.argmax(x, axis=1), 4) @ w,
    "spectrum of a point": lambda w, x: jnp.abs(jnp.fft.fft(x)) @ w,
    "convolution of features": lambda w, x: jax.vmap(
        lambda row: jnp.convolve(row, w[:, 0], "same")
    )(x),
    "dropout that is off": lambda w, x: nn.Dropout(0.5, deterministic=True).apply({}, x @ w),
    "rematerialised": lambda w, x: jax.checkpoint(jnp.tanh)(x @ w),
}
