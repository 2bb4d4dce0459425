"""Reject networks whose outputs for a point depend on other points."""

from collections.abc import Callable

import jax
from jaxtyping import Array, PyTree

from collective_variables.networks.separation import outputs, programs


def check_separate(
    name: str, function: Callable[..., Array], params: PyTree[Array], x: PyTree[Array], /
) -> None:
    """Check that function(params, x) treats every point separately.

    The traced program proves it for nearly every such network. If it does not, outputs of a few
    points are computed, together and one by one.

    Args:
        name: Name of the function, for the error.
        function: The network, whose outputs are (n_points, n_outputs).
        params: Its parameters.
        x: At least two points.

    Raises:
        ValueError: Outputs of a point depend on other points.
    """
    if programs.is_separate(function, params, x):
        return
    try:
        change = outputs.largest_change(function, params, x)
    except jax.errors.JAXTypeError:  # it uses values of a transformation in progress
        change = float("inf")
    if change:
        raise ValueError(
            f"{name} must treat every point separately: the outputs of one point change by "
            f"{change:.2g} (relative) when others are added. Statistics over points, such as "
            "the mean of a batch normalisation, must be fixed (use_running_average=True, or "
            "eval() of an NNX module)."
        )
