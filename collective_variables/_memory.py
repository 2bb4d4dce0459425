"""How much memory arrays may still take, here or on an accelerator."""

import os
from pathlib import Path

import jax

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")
SMALL = 2**26  # bytes that are taken without a look at what is free


def available() -> int:
    """Free bytes for each device; of a CPU those of the machine, or of its cgroup if that allows
    less.
    """
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    return min(_of_machine(), _of_cgroup()) // jax.local_device_count()


def check(what: str, n_bytes: int) -> None:
    """Raise MemoryError if `what` needs more bytes than the machine has free."""
    if n_bytes > SMALL and n_bytes > (free := min(_of_machine(), _of_cgroup())):
        raise MemoryError(
            f"{what} need {n_bytes / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free."
        )


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        # Without Linux's count of what is free: half of all.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    free = dict(line.split(":") for line in lines)["MemAvailable"]
    return int(free.split()[0]) * 1024


def _of_cgroup() -> float:
    try:
        limit, used = (
            (CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current")
        )
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - int(used)
