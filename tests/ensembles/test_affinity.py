"""A process that may use one core of the machine takes one, in threads, memory and LAPACK."""

import json
import subprocess
import sys

import pytest
from project import ROOT

# The process is told of eight cores of which it may use one, so that a test on any machine can
# fail.
PROGRAM = """
import json, os, threading, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.cpu_count = lambda: 8

from types import SimpleNamespace
import cloudpickle
import numpy as np
from threadpoolctl import threadpool_info
from collective_variables.ensembles import dask_cluster, execution
from collective_variables.networks import sequential
from collective_variables.observables import _capacity, measurement

def thread(task, advance):
    time.sleep(0.02)
    return threading.get_ident()

with execution.Progress("", 8, "tasks") as bar:
    threads = execution.run(thread, range(8), bar)

network, points = sequential.build_network(["dense 5", "dense 3"]), np.zeros((32, 4), np.float32)
requirements = _capacity.Requirements(network, points, measurement.Settings(), has_limit=False)
jacobian = 4 * 32 * 3 * (4 * 5 + 5 + 5 * 3 + 3)
free = 2 * (requirements.n_bytes(32) + jacobian)
_capacity._memory = SimpleNamespace(available=lambda: free, GIB=2**30)
plan = _capacity.plan_ensemble(requirements, np.array([[30]]))

def lapack(task, advance):
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

dask_cluster.distributed.get_worker = lambda: SimpleNamespace(address="here")
job = dask_cluster._Job(lapack, False, False, dask_cluster.versions())
lapack_threads = dask_cluster.compute(cloudpickle.dumps(job), "job", 0)

results = {"threads": len(set(threads)), "together": plan.together, "lapack": lapack_threads}
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def on_one_core():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


def test_tasks_run_in_one_thread(on_one_core):
    assert on_one_core["threads"] == 1


def test_memory_is_planned_for_one_member_at_a_time(on_one_core):
    assert on_one_core["together"] is True


def test_a_worker_gives_lapack_one_thread(on_one_core):
    assert set(on_one_core["lapack"]) == {1}
