"""Compute the kernels of a network that are recorded, and the derivatives of its loss."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from collective_variables.ensembles import batching
from collective_variables.kernels import empirical
from collective_variables.networks._arguments import ApplyFunction
from collective_variables.training import _quantities, schedules
from collective_variables.training.position import factors

PointLoss = Callable[[Array, Array, PyTree[Array]], Float[Array, " n_points"]]


class Points(NamedTuple):
    """Hold points of one kind; targets is None for points such as an agent's observations."""

    inputs: Float[np.ndarray, "n_points ..."]
    targets: Float[np.ndarray, "n_points n_outputs"] | None = None


class Kernels(NamedTuple):
    """Hold the kernel of some points and what is computed with it (see `_quantities.Moment`)."""

    kernel: Float[Array, "k k"]
    gradient: Float[Array, "k n_outputs"] | None
    others: dict[str, Float[Array, "k k"]]
    delta_loss: float | Float[Array, ""] | None


class SampleKernels:
    """Compute the kernels of samples of points, kernels(points, params, context, rows, width).

    Args:
        apply_fn: The network.
        loss: As in `recording.Recorder`.
        outputs: "mean" or "sum", as in `empirical.empirical_ntk`.
        others: Names of further kernels of `_quantities.KERNELS`.
        has_position: Whether to compute δL.
    """

    def __init__(
        self,
        apply_fn: ApplyFunction,
        loss: str | PointLoss | None,
        outputs: str,
        others: Collection[str],
        *,
        has_position: bool,
    ):
        self._apply, self._loss, self._outputs = apply_fn, loss, outputs
        self._others = {
            name: function(apply_fn, loss)
            for name, function in _quantities.KERNELS.items()
            if name in others
        }
        self._has_position = has_position
        self._compute = batching.over_members(self._kernels_of_samples)

    def __call__(
        self,
        points: Points,
        params: PyTree[Array],
        context: PyTree[Array],
        rows: Int[np.ndarray, "n_samples k"],
        width: int,
    ) -> list[Kernels]:
        """Return the kernels of each sample, computed on `width` points if that is more than k."""
        k = rows.shape[1]
        weights = np.where(np.arange(max(k, width)) < k, 1 / k, 0.0)
        padded = np.concatenate([rows, np.repeat(rows[:, :1], max(0, width - k), axis=1)], axis=1)
        member = jax.tree.map(
            lambda leaf: jnp.asarray(leaf)[None], (params, context, padded, weights)
        )
        samples = jax.tree.map(lambda leaf: np.asarray(leaf)[0], self._compute(points, *member))
        return [
            Kernels(
                samples.kernel[place, :k, :k],
                None if samples.gradient is None else samples.gradient[place, :k],
                {name: kernel[place, :k, :k] for name, kernel in samples.others.items()},
                None if samples.delta_loss is None else float(samples.delta_loss[place]),
            )
            for place in range(len(rows))
        ]

    def _kernels_of_samples(
        self,
        points: Points,
        params: PyTree[Array],
        context: PyTree[Array],
        rows: Int[Array, "n_samples k"],
        weights: Float[Array, " k"],
    ) -> Kernels:
        def one(chosen: Int[Array, " k"]) -> Kernels:
            sample = jax.tree.map(lambda leaf: leaf[chosen], Points(*points))
            return self._kernels(params, context, sample, weights)

        return jax.lax.map(one, rows)

    def _kernels(
        self,
        params: PyTree[Array],
        context: PyTree[Array],
        points: Points,
        weights: Float[Array, " k"],
    ) -> Kernels:
        """Return the kernels of points, and the rate at which their weighted loss falls."""
        inputs, targets = points
        kernel = empirical.empirical_ntk(self._apply, params, inputs, outputs=self._outputs)
        if self._loss is None:
            return Kernels(kernel, None, {}, None)

        def losses(outputs: Array) -> Float[Array, " k"]:
            if isinstance(self._loss, str):
                return schedules.LOSSES[self._loss](outputs, targets)
            return self._loss(outputs, inputs, context)

        gradient = jax.grad(lambda outputs: jnp.sum(losses(outputs)))(self._apply(params, inputs))
        others = {
            name: empirical.empirical_ntk(function, params, (inputs, targets), outputs="sum")
            for name, function in self._others.items()
        }
        delta_loss = None
        if self._has_position:
            delta_loss = factors.compute_slopes(
                self._apply, params, inputs, lambda outputs: jnp.vdot(weights, losses(outputs))
            ).delta_loss
        return Kernels(kernel, gradient, others, delta_loss)
