"""A traced function as a flat list of steps, whose products with parameters can be tapped."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array

from collective_variables.kernels._uses import Product, Step, Use, find_use

# What leaves a value as it is, in the order of its entries, unless it repeats them.
RESHAPINGS = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims")
FULL = 4  # bytes of a number
# What a parameter may pass through without a change of the sum of squares of its derivative.
RENAMINGS = ("reshape", "transpose", "squeeze", "expand_dims", "convert_element_type", "copy")


class Program(NamedTuple):
    """A traced function as a flat list of steps.

    Nested jit calls are spelled out, so that every use of a leaf is seen. Values are numbered:
    leaves, points and result are such numbers. n_outputs: entries of the result.
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
        """Trace function(leaves + fixed, point), all lists of arrays (or of their shapes).

        Of a program that is to be run, `fixed` must be arrays.
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
        """Return the uses of each leaf that is used only in products, all of one layout.

        In 16 bits an entry of the Jacobian is rounded as a product, so that inputs and signals, of
        which the product is formed later, would give another kernel: such a leaf has no uses.
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
        """Return, for each leaf that is only the bias of a product, the leaf of that product.

        The product must be at one position: the derivative by the bias is then its signal.
        """
        takers: dict[int, list[Step | None]] = {self.result: [None]}
        for step in self.steps:
            for number in step.operands:
                takers.setdefault(number, []).append(step)
        # By the value that is added to: the product's result, or another shape of it.
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
        """The number of a value in the last of its shapes, as long as it is used in no other."""
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
        """Return the result, with each tap added to the result of its use, and all inputs a."""
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
    """Append the primitives of `closed` to `steps` and return the numbers of its results.

    Calls with a custom derivative (`jax.nn.relu`) stay whole: spelled out, they would lose it.
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
