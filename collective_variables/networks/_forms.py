"""The forms of networks: Flax and NNX modules, and pairs of init and apply.

Each becomes a pair of functions of the network in evaluation mode: init(key, x) -> parameters and
apply(parameters, x) -> outputs. A network may hold other state, such as the running means of a
batch normalisation, masks and counters. This state is drawn by init with one key and stays fixed;
the tree of parameters has None in its place.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from collective_variables.networks import variables

Functions = tuple[Callable[..., PyTree[Array]], Callable[..., Array]]

# Arguments of modules that switch between training and evaluation, with the value for evaluation.
EVALUATION = {
    "deterministic": True,
    "is_training": False,
    "train": False,
    "training": False,
    "use_running_average": True,
}
KEYS = ("key", "rng", "rngs")  # names of an argument of apply that draws random numbers


def is_network(value: object) -> bool:
    """Return whether a value has the functions init and apply."""
    return (
        not isinstance(value, type)
        and callable(getattr(value, "init", None))
        and callable(getattr(value, "apply", None))
    )


def is_nnx(value: object) -> bool:
    """Return whether a value is a module of NNX."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.Module)


def signature(factory: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a class or function; for an NNX class that of its __init__."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None or not (isinstance(factory, type) and issubclass(factory, nnx.Module)):
        return inspect.signature(factory)
    _, *others = inspect.signature(factory.__init__).parameters.values()  # without self
    return inspect.Signature(others)


def takes_rngs(factory: Callable[..., Any]) -> bool:
    """Return whether a class or function has the argument `rngs`, as NNX modules do."""
    return "rngs" in signature(factory).parameters


def network_functions(name: str, network: Any) -> Functions:
    """Return init and apply of a Flax module, or of anything else with such functions."""
    if isinstance(network, nn.Module):
        return _parameters_alone(*_functions_of_flax(network), network.apply)
    init, apply = network if isinstance(network, tuple) else (network.init, network.apply)
    return _parameters_alone(init, _without_key(name, apply), apply)


def nnx_functions(make: Callable[..., Any]) -> Functions:
    """Return init and apply of the NNX modules that make(rngs=...) returns."""
    from flax import nnx

    def parts(key: PRNGKeyArray) -> tuple[Any, Any, Any]:
        model = make(rngs=nnx.Rngs(key))
        model.eval()
        return nnx.split(model, nnx.Param, ...)

    def init(key: PRNGKeyArray, x: Array) -> PyTree[Array]:
        return nnx.to_pure_dict(parts(key)[1])

    def apply(params: PyTree[Array], x: Array) -> Array:
        graph, state, others = parts(jax.random.key(0))
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state, others)(x)

    return init, apply


def _functions_of_flax(module: nn.Module) -> Functions:
    """Return init and apply of a module in evaluation mode, set by arguments or fields."""
    names = inspect.signature(type(module).__call__).parameters
    options = {name: value for name, value in EVALUATION.items() if name in names}
    fields = {
        name: value
        for name, value in EVALUATION.items()
        if name not in options and isinstance(getattr(module, name, 0), bool | None)
    }
    module = module.clone(**fields) if fields else module
    if not options:
        return module.init, module.apply
    return (
        lambda key, x: module.init(key, x, **options),
        lambda params, x: module.apply(params, x, **options),
    )


def _without_key(name: str, apply: Callable[..., Array]) -> Callable[..., Array]:
    """Return apply(params, x), for a function that may also take a key, which becomes None."""
    try:
        parameters = inspect.signature(apply).parameters.values()
    except (TypeError, ValueError):
        return apply
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    if len(needed) == 3 and needed[1] in KEYS:
        return lambda params, x: apply(params, None, x)
    if len(needed) > 2:
        raise ValueError(
            f"apply of the model {name} must take (params, x): it takes ({', '.join(needed)})."
        )
    return apply


def _parameters_alone(
    init: Callable[..., PyTree[Array]], apply: Callable[..., Array], original: Callable[..., Array]
) -> Functions:
    """Return init and apply as functions of the parameters only, with all other state fixed."""

    def init_parameters(key: PRNGKeyArray, x: Array) -> PyTree[Array]:
        whole = init(key, x)
        split = variables.split_variables("params", original, whole, ())
        leaves = zip(jax.tree.leaves(whole), split.is_parameter)
        return jax.tree.unflatten(
            split.structure, [leaf if first else None for leaf, first in leaves]
        )

    def apply_parameters(params: PyTree[Array], x: Array) -> Array:
        is_none = lambda leaf: leaf is None
        leaves, structure = jax.tree.flatten(params, is_leaf=is_none)
        if not any(map(is_none, leaves)):
            return apply(params, x)
        point = jnp.zeros((1, *x.shape[1:]), x.dtype)
        fixed = jax.tree.leaves(init(jax.random.key(0), point), is_leaf=is_none)
        merged = [b if a is None else a for a, b in zip(leaves, fixed, strict=True)]
        return apply(jax.tree.unflatten(structure, merged), x)

    return init_parameters, apply_parameters
