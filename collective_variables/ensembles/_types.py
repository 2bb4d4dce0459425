"""Define the types of the tasks that `execution` and `dask_cluster` run."""

from collections.abc import Callable
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Advance = Callable[[int], None]  # moves a progress bar on by a number of steps
