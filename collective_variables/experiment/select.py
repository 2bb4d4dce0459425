"""Select the subsets of an experiment, by any number of methods."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Int

from collective_variables.experiment._dataset import Dataset
from collective_variables.selection import base, registry

Methods = Mapping[str, tuple[str, Mapping[str, Any]]]
Subsets = dict[str, Int[np.ndarray, "n_members n_selected"]]
Watch = Callable[[str], AbstractContextManager]


def select_subsets(
    dataset: Dataset,
    network: nn.Module,
    methods: Methods,
    n_selected: int,
    n_members: int,
    /,
    *,
    seed: int,
    progress: str = "",
    watch: Watch = nullcontext,
) -> Subsets:
    """Return the rows of the pool that each method selects for every member.

    Raises the errors of `registry.select_by`, and ValueError for a method that stops before it
    has selected `n_selected` points.

    Args:
        dataset: Pool and test points.
        network: The network to be trained, for methods that use it.
        methods: A method and its options, by the name in the tables.
        n_selected: Number of points of each member.
        n_members: Number of members.
        seed: Seed of all random numbers.
        progress: Text in front of the progress bars; "" shows none.
        watch: watch("selection, NAME") is a context entered around each method.
    """
    problem = registry.Problem(dataset.inputs, dataset.targets, dataset.task, network, seed)
    subsets = {}
    for name, (method, options) in methods.items():
        budget = registry.Budget(n_selected, n_members, progress and f"{progress}: {name}")
        with watch(f"selection, {name}"):
            selection = registry.select_by(method, problem, budget, dict(options))
        base.check_whole(selection)
        subsets[name] = selection.indices
    return subsets
