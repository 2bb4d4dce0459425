"""Draw the subset sizes of every member of an ensemble."""

import numpy as np
from jaxtyping import Int

from collective_variables import _checks

DISTRIBUTIONS = ("uniform", "log-uniform")


def draw(
    n_points: list[int] | dict[str, int | str], /, *, n_members: int, seed: int
) -> Int[np.ndarray, "n_members n_sizes"]:
    """Return the subset sizes of every member, ascending.

    Args:
        n_points: A list gives every member all its sizes. A range {"low", "high", "distribution"}
            gives each member one size, both ends included, drawn with
            `numpy.random.default_rng(seed)`: "uniform" over the integers, or "log-uniform", where
            the logarithm of a real number in [low, high + 1) is uniform and the number is rounded
            down.
        n_members: Number of members.
        seed: Seed of the generator.

    Raises TypeError or ValueError for a size below 2 (one point has the entropy 0 whatever the
    network), a size that repeats, or a range that is empty or has other keys.
    """
    _checks.integer("n_members", n_members, minimum=1)
    _checks.integer("seed", seed, minimum=0)
    if not isinstance(n_points, dict):
        sizes = [
            _checks.integer("n_points", n, minimum=2) for n in _checks.unique("n_points", n_points)
        ]
        return np.tile(np.sort(sizes), (n_members, 1))
    low, high, distribution = _range(n_points)
    generator = np.random.default_rng(seed)
    if distribution == "uniform":
        return generator.integers(low, high, size=(n_members, 1), endpoint=True)
    draws = np.exp(generator.uniform(np.log(low), np.log(high + 1), size=(n_members, 1)))
    return np.clip(np.floor(draws).astype(np.int64), low, high)


def largest(n_points: list[int] | dict[str, int | str], /) -> int:
    """Return the largest subset size that `draw` can return."""
    return n_points["high"] if isinstance(n_points, dict) else max(n_points)


def _range(n_points: dict[str, int | str]) -> tuple[int, int, str]:
    if set(n_points) != {"low", "high", "distribution"}:
        raise ValueError(
            f"n_points must be a list or have low, high and distribution: received {n_points!r}."
        )
    low = _checks.integer("n_points.low", n_points["low"], minimum=2)
    high = _checks.integer("n_points.high", n_points["high"], minimum=low)
    name = _checks.choice("n_points.distribution", n_points["distribution"], DISTRIBUTIONS)
    return low, high, name
