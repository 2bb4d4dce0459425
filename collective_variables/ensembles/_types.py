"""The types of tasks that run one by one or many at once."""

from collections.abc import Callable
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Advance = Callable[[int], None]
