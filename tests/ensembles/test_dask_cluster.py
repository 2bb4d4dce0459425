"""A Dask cluster of two processes: equal results, killed workers, other versions, no scheduler."""

import os
import re
import subprocess
import sys
import time
from functools import partial

import cloudpickle
import jax
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from project import JAX, ROOT

from collective_variables.ensembles import checkpoints, dask_cluster, execution
from collective_variables.ensembles.execution import ADDRESS, Progress
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.selection import rnd
from collective_variables.training import (
    autoencoder,
    ensemble_training,
    loop,
    policy_optimisation,
    recorded_training,
    recording,
    schedules,
)

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")
# Workers don't have this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

INPUTS = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
TARGETS = np.stack([INPUTS.sum(axis=1), INPUTS[:, 0] ** 2], axis=1)
POOL, TEST = loop.Points(INPUTS[:24], TARGETS[:24]), loop.Points(INPUTS[24:], TARGETS[24:])
NETWORK = sequential.build_network(["dense 4", "dense 2"], parametrisation="ntk")
INDICES = np.random.default_rng(1).permuted(np.tile(np.arange(24), (7, 1)), axis=1)[:, :12]
SIZES = np.tile([5, 12], (7, 1))
RECORD = recording.Settings(epochs=[2], observables=("alignment",))


def dask(*arguments):
    # The digits of a result also depend on the settings of JAX: here those of `quick_compilation`.
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    return subprocess.Popen(
        command, env=os.environ | JAX | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )


def start_worker(address, name):
    return dask(
        "dask_worker", address, "--name", name, "--nthreads", "2", "--no-nanny", "--no-dashboard"
    )


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    file = tmp_path_factory.mktemp("scheduler") / "file.json"
    process = dask(
        "dask_scheduler",
        "--scheduler-file",
        str(file),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
    )
    with Client(scheduler_file=str(file), set_as_default=False) as client:
        yield client
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def workers(scheduler):
    address = scheduler.scheduler.address
    processes = {name: start_worker(address, name) for name in ("one", "two")}
    scheduler.wait_for_workers(2)
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


@pytest.fixture
def on_cluster(scheduler, workers, monkeypatch):
    monkeypatch.setenv(ADDRESS, scheduler.scheduler.address)


def run(function, tasks, **options):
    with Progress("", len(tasks), "tasks") as bar:
        return execution.run(function, tasks, bar, **options)


def train():
    runs = [ensemble_training.runs(INDICES, SIZES, seed=3)]
    return ensemble_training.train_ensemble(
        NETWORK, POOL, TEST, runs, schedule=schedules.Schedule(n_epochs=4)
    )


def record():
    runs = [ensemble_training.runs(INDICES, SIZES, seed=3)]
    schedule = schedules.Schedule(n_epochs=2, batch_size=4)
    return recorded_training.train_ensemble(
        NETWORK, POOL, TEST, runs, schedule=schedule, settings=RECORD
    )


def select():
    settings = rnd.RNDSettings(n_epochs=3)
    return rnd.select(
        INPUTS, NETWORK, settings, n_selected=4, key=jax.random.key(2), n_members=7, store={}
    )


def measure(**settings):
    settings = measurement.Settings(**settings)
    return measurement.measure_ensemble(
        NETWORK, measurement.Pool(*POOL), [INDICES], SIZES, seed=3, settings=settings
    )


def train_agents():
    ppo = policy_optimisation.PPO(
        n_updates=2, n_environments=2, n_steps=8, n_minibatches=2, width=4
    )
    settings = recording.Settings(epochs=[2], observables=(), n_train=6)
    return policy_optimisation.train_ensemble(ppo, 2, settings=settings, seed=1)


