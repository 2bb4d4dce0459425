"""Compute features of points whose products are a kernel, by the kernel's name."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors, _keys, _memory
from collective_variables.kernels import empirical, infinite_width
from collective_variables.kernels.features import sketches
from collective_variables.networks import sequential
from collective_variables.selection import _cholesky, rnd_linearised
from collective_variables.selection.batches import features as pivoted

KERNELS = ("linear", "infinite-width", "ntk", "sketch")
NETWORK_KERNELS = ("ntk", "sketch")  # those of a network with parameters
EXACT_UP_TO = 2048  # points, up to which all features of an exact kernel are computed
N_FEATURES = 1024  # of exact kernels of more points
N_SKETCHED = 512

Kernel = _cholesky.Kernel
Points = Float[np.ndarray, "n_pool ..."]
PointKernel = Callable[[Points, Points], ArrayLike]  # the kernel between two sets of points


def features(
    pool: ArrayLike,
    kernel: str | ArrayLike | PointKernel,
    *,
    network: nn.Module | None = None,
    params: PyTree[Array] | None = None,
    n_features: int | None = None,
    key: PRNGKeyArray | None = None,
    may_be_zero: bool = False,
) -> Float[np.ndarray, "n_pool n_features"]:
    """Return features of all points, whose products are the kernel, in float64.

    Kernels by name are:

    - linear: the product of two points. Its features are the flattened points.
    - infinite-width: the limit of the network's neural tangent kernel for wide layers, as
      `infinite_width.infinite_width_ntk` computes it: of the same layers in the parametrisation
      "ntk", in float64 for up to 2048 points.
    - ntk: the neural tangent kernel of the network with these parameters, as `empirical_ntk`.
    - sketch: random features whose products estimate "ntk", as `ntk_features`.

    The features of all but "linear" and "sketch" are the factor of a pivoted Cholesky decomposition
    (see `features.from_kernel`). They are exact up to round-off if their number is not smaller than
    the rank of the kernel.

    Also raises TypeError or ValueError for points that are not finite numbers, a network without
    the limit, a matrix of another shape or one that is not positive semi-definite. Raises
    MemoryError if features or kernel do not fit the free memory.

    Args:
        pool: (n_pool, ...) points.
        kernel: One of `KERNELS`; or an (n_pool, n_pool) symmetric matrix; or a function
            kernel(x1, x2) of points of the pool, (n1, ...) and (n2, ...), that returns (n1, n2).
        network: The network of all kernels by name but "linear".
        params: Its parameters for "ntk" and "sketch".
        n_features: Largest number of features. By default 512 for "sketch", which has as many; for
            others n_pool for up to 2048 points, else 1024.
        key: A JAX key for "sketch".
        may_be_zero: Whether a kernel that is 0 for all points is allowed. Its features are zeros,
            or none.

    Returns:
        The features (n_pool, n_features).

    Raises:
        InvalidValueError: Network, parameters or key are missing, the parameters do not fit the
            network, an argument has no meaning for the kernel, or the kernel is 0 for all points.

    Example:
        >>> print(features([[1.0, 2.0], [3.0, 4.0]], "linear"))
        [[1. 2.]
         [3. 4.]]
        >>> print(features([[1.0, 2.0], [3.0, 4.0]], [[4.0, 2.0], [2.0, 2.0]]))
        [[2. 0.]
         [1. 1.]]
    """
    points = np.asarray(pool)
    name = check(points, kernel, network, n_features, has_params=params is not None)
    if name == "linear":
        return points.reshape(len(points), -1).astype(np.float64)
    if name in NETWORK_KERNELS:
        if params is None:
            raise _errors.InvalidValueError(
                f"params must be given for the kernel {name}: received None."
            )
        _check_params(network, params, points)
    if name == "sketch":
        _keys.check_key(key)
        n_sketched = N_SKETCHED if n_features is None else n_features
        sketched = sketches.ntk_features(
            network.apply, params, jnp.asarray(points), n_sketched, key=key
        )
        found = np.asarray(sketched, np.float64)
        return found if may_be_zero else check_nonzero(found, kernel)
    if n_features is None:
        n_features = len(points) if len(points) <= EXACT_UP_TO else N_FEATURES
    # The factor and its transpose.
    n_numbers = 2 * len(points) * min(n_features, len(points))
    _memory.check(f"Features of {len(points)} points", 8 * n_numbers)
    if name == "infinite-width":
        values = limit(network, points)
    elif name == "ntk":
        values = _blocks(partial(empirical.empirical_ntk, network.apply, params), points)
    elif callable(kernel):
        values = _by_rows(kernel, points)
    else:
        values = kernel
    found = pivoted.from_kernel(values, len(points), n_features).features
    return found if may_be_zero else check_nonzero(found, kernel)


def check_nonzero(
    features: Float[np.ndarray, "n_pool n_features"], kernel: str | ArrayLike | PointKernel
) -> Float[np.ndarray, "n_pool n_features"]:
    """Return the features, or raise if the kernel is 0 for all points.

    Args:
        features: The features of the kernel; none, or zeros, if it is 0.
        kernel: As in `features`.

    Returns:
        The features.

    Raises:
        InvalidValueError: The kernel is 0.
    """
    if features.any():
        return features
    if isinstance(kernel, str):
        received = f"the kernel {kernel}"
    else:
        received = "a function" if callable(kernel) else "a matrix"
    raise _errors.InvalidValueError(
        f"kernel must have K(x, x) > 0 for some point: received {received} with K(x, x) = 0 for "
        f"all {len(features)} points. Check how it was computed, or choose the kernel linear."
    )


def check(
    points: Points,
    kernel: str | ArrayLike | PointKernel,
    network: nn.Module | None,
    n_features: int | None,
    *,
    has_params: bool,
) -> str:
    """Return the name of the kernel, "" for a matrix or a function, or raise as `features` does.

    Args:
        points: (n_pool, ...) points.
        kernel: As in `features`.
        network: As in `features`.
        n_features: As in `features`.
        has_params: Whether parameters are given.

    Returns:
        The name.

    Raises:
        InvalidValueError: The network is missing, the matrix has another shape, or an argument has
            no meaning for the kernel.

    Also raises TypeError or ValueError for points that are not finite, an unknown kernel, and a
    number of features that is no positive integer.
    """
    _checks.finite("pool", points)
    name = _checks.choice("kernel", kernel, KERNELS) if isinstance(kernel, str) else ""
    words = f"the kernel {name}" if name else "a matrix or a function"
    if n_features is not None:
        _checks.integer("n_features", n_features, minimum=1)
        if name == "linear":
            raise _errors.InvalidValueError(
                f"n_features must be None for the kernel linear, whose features are the points: "
                f"received {n_features}."
            )
    if has_params and name not in NETWORK_KERNELS:
        raise _errors.InvalidValueError(
            f"params must be None for {words}; the kernels {' and '.join(NETWORK_KERNELS)} have "
            "them."
        )
    if name not in ("", "linear") and network is None:
        raise _errors.InvalidValueError(f"network must be given for {words}: received None.")
    if name == "infinite-width" and not isinstance(network, sequential.Network):
        raise _errors.InvalidValueError(
            f"network must be built from layers for {words}: received {type(network).__name__}."
        )
    if not name and not callable(kernel) and np.shape(kernel) != (len(points), len(points)):
        raise _errors.InvalidValueError(
            f"kernel must be one of {', '.join(KERNELS)}, a function, or a matrix of the shape "
            f"{(len(points), len(points))}: received the shape {np.shape(kernel)}."
        )
    return name


def is_drawn(kernel: object) -> bool:
    """Return whether the kernel is that of a network whose parameters may be drawn."""
    return isinstance(kernel, str) and kernel in NETWORK_KERNELS


def _check_params(network: nn.Module, params: PyTree[Array], points: Points) -> None:
    """Raise InvalidValueError unless the parameters have the names and shapes of the network's."""
    expected = _shapes(jax.eval_shape(network.init, jax.random.key(0), jnp.asarray(points[:1])))
    received = _shapes(params)
    for name in [*expected, *received]:
        if expected.get(name) != received.get(name):
            shape, other = (shapes.get(name, "no array") for shapes in (expected, received))
            raise _errors.InvalidValueError(
                f"params must have the arrays of the network's parameters, {shape} for {name}: "
                f"received {other}."
            )


