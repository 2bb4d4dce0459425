"""Check arguments: each error names the quantity, what it must be and what was received."""

import math
import numbers
from collections.abc import Collection

import numpy as np

from collective_variables import _errors


def integer(name: str, value: object, *, minimum: int | None = None) -> int:
    """Return `value` if it is an integer of at least `minimum`.

    Booleans and 3.0 are not integers.

    Raises:
        InvalidTypeError: The value is not an integer.
        InvalidValueError: The value is below `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise _errors.InvalidTypeError(f"{name} must be an integer: received {value!r}.")
    if minimum is not None and value < minimum:
        raise _errors.InvalidValueError(f"{name} must be at least {minimum}: received {value}.")
    return int(value)


def number(
    name: str, value: object, *, above: float | None = None, minimum: float | None = None
) -> float:
    """Return `value` if it is a finite real number, greater than `above` and at least `minimum`.

    Raises:
        InvalidTypeError: The value is not a number. For a string the message explains how YAML
            reads numbers.
        InvalidValueError: The value is not finite or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        hint = " YAML reads 1e-3 as text: write 0.001." if isinstance(value, str) else ""
        raise _errors.InvalidTypeError(f"{name} must be a number: received {value!r}.{hint}")
    if not math.isfinite(value):
        raise _errors.InvalidValueError(f"{name} must be finite: received {value}.")
    if above is not None and value <= above:
        raise _errors.InvalidValueError(f"{name} must be greater than {above}: received {value}.")
    if minimum is not None and value < minimum:
        raise _errors.InvalidValueError(f"{name} must be at least {minimum}: received {value}.")
    return float(value)


def choice(name: str, value: object, allowed: Collection[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises:
        InvalidTypeError: The value is not a string.
        InvalidValueError: The string is not allowed.
    """
    listed = ", ".join(sorted(allowed))
    if not isinstance(value, str):
        raise _errors.InvalidTypeError(f"{name} must be one of {listed}: received {value!r}.")
    if value not in allowed:
        raise _errors.InvalidValueError(f"{name} must be one of {listed}: received {value!r}.")
    return value


def unique(name: str, values: object) -> list:
    """Return `values` if it is a non-empty list without repeated entries.

    Raises:
        InvalidTypeError: The value is not a list, or it is empty.
        InvalidValueError: An entry is repeated.
    """
    if not isinstance(values, list | tuple) or len(values) == 0:
        raise _errors.InvalidTypeError(
            f"{name} must be a list of at least one entry: received {values!r}."
        )
    if len(set(map(str, values))) < len(values):
        raise _errors.InvalidValueError(f"{name} must not repeat an entry: received {values!r}.")
    return list(values)


def finite(name: str, array: np.ndarray) -> None:
    """Raise InvalidValueError if `array` contains NaN or infinity."""
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise _errors.InvalidValueError(
            f"{name} must be finite: {int(bad.sum())} of {bad.size} values are NaN or infinite, "
            f"the first at {first}."
        )


def rows(name: str, indices: np.ndarray, n_rows: int) -> None:
    """Raise InvalidValueError unless all `indices` lie between 0 and n_rows − 1."""
    outside = indices[(indices < 0) | (indices >= n_rows)]
    if outside.size:
        raise _errors.InvalidValueError(
            f"{name} must be rows of the pool, 0 to {n_rows - 1}: received {outside[0]}."
        )
