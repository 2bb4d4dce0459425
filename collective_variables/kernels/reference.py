"""Kernels by the package neural-tangents (Novak et al. 2020, 2022): empirical ones as a reference
for tests and benchmarks, and those of infinitely wide convolutional networks.
"""

import functools
import importlib
import sys
import threading
import types
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables import _checks, _extras
from collective_variables.kernels._derivatives import OUTPUTS
from collective_variables.networks import sequential, variables
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    check_shapes,
    checked_points,
    hashable,
)

# Its third method, structured derivatives, needs functions of JAX whose signatures have changed.
METHODS = ("jacobian contraction", "ntk-vector products")
# The layers of stax with the kernels of infinite_width.ANALYTIC_ACTIVATIONS. Its Gelu is the exact
# one, ours is Flax's approximation by tanh; its Sigmoid_like is an error function.
STAX_LAYERS = {"relu": "Relu", "erf": "Erf", "linear": "Identity"}


def reference_ntk(
    apply_fn: ApplyFunction,
    params: PyTree[Float[Array, "..."]],
    x1: Float[Array, "n1 ..."],
    x2: Float[Array, "n2 ..."] | None = None,
    *,
    outputs: str = "mean",
    method: str = "jacobian contraction",
) -> Float[Array, "..."]:
    """K(x1, x2) of `empirical.empirical_ntk`, with the same arguments and result, by
    `neural_tangents.empirical_ntk_fn`.

    For C outputs the shape is (n1, n2) with "mean" and "sum", (C, n1, n2) with "per-output" and
    (n1·C, n2·C) with
    "full". method: "jacobian contraction" forms the Jacobians of all points; "ntk-vector products"
    does not, and passes through the network n1·n2·C times instead (Novak et al. 2022, "Fast Finite
    Width Neural Tangent Kernel"). Without x2 the kernel is exactly symmetric, except inside a jit
    of the caller's, where it is so up to round-off.

    Raises ValueError for `outputs` or `method` unknown, no points, values that are not finite,
    points of different shapes, no parameters, or outputs that are not (n_points, n_outputs);
    ImportError if neural-tangents does not load.
    """
    _checks.choice("outputs", outputs, OUTPUTS)
    _checks.choice("method", method, METHODS)
    x1, x2 = checked_points("x1", x1), None if x2 is None else checked_points("x2", x2)
    check_shapes(x1, x2)
    check_network(apply_fn, params, x1)
    kernel = _compiled_empirical(hashable(apply_fn), outputs, method, params, x1, x2)
    if x2 is not None:
        return kernel
    # Operations of their own: compiled together with the kernel, each of the two sums is rounded in
    # another way.
    return (kernel + jnp.swapaxes(kernel, -1, -2)) / 2


# For each of OUTPUTS: the axes of the outputs that neural-tangents takes the mean over, and those
# it keeps once.
_AXES = {"mean": ((-1,), ()), "sum": ((-1,), ()), "per-output": ((), (-1,)), "full": ((), ())}


def _empirical(
    apply_fn: ApplyFunction,
    outputs: str,
    method: str,
    params: PyTree[Array],
    x1: Array,
    x2: Array | None,
) -> Array:
    library = _library()
    apply_fn, params = variables.differentiable(apply_fn, params)
    trace_axes, diagonal_axes = _AXES[outputs]
    kernel_fn = library.empirical_ntk_fn(
        apply_fn,
        trace_axes=trace_axes,
        diagonal_axes=diagonal_axes,
        vmap_axes=0,
        implementation=library.NtkImplementation[
            method.upper().replace(" ", "_").replace("-", "_")
        ],
    )
    with warnings.catch_warnings():
        # Its products ask jnp.size about shapes without values.
        warnings.filterwarnings(
            "ignore", "size requires ndarray or scalar arguments", DeprecationWarning
        )
        kernel = kernel_fn(x1, x2, params)
    if outputs == "sum":
        kernel = kernel * jax.eval_shape(apply_fn, params, x1).shape[1]
    if outputs == "per-output":
        kernel = jnp.moveaxis(kernel, -1, 0)
    if outputs == "full":
        n1, n2, n_outputs, _ = kernel.shape
        kernel = jnp.swapaxes(kernel, 1, 2).reshape(n1 * n_outputs, n2 * n_outputs)
    return kernel


