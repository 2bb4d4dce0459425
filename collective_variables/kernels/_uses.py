"""Steps of a traced function, and those that are products with a parameter."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Step(NamedTuple):
    """One primitive of a program; operands and results are numbers of values."""

    equation: Any
    operands: list[int]
    results: list[int]

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return self.equation.primitive.name

    @property
    def result(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the first result."""
        aval = self.equation.outvars[0].aval
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype)

    def evaluate(self, values: dict[int, Array]) -> None:
        """Compute the results; sums over windows use a form that is fast to differentiate."""
        if self.name == "reduce_window_sum":
            values[self.results[0]] = _window_sum(values[self.operands[0]], **self.equation.params)
            return
        bound = self.equation.primitive.get_bind_params(self.equation.params)
        # Up to JAX 0.9 the functions to call were separate from the options.
        functions, options = bound if isinstance(bound, tuple) else ((), bound)
        results = self.equation.primitive.bind(
            *functions, *(values[i] for i in self.operands), **options
        )
        values.update(
            zip(self.results, results if self.equation.primitive.multiple_results else [results])
        )


class Use(Protocol):
    """A step y that is linear in a parameter.

    Its derivative is Σ_t a_t ⊗ g_t, where back-propagation brings the signal g to y. Positions t
    are, for example, the pixels of a convolution or the tokens of a sequence.
    """

    step: Step

    @property
    def layout(self) -> tuple:
        """The axes of a and g; positions of uses with equal layouts can be joined."""

    def inputs(self, values: dict[int, Array]) -> Float[Array, "t n_in"] | Int[Array, " t"]:
        """Return a; for a lookup the row numbers, which stand for one-hot vectors."""

    def signals(self, signal: Array) -> Float[Array, "t n_out"]:
        """Return g, from a signal of the shape of y."""

    def evaluate(self, values: dict[int, Array]) -> None:
        """Compute y."""


class Product(NamedTuple):
    """y = dot_general of a parameter and another value, as in Dense, DenseGeneral and einsum."""

    step: Step
    side: int

    @classmethod
    def match(cls, step: Step, side: int) -> "Product | None":
        """Return the use of the operand on this side, or None if the step is another one."""
        if step.name != "dot_general" or step.equation.params["dimension_numbers"][1][side]:
            return None
        return cls(step, side)

    @property
    def _contracted(self) -> list[tuple[int, int]]:
        """Contracted axes of the parameter, in order, each with that of the other operand."""
        axes = self.step.equation.params["dimension_numbers"][0]
        return sorted(zip(axes[self.side], axes[1 - self.side]))

    @property
    def layout(self) -> tuple:
        return ("product", *(axis for axis, _ in self._contracted))

    def inputs(self, values: dict[int, Array]) -> Float[Array, "t n_in"]:
        other = values[self.step.operands[1 - self.side]]
        axes = [axis for _, axis in self._contracted]
        last = jnp.moveaxis(other, axes, range(other.ndim - len(axes), other.ndim))
        return last.reshape(-1, math.prod(other.shape[axis] for axis in axes))

    def signals(self, signal: Array) -> Float[Array, "t n_out"]:
        parameter = self.step.equation.invars[self.side].aval
        n_out = parameter.size // math.prod(parameter.shape[axis] for axis, _ in self._contracted)
        return signal.reshape(-1, n_out) if self.side == 1 else signal.reshape(n_out, -1).T

    @property
    def n_positions(self) -> int:
        """The number of rows of a."""
        parameter = self.step.equation.invars[self.side].aval
        return (
            self.step.result.size
            * math.prod(parameter.shape[axis] for axis, _ in self._contracted)
            // parameter.size
        )

    def evaluate(self, values: dict[int, Array]) -> None:
        self.step.evaluate(values)


