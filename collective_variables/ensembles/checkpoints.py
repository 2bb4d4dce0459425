"""Save the results of finished tasks under names that hash all that decides them."""

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
    """The results of tasks in a store; without a store nothing is known and nothing is saved.

    name: function that names a task; the same task of another call has the same name.
    pack, unpack: functions that turn a result into named arrays, and back.
    known: the results that the store already has, by the place of their task.
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
    """A store for a function in this process; it is dropped when the function is pickled."""

    def __init__(self, store: Store | None):
        self.store = store

    def __reduce__(self) -> tuple[type, tuple[None]]:
        return LocalStore, (None,)


def fingerprint(*decisive: Any) -> str:
    """Return a name for all that decides a result, so that no call resumes from another's results.

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