# Keeps what it compiled for the next call with the same network and shapes.
@functools.partial(jax.jit, static_argnums=0)
def reference_limit(
    network: sequential.Network,
    x1: Float[Array, "n1 height width channels"],
    x2: Float[Array, "n2 height width channels"] | None,
) -> Float[Array, "n1 n2"]:
    """Compute the kernel of `infinite_width.infinite_width_ntk` for any layers, without checks.

    Args:
        network: in the "ntk" parametrisation, with an activation in `STAX_LAYERS`.
        x1: n1 points, images unless the first layer is dense.
        x2: n2 points; None for x1.

    Returns:
        The kernel in float32, or in float64 under `jax.enable_x64`; symmetric up to round-off.

    Raises:
        ImportError: neural-tangents does not load.
    """
    if network.layers[0].kind == "dense":
        x1, x2 = (None if x is None else x.reshape(len(x), -1) for x in (x1, x2))
    # Its poolings divide by integers.
    with jax.numpy_dtype_promotion("standard"):
        _, _, kernel_fn = _library().stax.serial(*_analytic_layers(network))
        return kernel_fn(x1, x2, "ntk")


# Keeps what it compiled for the next call with the same function and shapes.
_compiled_empirical = jax.jit(_empirical, static_argnums=(0, 1, 2))


def _analytic_layers(network: sequential.Network) -> Iterator[tuple]:
    """The layers of `network` in stax, each a triple of functions; the defaults there are W ~ N(0,
    1)/sqrt(fan_in).
    """
    stax, last, image = _library().stax, len(network.layers) - 1, network.layers[0].kind != "dense"
    for number, layer in enumerate(network.layers):
        match layer.kind:
            case "avgpool":
                yield stax.AvgPool(layer.window, layer.strides, "VALID")
                continue
            case "conv":
                yield stax.Conv(
                    layer.width, layer.window, layer.strides, network.padding, b_std=network.b_std
                )
            case "dense":
                if image:
                    yield stax.Flatten()
                    image = False
                yield stax.Dense(layer.width, b_std=network.b_std)
            case kind:
                raise ValueError(f"layers must be known to stax: received {kind!r}.")
        if number < last:
            yield getattr(stax, STAX_LAYERS[network.activation])()


_loading = threading.Lock()


@functools.cache
def _library() -> types.ModuleType:
    """Return the package neural-tangents; raise one ImportError where it does not load."""
    with _loading, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _names_of_older_jax():
                return importlib.import_module("neural_tangents")
        except Exception as error:
            for name in [name for name in sys.modules if name.split(".")[0] == "neural_tangents"]:
                del sys.modules[name]
            if isinstance(error, ModuleNotFoundError) and error.name == "neural_tangents":
                with _extras.required("reference"):
                    raise
            raise ImportError(
                f"neural-tangents does not load on JAX {jax.__version__}: {error}"
            ) from error


@contextmanager
def _names_of_older_jax() -> Generator[None]:
    """Put modules with the names that neural-tangents 0.6.5 imports in the places where JAX had
    them before 0.10.

    It keeps the modules that it has imported, so that JAX gets its own back afterwards.
    """
    # Its only part that needs TensorFlow, which is not among our dependencies.
    sys.modules.setdefault(
        "neural_tangents.experimental", types.ModuleType("neural_tangents.experimental")
    )
    names = ("jax.core", "jax.util", "jax.interpreters.ad")
    modules = {name: importlib.import_module(name.replace("jax.", "jax._src.")) for name in names}
    differentiation = types.ModuleType("jax.interpreters.ad")
    # The key of a rule for a primitive that programs no longer hold.
    differentiation.zeros_like_p = modules["jax.core"].Primitive("zeros_like")
    vars(differentiation).update(vars(modules["jax.interpreters.ad"]))
    modules["jax.interpreters.ad"] = differentiation
    originals = {name: sys.modules.get(name) for name in names}
    try:
        for name, module in modules.items():
            _place(name, module)
        yield
    finally:
        for name, module in originals.items():
            _place(name, module)


def _place(name: str, module: types.ModuleType | None) -> None:
    """Make `module` the one that is imported as `name`; None takes away the one that was."""
    package, _, attribute = name.rpartition(".")
    for namespace, key in ((sys.modules, name), (vars(sys.modules[package]), attribute)):
        if module is None:
            namespace.pop(key, None)
        else:
            namespace[key] = module
