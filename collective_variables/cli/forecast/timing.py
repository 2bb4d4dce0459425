"""Time calls, and add up ranges of seconds."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax

SECONDS = 0.05  # for which a call is repeated
MOST_CALLS = 20

Result = TypeVar("Result")


@dataclass(frozen=True)
class Seconds:
    """A range of seconds; its ends differ if the time depends on the data."""

    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.low + other.low, self.high + other.high)

    def __mul__(self, count: float) -> "Seconds":
        return Seconds(self.low * count, self.high * count)


def exactly(seconds: float) -> Seconds:
    """Return a range with equal ends."""
    return Seconds(seconds, seconds)


class Timing(NamedTuple):
    """Seconds of the first call, which compiles and imports, and of each further call."""

    first: float
    again: float

    @property
    def once(self) -> float:
        """The seconds that only the first call takes."""
        return max(0.0, self.first - self.again)


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """Return the seconds of a call and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of a call, including JAX computations after it returns."""
    return timed(call)[0]


def repeat(call: Callable[[], object], seconds: float = SECONDS) -> float:
    """Return the mean seconds of a call, over as many calls as fit in `seconds`."""
    spent: list[float] = []
    while len(spent) < MOST_CALLS and sum(spent) < seconds:
        spent.append(seconds_of(call))
    return sum(spent) / len(spent)


def time_call(call: Callable[[], object]) -> Timing:
    """Return the seconds of the first call, and the mean of the next ones."""
    first = seconds_of(call)
    return Timing(first, repeat(call))


def time_together(call: Callable[[], object], n_threads: int) -> float:
    """Return the mean seconds of a call that all threads make at once."""
    with ThreadPoolExecutor(n_threads) as executor:
        return sum(executor.map(lambda _: repeat(call), range(n_threads))) / n_threads
