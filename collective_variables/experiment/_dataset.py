"""Declare what an experiment reads from a dataset.

A stage that measures or trains then depends on this and not on how datasets are read.
"""

from typing import Protocol

from jaxtyping import Array, Float


class Dataset(Protocol):
    """Pool and test points, as in `data.problems.Dataset`."""

    @property
    def inputs(self) -> Float[Array, "n_pool ..."]: ...

    @property
    def targets(self) -> Float[Array, "n_pool n_outputs"]: ...

    @property
    def test_inputs(self) -> Float[Array, "n_test ..."]: ...

    @property
    def test_targets(self) -> Float[Array, "n_test n_outputs"]: ...

    @property
    def task(self) -> str: ...
