"""Compile functions over the members of an ensemble, in batches of few shapes, on all devices."""

import threading
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

SMALLEST_BUCKET = 16
MEMBERS = "members"  # the axis of a mesh of devices
# How arguments lie on the devices: each has the whole, or each has a part of the members.
REPLICATED = PartitionSpec()
SHARDED = PartitionSpec(MEMBERS)


def chunk_size(n_parameters: int, n_members: int) -> int:
    """Return how many of `n_members` one compiled call takes: equally many for each device.

    On a CPU five small networks together save dispatch, while a single larger one already fills the
    caches. An accelerator needs many at once, but networks for images must fit in its memory.
    """
    is_small = n_parameters <= 5_000
    n_devices = jax.local_device_count()
    if jax.default_backend() == "cpu":
        per_device = 5 if is_small else 1
    else:
        per_device = 512 if is_small else 16
    return n_devices * min(per_device, -(-n_members // n_devices))


def chunks(n_members: int, size: int) -> list[list[int]]:
    """Return the members 0…n−1 in lists of `size`.

    The last list is filled up with its last member, so that all lists use one compilation.
    """
    members = [
        list(range(start, min(start + size, n_members))) for start in range(0, n_members, size)
    ]
    return [chunk + chunk[-1:] * (size - len(chunk)) for chunk in members]


def bucket(n_points: int, largest: int, *, fine: bool = False) -> int:
    """Return the size that a subset is padded to, so that few sizes are compiled.

    It is the next power of two from 16 on, and at most `largest`. With `fine` it can also lie
    half-way between two powers, which pays off for many subsets.
    """
    size = max(SMALLEST_BUCKET, 1 << (n_points - 1).bit_length())
    if fine and size > SMALLEST_BUCKET and n_points <= size * 3 // 4:
        size = size * 3 // 4
    return min(size, largest)


def over_members(
    function: Callable[..., PyTree[Array]], *, runs_once: bool = False
) -> Callable[..., PyTree[Array]]:
    """Compile function(shared, *member) as function(shared, *members).

    The members lie along the leading axes of the arguments and of the results. Matrix products keep
    all digits, which an accelerator would otherwise round.

    A single member skips `vmap`, whose batched matrix products are slower on a CPU. Threads that
    call the function at the same time wait for one compilation of their shapes; `jax.jit` would
    compile it in each of them. If this machine has several devices, and the members can be divided
    equally among them, the members are sharded. The function can be pickled if `function` can, and
    is then compiled again.

    Args:
        function: The function of one member.
        runs_once: Compile in a third of the time with less optimisation, for what runs once. Random
            numbers, for example, take seconds to compile and milliseconds to draw. The last digit
            of the results may differ.

    Returns:
        The compiled function.
    """
    return _OverMembers(function, runs_once)


class _OverMembers:
    """Hold the compiled function of `over_members`, with one program for each kind of arguments.

    The programs are compiled ahead of time, and not by `jax.jit` in the first call. Threads that
    start together with the same shapes would each compile them, while threads with different shapes
    must not wait for each other.
    """

    def __init__(self, function: Callable[..., PyTree[Array]], runs_once: bool):
        self._function = function
        self._runs_once = runs_once
        self._on_cpu = jax.default_backend() == "cpu"
        self._programs: dict[str, _Program] = {}
        self._programs_lock = threading.Lock()

    def __reduce__(self) -> tuple[type, tuple[Callable, bool]]:
        return _OverMembers, (self._function, self._runs_once)

    def __call__(self, shared: PyTree[Array], *members: PyTree[Array]) -> PyTree[Array]:
        arguments = jax.tree.map(jnp.asarray, (shared, *members))
        device = jax.config.jax_default_device
        mesh = _mesh(len(jax.tree.leaves(members)[0]))
        if mesh is not None:
            places = [NamedSharding(mesh, REPLICATED)]
            places += [NamedSharding(mesh, SHARDED)] * len(members)
            arguments = jax.device_put(arguments, tuple(places))
            device = None
        elif jax.local_device_count() > 1:
            arguments = jax.device_put(arguments, device or jax.local_devices()[0])
        run = self._compiled(device, mesh, arguments)
        if self._on_cpu:
            return run(*arguments)
        with _slots(device):
            return jax.block_until_ready(run(*arguments))

    def _compiled(
        self, device: jax.Device | None, mesh: Mesh | None, arguments: tuple[PyTree[Array], ...]
    ) -> Callable[..., PyTree[Array]]:
        """Return the program for arguments like these, compiled by the first thread that asks."""
        # The text contains the tree of the arguments, and the shape and dtype of each.
        key = f"{device} {jax.tree.map(jax.typeof, arguments)}"
        with self._programs_lock:
            program = self._programs.setdefault(key, _Program())
        with program.lock, jax.default_matmul_precision("highest"):
            if program.run is None:
                program.run = self._compile(mesh, *arguments)
        return program.run

    def _compile(
        self, mesh: Mesh | None, shared: PyTree[Array], *members: PyTree[Array]
    ) -> Callable[..., PyTree[Array]]:
        call = self._call
        if mesh is not None:
            call = jax.shard_map(
                call,
                mesh=mesh,
                in_specs=(REPLICATED, *[SHARDED] * len(members)),
                out_specs=SHARDED,
                check_vma=False,
            )
        options = {"xla_backend_optimization_level": 1} if self._runs_once else {}
        if not self._on_cpu:
            # Do not compare algorithms: that takes many times longer on an accelerator than the
            # whole compilation takes on a CPU.
            options = {"xla_gpu_autotune_level": 0}
        return jax.jit(call).lower(shared, *members).compile(compiler_options=options)

    def _call(self, shared: PyTree[Array], *members: PyTree[Array]) -> PyTree[Array]:
        if len(jax.tree.leaves(members)[0]) > 1:
            return jax.vmap(lambda *member: self._function(shared, *member))(*members)
        single = jax.tree.map(lambda leaf: leaf[0], members)
        return jax.tree.map(lambda leaf: leaf[None], self._function(shared, *single))


class _Program:
    """Hold a compiled program, and the lock of the thread that compiles it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.run: Callable[..., PyTree[Array]] | None = None


def _mesh(n_members: int) -> Mesh | None:
    """Return all devices of this machine, or None if the members cannot be sharded over them."""
    devices = jax.local_devices()
    if len(devices) == 1 or n_members % len(devices):
        return None
    return Mesh(np.array(devices), (MEMBERS,))


@cache
def _slots(device: jax.Device | None) -> threading.BoundedSemaphore:
    """Return the slots for calls on a device: one call runs while the next is prepared."""
    # Compilations need no slot.
    return threading.BoundedSemaphore(2)
