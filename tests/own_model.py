"""Networks that `test_imported` imports by their paths, good ones and others."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

VALUE = 3


def init(key, x):
    return [jax.random.normal(key, (x.shape[1], 2))]


def apply(params, x):
    return jnp.tanh(x @ params[0])


class Normalised(nn.Module):
    """Statistics are fixed, or not where `train` is set."""

    @nn.compact
    def __call__(self, x, train=True):
        return nn.Dense(2)(nn.tanh(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))))


class NormalisedOverPoints(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=False)(x))


class Centred(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x - x.mean(axis=0, keepdims=True))


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)[:, 0]


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=False):
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(4)(x)))


class DroppedByField(nn.Module):
    deterministic: bool = False

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=self.deterministic)(nn.Dense(4)(x)))


class AlwaysDropped(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=False)(x))


class Fourier(nn.Module):
    """Frequencies that are drawn and not trained, in a collection of another name."""

    @nn.compact
    def __call__(self, x):
        draw = lambda: jax.random.normal(self.make_rng("params"), (x.shape[1], 4))
        return nn.Dense(2)(jnp.cos(x @ self.variable("frequencies", "w", draw).value))


class OfNNX(nnx.Module):
    """With dropout and a batch normalisation, which are off in evaluation."""

    def __init__(self, width=4, n_inputs=3, *, rngs):
        self.first = nnx.Linear(n_inputs, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jnp.tanh(self.norm(self.first(x)))))


class Callable:
    def __call__(self, x):
        return x


def make_nnx():
    return OfNNX(rngs=nnx.Rngs(0))


def counting():
    return lambda key, x: {"steps": jnp.zeros(3, int)}, lambda params, x: x


def masked():
    """A pair whose parameters have a mask, a counter and a key next to them."""

    def init(key, x):
        return {
            "w": jax.random.normal(key, (x.shape[1], 2)),
            "mask": jnp.arange(x.shape[1])[:, None] > 0,
            "step": jnp.zeros((), int),
            "key": jax.random.key(1),
        }

    return init, lambda params, x: jnp.tanh(x @ jnp.where(params["mask"], params["w"], 0.0))


def with_key():
    return lambda key, x: jax.random.normal(key, (x.shape[1], 2)), lambda params, rng, x: x @ params


def with_state():
    return init, lambda params, state, rng, x: (x @ params[0], state)


def classes():
    return init, lambda params, x: jnp.argmax(x @ params[0], axis=1)[:, None]


def complex_numbers():
    return lambda key, x: {"w": jnp.ones((x.shape[1], 2), complex)}, lambda p, x: jnp.abs(
        x @ p["w"]
    )


def broken():
    return init, lambda params, x: params["w"]


def nothing():
    return None


module = nn.Dense(2)
instance = make_nnx()
called = Callable()
