"""Save the results of finished tasks under names that hash all their inputs."""

import hashlib
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

import jax
import numpy as np

Task = TypeVar("Task")
Result = TypeVar("Result")
Arrays = dict[str, np.ndarray]
Store = MutableMapping[str, Arrays]


class Results(Generic[Task, Result]):
    """Hold the results of tasks in a store; without a store nothing is known or saved.

    Args:
        store: Named results, or None.
        tasks: The tasks.
        name: Function that names a task; the same task in another call has the same name.
        pack: Function that turns a result into named arrays.
        unpack: Function that turns named arrays into a result.

    Attributes:
        known: The results that the store already has, by the place of their task.
    """

    def __init__(
        self,
        store: Store | None,
        tasks: Sequence[Task],
        /,
        *,
        name: Callable[[Task], str],
        pack: Callable[[Result], Arrays],
        unpack: Callable[[Arrays], Result],
    ):
        self._store = store
        self._name = name
        self._pack = pack
        names = {} if store is None else {place: name(task) for place, task in enumerate(tasks)}
        self.known = {place: unpack(store[key]) for place, key in names.items() if key in store}

    def keep(self, task: Task, result: Result, /) -> None:
        """Save the result of a task."""
        if self._store is not None:
            self._store[self._name(task)] = self._pack(result)


class LocalStore:
    """Hold a store for a function in this process; it is dropped when the function is pickled."""

    def __init__(self, store: Store | None):
        self.store = store

    def __reduce__(self) -> tuple[type, tuple[None]]:
        return LocalStore, (None,)


def fingerprint(*decisive: Any) -> str:
    """Return a name for all inputs of a result, so that no call resumes from another's results.

    Arrays count by shape, dtype and values, random keys by their data, anything else by its `repr`.
    """
    digest = hashlib.sha256()
    for part in decisive:
        if isinstance(part, jax.Array) and jax.dtypes.issubdtype(part.dtype, jax.dtypes.prng_key):
            part = jax.random.key_data(part)
        if isinstance(part, np.ndarray | jax.Array):
            array = np.asarray(part)
            digest.update(f"array {array.shape} {array.dtype}".encode() + array.tobytes())
        else:
            digest.update(f"value {part!r}".encode())
    return digest.hexdigest()[:16]
