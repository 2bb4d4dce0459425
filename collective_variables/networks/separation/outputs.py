"""Whether outputs of a point change with the points next to it, by computing them."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from collective_variables.networks.separation import programs

N_POINTS = 5
MOVES = (0.0, 0.1, 3.0)
# Relative, between outputs of a point with others and without, of which round-off is a hundredth.
TOLERANCE = 1e-4


def largest_change(
    function: Callable[..., Array], params: PyTree[Array], x: PyTree[Array]
) -> float:
    """Return how much the outputs of single points differ from those of the points together.

    The difference is relative to the largest output, and 0 if it is within round-off. Parameters
    and points are also changed at random, little and much: outputs of zero, or equal points, would
    hide what they depend on. Values of a JAX transformation in progress are replaced by random
    ones.
    """
    generator = np.random.default_rng(0)
    rows = np.arange(N_POINTS)
    with jax.ensure_compile_time_eval():
        arguments = _values(params, generator), _points(x, rows, generator)
        compiled = jax.jit(partial(function))
        changes = [
            _change(compiled, *jax.tree.map(partial(_moved, size, generator), arguments))
            for size in MOVES
        ]
    return float(np.nanmax([0.0, *changes]))


def _change(function: Callable[..., Array], params: PyTree[Array], points: PyTree[Array]) -> float:
    """The largest relative difference; NaN if outputs are not finite in any case."""
    n = len(jax.tree.leaves(points)[0])
    backwards = jax.tree.map(lambda leaf: leaf[::-1], points)
    alone = np.concatenate(
        [
            _numbers(function(params, jax.tree.map(lambda leaf: leaf[row : row + 1], points)))
            for row in range(n)
        ]
    )
    epsilon = programs.largest_epsilon(jax.make_jaxpr(function)(params, points))
    both = _numbers(function(params, points)), _numbers(function(params, backwards))[::-1]
    if alone.shape != both[0].shape:
        return np.inf
    is_finite = [bool(np.isfinite(outputs).all()) for outputs in (alone, *both)]
    if not all(is_finite):
        return np.inf if any(is_finite) else np.nan
    largest = max(*(np.abs(outputs).max() for outputs in (alone, *both)), 1e-30)
    change = max(float(np.abs(outputs - alone).max() / largest) for outputs in both)
    return change if change > max(TOLERANCE, 16 * epsilon) else 0.0


def _numbers(outputs: Array) -> np.ndarray:
    return np.asarray(outputs.astype(float))


def _values(tree: PyTree[Array], generator: np.random.Generator) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: _made_up(leaf, generator) if _is_traced(leaf) else leaf, tree)


def _points(x: PyTree[Array], rows: np.ndarray, generator: np.random.Generator) -> PyTree[Array]:
    def few(leaf: Array) -> Array:
        if _is_traced(leaf):
            return _made_up(
                jax.ShapeDtypeStruct((len(rows), *leaf.shape[1:]), leaf.dtype), generator
            )
        return leaf[rows % len(leaf)]

    return jax.tree.map(few, x)


def _is_traced(leaf: Array) -> bool:
    return isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct | jax.core.ShapedArray)


def _made_up(leaf: Array, generator: np.random.Generator) -> Array:
    if programs.is_key(leaf):
        return jax.random.split(jax.random.key(0), leaf.shape)
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.asarray(np.abs(generator.normal(size=leaf.shape)), leaf.dtype)
    return jnp.asarray(generator.integers(0, 2, leaf.shape), leaf.dtype)


def _moved(size: float, generator: np.random.Generator, leaf: Array) -> Array:
    """The numbers, each larger by up to `size` times their mean; whole numbers as they are."""
    dtype = jnp.asarray(leaf).dtype if isinstance(leaf, int | float) else leaf.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        return leaf
    values = np.asarray(leaf, np.float64)
    scale = size * (np.abs(values).mean() or 1.0)
    return jnp.asarray(values + scale * generator.random(values.shape), dtype)
