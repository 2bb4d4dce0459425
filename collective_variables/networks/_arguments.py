"""Check points, parameters, and the network as a function of both."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from collective_variables import _checks

ApplyFunction = Callable[[PyTree[Array], PyTree[Array]], Array]


def checked_points(name: str, x: PyTree[Array]) -> PyTree[Array]:
    """Return the points `x` as JAX arrays.

    Args:
        name: Name of the points, for errors.
        x: An array, a list of numbers, or a tree of arrays.

    Returns:
        The points.

    Raises:
        ValueError: There are no points, arrays differ in their number, or a value is not finite.
    """
    if all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(x)):
        x = jnp.asarray(x)  # a list of numbers is an array, not a tree of scalars
    x = jax.tree.map(jnp.asarray, x)
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    if len({shape[:1] for shape in shapes}) != 1 or shapes[0][:1] in ((), (0,)):
        received = ", ".join(map(str, shapes)) or "of no array"
        raise ValueError(f"{name} must hold at least one point: received the shape {received}.")
    for leaf in jax.tree.leaves(x):
        if not isinstance(leaf, jax.core.Tracer):
            _checks.finite(name, leaf)
    return x


def check_shapes(x1: PyTree[Array], x2: PyTree[Array] | None) -> None:
    """Check that x1 and x2 have points of the same shape.

    Args:
        x1: Points.
        x2: Other points, or None.

    Raises:
        ValueError: The shapes differ.
    """
    shapes = [
        [leaf.shape[1:] for leaf in jax.tree.leaves(x)] for x in (x1, x1 if x2 is None else x2)
    ]
    if shapes[0] != shapes[1]:
        first, second = (", ".join(map(str, points)) for points in shapes)
        raise ValueError(
            f"x2 must have points shaped like those of x1, {first}: received {second}."
        )


def check_network(apply_fn: ApplyFunction, params: PyTree[Array], x: PyTree[Array]) -> None:
    """Check that there are parameters, and that `apply_fn` returns real numbers for each point.

    Nothing is computed.

    Args:
        apply_fn: The network.
        params: The parameters.
        x: The points.

    Raises:
        ValueError: There are no parameters, or outputs have another shape or dtype.
    """
    if not jax.tree.leaves(params):
        raise ValueError("params must hold at least one array: received none.")
    n = n_points(x)
    result = jax.eval_shape(apply_fn, params, x)
    shape = getattr(result, "shape", "of no array")
    if len(shape) != 2 or shape[0] != n or shape[1] == 0:
        advice = " Return (n_points, 1) for one output." if shape == (n,) else ""
        raise ValueError(
            f"apply_fn must return (n_points, n_outputs) = ({n}, …): "
            f"received the shape {shape}.{advice}"
        )
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise ValueError(
            "apply_fn must return real floating-point numbers, which have a derivative: "
            f"received {result.dtype}."
        )


def n_points(x: PyTree[Array]) -> int:
    """Return the number of points along the first axes of the arrays of `x`."""
    return jax.tree.leaves(x)[0].shape[0]


def n_bytes(tree: PyTree[Array]) -> int:
    """Return the bytes of all arrays of `tree`, or of arrays with these shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def hashable(apply_fn: ApplyFunction) -> ApplyFunction:
    """Return `apply_fn`, wrapped in a function if it cannot be hashed."""
    try:
        hash(apply_fn)
        return apply_fn
    except TypeError:
        return lambda params, x: apply_fn(params, x)  # noqa: PLW0108 - this one has a hash