def train_autoencoders():
    images = np.random.default_rng(3).uniform(size=(12, 3, 3, 1)).astype(np.float32)
    schedule = autoencoder.Schedule(n_latents=2, width=4, n_epochs=2, batch_size=4)
    settings = recording.Settings(epochs=[2], observables=())
    options = {"schedule": schedule, "settings": settings, "seed": 3}
    return autoencoder.train_ensemble(
        images[:9], images[9:], np.array([[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]), **options
    )


COMPUTATIONS = {
    "trained": train,
    "recorded": record,
    "selected": select,
    "measured": measure,
    "in float64": partial(measure, dtype="float64"),
    "one after another": partial(measure, block_size=5),
    "stochastic": partial(measure, spectrum="stochastic", n_leading=1, n_probes=3, n_steps=1),
    "agents": train_agents,
    "autoencoders": train_autoencoders,
}


@pytest.mark.parametrize("compute", COMPUTATIONS.values(), ids=COMPUTATIONS)
def test_results_are_those_of_this_process_to_the_last_bit(compute, on_cluster, monkeypatch):
    there = compute()
    monkeypatch.delenv(ADDRESS)
    monkeypatch.setattr(dask_cluster, "run", None)
    assert_equal(there, compute())


def assert_equal(actual, expected):
    if isinstance(actual, pd.DataFrame):
        pd.testing.assert_frame_equal(actual, expected, check_exact=True)
    elif isinstance(actual, dict):
        assert_equal(list(actual.items()), list(expected.items()))
    elif isinstance(actual, list | tuple):
        for one, other in zip(actual, expected, strict=True):
            assert_equal(one, other)
    elif hasattr(actual, "__dataclass_fields__"):
        assert_equal(vars(actual), vars(expected))
    else:
        np.testing.assert_array_equal(actual, expected)


def pid(task, advance):
    time.sleep(0.1)
    advance(1)
    return os.getpid()


def test_tasks_run_on_all_workers_and_their_progress_is_seen_here(
    workers, on_cluster, capsys, tmp_path
):
    def function(task, advance):
        # Wait until the other worker has a task as well, however late it begins.
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        return pid(task, advance)

    with Progress("Networks", 20, "networks") as bar:
        pids = execution.run(function, range(20), bar)
    assert set(pids) == {process.pid for process in workers.values()}
    assert "20/20" in capsys.readouterr().err


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(scheduler, workers, on_cluster):
    address = scheduler.scheduler.address
    extra = []

    def begin_and_kill(count):
        if not extra:
            workers["one"].kill()
            extra.append(start_worker(address, "three"))

    results = {}
    tasks = {place: place for place in range(30)}
    dask_cluster.run(
        pid, tasks, begin_and_kill, results.__setitem__, address=address, together=True
    )
    workers["one"].wait()
    workers["one"] = extra[0]
    assert set(results) == set(tasks) and extra


def test_a_task_that_ends_its_workers_is_one_clear_error_and_other_results_are_kept(
    scheduler, on_cluster, tmp_path
):
    address = scheduler.scheduler.address
    victims = [start_worker(address, f"victim-{number}") for number in range(3)]
    scheduler.run_on_scheduler(allow, 0)
    store = {}
    others_are_saved = tmp_path / "saved"

    def function(task, advance):
        if task == 5:
            while not others_are_saved.exists():
                time.sleep(0.05)
            os._exit(1)
        return task

    def pack(result):
        if len(store) == 4:
            others_are_saved.touch()
        return {"value": np.array(result)}

    checkpoint = checkpoints.Results(
        store, range(6), name=str, pack=pack, unpack=lambda arrays: arrays["value"]
    )
    with pytest.raises(RuntimeError, match="One task ended 1 workers of .*results so far are kept"):
        run(function, range(6), checkpoint=checkpoint)
    assert set(store) == {"0", "1", "2", "3", "4"}
    scheduler.run_on_scheduler(allow, 3)
    for victim in victims:
        victim.kill()
        victim.wait()


def allow(failures, dask_scheduler):
    dask_scheduler.allowed_failures = failures


def test_an_error_of_a_task_comes_out_as_it_is(on_cluster):
    def function(task, advance):
        raise FloatingPointError(f"task {task} diverged")

    with pytest.raises(FloatingPointError, match="task 0 diverged"):
        run(function, range(1))


def test_a_worker_with_other_versions_is_refused(on_cluster, monkeypatch):
    other = dask_cluster.versions() | {"jax": "0.0.1", "collective_variables": "0123456789ab"}
    monkeypatch.setattr(dask_cluster, "versions", lambda: other)
    differences = [
        r"collective_variables \w{12} and not 0123456789ab",
        rf"jax {re.escape(jax.__version__)} and not 0.0.1: restart it",
    ]
    with pytest.raises(RuntimeError, match=r"The worker tcp://.* has " + ", ".join(differences)):
        run(pid, range(2))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere", "ftp://127.0.0.1:1"])
def test_a_scheduler_that_cannot_be_reached_is_one_clear_error(address, monkeypatch):
    monkeypatch.setenv(ADDRESS, address)
    monkeypatch.setitem(
        dask_cluster.distributed.client.dask.config.config["distributed"]["comm"]["timeouts"],
        "connect",
        "1s",
    )
    with pytest.raises(
        ConnectionError,
        match=f"must be the address of a scheduler that can be reached: received {address}",
    ):
        run(pid, range(2))


def test_a_cluster_that_grows_with_its_tasks_begins_without_a_worker(monkeypatch):
    """As with dask-jobqueue, which starts jobs where this cluster starts processes."""
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": "ERROR"}
    with LocalCluster(n_workers=0, **options) as growing, Progress("", 4, "tasks") as bar:
        growing.adapt(minimum=0, maximum=1, interval="100ms")
        monkeypatch.setenv(ADDRESS, growing.scheduler_address)
        assert execution.run(lambda task, advance: task**2, range(4), bar) == [0, 1, 4, 9]


def test_no_scheduler_is_asked_when_all_results_are_known(monkeypatch):
    monkeypatch.setenv(ADDRESS, "nowhere")
    checkpoint = checkpoints.Results(
        {"0": {"value": 5}}, [0], name=str, pack=None, unpack=lambda arrays: arrays["value"]
    )
    assert run(pid, [0], checkpoint=checkpoint) == [5]
