"""Compute whether outputs of a point change with the points next to it."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from collective_variables.networks.separation import programs

N_POINTS = 5
MOVES = (0.0, 0.1, 3.0)
# Relative difference between outputs of a point with and without others; round-off is far less.
TOLERANCE = 1e-4


def largest_change(
    function: Callable[..., Array], params: PyTree[Array], x: PyTree[Array]
) -> float:
    """Return how much the outputs of single points differ from those of the points together.

    Parameters and points are also changed at random, little and much: zero outputs or equal points
    could hide a dependence. Values of a JAX transformation in progress are replaced by random ones.

    Args:
        function: The network, function(params, x).
        params: Its parameters.
        x: Its points.

    Returns:
        The difference relative to the largest output, or 0 if it is within round-off.
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
    """Return the largest relative difference; NaN if outputs are not finite in any case."""
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
    """Return outputs as a NumPy array of floats."""
    return np.asarray(outputs.astype(float))


def _values(tree: PyTree[Array], generator: np.random.Generator) -> PyTree[Array]:
    """Return the tree with random values in place of traced ones."""
    return jax.tree.map(lambda leaf: _made_up(leaf, generator) if _is_traced(leaf) else leaf, tree)


def _points(x: PyTree[Array], rows: np.ndarray, generator: np.random.Generator) -> PyTree[Array]:
    """Return these rows of the points, or random ones if they are traced."""

    def few(leaf: Array) -> Array:
        if _is_traced(leaf):
            return _made_up(
                jax.ShapeDtypeStruct((len(rows), *leaf.shape[1:]), leaf.dtype), generator
            )
        return leaf[rows % len(leaf)]

    return jax.tree.map(few, x)


def _is_traced(leaf: Array) -> bool:
    """Return whether a leaf has no values."""
    return isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct | jax.core.ShapedArray)


def _made_up(leaf: Array, generator: np.random.Generator) -> Array:
    """Return random values with the shape and dtype of a leaf."""
    if programs.is_key(leaf):
        return jax.random.split(jax.random.key(0), leaf.shape)
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.asarray(np.abs(generator.normal(size=leaf.shape)), leaf.dtype)
    return jnp.asarray(generator.integers(0, 2, leaf.shape), leaf.dtype)


def _moved(size: float, generator: np.random.Generator, leaf: Array) -> Array:
    """Return numbers increased by up to `size` times their mean, but integers unchanged."""
    dtype = jnp.asarray(leaf).dtype if isinstance(leaf, int | float) else leaf.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        return leaf
    values = np.asarray(leaf, np.float64)
    scale = size * (np.abs(values).mean() or 1.0)
    return jnp.asarray(values + scale * generator.random(values.shape), dtype)
