"""Neural tangent kernels of networks with infinitely wide layers (Jacot et al. 2018)."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collective_variables.kernels._limit_tiles.tiling import in_tiles, pair_bytes
from collective_variables.networks._arguments import check_shapes, checked_points
from collective_variables.networks.sequential import Network, build_network

Kernel = Callable[[Float[Array, "n1 ..."], Float[Array, "n2 ..."]], Float[Array, "n1 n2"]]


def infinite_width_ntk(
    layers: Sequence[str],
    x1: Float[Array, "n1 ..."],
    x2: Float[Array, "n2 ..."] | None = None,
    *,
    activation: str = "relu",
    b_std: float | None = None,
    padding: str = "SAME",
) -> Float[Array, "n1 n2"]:
    """Compute the limit of the kernels of random networks as their layers widen.

    For points x, y of d features, a dense network with the activation φ has (Jacot et al. 2018)

        K₁ = x·y / d + b²        K = E[φ(u) φ(v)] + b²        (u, v) ~ N(0, K of the layer before)
        Θ₁ = K₁                  Θ = K + Θ of the layer before · E[φ′(u) φ′(v)]

    The result is Θ of the last layer. The expectations have closed forms: Cho & Saul 2009 for the
    ReLU, Williams 1996 for the error function.

    The network is `build_network(layers, parametrisation="ntk", ...)` with the same options. The
    limit is that of `empirical_ntk` with "mean" outputs, or of any single output. The widths in
    `layers` do not matter.

    Raises the errors of `build_network`. Raises ValueError for a layer or an activation without an
    analytic kernel, and for no points. Points that are not finite, do not fit the network or differ
    in shape are also a ValueError. So are values for which the kernel leaves the range of its
    dtype. Raises ImportError if a layer other than a dense one needs neural-tangents, and the
    package does not load. Raises MemoryError if the kernel, or even one pair of points, does not
    fit the free memory.

    Args:
        layers: Layers of the network, as `build_network` reads them. Convolutions and poolings need
            the package neural-tangents (Novak et al. 2020). Each pair of points then takes several
            arrays of height·width numbers, or with poolings of (height·width)² numbers. Pairs that
            do not fit the memory together are computed in tiles.
        x1: n1 points.
        x2: n2 points of the same shape. Defaults to x1; the kernel is then exactly symmetric (up to
            round-off inside the caller's `jax.jit`).
        activation: One of `ANALYTIC_ACTIVATIONS`.
        b_std: Standard deviation b of the biases; None for no biases.
        padding: Padding of the convolutions, "SAME" or "VALID".

    Returns:
        The kernel (n1, n2) in float32, or in float64 under `jax.enable_x64`. In float32 the angle
        between nearly parallel points keeps half of the digits. The kernel of a ReLU network is
        then accurate to about 1e-4 of its largest entry.

    Example:
        >>> import collective_variables as cv
        >>> kernel = cv.infinite_width_ntk(["dense 1", "dense 1"], [[1.0, 0.0], [0.0, 1.0]])
        >>> print(kernel.round(4))
        [[0.5    0.0796]
         [0.0796 0.5   ]]
    """
    network = network_with_limit(layers, activation=activation, padding=padding, b_std=b_std)
    x1 = _points("x1", x1)
    x2 = None if x2 is None else _points("x2", x2)
    check_shapes(x1, x2)
    jax.eval_shape(network.init, jax.random.key(0), x1)
    _check_range(network, x1, x2)
    kernel = in_tiles(_kernel(network), x1, x2, pair_bytes(network, x1))
    return _symmetric(kernel) if x2 is None else kernel


def infinite_width_kernel(
    layers: Sequence[str],
    *,
    activation: str = "relu",
    b_std: float | None = None,
    padding: str = "SAME",
) -> Kernel:
    """Return the function K(x1, x2) of `infinite_width_ntk`, for many calls.

    It does not check its points: they must be arrays of finite numbers that fit the network and
    pass `check_range`. The compiled program depends on the number of layers, the options and the
    shapes of the points; later calls with the same ones reuse it. Raises the errors of
    `infinite_width_ntk` for a wrong network.

    Args:
        layers: As in `infinite_width_ntk`.
        activation: As in `infinite_width_ntk`.
        b_std: As in `infinite_width_ntk`.
        padding: As in `infinite_width_ntk`.

    Returns:
        A function of two arrays of points that returns their kernel, (n1, n2).

    Example:
        >>> from collective_variables.kernels import infinite_width
        >>> kernel = infinite_width.infinite_width_kernel(["dense 1"], b_std=0.5)
        >>> print(kernel(jnp.ones((1, 4)), jnp.zeros((2, 4))))
        [[0.25 0.25]]
    """
    return _kernel(network_with_limit(layers, activation=activation, padding=padding, b_std=b_std))


def check_range(
    name: str,
    rows: Float[Array, "n n_features"],
    *,
    n_hidden: int,
    activation: str,
    b_std: float | None,
) -> None:
    """Check that the kernel of points stays within the range of their dtype.

    The angle between two points follows from the product of their variances K(x, x), so the squares
    of the largest variances must be within the range. Two smaller points whose product underflows
    count as parallel. Points inside a `jax.jit` are not checked.

    Args:
        name: Name of the points, for the error.
        rows: Points (n, n_features).
        n_hidden: Number of hidden layers.
        activation: One of `ANALYTIC_ACTIVATIONS`.
        b_std: Standard deviation of the biases; None for no biases.

    Raises:
        ValueError: The kernel would overflow or underflow.
    """
    if isinstance(rows, jax.core.Tracer):
        return
    rows = np.asarray(rows)
    limits = np.finfo(rows.dtype)
    variances = _largest_variances(rows, n_hidden, activation, (b_std or 0.0) ** 2)
    largest = np.abs(rows).max(initial=0.0)
    too_small = largest > 0 and min(variances) < math.sqrt(limits.tiny)
    if too_small or max(variances) > math.sqrt(limits.max) / 4:
        raise ValueError(
            f"{name} must have a kernel within the range of {rows.dtype}: received values up to "
            f"{largest:.3g} with b_std {b_std}, whose products are not. Scale the points."
        )


def _largest_variances(
    rows: Float[np.ndarray, "n n_features"], n_hidden: int, activation: str, bias: float
) -> list[float]:
    """Return the largest K(x, x) of every layer."""
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    variances = [float(squares.max()) / rows.shape[1] + bias]
    for _ in range(n_hidden):
        variances.append(float(_ACTIVATIONS[activation].variance(variances[-1])) + bias)
    return variances


def _points(name: str, x: Array) -> Float[Array, "n ..."]:
    """Return checked points in floating-point numbers."""
    return checked_points(name, x).astype(float)


def network_with_limit(
    layers: Sequence[str], *, activation: str, padding: str, b_std: float | None
) -> Network:
    """Return the network of `infinite_width_ntk`, if it has a limit.

    Also raises the errors of `build_network`.

    Args:
        layers: As in `infinite_width_ntk`.
        activation: As in `infinite_width_ntk`.
        padding: As in `infinite_width_ntk`.
        b_std: As in `infinite_width_ntk`.

    Returns:
        The network in the parametrisation "ntk".

    Raises:
        ValueError: A layer or the activation has no analytic kernel.
    """
    options = {"padding": padding, "b_std": b_std}
    network = build_network(layers, activation=activation, parametrisation="ntk", **options)
    if activation not in ANALYTIC_ACTIVATIONS:
        raise ValueError(
            f"activation must have an analytic kernel ({', '.join(ANALYTIC_ACTIVATIONS)}): "
            f"received {activation!r}."
        )
    for layer in network.layers:
        if layer.kind not in ANALYTIC_LAYERS:
            raise ValueError(
                f"layers must have an analytic kernel ({', '.join(ANALYTIC_LAYERS)}): "
                f"received {layer.kind!r}."
            )
    return network


def _check_range(network: Network, x1: Array, x2: Array | None) -> None:
    """Run `check_range` on all points."""
    options = {"activation": network.activation, "b_std": network.b_std}
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None:
            rows = x.reshape(len(x), -1) if _is_dense(network) else x.reshape(-1, x.shape[-1])
            check_range(name, rows, n_hidden=_n_hidden(network), **options)


def _is_dense(network: Network) -> bool:
    """Return whether all layers are dense."""
    return all(layer.kind == "dense" for layer in network.layers)


def _n_hidden(network: Network) -> int:
    """Return the number of layers that are followed by an activation."""
    return sum(layer.kind != "avgpool" for layer in network.layers) - 1


def _kernel(network: Network) -> Kernel:
    """Return the function that computes the limit of a network."""
    if _is_dense(network):
        return partial(_dense_kernel, _n_hidden(network), network.activation, network.b_std)
    # Dense networks do not need neural-tangents.
    from collective_variables.kernels import reference

    return partial(reference.reference_limit, network)


class _Covariances(NamedTuple):
    """K(x, y), K(x, x) and K(y, y) of a layer."""

    between: Float[Array, "n1 n2"]
    first: Float[Array, "n1 1"]
    second: Float[Array, "1 n2"]


class _Activation(NamedTuple):
    """Expectations for Gaussian u, v: (E[φ(u) φ(v)], E[φ′(u) φ′(v)]), and E[φ(u)²] by E[u²]."""

    products: Callable[[_Covariances], tuple[Float[Array, "n1 n2"], Float[Array, "#n1 #n2"]]]
    variance: Callable[[Float[Array, "..."]], Float[Array, "..."]]


# Compiled once per network and set of shapes.
@partial(jax.jit, static_argnums=(0, 1, 2))
def _dense_kernel(
    n_hidden: int, activation: str, b_std: float | None, x1: Array, x2: Array | None
) -> Float[Array, "n1 n2"]:
    """Return the limit of a dense network."""
    products, variance = _ACTIVATIONS[activation]
    bias = (b_std or 0.0) ** 2
    k = _Covariances(*(entry + bias for entry in _input_covariances(x1, x1 if x2 is None else x2)))
    ntk = k.between
    for _ in range(n_hidden):
        value, slope = products(k)
        hidden = _Covariances(value, variance(k.first), variance(k.second))
        k = _Covariances(*(entry + bias for entry in hidden))
        ntk = k.between + ntk * slope
    return ntk


def _input_covariances(x1: Array, x2: Array) -> _Covariances:
    """Return the mean products of features, in full precision on accelerators, too."""
    x1, x2 = _rows(x1), _rows(x2)
    between = jnp.tensordot(x1, x2, (1, 1), precision="highest") / x1.shape[1]
    return _Covariances(between, _mean_squares(x1)[:, None], _mean_squares(x2)[None, :])


def _rows(x: Array) -> Float[Array, "n n_features"]:
    """Return points as rows of floating-point features."""
    return x.reshape(len(x), -1).astype(float)


def _mean_squares(x: Float[Array, "n n_features"]) -> Float[Array, " n"]:
    """Return the mean square of the features of each point."""
    return jnp.sum(x**2, axis=1) / x.shape[1]


@jax.jit
def _symmetric(kernel: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the mean of the kernel and its transpose, which differ by round-off.

    This is a separate program: compiled together with the kernel, each of the two sums is rounded
    differently.
    """
    return (kernel + kernel.T) / 2


def _relu(k: _Covariances) -> tuple[Array, Array]:
    """Return Cho & Saul's kernels of degree 1 and 0, halved, in the order of neural-tangents.

    With the same round-off, a greedy selection makes the same choices.
    """
    sine, angle = _polar(k.first * k.second - k.between**2, k.between)
    factor = 1 / (2 * math.pi)
    slope = 0.5 - factor * angle
    return factor * sine + slope * k.between, slope


@jax.custom_jvp
def _polar(square: Array, cosine: Array) -> tuple[Array, Array]:
    """Return the sine whose square is given, and the angle; negative squares are round-off."""
    sine = jnp.sqrt(jnp.maximum(square, 0))
    return sine, jnp.arctan2(sine, cosine)


@_polar.defjvp
def _polar_derivative(
    values: tuple[Array, Array], changes: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return values and derivatives, where an infinite derivative of the sine is replaced by 0."""
    sine, angle = _polar(*values)
    parallel = sine == 0
    d_sine = jnp.where(parallel, 0.0, changes[0] / (2 * jnp.where(parallel, 1.0, sine)))
    norm = jnp.maximum(sine**2 + values[1] ** 2, jnp.finfo(sine.dtype).tiny)
    d_angle = d_sine * (values[1] / norm) - changes[1] * (sine / norm)
    return (sine, angle), (d_sine, d_angle)


def _erf(k: _Covariances) -> tuple[Array, Array]:
    """Return Williams' kernel and its derivative; the root is at least 1 despite round-off."""
    square = jnp.maximum(k.first * k.second - k.between**2, 0)
    root = jnp.sqrt(1 + 2 * (k.first + k.second) + 4 * square)
    return 2 / math.pi * jnp.arctan2(2 * k.between, root), 4 / math.pi / root


def _erf_variance(k: Array) -> Array:
    """Return E[erf(u)²] for u of variance k."""
    return 2 / math.pi * jnp.arctan2(2 * k, jnp.sqrt(1 + 4 * k))


def _linear(k: _Covariances) -> tuple[Array, Array]:
    """Return the kernel of the identity, and its derivative 1."""
    return k.between, jnp.ones((1, 1), k.between.dtype)


_ACTIVATIONS = {
    "relu": _Activation(_relu, lambda k: 0.5 * k),
    "erf": _Activation(_erf, _erf_variance),
    "linear": _Activation(_linear, lambda k: k),
}
ANALYTIC_ACTIVATIONS = tuple(_ACTIVATIONS)
ANALYTIC_LAYERS = ("dense", "conv", "avgpool")
