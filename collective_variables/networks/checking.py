"""Check in one place that a network has a neural tangent kernel."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import flax.errors
import flax.linen as nn
from jaxtyping import Array, PyTree

from collective_variables.networks import _forms, derivability, variables
from collective_variables.networks._arguments import ApplyFunction, check_network, n_points
from collective_variables.networks.separation import checks

# Advice for the errors of Flax that a module raises outside evaluation mode.
ADVICE = {
    "InvalidRngError": "give its __call__ an argument deterministic or train for its dropout",
    "ModifyScopeVariableError": "a batch normalisation needs use_running_average=True",
    "TraceContextError": "call eval() of an NNX module, split it, and merge it in the function",
}


def check_function(apply_fn: object) -> None:
    """Raise ValueError for a module in the place of a function of parameters and points."""
    name = type(apply_fn).__name__
    if isinstance(apply_fn, nn.Module):
        raise ValueError(
            f"apply_fn must be a function of parameters and points: received the Flax module "
            f"{name}. Give its method apply."
        )
    if _forms.is_nnx(apply_fn):
        raise ValueError(
            f"apply_fn must be a function of parameters and points: received the NNX module "
            f"{name}. Split it: graph, params = nnx.split(model), and "
            "apply_fn = lambda params, x: nnx.merge(graph, params)(x)."
        )


def first_line(error: Exception) -> str:
    """Return the first line of an error, without a web address."""
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

    Also raises the errors of `check_network`, `variables.split_variables` and
    `checks.check_separate`.

    Args:
        apply_fn: The network as the user gave it.
        function: The function that stands for it, function(params, x) -> (n_points, n_outputs).
        params: The variables of the network.
        x: Points.
        name: Name of the network, for errors.

    Returns:
        The split.

    Raises:
        ValueError: No output has a derivative by a parameter, or a Flax module is not in evaluation
            mode.
    """
    seen: set[str] = set()
    with variables.collections_seen(seen), _in_evaluation(name):
        # A new function: JAX may have cached the trace of `function`, and would call no module.
        check_network(partial(function), params, x)
        is_derivable = derivability.has_derivative(partial(function), params, x)
    split = variables.split_variables("params", apply_fn, params, seen)
    if not is_derivable:
        raise ValueError(
            f"The outputs of {name} must have a derivative by a parameter: received outputs that "
            "depend on none, or only through integers and Booleans."
        )
    if n_points(x) > 1:
        checks.check_separate(name, function, params, x)
    return split
