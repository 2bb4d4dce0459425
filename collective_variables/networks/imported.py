"""Imported networks: a module of Flax or NNX, or two functions of JAX, by an import path."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables.networks import _forms, checking, variables

PARAMETRISATION = "own"
FORMS = (
    "a Flax module, what makes one, an NNX module or a pair (init, apply), or a Python module with "
    "init and apply"
)


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
    returns a Flax module or a pair (init, apply); a class or function with the argument `rngs` that
    returns an NNX module; a Python module with functions `init` and `apply`.

    The network is in evaluation mode: dropout is off and a batch normalisation has fixed
    statistics. The arguments `deterministic`, `train`, `training`, `is_training` and
    `use_running_average` of a Flax module, and `eval` of an NNX module, are set accordingly. Only
    floating-point parameters are drawn anew and trained; running means, masks, counters and keys
    are drawn once, and are the same in all networks.

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
    if _forms.is_nnx(network):
        raise ValueError(_NNX_INSTANCE.format(path))
    if not _forms.is_network(network):
        return _made(path, network, options, version)
    if options:
        raise ValueError(
            f"options are for what makes a network: received {', '.join(options)} for {path}, "
            "which is one."
        )
    return _model(path, options, version, _forms.network_functions(path, network))


_NNX_INSTANCE = (
    "An NNX module has its parameters, so that no others can be drawn: {} must be its class, or a "
    "function with the argument rngs that makes it."
)


def _model(
    path: str, options: Mapping[str, Any], version: str, functions: _forms.Functions
) -> Model:
    return Model(path, repr(dict(sorted(options.items()))), version, *functions, dict(options))


def _made(path: str, factory: Any, options: Mapping[str, Any], version: str) -> Model:
    """The model of what a class or function at a path returns for these options."""
    make = _bound(path, factory, options)
    if _forms.takes_rngs(factory) and "rngs" not in options:
        return _model(path, options, version, _forms.nnx_functions(make))
    network = make()
    if _forms.is_nnx(network):
        raise ValueError(_NNX_INSTANCE.format(path))
    is_pair = isinstance(network, tuple) and len(network) == 2 and all(map(callable, network))
    if not is_pair and not _forms.is_network(network):
        raise ValueError(
            f"model must be the import path of {FORMS}: received {path}, "
            f"which gives {type(network).__name__}."
        )
    return _model(path, options, version, _forms.network_functions(path, network))


def _bound(path: str, factory: Any, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The class or function at a path with these options, all that it needs but `rngs`."""
    is_factory = isinstance(factory, type | partial) or inspect.isroutine(factory)
    if not is_factory:
        raise ValueError(
            f"model must be the import path of {FORMS}: received {path}, "
            f"which is {type(factory).__name__}."
        )
    given = {"rngs": None} if _forms.takes_rngs(factory) else {}
    try:
        _forms.signature(factory).bind(**given | options)
    except TypeError as error:
        raise ValueError(f"options of the model {path} do not fit: {error}.") from None
    return partial(factory, **options)


def check_model(model: Model, inputs: Float[Array, "n_points ..."], /) -> None:
    """Raise ValueError unless `model` has a tangent kernel between single points.

    It can be called in evaluation mode, it has floating-point parameters, its outputs are
    (n_points, n_outputs), and those of a point do not depend on the other points.
    """
    x = jnp.asarray(inputs[:2])
    with _as_one_sentence(model.path):
        params = jax.eval_shape(model.init, jax.random.key(0), x[:1])
        jax.eval_shape(model.apply, params, x)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"The parameters of {model.path} must be floating-point numbers: received "
                f"{leaf.dtype} for {jax.tree_util.keystr(path, simple=True, separator='.')}."
            )
    checking.check_variables(model.apply, model.apply, params, x, name=f"The model {model.path}")


@contextmanager
def _as_one_sentence(path: str) -> Generator[None]:
    """Name the model where its functions fail, with what to do about dropout and statistics."""
    try:
        yield
    except (MemoryError, variables.ParameterError):
        raise
    except Exception as error:  # any code of the user's
        kind = type(error).__name__
        advice = f" ({checking.ADVICE[kind]})" if kind in checking.ADVICE else ""
        raise ValueError(
            f"The model {path} cannot be called as init(key, x) and apply(params, x) in evaluation "
            f"mode{advice}: {kind}: {checking.first_line(error)}"
        ) from error


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
