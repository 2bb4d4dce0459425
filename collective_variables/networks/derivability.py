"""Check, from the dtypes of a traced program, that outputs have a derivative by a parameter."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def has_derivative(function: Callable[..., Array], params: PyTree[Array], x: PyTree[Array]) -> bool:
    """Return whether outputs depend on a parameter through floating-point numbers all the way.

    Integers and Booleans on the way, as from argmax or a comparison, have no derivative. Nothing is
    computed.

    Args:
        function: The network, function(params, x).
        params: The parameters.
        x: The points.

    Returns:
        True if at least one output has a derivative.
    """
    closed = jax.make_jaxpr(function)(params, x)
    n_parameters = len(jax.tree.leaves(params))
    depends = [
        number < n_parameters and jnp.issubdtype(variable.aval.dtype, jnp.inexact)
        for number, variable in enumerate(closed.jaxpr.invars)
    ]
    return any(_follow(closed, depends))


def _follow(closed: Any, depends: Sequence[bool]) -> list[bool]:
    """Return which results depend on a parameter, given which operands do."""
    jaxpr = closed.jaxpr
    known = {variable for variable, first in zip(jaxpr.invars, depends, strict=True) if first}
    is_known = lambda atom: not isinstance(atom, jax.extend.core.Literal) and atom in known
    for equation in jaxpr.eqns:
        operands = [is_known(atom) for atom in equation.invars]
        results = [any(operands) and equation.primitive.name != "stop_gradient"]
        results *= len(equation.outvars)
        if equation.primitive.name == "jit":
            results = _follow(equation.params["jaxpr"], operands)
        known |= {
            variable
            for variable, first in zip(equation.outvars, results, strict=True)
            if first and jnp.issubdtype(variable.aval.dtype, jnp.inexact)
        }
    return [is_known(atom) for atom in jaxpr.outvars]
