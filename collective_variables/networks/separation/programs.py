"""Follow the points through a traced program, from the inputs of a network to its outputs."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from collective_variables.networks.separation.axes import (
    RULES,
    Mixed,
    Place,
    Places,
    join,
    point_axes,
)

FIRST_PRIME = 53
# Primitives that call another program with their operands, and the parameter with the program.
CALLS = {
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat2": "jaxpr",
}


def is_separate(function: Callable[..., Array], params: PyTree[Array], x: PyTree[Array]) -> bool:
    """Return whether a network certainly treats every point separately; nothing is computed.

    The program is traced for two numbers of points, regardless of the number in x. False means
    "unknown": for example, the program may have a primitive without a rule.

    Args:
        function: The network, function(params, x).
        params: Its parameters.
        x: Its points.

    Returns:
        True if it certainly does.
    """
    sizes = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    sizes += [leaf.shape[1:] for leaf in jax.tree.leaves(x)]
    first, second = itertools.islice(_primes(math.prod(itertools.chain(*sizes))), 2)
    try:
        trace = partial(_trace, function, params, x)
        program, other = trace(first), trace(second)
        is_same = _have_equal_values(program, other)
        if not is_same and _have_equal_values(program, trace(first)):
            return False  # numbers depend on the number of points, not on the trace
        return _follow(program, len(sizes), x, first)
    except (Mixed, AttributeError, KeyError, ValueError):  # or a primitive of another JAX
        return False


def _primes(product: int) -> Iterator[int]:
    """Yield primes that divide no size of an array, given the product of all sizes."""
    for number in itertools.count(FIRST_PRIME, 2):
        is_prime = all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))
        if is_prime and (product == 0 or product % number):
            yield number


def _trace(
    function: Callable[..., Array], params: PyTree[Array], x: PyTree[Array], n_points: int
) -> Any:
    """Return the program of a function for `n_points` points, or raise Mixed."""
    points = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((n_points, *leaf.shape[1:]), leaf.dtype), x
    )
    try:
        # JAX caches traces by function, so trace a new one.
        return jax.make_jaxpr(partial(function))(params, points)
    except Exception as error:  # the user's function may not take this number of points
        raise Mixed from error


def _follow(closed: Any, n_leaves: int, x: PyTree[Array], n_points: int) -> bool:
    """Return whether the outputs hold the points along their first axis."""
    n_points_leaves = len(jax.tree.leaves(x))
    places = [None] * (n_leaves - n_points_leaves) + [Place(0)] * n_points_leaves
    results = _Walk(n_points).closed(closed, places)
    return len(results) == 1 and results[0] in (Place(0), Place(0, None))


class _Walk:
    """The walk through one program for a given number of points."""

    def __init__(self, n_points: int):
        self.n_points = n_points

    def closed(self, closed: Any, places: Places) -> list[Place | None]:
        """Return the places in the results, from those in the operands; or raise Mixed."""
        jaxpr = getattr(closed, "jaxpr", closed)
        known = dict(zip(jaxpr.invars, places, strict=True))
        for variable in jaxpr.constvars:
            known[variable] = self._checked(None, variable)
        find_place = lambda atom: None if isinstance(atom, jax.extend.core.Literal) else known[atom]
        for equation in jaxpr.eqns:
            found = self._results(equation, [find_place(atom) for atom in equation.invars])
            for variable, place in zip(equation.outvars, found, strict=True):
                known[variable] = self._checked(place, variable)
        return [find_place(atom) for atom in jaxpr.outvars]

    def _checked(self, place: Place | None, variable: Any) -> Place | None:
        """Return the place if it is the only axis that may hold points; or raise Mixed."""
        axes = point_axes(getattr(variable.aval, "shape", ()), self.n_points)
        if axes != ([] if place is None else [place.axis]):
            raise Mixed
        return place

    def _results(self, equation: Any, places: Places) -> list[Place | None]:
        """Return the places in the results of one primitive."""
        name = equation.primitive.name
        if name in CALLS:
            return self.closed(equation.params[CALLS[name]], places)
        if name in ("scan", "while", "cond"):
            return getattr(self, f"_{name}")(equation.params, places)
        if not any(places) and name not in ("broadcast_in_dim", "iota"):
            return [None] * len(equation.outvars)
        if name not in RULES:
            raise Mixed
        return RULES[name](equation, places, self.n_points)

    def _scan(self, options: dict[str, Any], places: Places) -> list[Place | None]:
        n_constants, n_carried = options["num_consts"], options["num_carry"]
        constants = list(places[:n_constants])
        carried = list(places[n_constants : n_constants + n_carried])
        rows = list(places[n_constants + n_carried :])
        if any(place is not None and place.axis == 0 for place in rows):
            return self._scan_over_points(options, constants, carried, rows)
        rows = [place and Place(place.axis - 1, place.after) for place in rows]
        while True:
            results = self.closed(options["jaxpr"], [*constants, *carried, *rows])
            joined = [join(pair) for pair in zip(carried, results)]
            if joined == carried:
                break
            carried = joined
        ys = [place and Place(place.axis + 1, place.after) for place in results[n_carried:]]
        return carried + ys

    def _scan_over_points(
        self, options: dict[str, Any], constants: Places, carried: Places, rows: Places
    ) -> list[Place | None]:
        """Return the places in the results of a loop over points without shared state."""
        place = join(rows)
        if carried or None in rows or any(constants):
            raise Mixed
        results = self.closed(options["jaxpr"], [None] * (len(constants) + len(rows)))
        return [place] * len(results)

    def _while(self, options: dict[str, Any], places: Places) -> list[Place | None]:
        n_condition, n_body = options["cond_nconsts"], options["body_nconsts"]
        condition = list(places[:n_condition])
        body = list(places[n_condition : n_condition + n_body])
        carried = list(places[n_condition + n_body :])
        while True:
            results = self.closed(options["body_jaxpr"], [*body, *carried])
            joined = [join(pair) for pair in zip(carried, results)]
            if joined == carried:
                break
            carried = joined
        if any(self.closed(options["cond_jaxpr"], [*condition, *carried])):
            raise Mixed
        return carried

    def _cond(self, options: dict[str, Any], places: Places) -> list[Place | None]:
        if places[0] is not None:
            raise Mixed
        branches = [self.closed(branch, places[1:]) for branch in options["branches"]]
        return [join(results) for results in zip(*branches)]


def _have_equal_values(first: Any, second: Any) -> bool:
    """Return whether no number in two programs of a function depends on the number of points."""
    numbers = [list(_numbers(closed)) for closed in (first, second)]
    return len(numbers[0]) == len(numbers[1]) and all(map(_is_equal, *numbers))


def _is_equal(first: Any, second: Any) -> bool:
    if first is second:
        return True
    if any(isinstance(value, jax.core.Tracer) or is_key(value) for value in (first, second)):
        return False  # of other transformations, or without numbers to compare
    arrays = np.asarray(first), np.asarray(second)
    return arrays[0].shape == arrays[1].shape and arrays[0].tobytes() == arrays[1].tobytes()


def is_key(value: Any) -> bool:
    """Return whether a value is an array of random keys."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def largest_epsilon(closed: Any) -> float:
    """Return the machine epsilon of the least precise floating-point numbers in a program."""
    jaxpr = getattr(closed, "jaxpr", closed)
    found = [0.0]
    for variable in itertools.chain(jaxpr.invars, *(step.outvars for step in jaxpr.eqns)):
        dtype = getattr(variable.aval, "dtype", np.dtype(bool))
        if jnp.issubdtype(dtype, jnp.floating):
            found.append(float(jnp.finfo(dtype).eps))
    return max([*found, *(largest_epsilon(part) for step in jaxpr.eqns for part in _parts(step))])


def _parts(equation: Any) -> Iterator[Any]:
    """Yield the programs that a primitive calls."""
    for option in equation.params.values():
        for part in option if isinstance(option, tuple) else (option,):
            if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                yield part


def _numbers(closed: Any) -> Iterator[Any]:
    """Yield the names of primitives, the constants and the numbers of a program, in order."""
    yield from getattr(closed, "consts", ())
    for equation in getattr(closed, "jaxpr", closed).eqns:
        yield equation.primitive.name
        for atom in equation.invars:
            if isinstance(atom, jax.extend.core.Literal):
                yield atom.val
        for name, option in equation.params.items():
            if isinstance(option, float | int) and name != "length":
                yield option
        for part in _parts(equation):
            yield from _numbers(part)
