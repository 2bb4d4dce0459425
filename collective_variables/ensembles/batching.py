"""Ensembles: a random key for every member and purpose, and compiled functions over members, on all
devices.
"""

import threading
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

SMALLEST_BUCKET = 16
SHARED, OF_MEMBERS = (
    PartitionSpec(),
    PartitionSpec("members"),
)  # of what each device has whole, and of what it has a part


def chunk_size(n_parameters: int, n_members: int) -> int:
    """How many of `n_members` one compiled call takes: equally many for each device of this
    machine.

    On a CPU five small networks together save dispatch, while larger ones already fill the caches
    one by one. An accelerator wants many at once, and those of images still have to fit its memory.
    """
    small, n_devices = n_parameters <= 5_000, jax.local_device_count()
    of_device = (5 if small else 1) if jax.default_backend() == "cpu" else (512 if small else 16)
    return n_devices * min(of_device, -(-n_members // n_devices))


def bucket(n_points: int, largest: int, *, fine: bool = False) -> int:
    """The size that a subset is padded to, so that few are compiled: the next power of two from 16,
    at most `largest`.

    fine: sizes half-way between two of these as well, which many subsets are worth.
    """
    size = max(SMALLEST_BUCKET, 1 << (n_points - 1).bit_length())
    if fine and size > SMALLEST_BUCKET and n_points <= size * 3 // 4:
        size = size * 3 // 4
    return min(size, largest)


def over_members(
    function: Callable[..., PyTree[Array]], *, runs_once: bool = False
) -> Callable[..., PyTree[Array]]:
    """Compile function(shared, *member) as function(shared, *members), members along the leading
    axes.

    One member alone skips `vmap`, whose batched matrix products are slower on a CPU. Threads that
    call it together wait for one compilation of their shapes instead of each making their own. What
    runs once may be compiled in a third of
    the time with less optimisation: random numbers, which are drawn in milliseconds, take seconds.
    Their last digit may then differ. Products have all digits of their numbers, which an
    accelerator would round to fewer by itself.

    Where this machine has several devices, and each can have equally many of the members, they are
    sharded over them. It can be pickled if `function` can, and is then compiled anew.
    """
    return _OverMembers(function, runs_once)


class _OverMembers:
    def __init__(self, function: Callable[..., PyTree[Array]], runs_once: bool):
        self._function, self._runs_once = function, runs_once
        self._lock, self._compiled, self._on_cpu = (
            threading.Lock(),
            {},
            jax.default_backend() == "cpu",
        )

    def __reduce__(self) -> tuple[type, tuple[Callable, bool]]:
        return _OverMembers, (self._function, self._runs_once)

    def __call__(self, shared: PyTree[Array], *members: PyTree[Array]) -> PyTree[Array]:
        arguments, devices = jax.tree.map(jnp.asarray, (shared, *members)), jax.local_devices()
        device, n_members = jax.config.jax_default_device, len(jax.tree.leaves(members)[0])
        mesh = (
            Mesh(np.array(devices), ("members",))
            if len(devices) > 1 and n_members % len(devices) == 0
            else None
        )
        if mesh is not None:
            places = (
                NamedSharding(mesh, SHARED),
                *(NamedSharding(mesh, OF_MEMBERS) for _ in members),
            )
            arguments, device = jax.device_put(arguments, places), None
        elif len(devices) > 1:
            arguments = jax.device_put(arguments, device or devices[0])
        with self._lock:
            once = self._compiled.setdefault(
                f"{device} {jax.tree.map(jax.typeof, arguments)}", _Once()
            )
        with once.lock, jax.default_matmul_precision("highest"):
            if once.compiled is None:
                once.compiled = self._compile(mesh, *arguments)
        if self._on_cpu:
            return once.compiled(*arguments)
        with _on_accelerator(device):
            return jax.block_until_ready(once.compiled(*arguments))

    def _compile(
        self, mesh: Mesh | None, shared: PyTree[Array], *members: PyTree[Array]
    ) -> Callable[..., PyTree[Array]]:
        call = self._call
        if mesh is not None:
            specs = {"in_specs": (SHARED, *(OF_MEMBERS for _ in members)), "out_specs": OF_MEMBERS}
            call = jax.shard_map(call, mesh=mesh, **specs, check_vma=False)
        options = {"xla_backend_optimization_level": 1} if self._runs_once else {}
        if not self._on_cpu:
            # Without trying algorithms out, which takes an accelerator many times longer than a CPU
            # takes for all of it.
            options = {"xla_gpu_autotune_level": 0}
        return jax.jit(call).lower(shared, *members).compile(compiler_options=options)

    def _call(self, shared: PyTree[Array], *members: PyTree[Array]) -> PyTree[Array]:
        if len(jax.tree.leaves(members)[0]) > 1:
            return jax.vmap(lambda *member: self._function(shared, *member))(*members)
        single = jax.tree.map(lambda leaf: leaf[0], members)
        return jax.tree.map(lambda leaf: leaf[None], self._function(shared, *single))


class _Once:
    """What the first of several threads compiles."""

    def __init__(self) -> None:
        self.lock, self.compiled = threading.Lock(), None


@cache
def _on_accelerator(device: jax.Device | None) -> threading.BoundedSemaphore:
    """Calls on a device at a time, while others are compiled: one that runs and one that is made
    ready.
    """
    return threading.BoundedSemaphore(2)


def chunks(n_members: int, size: int) -> list[list[int]]:
    """Members 0…n−1 in lists of `size`; the last is filled up with its last member, so that all
    compile once.
    """
    members = [
        list(range(start, min(start + size, n_members))) for start in range(0, n_members, size)
    ]
    return [chunk + chunk[-1:] * (size - len(chunk)) for chunk in members]
