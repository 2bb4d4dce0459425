"""Networks that `test_imported` imports by their paths, good ones and others."""

import flax.linen as nn
import jax
import jax.numpy as jnp

VALUE = 3


def init(key, x):
    return [jax.random.normal(key, (x.shape[1], 2))]


def apply(params, x):
    return jnp.tanh(x @ params[0])


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.BatchNorm(use_running_average=True)(x))


class Centred(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x - x.mean(axis=0, keepdims=True))


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)[:, 0]


def counting():
    return lambda key, x: {"steps": jnp.zeros(3, int)}, lambda params, x: x


def nothing():
    return None


module = nn.Dense(2)
