"""A traced function as a flat list of steps, in which the products with a parameter can be found
and tapped.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# What leaves a value as it is, in the order of its entries, unless it repeats them.
RESHAPINGS = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims")
# What a parameter may pass through without a change of the sum of squares of its derivative.
RENAMINGS = ("reshape", "transpose", "squeeze", "expand_dims", "convert_element_type", "copy")


class Step(NamedTuple):
    """One primitive of a program, its operands and results as numbers of values."""

    equation: Any
    operands: list[int]
    results: list[int]

    @property
    def name(self) -> str:
        return self.equation.primitive.name

    @property
    def result(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the first result."""
        aval = self.equation.outvars[0].aval
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype)

    def evaluate(self, values: dict[int, Array]) -> None:
        """Compute the results; sums over windows in a form that is quick to differentiate."""
        if self.name == "reduce_window_sum":
            values[self.results[0]] = _window_sum(values[self.operands[0]], **self.equation.params)
            return
        bound = self.equation.primitive.get_bind_params(self.equation.params)
        # Up to JAX 0.9 the functions to call stood apart from the options.
        functions, options = bound if isinstance(bound, tuple) else ((), bound)
        results = self.equation.primitive.bind(
            *functions, *(values[i] for i in self.operands), **options
        )
        values.update(
            zip(self.results, results if self.equation.primitive.multiple_results else [results])
        )


class Use(Protocol):
    """A step y that is linear in a parameter: its derivative is Σ_t a_t ⊗ g_t, where g is the
    signal that reaches y.

    Positions t are, for instance, the pixels of a convolution or the tokens of a sequence.
    """

    step: Step

    @property
    def layout(self) -> tuple:
        """Uses of one parameter with equal layouts have the same axes of a and g, so their
        positions can be joined.
        """

    def inputs(self, values: dict[int, Array]) -> Float[Array, "t n_in"] | Int[Array, " t"]:
        """a; for a lookup the rows that are looked up, which stand for one-hot vectors."""

    def signals(self, signal: Array) -> Float[Array, "t n_out"]:
        """g, from a signal shaped like y."""

    def evaluate(self, values: dict[int, Array]) -> None:
        """Compute y."""


