"""PLACEHOLDER kernels.infinite_width."""


from collections.abc import Callable, Sequence
from functools import partial

import jax
from jaxtyping import Array, Float

from collective_variables.kernels import reference
from collective_variables.networks._arguments import check_shapes, checked_points

# Those of networks.ACTIVATIONS whose kernel stax has in closed form. Its Gelu is the exact one, ours is Flax's
# approximation by tanh; its Sigmoid_like is an error function.
ANALYTIC_ACTIVATIONS = ("relu",)


def infinite_width_ntk(
    layers: Sequence[str],
    x1: Float[Array, "n1 ..."],
    x2: Float[Array, "n2 ..."] | None = None,
    *,
    activation: str = "relu",
    b_std: float | None = None,
    padding: str = "SAME",
) -> Float[Array, "n1 n2"]:
    """The analytic NTK, (n1, n2), to which that of random networks tends as their widths grow (Jacot et al. 2018).

    The network is `sequential.build_network(layers, parametrisation="ntk", ...)` with the same options, and the limit is that of
    `empirical.empirical_ntk` with "mean" outputs, or of any one output. The widths in `layers` change nothing.

    x2 defaults to x1 (exactly symmetric as in `empirical`). Computed in the dtype of the points, in float32 at least;
    integers become floats. In float32 the angle of nearly parallel points keeps half of the digits, so that the kernel
    is good to about 1e-4 of its largest entry. Poolings need the covariances of all pairs of pixels: several arrays
    of n1·n2·(height·width)² numbers.

    Raises TypeError or ValueError as `sequential.build_network` does, and ValueError for an activation without an analytic
    kernel, no points, values that are not finite, and points that the network can't take or of different shapes;
    ImportError if neural-tangents does not load.
    """
    network = reference._analytic_network(layers, activation=activation, padding=padding, b_std=b_std)
    x1, x2 = (None if x is None else reference._floating(checked_points(name, x)) for name, x in (("x1", x1), ("x2", x2)))
    check_shapes(x1, x2)
    jax.eval_shape(network.init, jax.random.key(0), x1)
    kernel = reference._compiled_infinite_width(network, x1, x2)
    return reference._symmetric(kernel) if x2 is None else kernel


def infinite_width_kernel(
    layers: Sequence[str], *, activation: str = "relu", b_std: float | None = None, padding: str = "SAME"
) -> Callable[[Float[Array, "n1 ..."], Float[Array, "n2 ..."]], Float[Array, "n1 n2"]]:
    """The function K(x1, x2) of `infinite_width_ntk`, for many calls with points that are known to be right.

    Its points are floating and finite and fit the network: nothing of that is looked at again. Raises the errors of
    `infinite_width_ntk` for the network.
    """
    return partial(reference._compiled_infinite_width, reference._analytic_network(layers, activation=activation, padding=padding, b_std=b_std))


# The analytic kernel of the same networks at infinite width stands beside the empirical one.
infinite_width_ntk = infinite_width_ntk
