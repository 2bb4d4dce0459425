"""Run the tasks of a long computation on the cores and devices of this machine, or on a cluster."""

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

from collective_variables import _machine
from collective_variables.ensembles import _types, checkpoints

ADDRESS = "DASK_SCHEDULER_ADDRESS"
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}, {left} left]"
Work = Callable[[int], float]


class _TolerantStream(ObjectWrapper):
    """Wrap a stream that may be written to after its reader is gone, such as a closed pipe.

    tqdm keeps its lock when a write fails, and all other threads would wait for it forever.
    """

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._wrapped.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._wrapped.flush()


class TimeLeft:
    """Estimate the seconds left from the share of the work that is done.

    Args:
        total: Number of units.
        work: work(count) is the work of the first `count` units, in any unit.
    """

    def __init__(self, total: int, work: Work):
        self._work = work
        self._total = work(total)
        self._first: tuple[float, float] | None = None

    def seconds(self, count: int, elapsed: float) -> float | None:
        """Return the seconds left after `count` units, or None before the first.

        The time before the first units, such as compilation, does not repeat. It counts only until
        later units are known.
        """
        done = self._work(count)
        if not done:
            return None
        left = self._total - done
        if self._first is None:
            self._first = done, elapsed
        work, seconds = self._first
        if done == work:
            return elapsed * left / done
        return (elapsed - seconds) * left / (done - work)


class _Bar(tqdm):
    """Show a bar whose time left follows from the work done, and not from the units done."""

    time_left: TimeLeft | None = None

    @property
    def format_dict(self) -> dict[str, object]:
        values = super().format_dict
        left = self.time_left and self.time_left.seconds(values["n"], values["elapsed"])
        return values | {"left": "?" if left is None else self.format_interval(left)}


class Progress:
    """Show a progress bar with the time left; without a description nothing is shown.

    `advance` may be called from any thread.

    Args:
        description: Text in front of the bar.
        total: Number of units.
        unit: Name of a unit.
        work: As in `TimeLeft`; by default all units are equal.
    """

    def __init__(self, description: str, total: int, unit: str, work: Work = float):
        self._bar = _Bar(
            total=total,
            desc=description,
            unit=f" {unit}",
            disable=not description,
            mininterval=1.0,
            file=_TolerantStream(sys.stderr),
            bar_format=BAR,
        )
        self._bar.time_left = TimeLeft(total, work)
        self._lock = threading.Lock()

    def advance(self, count: int = 1) -> None:
        """Move the bar on by `count`."""
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
    checkpoint: checkpoints.Results[_types.Task, _types.Result] | None = None,
) -> list[_types.Result]:
    """Return [function(task, advance) for task in tasks], where advance(n) moves `bar` on by n.

    If DASK_SCHEDULER_ADDRESS names the scheduler of a Dask cluster, the cluster's workers compute
    the tasks. Function and tasks are pickled for them, and the results are the same (see
    `dask_cluster.run`). After the first error no further task starts.

    Args:
        function: Computes a task.
        tasks: The tasks.
        bar: Progress bar.
        together: Run as many tasks at once as there are cores, each with one thread of LAPACK and
            in turn on one of the devices. (Several threads delay each other: small eigenproblems
            take 100 times longer.) Otherwise tasks run one at a time, each with the whole machine.
        checkpoint: Its results are not computed again, and each new result is saved to it at once.
    """
    results = {} if checkpoint is None else dict(checkpoint.known)
    pending = {place: task for place, task in enumerate(tasks) if place not in results}

    def collect(place: int, result: _types.Result) -> None:
        if checkpoint is not None:
            checkpoint.keep(tasks[place], result)
        results[place] = result

    address = os.environ.get(ADDRESS)
    if pending and address:
        # Imported here because dask is an optional package.
        from collective_variables.ensembles import dask_cluster

        dask_cluster.run(
            function, pending, bar.advance, collect, address=address, together=together
        )
    elif together:
        _run_in_threads(function, pending, bar.advance, collect)
    else:
        for place, task in pending.items():
            collect(place, function(task, bar.advance))
    return [results[place] for place in range(len(tasks))]


def _run_in_threads(
    function: Callable[[_types.Task, _types.Advance], _types.Result],
    tasks: dict[int, _types.Task],
    advance: _types.Advance,
    collect: Callable[[int, _types.Result], None],
) -> None:
    """Run tasks in threads, one for each core, with the precision of the calling thread."""
    # XLA releases the interpreter's lock, and small matrix products one at a time leave most cores
    # idle.
    is_64_bit = jax.config.jax_enable_x64
    devices = jax.local_devices()

    def run_task(number: int, place: int, task: _types.Task) -> None:
        with ExitStack() as contexts:
            # A thread does not inherit the settings of JAX.
            contexts.enter_context(jax.enable_x64(is_64_bit))
            if len(devices) > 1:
                contexts.enter_context(jax.default_device(devices[number % len(devices)]))
            collect(place, function(task, advance))

    executor = ThreadPoolExecutor(_machine.n_cores())
    try:
        with ThreadpoolController().limit(limits=1, user_api="blas"):
            futures = [
                executor.submit(run_task, number, place, task)
                for number, (place, task) in enumerate(tasks.items())
            ]
            # Those that have ended: all, or fewer if one raised an error.
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
    finally:
        # An error or Ctrl-C must not wait for tasks that have not started.
        executor.shutdown(cancel_futures=True)
