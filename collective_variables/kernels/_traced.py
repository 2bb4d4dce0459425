"""Stand-ins for functions in compiled programs, one per state of what a function can see.

JAX caches traces by the identity of a function, so it would reuse a trace after a global has
changed. JAX sees a stand-in instead, and every new state has a new one.
"""

import sys
import threading
import types
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, PyTree

from collective_variables.kernels import _surroundings
from collective_variables.networks import checking, variables
from collective_variables.networks._arguments import ApplyFunction, n_points

MOST_STATES = 64  # functions whose programs `empirical_ntk` and similar functions keep
MOST_PROGRAMS = 256  # programs of one stand-in: kinds of kernels and shapes of their arguments
MOST_TRACES = 5  # traces of one piece of code for the same shapes before a warning
INSIDE = ("collective_variables", "contextlib")


class RetracingWarning(UserWarning):
    """Warn that a function is traced and compiled again in call after call.

    The warning appears once per piece of code, at its sixth trace for arguments of the same shapes.
    It names the function and says why earlier programs could not be reused.

    Example:
        >>> import warnings
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> x, w = jnp.ones((3, 2)), jnp.ones((2, 1))
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always", cv.RetracingWarning)
        ...     for scale in range(1, 10):  # instead: pass `scale` as a parameter
        ...         kernel = cv.empirical_ntk(lambda w, x: scale * (x @ w), w, x)
        >>> print([warning.category.__name__ for warning in caught])
        ['RetracingWarning']
    """


class StandIn:
    """Calls the function it stands for, in this thread, while `stands_for` is in force.

    Outside `stands_for` it holds no function, so it keeps no closure alive. It alone holds the
    compiled programs, which are freed with it.
    """

    def __init__(self, name: str):
        self.__name__ = name
        self._current = threading.local()
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, params: PyTree[Array], x: PyTree[Array]) -> Array:
        return variables.widened(self._current.function(variables.whole(params), x))

    @contextmanager
    def stands_for(self, function: ApplyFunction) -> Generator[None]:
        """Let this object stand for `function` inside the block."""
        before = getattr(self._current, "function", None)
        self._current.function = function
        try:
            yield
        finally:
            self._current.function = before

    def checked(
        self, params: PyTree[Array], x1: PyTree[Array], x2: PyTree[Array] | None = None
    ) -> PyTree[Array]:
        """Return the parameters with constants separated; raise an error if they have no kernel.

        The function is checked once per shape of points.
        """
        x = x1 if x2 is None or n_points(x1) > 1 else x2
        leaves, tree = jax.tree.flatten((params, x))
        kinds = tuple(map(jax.typeof, leaves))
        points = tuple((leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves(x))
        key = ("checked", tree, kinds[: len(kinds) - len(points)], points, n_points(x) > 1)
        split = self.program(key, lambda: self._split(params, x))
        return split(params)

    def _split(self, params: PyTree[Array], x: PyTree[Array]) -> variables.Split:
        """Check the function and return how its variables are split."""
        return checking.check_variables(self._current.function, self._current.function, params, x)

    def program(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """Return the program stored under `key`; the first call builds it with `build`."""
        program = self._programs.get(key)
        if program is None:
            program = build()  # without the lock: it may trace the function
        with self._lock:
            return _recent(self._programs, key, program, MOST_PROGRAMS)


class StandIns:
    """The stand-ins of the latest states.

    Args:
        n_states: Number of states that are kept.
        is_lenient: As in `_surroundings.fingerprint`.
        advice: Last sentence of a `RetracingWarning`.
    """

    def __init__(self, n_states: int, *, is_lenient: bool, advice: str):
        self._n_states = n_states
        self._is_lenient = is_lenient
        self._advice = advice
        self._stand_ins: OrderedDict[tuple, StandIn] = OrderedDict()
        self._lock = threading.Lock()
        self._traces: Counter[Hashable] = Counter()

    @contextmanager
    def traceable(self, function: ApplyFunction, *arguments: PyTree[Array]) -> Generator[StandIn]:
        """Yield the stand-in for the present state of `function`, which it stands for in the block.

        Args:
            function: The network.
            *arguments: Arguments of the call; their shapes determine which programs are compiled.

        Yields:
            The stand-in.

        Also raises the errors of `checking.check_function`.
        """
        checking.check_function(function)
        stand_in = self._find(function, arguments)
        with stand_in.stands_for(function):
            yield stand_in

    def _find(self, function: ApplyFunction, arguments: tuple[PyTree[Array], ...]) -> StandIn:
        """Return the stand-in for the present state of `function`, which may be new."""
        new = StandIn(_name(function))
        try:
            key = _surroundings.fingerprint(function, is_lenient=self._is_lenient)
        except _surroundings.UnknownSurroundings as unknown:
            self._count(function, arguments, str(unknown))
            return new
        with self._lock:
            stand_in = _recent(self._stand_ins, key, new, self._n_states)
        if stand_in is new:
            self._count(function, arguments, "something else that it reads has changed")
        return stand_in

    def _count(
        self, function: ApplyFunction, arguments: tuple[PyTree[Array], ...], reason: str
    ) -> None:
        """Count a trace of this code for arguments of these shapes; warn once if there are many."""
        leaves, tree = jax.tree.flatten(arguments)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return  # compiled as part of the caller's program
        shapes = tuple(
            (getattr(leaf, "shape", ()), str(getattr(leaf, "dtype", ""))) for leaf in leaves
        )
        key = (_identity(function), tree, shapes)
        with self._lock:
            if len(self._traces) >= 8 * MOST_STATES:
                self._traces.clear()
            self._traces[key] += 1
            n_traces = self._traces[key]
        if n_traces == MOST_TRACES + 1:
            warnings.warn(
                f"The function {_name(function)} was traced and compiled {n_traces} times for "
                f"arguments of the same shapes, because {reason}. {self._advice}",
                RetracingWarning,
                stacklevel=_n_frames_inside(),
            )


# Advice at the end of a warning.
PASS_IT = "Pass what changes as parameters or points."
SHARED = StandIns(
    MOST_STATES,
    is_lenient=False,
    advice=f"{PASS_IT} If the function is always the same, make `kernel = cv.ntk_fn(function)` "
    "once, and call `kernel(params, x)` instead.",
)


def _recent(table: OrderedDict[Any, Any], key: Hashable, value: Any, most: int) -> Any:
    """Return the entry of a table, or store `value`; only the `most` recent entries are kept."""
    entry = table.setdefault(key, value)
    table.move_to_end(key)
    while len(table) > most:
        table.popitem(last=False)
    return entry


def _name(function: ApplyFunction) -> str:
    """Return the name of a function for messages."""
    function = _innermost(function)
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _identity(function: ApplyFunction) -> Hashable:
    """Return what a function shares with others that the same line of a program creates."""
    function = _innermost(function)
    if isinstance(function, types.MethodType):
        try:
            owner = hash(function.__self__)  # Flax modules are hashed by value
        except TypeError:
            owner = None
        return _identity(function.__func__), type(function.__self__), owner
    return getattr(function, "__code__", type(function))


def _innermost(function: ApplyFunction) -> Any:
    """Return the function that a partial or a compiled function finally calls."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif not isinstance(function, types.MethodType) and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            return function


def _n_frames_inside() -> int:
    """Return the stack level of the line that called this package, for a warning."""
    frame, n_frames = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith(INSIDE):
        frame, n_frames = frame.f_back, n_frames + 1
    return n_frames
