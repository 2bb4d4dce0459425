"""Read what the operating system grants this process: cores and control group limits."""

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
    """Measure the time of a command, including its imports and the reading of files."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def restart(self) -> None:
        """Restart the clock at the beginning of a command."""
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds since the clock was started or restarted."""
        return time.perf_counter() - self._started


CLOCK = Clock()


def n_cores() -> int:
    """Return the number of cores that this process may use, at least one.

    These are the cores of its affinity, which `taskset`, SLURM or a CPU set may restrict. If the
    quota of a control group (for example of a container) is smaller, the quota counts, rounded up.
    """
    if hasattr(os, "process_cpu_count"):  # since Python 3.13; it also honours PYTHON_CPU_COUNT
        usable = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:  # macOS and Windows before Python 3.13
        usable = os.cpu_count()
    return max(1, math.ceil(min(usable or 1, _quota())))


def control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that limit this process, innermost first.

    Version 2 has one hierarchy for all controllers; version 1 has a folder for each.

    Args:
        controller: Name of the controller, "cpu" or "memory".

    Yields:
        A folder of the group or of one of its parents.
    """
    for line in (read(MEMBERSHIP) or "0::/").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        base = CGROUP / controller if names else CGROUP
        group = base / path.strip("/")
        # In a container the path may be that of the host, where only the base is mounted here.
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base))


def read(path: Path) -> str | None:
    """Return the text of a system file, stripped of white space, or None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _quota() -> float:
    """Return how many cores the control groups allow, or infinity."""
    quota = math.inf
    for group in control_groups("cpu"):
        limit, period = (read(group / "cpu.max") or "max 1").split()
        if limit == "max":
            limit = read(group / "cpu.cfs_quota_us") or "-1"
            period = read(group / "cpu.cfs_period_us") or "1"
        if int(limit) > 0:
            quota = min(quota, int(limit) / int(period))
    return quota