class Product(NamedTuple):
    """y = dot_general of a parameter and anything else, in either order: Dense, DenseGeneral,
    einsum.
    """

    step: Step
    side: int

    @classmethod
    def of(cls, step: Step, side: int) -> "Product | None":
        if step.name != "dot_general" or step.equation.params["dimension_numbers"][1][side]:
            return None
        return cls(step, side)

    @property
    def _contracted(self) -> list[tuple[int, int]]:
        """Pairs of contracted axes, of the parameter and of the other operand, in the order of the
        parameter's.
        """
        axes = self.step.equation.params["dimension_numbers"][0]
        return sorted(zip(axes[self.side], axes[1 - self.side]))

    @property
    def layout(self) -> tuple:
        return ("product", *(axis for axis, _ in self._contracted))

    def inputs(self, values: dict[int, Array]) -> Float[Array, "t n_in"]:
        other, axes = (
            values[self.step.operands[1 - self.side]],
            [axis for _, axis in self._contracted],
        )
        last = jnp.moveaxis(other, axes, range(other.ndim - len(axes), other.ndim))
        return last.reshape(-1, math.prod(other.shape[axis] for axis in axes))

    def signals(self, signal: Array) -> Float[Array, "t n_out"]:
        parameter = self.step.equation.invars[self.side].aval
        n_out = parameter.size // math.prod(parameter.shape[axis] for axis, _ in self._contracted)
        return signal.reshape(-1, n_out) if self.side == 1 else signal.reshape(n_out, -1).T

    @property
    def n_positions(self) -> int:
        """How many rows a has."""
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

    XLA's own convolution and its derivatives are slow on a CPU inside a loop and under `vmap`; a
    product is not.
    """

    step: Step

    @classmethod
    def of(cls, step: Step, side: int) -> "Convolution | None":
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
    """y = rows of a parameter: an embedding."""

    step: Step

    @classmethod
    def of(cls, step: Step, side: int) -> "Lookup | None":
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


class Program(NamedTuple):
    """A traced function as a flat list of steps: nested jit calls are spelled out, so that every
    use of a leaf is seen.

    n_outputs: entries of its result.
    """

    steps: list[Step]
    constants: dict[int, Array]
    leaves: list[int]
    points: list[int]
    result: int
    n_outputs: int

    @classmethod
    def trace(
        cls, function: Callable[..., Array], leaves: Sequence[Array], point: Sequence[Array]
    ) -> "Program":
        """Trace function(leaves, point), both lists of arrays (or of their shapes)."""
        closed = jax.make_jaxpr(function)(leaves, point)
        numbers, steps, constants = itertools.count(), [], {}
        arguments = [next(numbers) for _ in closed.jaxpr.invars]
        (result,) = _spell_out(closed, arguments, numbers, steps, constants)
        return cls(
            steps,
            constants,
            arguments[: len(leaves)],
            arguments[len(leaves) :],
            result,
            closed.out_avals[0].size,
        )

    def largest_signal(self) -> int:
        """Bytes of the largest result through which the outputs of a point depend on the
        parameters.
        """
        of_points, of_leaves, largest = set(self.points), set(self.leaves), 1
        for step in self.steps:
            for depending in (of_points, of_leaves):
                if depending & set(step.operands):
                    depending |= set(step.results)
            if {*step.results} <= of_points & of_leaves:
                largest = max(largest, step.result.size * step.result.dtype.itemsize)
        return largest

    def uses(self) -> dict[int, list[Use]]:
        """For each leaf that is used in products alone, all of one layout: these uses. Other leaves
        are left out.
        """
        # By number of a value that is a leaf under another name: the leaf and how it was renamed.
        names = {number: (leaf, ()) for leaf, number in enumerate(self.leaves)}
        uses: dict[int, list[tuple[tuple, Use]] | None] = {
            leaf: [] for leaf in range(len(self.leaves))
        }
        for step in self.steps:
            for side, number in enumerate(step.operands):
                if number not in names:
                    continue
                leaf, renamed = names[number]
                if step.name in RENAMINGS and jnp.issubdtype(step.result.dtype, jnp.floating):
                    names[step.results[0]] = leaf, (*renamed, f"{step.name} {step.equation.params}")
                    continue
                found = None if self._other_is_parameter(step, side, names) else _use(step, side)
                if found is None:
                    uses[leaf] = None
                elif uses[leaf] is not None:
                    uses[leaf].append(((renamed, found.layout), found))
        if self.result in names:
            uses[names[self.result][0]] = None
        return {
            leaf: [use for _, use in of]
            for leaf, of in uses.items()
            if of and len({layout for layout, _ in of}) == 1
        }

    def biases(self, uses: dict[int, list[Use]]) -> dict[int, int]:
        """For each leaf that is nothing but the bias of a product at one position: the leaf of that
        product.
        """
        takers: dict[int, list[Step | None]] = {self.result: [None]}
        for step in self.steps:
            for number in step.operands:
                takers.setdefault(number, []).append(step)
        # By the value that is added to: the product's result, or another shape of it.
        products = {}
        for leaf, of in uses.items():
            if len(of) == 1 and isinstance(of[0], Product) and of[0].n_positions == 1:
                products[self._last(of[0].step.results[0], takers)] = leaf
        found = {}
        for leaf in set(range(len(self.leaves))) - set(uses):
            steps = takers.get(self._last(self.leaves[leaf], takers), [None])
            if len(steps) > 1 or steps[0] is None or steps[0].name != "add":
                continue
            of_same_size = len({atom.aval.size for atom in steps[0].equation.invars}) == 1
            others = [
                other
                for other in steps[0].operands
                if other in products and len(takers[other]) == 1
            ]
            if of_same_size and others:
                found[leaf] = products[others[-1]]
        return found

    def _last(self, number: int, takers: dict[int, list[Step | None]]) -> int:
        """The number of a value under the last of its shapes, as long as it is used under that one
        alone.
        """
        while len(steps := takers.get(number, [])) == 1 and steps[0] is not None:
            equation = steps[0].equation
            if (
                steps[0].name not in RESHAPINGS
                or equation.invars[0].aval.size != equation.outvars[0].aval.size
            ):
                break
            number = steps[0].results[0]
        return number

    def _other_is_parameter(self, step: Step, side: int, names: dict[int, tuple]) -> bool:
        return any(number in names for place, number in enumerate(step.operands) if place != side)

    def run(
        self,
        leaves: Sequence[Array],
        point: Sequence[Array],
        uses: dict[int, list[Use]],
        taps: dict[int, list[Array]],
    ) -> tuple[Array, dict[int, list[Array]]]:
        """The result with each tap added to the result of its use, and the inputs a of every
        use.
        """
        tapped = {
            use.step.results[0]: (leaf, place, use)
            for leaf, of in uses.items()
            for place, use in enumerate(of)
        }
        values = (
            dict(self.constants) | dict(zip(self.leaves, leaves)) | dict(zip(self.points, point))
        )
        inputs = {leaf: [None] * len(of) for leaf, of in uses.items()}
        for step in self.steps:
            leaf, place, use = tapped.get(
                step.results[0] if step.results else None, (None, None, step)
            )
            use.evaluate(values)
            if leaf is not None:
                inputs[leaf][place] = use.inputs(values)
                values[step.results[0]] += taps[leaf][place]
        return values[self.result], inputs


def _window_sum(
    x: Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Array:
    """Sums over windows, axis by axis as shifted slices: the derivative of XLA's own window sum is
    slow on a CPU.
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


def _use(step: Step, side: int) -> Use | None:
    return Product.of(step, side) or Convolution.of(step, side) or Lookup.of(step, side)


def _spell_out(
    closed: Any,
    arguments: list[int],
    numbers: Iterator[int],
    steps: list[Step],
    constants: dict[int, Array],
) -> list[int]:
    """Append the primitives of `closed` to `steps` and return the numbers of its results.

    Calls with derivatives of their own (`jax.nn.relu`) stay whole: spelled out they would lose
    them.
    """
    values = dict(zip(closed.jaxpr.invars, arguments))

    def constant(value: Array) -> int:
        constants[number := next(numbers)] = value
        return number

    values |= {
        variable: constant(value) for variable, value in zip(closed.jaxpr.constvars, closed.consts)
    }

    def number_of(atom: Any) -> int:
        return constant(atom.val) if isinstance(atom, jax.extend.core.Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        operands = [number_of(atom) for atom in equation.invars]
        if equation.primitive.name in ("jit", "pjit"):
            results = _spell_out(equation.params["jaxpr"], operands, numbers, steps, constants)
        else:
            results = [next(numbers) for _ in equation.outvars]
            steps.append(Step(equation, operands, results))
        values |= zip(equation.outvars, results)
    return [number_of(atom) for atom in closed.jaxpr.outvars]
