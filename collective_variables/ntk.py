"""The empirical neural tangent kernel, contracted layer by layer where the layers allow it.

A parameter that a network uses once, as the matrix W of a product y = a W (a dense layer, or a convolution written as
patches times a matrix), has the derivative a ⊗ g, where g is the signal that back-propagation brings to y. Its share of
the kernel then follows from a and g, and the Jacobian is never formed (Novak et al. 2022, "structured derivatives").
Every other parameter, a bias for instance, goes through its own Jacobian.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables import checks

OUTPUTS = ("mean", "sum", "full", "per-output")
ApplyFunction = Callable[[PyTree[Array], Array], Array]


def empirical_ntk(
    apply_fn: ApplyFunction,
    params: PyTree[Float[Array, "..."]],
    x1: Float[Array, "n1 ..."],
    x2: Float[Array, "n2 ..."] | None = None,
    *,
    outputs: str = "mean",
) -> Float[Array, "..."]:
    """K(x1, x2) of apply_fn(params, x) -> (n_points, n_outputs), which treats every point by itself.

    With J_c the gradient of output c with respect to all parameters (Tovey et al. 2023, eq. 1) and C outputs:
    "mean": (1/C) Σ_c ⟨J_c(x_i), J_c(x_j)⟩, shape (n1, n2), the kernel of that paper; "sum": Σ_c in its place;
    "per-output": (C, n1, n2), a kernel for each output; "full": (n1·C, n2·C), row i·C + c for output c of point i.

    x2 defaults to x1, and the kernel is then exactly symmetric. Computed in the dtype of params and points.
    Raises ValueError for `outputs` unknown, no points, values that are not finite, points of different shapes, or
    no parameters, or outputs that are not (n_points, n_outputs).
    """
    checks.choice("outputs", outputs, OUTPUTS)
    x1 = _points("x1", x1)
    x2 = None if x2 is None else _points("x2", x2)
    if x2 is not None and x2.shape[1:] != x1.shape[1:]:
        raise ValueError(f"x2 must have points shaped like those of x1, {x1.shape[1:]}: received {x2.shape[1:]}.")
    if not jax.tree.leaves(params):
        raise ValueError("params must hold at least one array: received none.")
    shape = getattr(jax.eval_shape(apply_fn, params, x1), "shape", "of no array")
    if len(shape) != 2 or shape[0] != len(x1) or shape[1] == 0:
        raise ValueError(f"apply_fn must return (n_points, n_outputs) = ({len(x1)}, …): received the shape {shape}.")
    try:
        hash(apply_fn)
    except TypeError:
        return jax.jit(partial(_ntk, apply_fn, outputs))(params, x1, x2)
    return _compiled_ntk(apply_fn, outputs, params, x1, x2)


def _points(name: str, x: Array) -> Array:
    x = jnp.asarray(x)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{name} must hold at least one point: received the shape {x.shape}.")
    if not isinstance(x, jax.core.Tracer):
        checks.finite(name, x)
    return x


def _ntk(apply_fn: ApplyFunction, outputs: str, params: PyTree[Array], x1: Array, x2: Array | None) -> Array:
    first = _derivatives(apply_fn, params, x1)
    second = first if x2 is None else _derivatives(apply_fn, params, x2)
    kernel = sum(_contract(a, b, outputs) for a, b in zip(first, second))
    if x2 is None:
        # A product of a matrix with its own transpose may be rounded differently on the two sides of the diagonal.
        kernel = (kernel + jnp.swapaxes(kernel, -1, -2)) / 2
    return kernel


# Keeps what it compiled for the next call with the same function and shapes.
_compiled_ntk = jax.jit(_ntk, static_argnums=(0, 1))


class _Derivative(NamedTuple):
    """d f_c(x_n)/d(one parameter): a[n] ⊗ g[n, c] if `inputs` is an array, g[n, c] itself if it is None.

    inputs: (n_points, n_in); signals: (n_points, n_outputs, n_out or the parameter's size).
    """

    inputs: Float[Array, "n_points n_in"] | None
    signals: Float[Array, "n_points n_outputs n_out"]


# For each of OUTPUTS: the contraction of two signals, and where the Gram matrix of the inputs lacks an axis of it.
_CONTRACTIONS = {
    "mean": ("icp,jcp->ij", ()),
    "sum": ("icp,jcp->ij", ()),
    "per-output": ("icp,jcp->cij", (0,)),
    "full": ("icp,jdp->icjd", (1, 3)),
}


def _contract(first: _Derivative, second: _Derivative, outputs: str) -> Array:
    """The share of one parameter in the kernel: the Gram matrix of the signals times that of the inputs."""
    contraction, missing = _CONTRACTIONS[outputs]
    kernel = jnp.einsum(contraction, first.signals, second.signals)
    if first.inputs is not None:
        kernel = kernel * jnp.expand_dims(first.inputs @ second.inputs.T, missing)
    n_outputs = first.signals.shape[1]
    if outputs == "mean":
        return kernel * (1.0 / n_outputs)
    return kernel.reshape(len(first.signals) * n_outputs, -1) if outputs == "full" else kernel


def _derivatives(apply_fn: ApplyFunction, params: PyTree[Array], x: Array) -> list[_Derivative]:
    """One `_Derivative` for every leaf of `params`, by one backward pass for each output of each point."""
    leaves, tree = jax.tree.flatten(params)

    def single(leaves: Sequence[Array], point: Array) -> Array:
        return apply_fn(jax.tree.unflatten(tree, leaves), point[None])[0]

    program = _Program.trace(single, leaves, x[0])
    products = program.products(len(leaves))
    others = [i for i in range(len(leaves)) if i not in products]

    def of_point(point: Array) -> tuple[dict[int, Array], dict[int, Array], dict[int, Array]]:
        def run(taps: dict[int, Array], free: dict[int, Array]) -> tuple[Array, dict[int, Array]]:
            return program.run([free.get(i, leaf) for i, leaf in enumerate(leaves)], point, products, taps)

        taps = {i: jnp.zeros(step.shape, step.dtype) for i, step in products.items()}
        outputs, back, inputs = jax.vjp(run, taps, {i: leaves[i] for i in others}, has_aux=True)
        return inputs, *jax.vmap(back)(jnp.eye(outputs.size, dtype=outputs.dtype))

    inputs, signals, jacobians = jax.vmap(of_point)(x)
    return [_of_product(inputs[i], signals[i]) if i in products else _of_jacobian(jacobians[i]) for i in range(len(leaves))]


def _of_jacobian(jacobian: Float[Array, "n_points n_outputs ..."]) -> _Derivative:
    return _Derivative(None, jacobian.reshape(*jacobian.shape[:2], -1))


def _of_product(a: Float[Array, "n_points t n_in"], g: Float[Array, "n_points n_outputs ... n_out"]) -> _Derivative:
    """A matrix applied at t positions has the derivative Σ_t a_t ⊗ g_t; with one position it stays a product."""
    a, g = a.astype(g.dtype), g.reshape(*g.shape[:2], -1, g.shape[-1])
    if a.shape[1] == 1:
        return _Derivative(a[:, 0], g[:, :, 0])
    return _of_jacobian(jnp.einsum("ntk,nctm->nckm", a, g))


class _Step(NamedTuple):
    """One primitive of a program, its operands and results as numbers of values."""

    equation: Any
    operands: list[int]
    results: list[int]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.equation.outvars[0].aval.shape

    @property
    def dtype(self) -> Any:
        return self.equation.outvars[0].aval.dtype

    def evaluate(self, values: dict[int, Array]) -> None:
        bound = self.equation.primitive.get_bind_params(self.equation.params)
        # Up to JAX 0.9 the functions to call stood apart from the options.
        functions, options = bound if isinstance(bound, tuple) else ((), bound)
        results = self.equation.primitive.bind(*functions, *(values[i] for i in self.operands), **options)
        values.update(zip(self.results, results if self.equation.primitive.multiple_results else [results]))


class _Program(NamedTuple):
    """A traced function as a flat list of steps: nested jit calls are spelled out, so that every use of a leaf is seen."""

    steps: list[_Step]
    constants: dict[int, Array]
    arguments: list[int]
    result: int

    @classmethod
    def trace(cls, function: Callable[..., Array], leaves: Sequence[Array], point: Array) -> "_Program":
        closed = jax.make_jaxpr(function)(leaves, point)
        numbers, steps, constants = itertools.count(), [], {}
        arguments = [next(numbers) for _ in closed.jaxpr.invars]
        (result,) = _spell_out(closed, arguments, numbers, steps, constants)
        return cls(steps, constants, arguments, result)

    def products(self, n_leaves: int) -> dict[int, _Step]:
        """The step y = a W for each leaf that is used only there, as such a W, perhaps reshaped before."""
        aliases = {number: leaf for leaf, number in enumerate(self.arguments[:n_leaves])}
        uses: dict[int, list[_Step]] = {leaf: [] for leaf in range(n_leaves)}
        for step in self.steps:
            used = {aliases[number] for number in step.operands if number in aliases}
            if step.equation.primitive.name == "reshape" and used:
                aliases[step.results[0]] = used.pop()
            for leaf in used:
                uses[leaf].append(step)
        return {
            leaf: steps[0]
            for leaf, steps in uses.items()
            if len(steps) == 1
            and self.result not in [number for number, alias in aliases.items() if alias == leaf]
            and _is_product(steps[0], aliases)
        }

    def run(
        self, leaves: Sequence[Array], point: Array, products: dict[int, _Step], taps: dict[int, Array]
    ) -> tuple[Array, dict[int, Array]]:
        """The result with each tap added to its product y, and the operand a of each product as (t, n_in)."""
        tapped = {step.results[0]: leaf for leaf, step in products.items()}
        values = dict(self.constants) | dict(zip(self.arguments, [*leaves, point]))
        inputs = {}
        for step in self.steps:
            step.evaluate(values)
            leaf = tapped.get(step.results[0]) if step.results else None
            if leaf is not None:
                a = values[step.operands[0]]
                inputs[leaf] = a.reshape(-1, a.shape[-1])
                values[step.results[0]] += taps[leaf]
        return values[self.result], inputs


def _is_product(step: _Step, aliases: dict[int, int]) -> bool:
    """Whether `step` is y = a W or y = a Wᵀ, with the second operand a leaf and a matrix and the first one none."""
    if step.equation.primitive.name != "dot_general" or step.operands[0] in aliases or step.operands[1] not in aliases:
        return False
    (contracted, _), (batch, _) = step.equation.params["dimension_numbers"]
    a, matrix = (operand.aval for operand in step.equation.invars)
    return matrix.ndim == 2 and tuple(contracted) == (a.ndim - 1,) and not batch


def _spell_out(
    closed: Any, arguments: list[int], numbers: Iterator[int], steps: list[_Step], constants: dict[int, Array]
) -> list[int]:
    """Append the primitives of `closed` to `steps` and return the numbers of its results.

    Calls with derivatives of their own (`jax.nn.relu`) stay whole: spelled out they would lose them.
    """
    values = dict(zip(closed.jaxpr.invars, arguments))

    def constant(value: Array) -> int:
        constants[number := next(numbers)] = value
        return number

    values |= {variable: constant(value) for variable, value in zip(closed.jaxpr.constvars, closed.consts)}

    def number_of(atom: Any) -> int:
        return constant(atom.val) if isinstance(atom, jax.extend.core.Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        operands = [number_of(atom) for atom in equation.invars]
        if equation.primitive.name in ("jit", "pjit"):
            results = _spell_out(equation.params["jaxpr"], operands, numbers, steps, constants)
        else:
            results = [next(numbers) for _ in equation.outvars]
            steps.append(_Step(equation, operands, results))
        values |= zip(equation.outvars, results)
    return [number_of(atom) for atom in closed.jaxpr.outvars]
