"""Where the tasks of a long computation run: on the cores and devices of this machine, or on a Dask
cluster.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress

import jax
from threadpoolctl import ThreadpoolController
from tqdm import tqdm
from tqdm.utils import ObjectWrapper

from collective_variables.ensembles import _types, checkpoints

ADDRESS = "DASK_SCHEDULER_ADDRESS"


class _PerhapsUnread(ObjectWrapper):
    """A stream that may be written to although nobody reads it any more, as a closed pipe.

    tqdm never gives back its lock where a write fails, and all other threads would wait for it
    without end.
    """

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._wrapped.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._wrapped.flush()


class Progress:
    """A bar with the time left; `advance` may be called from any thread. Without a description
    nothing is shown.
    """

    def __init__(self, description: str, total: int, unit: str):
        how = {"disable": not description, "mininterval": 1.0, "file": _PerhapsUnread(sys.stderr)}
        self._bar = tqdm(total=total, desc=description, unit=f" {unit}", **how)
        self._lock = threading.Lock()

    def advance(self, count: int = 1) -> None:
        with self._lock:
            self._bar.update(count)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def run(
    function: Callable[[_types.Task, _types.Advance], _types.Result],
    tasks: Sequence[_types.Task],
    bar: Progress,
    /,
    *,
    together: bool = True,
    kept: checkpoints.Results[_types.Task, _types.Result] | None = None,
) -> list[_types.Result]:
    """[function(task, advance) for task in tasks], in which advance(n) moves `bar` on by n.

    together: as many tasks at once as there are cores, each with one thread of LAPACK (more get in
        each other's way: small eigenproblems take 100 times longer) and in turn on one of the
        devices; or one after another, each with all of the machine.
    kept: results that are known are not computed again, and others are kept as soon as they are
    there.

    Where DASK_SCHEDULER_ADDRESS names the scheduler of a Dask cluster, its workers compute them;
    function and tasks are pickled for them, and the results are the same (see `dask_cluster.run`).
    The first error stops what has not started.
    """
    results = {} if kept is None else dict(kept.known)
    left = {place: task for place, task in enumerate(tasks) if place not in results}

    def finished(place: int, result: _types.Result) -> None:
        if kept is not None:
            kept.keep(tasks[place], result)
        results[place] = result

    if left and os.environ.get(ADDRESS):
        from collective_variables.ensembles import (
            dask_cluster,
        )  # dask is imported by those alone who use it

        dask_cluster.run(
            function, left, bar.advance, finished, address=os.environ[ADDRESS], together=together
        )
    elif together:
        _in_threads(function, left, bar.advance, finished)
    else:
        for place, task in left.items():
            finished(place, function(task, bar.advance))
    return [results[place] for place in range(len(tasks))]


def _in_threads(
    function: Callable[[_types.Task, _types.Advance], _types.Result],
    tasks: dict[int, _types.Task],
    advance: _types.Advance,
    finished: Callable[[int, _types.Result], None],
) -> None:
    """XLA releases the interpreter's lock, and small matrix products leave most cores idle when
    they come one by one.

    64-bit arrays are as they are in the thread that calls.
    """
    wide, devices = jax.config.jax_enable_x64, jax.local_devices()

    def one(number: int, place: int, task: _types.Task) -> None:
        with ExitStack() as settings:
            settings.enter_context(jax.enable_x64(wide))
            if len(devices) > 1:
                settings.enter_context(jax.default_device(devices[number % len(devices)]))
            finished(place, function(task, advance))

    executor = ThreadPoolExecutor(os.cpu_count())
    try:
        with ThreadpoolController().limit(limits=1, user_api="blas"):
            futures = [executor.submit(one, number, *of) for number, of in enumerate(tasks.items())]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
    finally:
        # An error or Ctrl-C must not wait for what has not started.
        executor.shutdown(cancel_futures=True)
