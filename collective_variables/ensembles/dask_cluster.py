"""Run the tasks of a long computation on the workers of a Dask cluster, with the same results."""

import hashlib
import sys
import threading
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from collective_variables import _extras, _machine
from collective_variables.ensembles._types import Advance, Result, Task

with _extras.required("dask"):
    import cloudpickle
    import distributed
    from distributed.comm import CommClosedError

PACKAGE = Path(__file__).parents[1]
N_JOBS = 4  # jobs that a worker keeps, with their data and what they compiled


class _Job(NamedTuple):
    """Hold what each worker receives once: the function, and what must agree for equal results."""

    function: Callable[[Any, Advance], Any]
    together: bool
    is_64_bit: bool
    versions: dict[str, str]


def run(
    function: Callable[[Task, Advance], Result],
    tasks: dict[int, Task],
    advance: Advance,
    collect: Callable[[int, Result], None],
    /,
    *,
    address: str,
    together: bool,
) -> None:
    """Call collect(place, function(task, advance)) for each task, in the order in which they end.

    The workers of the scheduler at `address` compute the tasks. Each worker receives the function
    once and compiles it once. A task whose worker is lost is computed by another worker. Scheduler
    and workers need the same versions of this library, JAX and NumPy.

    Args:
        function: Computes a task.
        tasks: The tasks, by their place.
        advance: advance(count) moves a progress bar on.
        collect: Receives each result.
        address: Address of the scheduler.
        together: Whether a worker runs as many tasks at once as it has threads, or one at a time.

    Raises:
        ConnectionError: The scheduler cannot be reached or is lost.
        RuntimeError: A worker has other versions, or a task ends one worker after another.

    Also raises the first error of a task.
    """
    name = f"collective-variables-{uuid.uuid4().hex}"
    job = cloudpickle.dumps(_Job(function, together, jax.config.jax_enable_x64, versions()))
    with _client(address) as client, client.as_current():
        if not client.scheduler_info()["workers"]:
            # The tasks are sent nevertheless: a cluster that scales with its tasks starts workers
            # only then.
            tqdm.write(
                f"The scheduler at {address} has no worker yet: waiting for one.", file=sys.stderr
            )
        client.subscribe_topic(name, lambda event: advance(event[1]))
        try:
            futures = _submit(client, name, job, tasks)
            for future in distributed.as_completed(list(futures)):
                collect(futures[future], future.result())
                future.release()
        except distributed.KilledWorker as error:
            raise RuntimeError(
                f"One task ended {error.allowed_failures + 1} workers of {address}, one after the "
                "other, most likely for lack of memory. The results so far are kept."
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise ConnectionError(
                f"The scheduler at {address} was lost. The results so far are kept."
            ) from error
        finally:
            client.unsubscribe_topic(name)


def _submit(
    client: distributed.Client, name: str, job: bytes, tasks: dict[int, Any]
) -> dict[distributed.Future, int]:
    """Send job and tasks, and return the future results with the places of their tasks."""
    with warnings.catch_warnings():
        # The job may be large.
        warnings.filterwarnings("ignore", "Sending large graph")
        # Its bytes are the result of a task: data scattered to a worker would be lost with it.
        payload = client.submit(bytes, job, key=name, pure=False)
        # Otherwise the scheduler would give most tasks to the one worker that has the bytes.
        distributed.wait(payload)
        client.replicate([payload])
        return {
            client.submit(compute, payload, name, task, key=f"{name}-{place}", pure=False): place
            for place, task in tasks.items()
        }


def _client(address: str) -> distributed.Client:
    try:
        return distributed.Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            "DASK_SCHEDULER_ADDRESS must be the address of a scheduler that can be reached: "
            f"received {address} ({error})."
        ) from error


def code_digest(folder: Path) -> str:
    """Return a digest of all Python files in `folder` and its sub-folders.

    It depends on their contents and on their paths within the folder, not on where the folder is.
    """
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        # A hash of each file, so that text which moves from one file to the next is noticed.
        digest.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


@cache
def versions() -> dict[str, str]:
    """Return the versions that decide the digits of a result.

    The digest of this library's code is that at the first call.
    """
    return {
        "collective_variables": code_digest(PACKAGE),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
    }


# At import, so that a worker that imported the code before it was edited reports the old digest.
versions()

_jobs: dict[str, _Job] = {}  # those that this worker received, the oldest first
_jobs_lock = threading.Lock()
_machine_lock = threading.Lock()  # held by a task that has the whole worker


def compute(payload: bytes, name: str, task: Any, /) -> Any:
    """Return the result of one task, on a worker."""
    worker = distributed.get_worker()
    job = _load_job(payload, name, worker.address)

    def advance(count: int = 1) -> None:
        worker.log_event(name, count)

    with jax.enable_x64(job.is_64_bit):
        if job.together:
            _limit_to_one_thread()
            return job.function(task, advance)
        n_threads = _machine.n_cores()
        with _machine_lock, ThreadpoolController().limit(limits=n_threads, user_api="blas"):
            return job.function(task, advance)


def _load_job(payload: bytes, name: str, address: str) -> _Job:
    """Return a job, which is unpickled and checked when its first task arrives."""
    with _jobs_lock:
        if name not in _jobs:
            job = cloudpickle.loads(payload)
            _check_versions(job, address)
            _jobs[name] = job
            for oldest in list(_jobs)[:-N_JOBS]:
                del _jobs[oldest]
        return _jobs[name]


def _check_versions(job: _Job, address: str) -> None:
    here = versions()
    differences = [
        f"{name} {here[name]} and not {version}"
        for name, version in job.versions.items()
        if here[name] != version
    ]
    if differences:
        raise RuntimeError(
            f"The worker {address} has {', '.join(differences)}: "
            "restart it with the versions of this process."
        )


@cache
def _limit_to_one_thread() -> None:
    """Limit LAPACK to one thread for the rest of the process."""
    # A context would end for all threads when the first of them leaves it.
    ThreadpoolController().limit(limits=1, user_api="blas")