def _shapes(tree: PyTree[Array]) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}


def limit(network: sequential.Network, points: Points) -> Float[np.ndarray, "n n"] | Kernel:
    """Return the infinite-width kernel of the points, or a function of their rows if many.

    Also raises ValueError for a network without the limit, and for points whose kernel leaves the
    range of their dtype.
    """
    options = {
        "activation": network.activation,
        "padding": network.padding,
        "b_std": network.b_std,
    }
    layers = [_text(layer) for layer in network.layers]
    infinite_width.network_with_limit(layers, **options)
    is_double = len(points) <= EXACT_UP_TO
    points = points.astype(np.float64 if is_double else np.float32)
    is_dense = all(layer.kind == "dense" for layer in network.layers)
    infinite_width.check_range(
        "pool",
        points.reshape(len(points), -1) if is_dense else points.reshape(-1, points.shape[-1]),
        n_hidden=sum(layer.kind != "avgpool" for layer in network.layers) - 1,
        activation=network.activation,
        b_std=network.b_std,
    )

    def kernel(x1: Points, x2: Points | None = None) -> Float[np.ndarray, "n1 n2"]:
        with jax.enable_x64(is_double):
            return np.asarray(infinite_width.infinite_width_ntk(layers, x1, x2, **options))

    return _blocks(kernel, points)


