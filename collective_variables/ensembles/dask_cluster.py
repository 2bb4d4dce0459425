"""The tasks of a long computation on the workers of a Dask cluster, with the same results as
here.
"""

import hashlib
import os
import sys
import threading
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import distributed
import jax
import jaxlib
import numpy as np
from distributed.comm import CommClosedError
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from collective_variables.ensembles._types import Advance, Result, Task


class _Job(NamedTuple):
    """What is sent to each worker once: the function, and what must be the same there for the same
    results.
    """

    function: Callable[[Any, Advance], Any]
    together: bool
    wide: bool
    versions: dict[str, str]


def run(
    function: Callable[[Task, Advance], Result],
    tasks: dict[int, Task],
    advance: Advance,
    finished: Callable[[int, Result], None],
    /,
    *,
    address: str,
    together: bool,
) -> None:
    """finished(place, function(task, advance)) for each task, as they are done by the workers of
    the scheduler at `address`.

    together: as many tasks of a worker at once as it has threads, or one after another. Each worker
    gets the function once and compiles it once. A task whose worker is lost is computed by another
    one. Scheduler and workers need this library and the same versions of it, JAX and NumPy.

    Raises ConnectionError for a scheduler that can't be reached or is lost, RuntimeError for a
    worker with other versions and for a task that ends one worker after the other, and the first
    error of a task.
    """
    name = f"collective-variables-{uuid.uuid4().hex}"
    job = cloudpickle.dumps(_Job(function, together, jax.config.jax_enable_x64, versions()))
    with _client(address) as client, client.as_current():
        if not client.scheduler_info()["workers"]:
            # The tasks are sent all the same: a cluster that grows with its tasks has no worker
            # before.
            tqdm.write(
                f"The scheduler at {address} has no worker yet: waiting for one.", file=sys.stderr
            )
        client.subscribe_topic(name, lambda event: advance(event[1]))
        try:
            futures = _submitted(client, name, job, tasks)
            for future in distributed.as_completed(list(futures)):
                finished(futures[future], future.result())
                future.release()
        except distributed.KilledWorker as error:
            raise RuntimeError(
                f"One task ended {error.allowed_failures + 1} workers of {address}, one after the other, most likely for want "
                "of memory. What was done is kept."
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise ConnectionError(
                f"The scheduler at {address} was lost. What was done is kept."
            ) from error
        finally:
            client.unsubscribe_topic(name)


def _submitted(
    client: distributed.Client, name: str, job: bytes, tasks: dict[int, Any]
) -> dict[distributed.Future, int]:
    """The results to come, and the places of their tasks."""
    with warnings.catch_warnings():
        # The job may be large. Its bytes are a task, too, and not data of one worker, with which
        # they would be lost.
        warnings.filterwarnings("ignore", "Sending large graph")
        sent = client.submit(bytes, job, key=name, pure=False)
        # Otherwise the one worker that has it would be given most tasks.
        distributed.wait(sent)
        client.replicate([sent])
        return {
            client.submit(compute, sent, name, task, key=f"{name}-{place}", pure=False): place
            for place, task in tasks.items()
        }


def _client(address: str) -> distributed.Client:
    try:
        return distributed.Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"DASK_SCHEDULER_ADDRESS must be the address of a scheduler that can be reached: received {address} ({error})."
        ) from error


@cache
def versions() -> dict[str, str]:
    """What decides the digits of a result, and this library's code as it was when this was first
    called.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    own = {"collective_variables": digest.hexdigest()[:12]}
    return own | {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "numpy": np.__version__}


# A worker that has imported older code than the client's has to say so, not to use it.
versions()

N_RECEIVED = 4  # jobs that a worker keeps, with their data and what they compiled
_received: dict[str, _Job] = {}
_receiving, _alone = threading.Lock(), threading.Lock()


def compute(sent: bytes, name: str, task: Any, /) -> Any:
    """The result of one task, on a worker."""
    worker = distributed.get_worker()
    with _receiving:
        if name not in _received:
            _received[name] = _checked(cloudpickle.loads(sent), worker.address)
            for oldest in list(_received)[:-N_RECEIVED]:
                del _received[oldest]
        job = _received[name]

    def advance(count: int = 1) -> None:
        worker.log_event(name, count)

    with jax.enable_x64(job.wide):
        if job.together:
            _one_thread_of_lapack()
            return job.function(task, advance)
        with _alone, ThreadpoolController().limit(limits=os.cpu_count(), user_api="blas"):
            return job.function(task, advance)


def _checked(job: _Job, address: str) -> _Job:
    here = versions()
    differ = [
        f"{name} {here[name]} and not {version}"
        for name, version in job.versions.items()
        if here[name] != version
    ]
    if differ:
        raise RuntimeError(
            f"The worker {address} has {', '.join(differ)}: start it anew with what this process has."
        )
    return job


@cache
def _one_thread_of_lapack() -> None:
    """For good, while a context would end for all threads with the first of them."""
    ThreadpoolController().limit(limits=1, user_api="blas")
