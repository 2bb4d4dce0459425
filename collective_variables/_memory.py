"""Measure the memory that is free for arrays, on this machine or on an accelerator."""

import math
import os
import sys

import jax

from collective_variables import _machine

try:
    import resource
except ImportError:  # Windows
    resource = None
try:
    import psutil
except ImportError:  # needed on macOS and Windows only
    psutil = None

GIB = 2**30
SMALL = 2**26  # bytes that are allocated without checking the free memory
# Files of a control group, version 2 and version 1: its limit, its use, and the pages in use that
# only cache files. The system releases those when memory runs short.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available() -> int:
    """Return the free bytes per device; CPU devices share the memory of their machine."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    return free() // jax.local_device_count()


def check(what: str, n_bytes: int) -> None:
    """Raise MemoryError if `what` needs more bytes than the machine has free."""
    if n_bytes > SMALL and n_bytes > (unused := free()):
        raise MemoryError(
            f"{what} need {n_bytes / GIB:.1f} GiB, and {unused / GIB:.1f} GiB are free."
        )


def peak() -> int:
    """Return the largest number of bytes that this process has held so far."""
    if resource is None:
        return psutil.Process().memory_info().peak_wset if psutil else 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return largest if sys.platform == "darwin" else 1024 * largest


def resident() -> int:
    """Return the bytes that this process holds now, or its peak if that is unknown."""
    status = _machine.read(_machine.STATUS)
    for line in (status or "").splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    return psutil.Process().memory_info().rss if psutil else peak()


def free() -> int:
    """Return the free bytes of this machine, or of the control group of this process if fewer."""
    return min(_machine_free(), _cgroup_free())


def _machine_free() -> int:
    """Return the free bytes of the machine."""
    meminfo = _machine.read(_machine.MEMINFO)
    if meminfo is not None:
        free = dict(line.split(":") for line in meminfo.splitlines())["MemAvailable"]
        return int(free.split()[0]) * 1024
    if psutil is not None:
        return psutil.virtual_memory().available
    if hasattr(os, "sysconf"):
        # The free memory is unknown: take half of the total.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return sys.maxsize


def _cgroup_free() -> float:
    """Return the bytes that the control groups of this process still allow, or infinity."""
    free = math.inf
    for group in _machine.control_groups("memory"):
        for limit_file, use_file, cache_name in _CGROUP_FILES:
            limit = _machine.read(group / limit_file) or "max"
            if limit == "max" or int(limit) > sys.maxsize // 2:  # version 1 writes a huge number
                continue
            use = _machine.read(group / use_file) or "0"
            statistics = (_machine.read(group / "memory.stat") or "").splitlines()
            cache = dict(line.split() for line in statistics).get(cache_name, 0)
            free = min(free, int(limit) - max(0, int(use) - int(cache)))
    return max(0, free)
