"""Imported networks: a Flax module, or the two functions of a JAX network, by an import path."""

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
# Relative, between outputs of a point with another and without, of which round-off is a hundredth.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Model:
    """An imported network.

    init(key, x) gives parameters, and apply(params, x) gives outputs (n_points, n_outputs). Two
    models are equal if path, options and version are. A pickled model is its path, and is imported
    anew where it is unpickled.
    """

    path: str
    options: str
    version: str
    init: Callable[..., PyTree[Array]] = field(repr=False, compare=False)
    apply: Callable[..., Array] = field(repr=False, compare=False)
    values: Mapping[str, Any] = field(repr=False, compare=False)

    parametrisation = PARAMETRISATION

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _unpickle, (
            self.path,
            dict(self.values),
            self.version,
            _digest(_module_of(self.path)),
        )


def load_model(path: str, options: Mapping[str, Any] = {}, /, *, version: str = "") -> Model:
    """Import a network by its path, such as "models.Wide".

    The path leads to one of these: a Flax module (`flax.linen.Module`); a class or function that
    returns a Flax module or a pair (init, apply); a Python module with functions `init` and
    `apply`.

    Args:
        path: The import path, found from the folders in `sys.path`.
        options: Arguments of the class or function at `path`.
        version: The version of its code, where it decides which results are those of the same
            network; models of different versions are not equal.

    Returns:
        The model. `model.init(key, x)` draws parameters, and `model.apply(params, x)` returns
        outputs of shape (n_points, n_outputs).

    Raises:
        ValueError: The path leads to none of these, or the options do not fit.
        ModuleNotFoundError: The module imports another that does not exist.

    Example:
        >>> import jax
        >>> import collective_variables as cv
        >>> model = cv.load_model("flax.linen.Dense", {"features": 3})
        >>> x = jax.numpy.ones((5, 2))
        >>> params = model.init(jax.random.key(0), x)
        >>> model.apply(params, x).shape
        (5, 3)
    """
    network = _at(path)
    if not _is_network(network):
        network = _call(path, network, options)
    elif options:
        raise ValueError(
            f"options are for what makes a network: received {', '.join(options)} for {path}, "
            "which is one."
        )
    if isinstance(network, tuple) and len(network) == 2 and all(map(callable, network)):
        init, apply = network
    elif _is_network(network):
        init, apply = network.init, network.apply
    else:
        raise ValueError(
            f"model must be the import path of {FORMS}: received {path}, "
            f"which gives {type(network).__name__}."
        )
    return Model(path, repr(dict(sorted(options.items()))), version, init, apply, dict(options))


def _call(path: str, factory: Any, options: Mapping[str, Any]) -> Any:
    """What a class or function at a path returns for these options."""
    if not callable(factory):
        raise ValueError(
            f"model must be the import path of {FORMS}: received {path}, "
            f"which is {type(factory).__name__}."
        )
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise ValueError(f"options of the model {path} do not fit: {error}.") from None
    return factory(**options)


def check_model(model: Model, inputs: Float[Array, "n_points ..."], /) -> None:
    """Raise ValueError unless `model` has a tangent kernel between single points.

    Its variables must be floating-point parameters and nothing else, such as the running means of a
    batch normalisation. Its outputs must be (n_points, n_outputs), and those of a point must not
    depend on the other points.
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
    together, alone = (np.asarray(model.apply(params, points), np.float64) for points in (x, x[:1]))
    difference = np.abs(together[:1] - alone).max() / max(
        np.abs(alone).max(), np.finfo(np.float32).tiny
    )
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The model {model.path} must treat every point separately: the outputs of one change "
            f"by {difference:.2g}, relative, when another one is added."
        )


def _at(path: object) -> Any:
    """What is at an import path: an attribute of a module, or a module."""
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"model must be an import path such as models.Wide: received {path!r}.")
    module = _module_of(path)
    # A module may have another name than its path: that of os.path is posixpath.
    return module if sys.modules.get(path) is module else getattr(module, path.rpartition(".")[2])


def _module_of(path: str) -> ModuleType:
    """The module that is at a path, or that has the attribute that is."""
    parent, _, name = path.rpartition(".")
    for candidate in (path, parent):
        try:
            module = importlib.import_module(candidate) if candidate else None
        except ModuleNotFoundError as error:
            # A module that exists, but imports another that does not, says so itself.
            if error.name is None or not (
                candidate == error.name or candidate.startswith(f"{error.name}.")
            ):
                raise
            continue
        if module is not None and (candidate == path or hasattr(module, name)):
            return module
    first = path.partition(".")[0]
    place = getattr(sys.modules.get(first), "__file__", None)
    known = f", and {first} is {place}" if place else ""
    raise ValueError(f"model must be an import path: there is no {path}{known}.")


def _is_network(value: object) -> bool:
    return (
        not isinstance(value, type)
        and callable(getattr(value, "init", None))
        and callable(getattr(value, "apply", None))
    )


@cache
def _digest(module: ModuleType) -> str:
    """The SHA-256 of a module's file, as it was when this was first called."""
    file = getattr(module, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _unpickle(path: str, options: dict[str, Any], version: str, digest: str) -> Model:
    """Import a model that was pickled elsewhere, from a file that must be the same."""
    if (here := _digest(_module_of(path))) != digest:
        raise RuntimeError(
            f"The file of the model {path} is another one here: SHA-256 {here} and not {digest}."
        )
    return load_model(path, options, version=version)
