"""The kernel of one network as an object that is made once and called many times."""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from collective_variables.kernels import _traced, empirical, products
from collective_variables.kernels.features import sketches
from collective_variables.kernels.traces import exact, probes
from collective_variables.networks._arguments import ApplyFunction

MOST_STATES = 8  # states of what a function can see, whose programs one object keeps


class KernelFunction:
    """The kernel of one network, kernel(params, x1, x2), with its compiled programs.

    `ntk_fn` makes it and describes what is kept.

    Attributes:
        apply_fn: The network.
    """

    def __init__(self, apply_fn: ApplyFunction):
        if not callable(apply_fn):
            raise TypeError(f"apply_fn must be a function (params, x): received {apply_fn!r}.")
        self.apply_fn = apply_fn
        self._stand_ins = _traced.StandIns(MOST_STATES, is_lenient=True, advice=_traced.PASS_IT)

    def __call__(
        self,
        params: PyTree[Float[Array, "..."]],
        x1: PyTree[Array],
        x2: PyTree[Array] | None = None,
        *,
        outputs: str = "mean",
        implementation: str = "auto",
        block_size: int | None = None,
    ) -> Float[Array, "..."]:
        """Return the kernel K(x1, x2), as `empirical_ntk` does with the same arguments."""
        return empirical.compute_kernel(
            self._stand_ins, self.apply_fn, params, x1, x2, outputs, implementation, block_size
        )

    def trace(
        self, params: PyTree[Array], x: PyTree[Array], *, outputs: str = "mean"
    ) -> Float[Array, ""]:
        """Return the trace of the kernel, as `ntk_trace` does with the same arguments."""
        return exact.compute_trace(self._stand_ins, self.apply_fn, params, x, outputs)

    def estimate_trace(
        self,
        params: PyTree[Array],
        x: PyTree[Array],
        n_probes: int = 2,
        *,
        key: PRNGKeyArray,
        outputs: str = "mean",
    ) -> probes.TraceEstimate:
        """Return an estimate of the trace, as `estimate_trace` does with the same arguments."""
        return probes.compute_estimate(
            self._stand_ins, self.apply_fn, params, x, n_probes, key, outputs
        )

    def product(
        self,
        params: PyTree[Array],
        x: PyTree[Array],
        *,
        outputs: str = "mean",
        block_size: int | None = None,
    ) -> products.KernelProduct:
        """Return products with the kernel, as `kernel_product` does with the same arguments."""
        return products.compute_product(
            self._stand_ins, self.apply_fn, params, x, outputs, block_size
        )

    def features(
        self,
        params: PyTree[Array],
        x: PyTree[Array],
        n_features: int = 512,
        *,
        key: PRNGKeyArray,
        outputs: str = "mean",
        block_size: int | None = None,
    ) -> Float[np.ndarray, "n_points n_features"]:
        """Return features of the kernel, as `ntk_features` does with the same arguments."""
        return sketches.compute_features(
            self._stand_ins, self.apply_fn, params, x, n_features, key, outputs, block_size
        )

    def __repr__(self) -> str:
        return f"ntk_fn({self.apply_fn!r})"


def ntk_fn(apply_fn: ApplyFunction) -> KernelFunction:
    """Return the neural tangent kernel of a network as a function that is made once.

    The object holds the programs that it compiled, for all shapes of its arguments, until it is
    deleted; other kernels do not displace them. Make it outside a loop and call it inside.

    Every call checks what `apply_fn` sees besides its arguments, as `empirical_ntk` does. The
    kernel is that of the function at the time of the call; programs of the last 8 states are kept.

    There is one difference. An opaque object counts as unchanged here while it is the same object:
    objects of extension modules, generators, files, and code that calls `eval`, `globals` or
    `open`. `empirical_ntk` traces such a function in every call.

    Raises TypeError if apply_fn cannot be called.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs). It must treat every
            point separately.

    Returns:
        A function kernel(params, x1, x2=None, *, outputs, implementation, block_size) with the
        arguments of `empirical_ntk`. Its methods `trace(params, x)`,
        `estimate_trace(params, x, n_probes, key=key)`, `product(params, x)` and
        `features(params, x, n_features, key=key)` correspond to `ntk_trace`, `estimate_trace`,
        `kernel_product` and `ntk_features`.

    Example:
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> kernel = cv.ntk_fn(lambda w, x: x**2 @ w)
        >>> x = jnp.array([[1.0], [2.0]])
        >>> for w in (0.0, 1.0):
        ...     print(kernel(jnp.array([[w]]), x).tolist())
        [[1.0, 4.0], [4.0, 16.0]]
        [[1.0, 4.0], [4.0, 16.0]]
        >>> print(kernel.trace(jnp.array([[1.0]]), x))
        17.0
    """
    return KernelFunction(apply_fn)
