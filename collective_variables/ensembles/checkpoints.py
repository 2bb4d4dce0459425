"""What a long computation keeps as it goes on, under a name that belongs to its own arguments
alone.
"""

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
    """What a store keeps of the results of tasks; nothing is known and nothing is kept where there
    is no store.

    name: of a task, the same for the same task of another call. pack, unpack: a result as named
    arrays, and back.
    known: the results that the store has, by the place of their task.
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
        self._store, self._name, self._pack = store, name, pack
        names = {} if store is None else {place: name(task) for place, task in enumerate(tasks)}
        self.known = {
            place: unpack(store[of_task]) for place, of_task in names.items() if of_task in store
        }

    def keep(self, task: Task, result: Result, /) -> None:
        """Keep the result of a task."""
        if self._store is not None:
            self._store[self._name(task)] = self._pack(result)


class LocalStore:
    """A store that a function uses by itself; where the function is sent to another process, there
    is none.
    """

    def __init__(self, store: Store | None):
        self.store = store

    def __reduce__(self) -> tuple[type, tuple[None]]:
        return LocalStore, (None,)


def fingerprint(*decisive: Any) -> str:
    """A name for all that decides a result, so that a store never goes on with what belongs to
    another call.

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