def _text(layer: sequential.Layer) -> str:
    """Return a layer as `build_network` reads it.

    Raises:
        InvalidValueError: Its strides cannot be written.
    """
    if layer.kind == "dense":
        return f"dense {layer.width}"
    width = f" {layer.width}" if layer.kind == "conv" else ""
    text = "{}{} {}x{}".format(layer.kind, width, *layer.window)
    for written in (text, f"{text} stride {layer.strides[0]}"):
        if sequential.parse(written) == layer:
            return written
    raise _errors.InvalidValueError(
        f"network must have the same stride along height and width for the kernel infinite-width: "
        f"received {layer.strides}."
    )


def _blocks(kernel: Callable[..., ArrayLike], points: Points) -> Float[np.ndarray, "n n"] | Kernel:
    """Return the kernel of the points, or a function of their rows if these are many."""
    return np.asarray(kernel(points)) if len(points) <= EXACT_UP_TO else _by_rows(kernel, points)


def _by_rows(kernel: PointKernel, points: Points) -> Kernel:
    """Return a kernel of points as a function of their rows.

    Blocks are padded to few different shapes, since each shape is compiled.
    """

    def padded(rows: np.ndarray) -> Points:
        size = max(rnd_linearised.NARROWEST, 1 << (len(rows) - 1).bit_length())
        return points[np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])]

    def block(rows: np.ndarray, columns: np.ndarray | None) -> Float[np.ndarray, "n1 n2"]:
        x1, x2 = padded(rows), points if columns is None else padded(columns)
        values = np.asarray(kernel(x1, x2))
        if values.shape != (len(x1), len(x2)):
            raise _errors.InvalidValueError(
                f"kernel must return the shape {(len(x1), len(x2))} for {len(x1)} and {len(x2)} "
                f"points: received {values.shape}."
            )
        return values[: len(rows), : len(points) if columns is None else len(columns)]

    return block
