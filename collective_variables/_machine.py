"""What the operating system grants this process: cores, and the limits of its control groups."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")


class Clock:
    """Count the seconds of a command, with those of its imports and of reading files."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def restart(self) -> None:
        """Count from now, the beginning of a command."""
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds since then."""
        return time.perf_counter() - self._started


CLOCK = Clock()


def n_cores() -> int:
    """Return the number of cores that this process may use, at least one.

    These are the cores of its affinity (set by `taskset`, SLURM or a CPU set). A control group that
    allows less time than that, as containers have, lowers the number to its quota, rounded up.
    """
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; it also honours PYTHON_CPU_COUNT
        usable = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:  # macOS and Windows before Python 3.13
        usable = os.cpu_count()
    return max(1, math.ceil(min(usable or 1, _quota())))


def control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that limit this process, its own first, then their parents.

    Version 2 has one hierarchy for all controllers; version 1 has a folder for each.
    """
    for line in (read(MEMBERSHIP) or "0::/").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        base = CGROUP / controller if names else CGROUP
        group = base / path.strip("/")
        # In a container the path may be that of the host, of which only the base is mounted here.
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base))


def read(path: Path) -> str | None:
    """Return the text of a file of the system without the white space around it, or None."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _quota() -> float:
    """The cores' worth of time that the control groups allow, or infinity."""
    quota = math.inf
    for group in control_groups("cpu"):
        limit, period = (read(group / "cpu.max") or "max 1").split()
        if limit == "max":
            limit = read(group / "cpu.cfs_quota_us") or "-1"
            period = read(group / "cpu.cfs_period_us") or "1"
        if int(limit) > 0:
            quota = min(quota, int(limit) / int(period))
    return quota
