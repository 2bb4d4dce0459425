"""Cores and memory that this process may use, from folders that look like the system's."""

import os
import sys
from types import SimpleNamespace

import pytest

from collective_variables import _machine, _memory

MIB = 2**20
UNLIMITED = 9223372036854771712  # as version 1 of control groups writes it


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """The folders of control groups, of which this process is in "0::/job"; 1 GiB is free."""
    for name, path in {
        "CGROUP": "cgroup",
        "MEMBERSHIP": "membership",
        "MEMINFO": "meminfo",
    }.items():
        monkeypatch.setattr(_machine, name, tmp_path / path)
    (tmp_path / "membership").write_text("0::/job\n")
    (tmp_path / "meminfo").write_text("MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n")
    return tmp_path / "cgroup"


@pytest.fixture
def affinity(monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


# Cores


def test_cores_are_those_of_the_affinity_and_not_of_the_machine(system, affinity):
    assert _machine.n_cores() == 4


def test_cores_follow_the_affinity_of_this_process():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert _machine.n_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_cores_where_nothing_but_the_machine_is_known(system, affinity, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert _machine.n_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _machine.n_cores() == 1
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert _machine.n_cores() == 3


@pytest.mark.parametrize(
    "quota, n_cores",
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("5000 100000", 1),
        ("900000 100000", 4),
    ],
)
def test_a_quota_of_time_lowers_the_cores(quota, n_cores, system, affinity):
    write(system / "job", cpu__max=quota)
    assert _machine.n_cores() == n_cores


def test_the_quota_of_a_parent_or_of_version_1_counts_too(system, affinity):
    write(system / "job", cpu__max="max 100000")
    write(system, cpu__max="300000 100000")
    assert _machine.n_cores() == 3
    _machine.MEMBERSHIP.write_text("5:cpu,cpuacct:/job\n4:memory:/other\n")
    write(system / "cpu" / "job", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    assert _machine.n_cores() == 4
    write(system / "cpu" / "job", cpu__cfs_quota_us=100000)
    assert _machine.n_cores() == 1


# Memory


def test_free_memory_is_that_of_the_machine_without_control_groups(system):
    assert _memory._machine_free() == 1024 * MIB
    assert _memory._cgroup_free() == float("inf")
    _machine.MEMBERSHIP.unlink()
    assert _memory._cgroup_free() == float("inf")


@pytest.mark.parametrize("folder", ["job", "."])
def test_pages_that_only_cache_files_are_free(folder, system):
    """600 of 700 MiB are in use, of which 450 MiB are files that were read."""
    write(
        system / folder,
        memory__max=700 * MIB,
        memory__current=600 * MIB,
        memory__stat=f"anon {150 * MIB}\nfile {450 * MIB}\ninactive_file {450 * MIB}",
    )
    assert _memory._cgroup_free() == 550 * MIB
    _memory.check("Arrays", 549 * MIB)
    with pytest.raises(MemoryError, match="Arrays need 0.5 GiB, and 0.5 GiB are free"):
        _memory.check("Arrays", 551 * MIB)


def test_the_files_of_version_1_are_read(system):
    _machine.MEMBERSHIP.write_text("4:memory:/job\n1:cpu:/\n0::/\n")
    limits = {"memory__usage_in_bytes": 600 * MIB, "memory__limit_in_bytes": 700 * MIB}
    statistics = f"inactive_file 0\ntotal_inactive_file {450 * MIB}"
    write(system / "memory" / "job", **limits, memory__stat=statistics)
    assert _memory._cgroup_free() == 550 * MIB
    write(system / "memory" / "job", memory__limit_in_bytes=UNLIMITED)
    assert _memory._cgroup_free() == float("inf")


def test_the_least_of_all_groups_counts_and_is_not_negative(system):
    write(system / "job", memory__max="max", memory__current=0)
    write(system, memory__max=100 * MIB, memory__current=90 * MIB)
    assert _memory._cgroup_free() == 10 * MIB
    write(system / "job", memory__max=100 * MIB, memory__current=120 * MIB)
    assert _memory._cgroup_free() == 0


def test_a_group_that_is_not_mounted_here_is_passed_over(system):
    _machine.MEMBERSHIP.write_text("0::/of/the/host\n")
    write(system, memory__max=100 * MIB, memory__current=30 * MIB)
    assert _memory._cgroup_free() == 70 * MIB


def test_machines_without_meminfo_are_asked_otherwise(system, monkeypatch):
    _machine.MEMINFO.unlink()
    free = SimpleNamespace(available=5 * MIB)
    monkeypatch.setattr(_memory, "psutil", SimpleNamespace(virtual_memory=lambda: free))
    assert _memory._machine_free() == 5 * MIB
    monkeypatch.setattr(_memory, "psutil", None)
    monkeypatch.setattr(
        os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.get, raising=False
    )
    assert _memory._machine_free() == 4096 * 1000 // 2
    monkeypatch.delattr(os, "sysconf")
    assert _memory._machine_free() == sys.maxsize


def test_free_memory_is_that_of_the_machine_or_less():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**20 < _memory.available() <= total


@pytest.mark.parametrize("platform, n_bytes", [("linux", 3 * 2**20), ("darwin", 3 * 2**10)])
def test_the_largest_use_is_counted_in_the_units_of_the_system(platform, n_bytes, monkeypatch):
    usage = SimpleNamespace(ru_maxrss=3 * 2**10)
    resource = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: usage)
    monkeypatch.setattr(_memory, "resource", resource)
    monkeypatch.setattr(sys, "platform", platform)
    assert _memory.peak() == n_bytes


def test_the_largest_use_is_known_without_the_module_resource(monkeypatch):
    monkeypatch.setattr(_memory, "resource", None)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=7))
    monkeypatch.setattr(_memory, "psutil", SimpleNamespace(Process=lambda: process))
    assert _memory.peak() == 7
    monkeypatch.setattr(_memory, "psutil", None)
    assert _memory.peak() == 0


def test_the_largest_use_grows_with_an_array():
    before = _memory.peak()
    array = bytearray(before + 64 * MIB)
    array[::4096] = b"x" * len(array[::4096])
    assert _memory.peak() > before + 32 * MIB
