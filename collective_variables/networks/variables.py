"""Split the variables of a network into parameters and constants.

Integers, Booleans, masks of them and random keys have no derivative. Only the collection "params"
of a Flax module is trained, and only the `Param` state of an NNX module. Running means and
variances of a batch normalisation are constants.
"""

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from collective_variables.networks._arguments import ApplyFunction

# Collections that modules of Flax, and people, keep next to "params".
COLLECTIONS = frozenset(
    {
        "batch_stats",
        "buffers",
        "cache",
        "constants",
        "intermediates",
        "perturbations",
        "state",
        "stats",
    }
)


class ParameterError(ValueError):
    """Variables have no parameter with a derivative, or a complex one."""


NARROW = 4  # bytes of a number; derivatives in fewer would be rounded


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("parameters", "constants"),
    meta_fields=("structure", "is_parameter", "dtypes"),
)
@dataclass(frozen=True)
class Variables:
    """The variables of a network, with its parameters separated from its constants.

    Attributes:
        parameters: Arrays of parameters, at least in float32.
        constants: The other arrays.
        structure: Tree structure of all variables.
        is_parameter: For each leaf of the tree, whether it is a parameter.
        dtypes: Original dtypes of the parameters.
    """

    parameters: list[Array]
    constants: list[Array]
    structure: Any
    is_parameter: tuple[bool, ...]
    dtypes: tuple[Any, ...]

    def whole(self) -> PyTree[Array]:
        """Return the tree that the network takes."""
        parameters = iter(
            leaf.astype(dtype) for leaf, dtype in zip(self.parameters, self.dtypes, strict=True)
        )
        constants = iter(self.constants)
        leaves = [next(parameters) if first else next(constants) for first in self.is_parameter]
        return jax.tree.unflatten(self.structure, leaves)


def whole(params: PyTree[Array]) -> PyTree[Array]:
    """Return the tree that the network takes, from `Variables` or a tree of parameters."""
    return params.whole() if isinstance(params, Variables) else params


def widened(outputs: Any) -> Any:
    """Return outputs of 16 bits or fewer in float32, and others unchanged."""
    dtype = getattr(outputs, "dtype", None)
    is_narrow = (
        dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < NARROW
    )
    return outputs.astype(jnp.float32) if is_narrow else outputs


def parameters(params: PyTree[Array]) -> list[Array]:
    """Return the arrays by which a network is differentiated."""
    return params.parameters if isinstance(params, Variables) else jax.tree.leaves(params)


def differentiable(
    apply_fn: ApplyFunction, params: PyTree[Array]
) -> tuple[ApplyFunction, PyTree[Array]]:
    """Return the network as a function of its parameters only, and these parameters."""
    if not isinstance(params, Variables):
        return apply_fn, params

    def function(parameters: list[Array], x: PyTree[Array]) -> Array:
        return widened(apply_fn(replace(params, parameters=parameters).whole(), x))

    return function, params.parameters


class Split:
    """Split variables with the same tree structure into parameters and constants."""

    def __init__(self, params: PyTree[Array], is_parameter: Iterable[bool]):
        leaves, self.structure = jax.tree.flatten(params)
        dtypes = [_dtype(leaf) for leaf in leaves]
        self.is_parameter = tuple(is_parameter)
        self.dtypes = tuple(dtype for dtype, first in zip(dtypes, self.is_parameter) if first)
        self.is_needed = not all(self.is_parameter) or any(
            dtype.itemsize < NARROW for dtype in self.dtypes
        )

    def __call__(self, params: PyTree[Array]) -> PyTree[Array]:
        """Return `params` of this structure, as `Variables` unless all of them are parameters."""
        if not self.is_needed:
            return params
        leaves = jax.tree.leaves(params)
        return Variables(
            [widened(jnp.asarray(leaf)) for leaf, first in zip(leaves, self.is_parameter) if first],
            [leaf for leaf, first in zip(leaves, self.is_parameter) if not first],
            self.structure,
            self.is_parameter,
            self.dtypes,
        )


