"""Import networks by path: a Flax or NNX module, or two JAX functions."""

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
    "a Flax module, of a class or function that returns a Flax or NNX module or a pair "
    "(init, apply), or of a Python module with init and apply"
)


@dataclass(frozen=True)
class Model:
    """An imported network.

    Two models are equal if path, options and version are. A pickled model contains its path, and is
    imported again when it is unpickled.

    Attributes:
        path: The import path.
        options: Text of the options, for comparison.
        version: The version of the code.
        init: init(key, x) draws parameters.
        apply: apply(params, x) returns outputs (n_points, n_outputs).
        values: The options.
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

    The path may lead to a Flax module (`flax.linen.Module`), or to a Python module with functions
    `init` and `apply`. It may also lead to a class or function that returns a Flax module or a pair
    (init, apply). With the argument `rngs`, the class or function may return an NNX module.

    The network is in evaluation mode: dropout is off and a batch normalisation has fixed
    statistics. For a Flax module, the arguments `deterministic`, `train`, `training`, `is_training`
    and `use_running_average` are set accordingly; for an NNX module, `eval` is called. Only
    floating-point parameters are drawn anew and trained. Running means, masks, counters and keys
    are drawn once and shared by all networks.

    Raises ModuleNotFoundError if the module imports another one that does not exist.

    Args:
        path: The import path, found from the folders in `sys.path`.
        options: Arguments of the class or function at `path`.
        version: Version of the code. Models with different versions are not equal, so their results
            are kept apart.

    Returns:
        The model. `model.init(key, x)` draws parameters, and `model.apply(params, x)` returns
        outputs of shape (n_points, n_outputs).

    Raises:
        ValueError: The path leads to none of these, or the options do not fit.

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
            f"options must be empty for {path}, which is a network and not a function that "
            f"returns one: received {', '.join(options)}."
        )
    return _model(path, options, version, _forms.network_functions(path, network))


_NNX_INSTANCE = (
    "An NNX module has its parameters already, so no others can be drawn: {} must be its class, or "
    "a function with the argument rngs that returns it."
)


def _model(
    path: str, options: Mapping[str, Any], version: str, functions: _forms.Functions
) -> Model:
    """Return a model of these functions."""
    return Model(path, repr(dict(sorted(options.items()))), version, *functions, dict(options))


def _made(path: str, factory: Any, options: Mapping[str, Any], version: str) -> Model:
    """Return the model of the network that a class or function returns for these options."""
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
    """Return the class or function at a path with these options; only `rngs` may be missing."""
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
    """Check that `model` has a tangent kernel between single points.

    It must run in evaluation mode and have floating-point parameters. Its outputs must be
    (n_points, n_outputs), and those of a point must not depend on other points. Also raises the
    errors of `checking.check_variables`.

    Args:
        model: The model.
        inputs: Points (n_points, ...).

    Raises:
        ValueError: The model cannot be called, or a parameter is not a floating-point array.
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
    """Name the model in errors of its functions, with advice about dropout and statistics."""
    try:
        yield
    except (MemoryError, variables.ParameterError):
        raise
    except Exception as error:  # the user's code may raise anything
        kind = type(error).__name__
        advice = f" ({checking.ADVICE[kind]})" if kind in checking.ADVICE else ""
        raise ValueError(
            f"The model {path} cannot be called as init(key, x) and apply(params, x) in evaluation "
            f"mode{advice}: {kind}: {checking.first_line(error)}"
        ) from error


def _at(path: object) -> Any:
    """Return the module, or the attribute of a module, at an import path; or raise ValueError."""
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"model must be an import path such as models.Wide: received {path!r}.")
    module = _module_of(path)
    # A module may have another name than its path: os.path is named posixpath.
    return module if sys.modules.get(path) is module else getattr(module, path.rpartition(".")[2])


def _module_of(path: str) -> ModuleType:
    """Return the module at a path or with the attribute at it; raise ValueError without one."""
    parent, _, name = path.rpartition(".")
    for candidate in (path, parent):
        try:
            module = importlib.import_module(candidate) if candidate else None
        except ModuleNotFoundError as error:
            # If the module exists but imports a missing one, pass its error on.
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
    """Return the SHA-256 of a module's file at the time of the first call."""
    file = getattr(module, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _unpickle(path: str, options: dict[str, Any], version: str, digest: str) -> Model:
    """Import a pickled model, and raise RuntimeError if its file has changed."""
    if (here := _digest(_module_of(path))) != digest:
        raise RuntimeError(
            f"The file of the model {path} differs here: SHA-256 {here}, expected {digest}."
        )
    return load_model(path, options, version=version)
