"""What a network must fulfil to have a neural tangent kernel, checked in one place."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import flax.errors
from jaxtyping import Array, PyTree

from collective_variables.networks import derivability, variables
from collective_variables.networks._arguments import ApplyFunction, check_network, n_points
from collective_variables.networks.separation import checks

# What to do about errors of Flax that a module raises unless it is in evaluation mode.
ADVICE = {
    "InvalidRngError": "give its __call__ an argument deterministic or train for its dropout",
    "ModifyScopeVariableError": "a batch normalisation needs use_running_average=True",
}


def first_line(error: Exception) -> str:
    """Return the first line of an error, without the address of a page on it."""
    return (str(error).strip().splitlines() or [""])[0].partition(" (https://")[0]


@contextmanager
def _in_evaluation(name: str) -> Generator[None]:
    """Raise ValueError for the errors of Flax in `ADVICE`."""
    try:
        yield
    except flax.errors.FlaxError as error:
        kind = type(error).__name__
        if kind not in ADVICE:
            raise
        raise ValueError(
            f"{name} must be in evaluation mode ({ADVICE[kind]}): {kind}: {first_line(error)}"
        ) from error


def check_variables(
    apply_fn: ApplyFunction,
    function: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    /,
    *,
    name: str = "apply_fn",
) -> variables.Split:
    """Return how `params` are split into parameters and constants.

    Args:
        apply_fn: The network as the user gave it.
        function: What stands for it here, function(params, x) -> (n_points, n_outputs).
        params: Its variables.
        x: Points.
        name: Of the network, for errors.

    Raises:
        ValueError: There is no parameter with a derivative, outputs are not real numbers
            (n_points, n_outputs), those of a point depend on other points, or a Flax module has
            dropout or statistics that are not fixed.
    """
    seen: set[str] = set()
    with variables.collections_seen(seen), _in_evaluation(name):
        # Another function than `function`, whose trace may be known, so that modules are called.
        check_network(partial(function), params, x)
        is_derivable = derivability.has_derivative(partial(function), params, x)
    split = variables.split_variables("params", apply_fn, params, seen)
    if not is_derivable:
        raise ValueError(
            f"The outputs of {name} must have a derivative by a parameter: received outputs that "
            "depend on none, or through whole numbers and truth values only."
        )
    if n_points(x) > 1:
        checks.check_separate(name, function, params, x)
    return split
