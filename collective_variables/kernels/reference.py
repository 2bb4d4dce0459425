"""Kernels computed by the package neural-tangents (Novak et al. 2020, 2022).

Its empirical kernels are a reference for tests and benchmarks. Its analytic kernels are those of
infinitely wide convolutional networks.
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
from collective_variables.kernels._derivatives.contraction import OUTPUTS
from collective_variables.networks import sequential, variables
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    check_shapes,
    checked_points,
    hashable,
)

# The third method, structured derivatives, needs functions of JAX whose signatures have changed.
METHODS = ("jacobian contraction", "ntk-vector products")
# Layers of stax for infinite_width.ANALYTIC_ACTIVATIONS. Its Gelu is exact, but ours is Flax's
# approximation by tanh. Its Sigmoid_like is an error function.
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
    """Return K(x1, x2) of `empirical.empirical_ntk`, by `neural_tangents.empirical_ntk_fn`.

    Raises ValueError if an option is unknown, or if there are no points or no parameters. Points
    that are not finite or differ in shape are also a ValueError. So are outputs that are not
    (n_points, n_outputs). Raises ImportError if neural-tangents does not load.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x1: n1 points.
        x2: n2 points; None for x1. The kernel is then exactly symmetric; inside the caller's
            `jax.jit` it is symmetric up to round-off.
        outputs: "mean", "sum", "per-output" or "full", as in `empirical.empirical_ntk`.
        method: "jacobian contraction" forms the Jacobians of all points. "ntk-vector products"
            passes through the network n1·n2·C times instead, for C outputs (Novak et al. 2022,
            "Fast Finite Width Neural Tangent Kernel").

    Returns:
        The kernel: (n1, n2) for "mean" and "sum", (C, n1, n2) for "per-output", (n1·C, n2·C) for
        "full".
    """
    _checks.choice("outputs", outputs, OUTPUTS)
    _checks.choice("method", method, METHODS)
    x1, x2 = checked_points("x1", x1), None if x2 is None else checked_points("x2", x2)
    check_shapes(x1, x2)
    check_network(apply_fn, params, x1)
    kernel = _compiled_empirical(hashable(apply_fn), outputs, method, params, x1, x2)
    if x2 is not None:
        return kernel
    # Separate operations: compiled together with the kernel, the two sums are rounded differently.
    return (kernel + jnp.swapaxes(kernel, -1, -2)) / 2


# For each of OUTPUTS: output axes over which neural-tangents averages, and those it keeps once.
_AXES = {"mean": ((-1,), ()), "sum": ((-1,), ()), "per-output": ((), (-1,)), "full": ((), ())}


def _empirical(
    apply_fn: ApplyFunction,
    outputs: str,
    method: str,
    params: PyTree[Array],
    x1: Array,
    x2: Array | None,
) -> Array:
    """Return the kernel of neural-tangents, arranged as by `empirical.empirical_ntk`."""
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
        # The products of the package call jnp.size on shapes without values.
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


# Compiled once per network and set of shapes.
@functools.partial(jax.jit, static_argnums=0)
def reference_limit(
    network: sequential.Network,
    x1: Float[Array, "n1 height width channels"],
    x2: Float[Array, "n2 height width channels"] | None,
) -> Float[Array, "n1 n2"]:
    """Compute the kernel of `infinite_width.infinite_width_ntk` for any layers, without checks.

    Raises ImportError if neural-tangents does not load.

    Args:
        network: A network in the "ntk" parametrisation, with an activation in `STAX_LAYERS`.
        x1: n1 points, images unless the first layer is dense.
        x2: n2 points; None for x1.

    Returns:
        The kernel in float32, or in float64 under `jax.enable_x64`; symmetric up to round-off.
    """
    if network.layers[0].kind == "dense":
        x1, x2 = (None if x is None else x.reshape(len(x), -1) for x in (x1, x2))
    # The poolings of the package divide by integers.
    with jax.numpy_dtype_promotion("standard"):
        _, _, kernel_fn = _library().stax.serial(*_analytic_layers(network))
        return kernel_fn(x1, x2, "ntk")


# Compiled once per function and set of shapes.
_compiled_empirical = jax.jit(_empirical, static_argnums=(0, 1, 2))


def _analytic_layers(network: sequential.Network) -> Iterator[tuple]:
    """Yield the layers of `network` in stax, each a triple of functions.

    The default there is W ~ N(0, 1)/sqrt(fan_in).

    Yields:
        A layer, or the activation after it.

    Raises:
        ValueError: stax does not have the layer.
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
    """Return the package neural-tangents; raise one ImportError if it does not load."""
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
    """Restore the modules that neural-tangents 0.6.5 imports from JAX before 0.10, in the block.

    The package keeps the modules that it imported, so JAX gets its modules back afterwards.

    Yields:
        Nothing.
    """
    # Only this module needs TensorFlow, which is not among our dependencies.
    sys.modules.setdefault(
        "neural_tangents.experimental", types.ModuleType("neural_tangents.experimental")
    )
    names = ("jax.core", "jax.util", "jax.interpreters.ad")
    modules = {name: importlib.import_module(name.replace("jax.", "jax._src.")) for name in names}
    differentiation = types.ModuleType("jax.interpreters.ad")
    # The package has a rule for this primitive, which JAX no longer has.
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
    """Make `module` importable as `name`; None removes the present one."""
    package, _, attribute = name.rpartition(".")
    for namespace, key in ((sys.modules, name), (vars(sys.modules[package]), attribute)):
        if module is None:
            namespace.pop(key, None)
        else:
            namespace[key] = module
