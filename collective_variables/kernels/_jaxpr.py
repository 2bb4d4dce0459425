"""A traced function as a flat list of steps, whose products with parameters can be tapped."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array

from collective_variables.kernels._uses import Product, Step, Use, find_use

# Primitives that keep the entries of a value in their order, unless they repeat them.
RESHAPINGS = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims")
FULL = 4  # bytes of a number
# Primitives that do not change the sum of squares of a parameter's derivative.
RENAMINGS = ("reshape", "transpose", "squeeze", "expand_dims", "convert_element_type", "copy")


class Program(NamedTuple):
    """A traced function as a flat list of steps.

    Nested jit calls are inlined, so that every use of a leaf is visible. Values are numbered.

    Attributes:
        steps: The steps, in order.
        constants: Arrays by the numbers of their values.
        leaves: Numbers of the parameters.
        points: Numbers of the arrays of a point.
        result: Number of the result.
        n_outputs: Number of entries of the result.
    """

    steps: list[Step]
    constants: dict[int, Array]
    leaves: list[int]
    points: list[int]
    result: int
    n_outputs: int

    @classmethod
    def trace(
        cls,
        function: Callable[..., Array],
        leaves: Sequence[Array],
        point: Sequence[Array],
        fixed: Sequence[Array] = (),
    ) -> "Program":
        """Trace function([*leaves, *fixed], point).

        Args:
            function: The function to trace.
            leaves: Parameters, or their shapes.
            point: Arrays of one point, or their shapes.
            fixed: Further arrays of the first argument; shapes suffice if the program is not run.

        Returns:
            The traced program.
        """
        closed = jax.make_jaxpr(lambda leaves, point, fixed: function([*leaves, *fixed], point))(
            leaves, point, fixed
        )
        numbers, steps = itertools.count(), []
        arguments = [next(numbers) for _ in closed.jaxpr.invars]
        constants = dict(zip(arguments[len(leaves) + len(point) :], fixed, strict=True))
        (result,) = _spell_out(closed, arguments, numbers, steps, constants)
        return cls(
            steps,
            constants,
            arguments[: len(leaves)],
            arguments[len(leaves) : len(leaves) + len(point)],
            result,
            closed.out_avals[0].size,
        )

    def largest_signal(self) -> int:
        """Return the bytes of the largest value between parameters and outputs of a point."""
        by_points, by_leaves = set(self.points), set(self.leaves)
        largest = 1
        for step in self.steps:
            for depending in (by_points, by_leaves):
                if depending & set(step.operands):
                    depending |= set(step.results)
            if {*step.results} <= by_points & by_leaves:
                largest = max(largest, step.result.size * step.result.dtype.itemsize)
        return largest

    def uses(self) -> dict[int, list[Use]]:
        """Return the uses of each leaf that is used only in products, all with one layout.

        A leaf used in 16 bits has no uses. There every entry of the Jacobian is rounded as a
        product, but inputs and signals are multiplied later and would give another kernel.
        """
        # For each value that equals a leaf: the leaf, and the primitives between the two.
        names = {number: (leaf, ()) for leaf, number in enumerate(self.leaves)}
        uses: dict[int, list[tuple[tuple, Use]] | None] = {
            leaf: [] for leaf in range(len(self.leaves))
        }
        for step in self.steps:
            for side, number in enumerate(step.operands):
                if number not in names:
                    continue
                leaf, renamed = names[number]
                if step.result.dtype.itemsize < FULL:
                    uses[leaf] = None
                if step.name in RENAMINGS and jnp.issubdtype(step.result.dtype, jnp.floating):
                    names[step.results[0]] = leaf, (*renamed, f"{step.name} {step.equation.params}")
                    continue
                is_linear = not self._other_is_parameter(step, side, names)
                use = find_use(step, side) if is_linear else None
                if use is None:
                    uses[leaf] = None
                elif uses[leaf] is not None:
                    uses[leaf].append(((renamed, use.layout), use))
        if self.result in names:
            uses[names[self.result][0]] = None
        return {
            leaf: [use for _, use in entries]
            for leaf, entries in uses.items()
            if entries and len({layout for layout, _ in entries}) == 1
        }

    def biases(self, uses: dict[int, list[Use]]) -> dict[int, int]:
        """Return the leaf of a product for each leaf that is only the bias of that product.

        The product must have one position: its signal is then the derivative by the bias.
        """
        takers: dict[int, list[Step | None]] = {self.result: [None]}
        for step in self.steps:
            for number in step.operands:
                takers.setdefault(number, []).append(step)
        # The leaf of each product, by the value that a bias would be added to.
        products = {}
        for leaf, (use, *others) in uses.items():
            if not others and isinstance(use, Product) and use.n_positions == 1:
                products[self._last(use.step.results[0], takers)] = leaf
        biases = {}
        for leaf in set(range(len(self.leaves))) - set(uses):
            steps = takers.get(self._last(self.leaves[leaf], takers), [None])
            if len(steps) > 1 or steps[0] is None or steps[0].name != "add":
                continue
            have_one_size = len({atom.aval.size for atom in steps[0].equation.invars}) == 1
            others = [
                other
                for other in steps[0].operands
                if other in products and len(takers[other]) == 1
            ]
            if have_one_size and others:
                biases[leaf] = products[others[-1]]
        return biases

    def _last(self, number: int, takers: dict[int, list[Step | None]]) -> int:
        """Return the number of a value after reshapes, followed while nothing else uses it."""
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
        """Return whether another operand of a step is a parameter, too."""
        return any(number in names for place, number in enumerate(step.operands) if place != side)

    def run(
        self,
        leaves: Sequence[Array],
        point: Sequence[Array],
        uses: dict[int, list[Use]],
        taps: dict[int, list[Array]],
    ) -> tuple[Array, dict[int, list[Array]]]:
        """Run the program with a tap added to the result of each use.

        Args:
            leaves: The parameters.
            point: The arrays of one point.
            uses: Uses by leaf, from `uses`.
            taps: Arrays to add, one for each use.

        Returns:
            The result, and the inputs a of each use.
        """
        tapped = {
            use.step.results[0]: (leaf, place, use)
            for leaf, leaf_uses in uses.items()
            for place, use in enumerate(leaf_uses)
        }
        values = (
            dict(self.constants) | dict(zip(self.leaves, leaves)) | dict(zip(self.points, point))
        )
        inputs = {leaf: [None] * len(leaf_uses) for leaf, leaf_uses in uses.items()}
        for step in self.steps:
            leaf, place, use = tapped.get(
                step.results[0] if step.results else None, (None, None, step)
            )
            use.evaluate(values)
            if leaf is not None:
                inputs[leaf][place] = use.inputs(values)
                values[step.results[0]] += taps[leaf][place]
        return values[self.result], inputs


def _spell_out(
    closed: Any,
    arguments: list[int],
    numbers: Iterator[int],
    steps: list[Step],
    constants: dict[int, Array],
) -> list[int]:
    """Return the numbers of the results of `closed`, whose primitives are appended to `steps`.

    Calls with a custom derivative (`jax.nn.relu`) stay whole: inlined, they would lose it.
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
