"""Describe a selection whose time and memory are forecast, and the estimate of both."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from collective_variables.cli.forecast import timing
from collective_variables.selection import registry

STEPS = 33  # choices in the longer of two short selections
NUMBERS = 2**25  # in the points on which steps are timed
DOUBLE = 8  # bytes


class Estimate(NamedTuple):
    """Seconds, and bytes of memory in addition to the points."""

    seconds: timing.Seconds
    n_bytes: int


class Case(NamedTuple):
    """The problem, the budget and the options of a selection."""

    problem: registry.Problem
    budget: registry.Budget
    options: Mapping[str, Any]

    @property
    def points(self) -> Float[np.ndarray, "n_pool n_features"]:
        """The points of the pool as rows."""
        return self.problem.inputs.reshape(len(self.problem.inputs), -1)

    @property
    def n_labelled(self) -> int:
        """The number of labelled points."""
        return len(self.options.get("labelled", ()))

    @property
    def n_steps(self) -> int:
        """The number of points to select."""
        return self.budget.n_selected - self.n_labelled

    @property
    def n_different(self) -> int:
        """The number of members that begin, and therefore end, with different points."""
        is_same = self.n_labelled or self.options.get("first") == "best"
        return 1 if is_same else self.budget.n_members

    def option(self, name: str, default: Any) -> Any:
        """Return the value of an option, or the default if it is missing or None."""
        value = self.options.get(name)
        return default if value is None else value


def few(case: Case, n_points: int, n_selected: int) -> Case:
    """Return the case with only the first points and one member."""
    problem = case.problem._replace(
        inputs=case.problem.inputs[:n_points], targets=case.problem.targets[:n_points]
    )
    options = dict(case.options)
    if case.n_labelled:
        options["labelled"] = list(range(case.n_labelled))
    return Case(problem, registry.Budget(n_selected, 1), options)