class Convolution(NamedTuple):
    """y = convolution with a parameter as the kernel, computed as patches times a matrix.

    XLA's convolution and its derivatives are slow on a CPU in a loop and under `vmap`; a matrix
    product is fast.
    """

    step: Step

    @classmethod
    def match(cls, step: Step, side: int) -> "Convolution | None":
        """Return the use of the operand on this side, or None if the step is another one."""
        if step.name != "conv_general_dilated" or side != 1:
            return None
        options = step.equation.params
        plain = options["feature_group_count"] == options["batch_group_count"] == 1 and set(
            options["lhs_dilation"]
        ) <= {1}
        return cls(step) if plain else None

    @property
    def layout(self) -> tuple:
        return ("convolution",)

    def _specification(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return self.step.equation.params["dimension_numbers"]

    def inputs(self, values: dict[int, Array]) -> Float[Array, "t n_in"]:
        options, (images, kernel, result) = self.step.equation.params, self._specification()
        x = jnp.transpose(values[self.step.operands[0]], (images[0], *images[2:], images[1]))
        x = jax.lax.pad(
            x,
            jnp.zeros((), x.dtype),
            [(0, 0, 0), *((*pad, 0) for pad in options["padding"]), (0, 0, 0)],
        )
        shape = self.step.equation.invars[1].aval.shape
        size = [self.step.result.shape[axis] for axis in result[2:]]

        def shifted(offsets: tuple[int, ...]) -> Array:
            starts = [
                offset * dilation for offset, dilation in zip(offsets, options["rhs_dilation"])
            ]
            stops = [
                a + (n - 1) * stride + 1
                for a, n, stride in zip(starts, size, options["window_strides"])
            ]
            return x[(slice(None), *map(slice, starts, stops, options["window_strides"]))]

        windows = itertools.product(*(range(shape[axis]) for axis in kernel[2:]))
        patches = jnp.concatenate([shifted(offsets) for offsets in windows], axis=-1)
        return patches.reshape(-1, patches.shape[-1])

    def signals(self, signal: Array) -> Float[Array, "t n_out"]:
        _, _, result = self._specification()
        signal = jnp.transpose(signal, (result[0], *result[2:], result[1]))
        return signal.reshape(-1, signal.shape[-1])

    def evaluate(self, values: dict[int, Array]) -> None:
        _, kernel, result = self._specification()
        w = jnp.transpose(values[self.step.operands[1]], (*kernel[2:], kernel[1], kernel[0]))
        y, shape = self.inputs(values) @ w.reshape(-1, w.shape[-1]), self.step.result.shape
        y = y.reshape(shape[result[0]], *(shape[axis] for axis in result[2:]), w.shape[-1])
        values[self.step.results[0]] = jnp.moveaxis(
            y, range(y.ndim), (result[0], *result[2:], result[1])
        )


class Lookup(NamedTuple):
    """y = rows of a parameter, as in an embedding."""

    step: Step

    @classmethod
    def match(cls, step: Step, side: int) -> "Lookup | None":
        """Return the use of the operand on this side, or None if the step is another one."""
        if step.name != "gather" or side != 0:
            return None
        options, table = step.equation.params, step.equation.invars[0].aval
        numbers, rank = options["dimension_numbers"], len(step.result.shape)
        rows = (
            table.ndim == 2
            and tuple(options["slice_sizes"]) == (1, table.shape[1])
            and tuple(numbers.collapsed_slice_dims) == tuple(numbers.start_index_map) == (0,)
            and tuple(numbers.offset_dims) == (rank - 1,)
            and not numbers.operand_batching_dims
        )
        return cls(step) if rows else None

    @property
    def layout(self) -> tuple:
        return ("lookup",)

    def inputs(self, values: dict[int, Array]) -> Int[Array, " t"]:
        rows = values[self.step.operands[1]].reshape(-1)
        if self.step.equation.params["mode"] == jax.lax.GatherScatterMode.CLIP:
            rows = jnp.clip(rows, 0, self.step.equation.invars[0].aval.shape[0] - 1)
        return rows

    def signals(self, signal: Array) -> Float[Array, "t n_out"]:
        return signal.reshape(-1, signal.shape[-1])

    def evaluate(self, values: dict[int, Array]) -> None:
        self.step.evaluate(values)


def find_use(step: Step, side: int) -> Use | None:
    """Return the use of the operand on this side as a parameter, or None."""
    return Product.match(step, side) or Convolution.match(step, side) or Lookup.match(step, side)


def _window_sum(
    x: Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Array:
    """Return sums over windows, axis by axis as shifted slices.

    The derivative of XLA's window sum is slow on a CPU.
    """
    pads = [(*pad, dilation - 1) for pad, dilation in zip(padding, base_dilation)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), pads)
    for axis, (size, stride, dilation) in enumerate(
        zip(window_dimensions, window_strides, window_dilation)
    ):
        span = x.shape[axis] - (size - 1) * dilation
        shifts = range(0, size * dilation, dilation)
        x = sum(jax.lax.slice_in_dim(x, shift, shift + span, stride, axis) for shift in shifts)
    return x
