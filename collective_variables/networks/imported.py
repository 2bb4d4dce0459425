"""A network of one's own by its import path: a Flax module, or the two functions of a JAX
network.
"""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables.networks import _arguments

PARAMETRISATION = "own"
FORMS = (
    "a Flax module, what makes one or a pair (init, apply), or a Python module with init and apply"
)
TOLERANCE = 1e-4  # relative, between outputs of a point by itself and beside another, of which round-off is a hundredth


@dataclass(frozen=True)
class Model:
    """What `load` found: init(key, x) gives parameters, apply(params, x) outputs (n_points,
    n_outputs).

    Two are equal if path, options and version are. Pickled it is its path, and imported where it
    arrives.
    """

    path: str
    options: str
    version: str
    init: Callable[..., PyTree[Array]] = field(repr=False, compare=False)
    apply: Callable[..., Array] = field(repr=False, compare=False)
    values: Mapping[str, Any] = field(repr=False, compare=False)

    parametrisation = PARAMETRISATION

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _arrived, (
            self.path,
            dict(self.values),
            self.version,
            _digest(_module_of(self.path)),
        )


def load_model(path: str, options: Mapping[str, Any] = {}, /, *, version: str = "") -> Model:
    """The network at an import path such as "models.Wide", made with `options`.

    The path leads to a Flax module (`flax.linen.Module`), to a class or function that gives one or
    a pair (init, apply) when it is called with `options`, or to a Python module with functions
    `init` and `apply`. version: of its code, where that decides what may be taken for a result of
    the same network.

    Raises ValueError for a path that leads to nothing of these, and for options that it does not
    take.
    """
    found = _found(path)
    if not _is_network(found):
        if not callable(found):
            raise ValueError(
                f"model must be the import path of {FORMS}: received {path}, which is {type(found).__name__}."
            )
        try:
            inspect.signature(found).bind(**options)
        except TypeError as error:
            raise ValueError(f"options of the model {path} do not fit: {error}.") from None
        found = found(**options)
    elif options:
        raise ValueError(
            f"options are for what makes a network: received {', '.join(options)} for {path}, which is one."
        )
    if isinstance(found, tuple) and len(found) == 2 and all(map(callable, found)):
        init, apply = found
    elif _is_network(found):
        init, apply = found.init, found.apply
    else:
        raise ValueError(
            f"model must be the import path of {FORMS}: received {path}, which gives {type(found).__name__}."
        )
    return Model(path, repr(dict(sorted(options.items()))), version, init, apply, dict(options))


def check_model(model: Model, inputs: Float[Array, "n_points ..."], /) -> None:
    """Raise ValueError unless a kernel of `model` is one of parameters, between single points.

    Its variables must be floating-point parameters and nothing else (no running means of a batch
    normalisation), its outputs (n_points, n_outputs), and those of a point the same whatever other
    points are with it.
    """
    x = jnp.asarray(inputs[:2])
    params = model.init(jax.random.key(0), x[:1])
    others = (
        sorted(set(params) - {"params"})
        if isinstance(params, Mapping) and "params" in params
        else []
    )
    if others:
        raise ValueError(
            f"The model {model.path} must have parameters alone: it has {', '.join(others)}, too."
        )
    if wrong := [
        leaf.dtype
        for leaf in jax.tree.leaves(params)
        if not jnp.issubdtype(leaf.dtype, jnp.floating)
    ]:
        raise ValueError(
            f"The parameters of {model.path} must be floating-point numbers: received {wrong[0]}."
        )
    _arguments.check_network(model.apply, params, x)
    together, alone = (np.asarray(model.apply(params, of), np.float64) for of in (x, x[:1]))
    difference = np.abs(together[:1] - alone).max() / max(
        np.abs(alone).max(), np.finfo(np.float32).tiny
    )
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The model {model.path} must treat every point by itself: the outputs of one change by {difference:.2g}, "
            "relative, with another one beside it."
        )


def _found(path: object) -> Any:
    """What is at an import path: an attribute of a module, or a module."""
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"model must be an import path such as models.Wide: received {path!r}.")
    module = _module_of(path)
    return module if module.__name__ == path else getattr(module, path.rpartition(".")[2])


def _module_of(path: str) -> ModuleType:
    """The module that is at a path, or that has what is at it."""
    parent, _, name = path.rpartition(".")
    for candidate in (path, parent):
        try:
            module = importlib.import_module(candidate) if candidate else None
        except ModuleNotFoundError as error:
            # One that is there and imports another that is not says so itself.
            if error.name is None or not (
                candidate == error.name or candidate.startswith(f"{error.name}.")
            ):
                raise
            continue
        if module is not None and (candidate == path or hasattr(module, name)):
            return module
    first = path.partition(".")[0]
    place = getattr(sys.modules.get(first), "__file__", None)
    raise ValueError(
        f"model must be an import path: there is no {path}{f', and {first} is {place}' if place else ''}."
    )


def _is_network(found: object) -> bool:
    return (
        not isinstance(found, type)
        and callable(getattr(found, "init", None))
        and callable(getattr(found, "apply", None))
    )


@cache
def _digest(module: ModuleType) -> str:
    """The SHA-256 of a module's file, as it was when this was first called."""
    file = getattr(module, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _arrived(path: str, options: dict[str, Any], version: str, digest: str) -> Model:
    """A model that was pickled elsewhere."""
    if (here := _digest(_module_of(path))) != digest:
        raise RuntimeError(
            f"The file of the model {path} is another one here: SHA-256 {here} and not {digest}."
        )
    return load_model(path, options, version=version)