def split_variables(
    name: str, apply_fn: Callable[..., Any], params: PyTree[Array], collections: Iterable[str]
) -> Split:
    """Return how `params` are split.

    Args:
        name: Name of the variables, for errors.
        apply_fn: The network. If it is the `apply` of a Flax module, all collections but "params"
            are constants.
        params: The variables.
        collections: Names of collections with which Flax modules in the network were called.

    Returns:
        A function that splits variables of the same structure.

    Raises:
        ParameterError: There is no floating-point parameter, or one is complex.
    """
    names = frozenset(collections) | COLLECTIONS
    is_flax = isinstance(getattr(_innermost(apply_fn), "__self__", None), nn.Module)
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    kept = _trained_variables(params)
    is_parameter = [
        jnp.issubdtype(_dtype(leaf), jnp.inexact)
        and is_trained
        and not _is_in_collection(params, path, names, is_flax)
        for (path, leaf), is_trained in zip(paths, kept, strict=True)
    ]
    for (path, leaf), first in zip(paths, is_parameter):
        if first and jnp.issubdtype(_dtype(leaf), jnp.complexfloating):
            where = f"{name}{jax.tree_util.keystr(path)}"
            raise ParameterError(
                f"{where} must be of real numbers: received {_dtype(leaf)}. Give its real and "
                "imaginary part as two parameters."
            )
    if not any(is_parameter):
        received = ", ".join(sorted({str(_dtype(leaf)) for _, leaf in paths})) or "none"
        wanted = "floating-point array" if paths else "array"
        raise ParameterError(f"{name} must hold at least one {wanted}: received {received}.")
    return Split(params, is_parameter)


def _dtype(leaf: Any) -> Any:
    """Return the dtype of a leaf."""
    return jax.typeof(leaf).dtype


def _innermost(function: Any) -> Any:
    """Return the function that partials and compiled functions finally call."""
    while isinstance(function, partial) or hasattr(function, "__wrapped__"):
        if isinstance(getattr(function, "__self__", None), nn.Module):
            return function  # Flax wraps its own methods
        function = function.func if isinstance(function, partial) else function.__wrapped__
    return function


def _is_in_collection(
    params: PyTree[Array], path: tuple[Any, ...], names: frozenset[str], is_flax: bool
) -> bool:
    """Return whether the leaf at a path is in a Flax collection other than "params"."""
    node = params
    for depth, key in enumerate(path):
        if not isinstance(node, Mapping):
            return False
        name: Hashable = getattr(key, "key", None)
        others = set(node) - {"params"}
        is_variables = len(others) < len(node) and (others <= names or (is_flax and depth == 0))
        if is_variables and name != "params":
            return True
        node = node.get(name)
    return False


def _trained_variables(params: PyTree[Array]) -> list[bool]:
    """Return whether each leaf is trained; among variables of NNX only `Param` leaves are."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return [True] * len(jax.tree.leaves(params))
    is_variable = lambda node: isinstance(node, nnx.Variable)
    nodes = jax.tree.leaves(params, is_leaf=is_variable)
    has_params = any(isinstance(node, nnx.Param) for node in nodes)
    fixed = nnx.BatchStat, nnx.Cache, nnx.Intermediate, nnx.RngState
    return [
        not is_variable(node)
        or isinstance(node, nnx.Param)
        or not (has_params or isinstance(node, fixed))
        for node in nodes
        for _ in jax.tree.leaves(node)
    ]


def collections_seen(seen: set[str]) -> Any:
    """Return a context that adds to `seen` the collections with which Flax modules are called.

    It suffices to trace the modules inside it.
    """

    def look(
        method: Callable[..., Any],
        arguments: Any,
        options: Any,
        context: nn.module.InterceptorContext,
    ) -> Any:
        if context.module.scope is not None:
            seen.update(context.module.scope.root._variables)
        return method(*arguments, **options)

    return nn.intercept_methods(look)
