"""How tasks run: order, errors, interrupts, precision, progress, and results from before."""

import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from project import ROOT

from collective_variables import _machine
from collective_variables.ensembles import checkpoints, execution
from collective_variables.ensembles.execution import Progress


def run(function, tasks, **options):
    with Progress("", len(tasks), "tasks") as bar:
        return execution.run(function, tasks, bar, **options)


@pytest.mark.parametrize("together", [True, False])
def test_results_come_in_the_order_of_the_tasks(together):
    def function(task, advance):
        time.sleep(0.02 * (task % 3 == 0))
        return task**2

    assert run(function, range(12), together=together) == [task**2 for task in range(12)]
    assert run(function, [], together=together) == []


def test_the_first_error_comes_out_and_what_had_not_started_never_runs(monkeypatch):
    monkeypatch.setattr(_machine, "n_cores", lambda: 2)
    started = []

    def function(task, advance):
        started.append(task)
        time.sleep(0.05)
        if task == 3:
            raise KeyError("task 3")

    with pytest.raises(KeyError, match="task 3"):
        run(function, range(100))
    assert 3 in started and len(started) < 50


def test_an_interrupt_stops_what_has_not_started():
    started = []

    def function(task, advance):
        started.append(task)
        time.sleep(0.02)
        if task == 0:
            raise KeyboardInterrupt
        return task

    with pytest.raises(KeyboardInterrupt):
        run(function, range(200))
    assert len(started) < 200


def test_threads_compute_in_the_precision_of_their_caller(float64):
    assert run(lambda task, advance: jnp.zeros(1).dtype, range(3)) == [np.float64] * 3


@pytest.mark.parametrize("together", [True, False])
def test_progress_shows_its_description_count_and_unit(together, capsys):
    with Progress("Fuel: kernels", 20, "kernels") as bar:
        execution.run(lambda task, advance: advance(3), range(6), bar, together=together)
        bar.advance()
    output = capsys.readouterr().err
    assert "Fuel: kernels" in output and "19/20" in output
    assert "kernels" in output.rsplit("19/20")[-1]


UNREAD = """
import sys, time
from collective_variables.ensembles import execution

def task(number, advance):
    time.sleep(1.2)  # longer than the bar waits between two writes
    advance(1)
    return number

with execution.Progress("Fuel", 2, "networks") as bar:
    print("begun", flush=True)
    sys.stdin.readline()
    print(execution.run(task, range(2), bar))
"""


def test_a_bar_whose_reader_is_gone_stops_nothing():
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", UNREAD], cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "begun\n"
    process.stderr.close()
    try:
        assert process.communicate("\n", timeout=60)[0] == "[0, 1]\n"
    finally:
        process.kill()


def test_progress_without_a_description_is_silent(capsys):
    with Progress("", 20, "kernels") as bar:
        bar.advance(20)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("together", [True, False])
def test_results_of_a_checkpoint_are_not_computed_again_and_an_error_loses_none(together):
    store = {}
    calls = []

    def function(task, advance):
        calls.append(task)
        if task == 7 and len(calls) < 9:
            raise KeyError(task)
        return task + 0.5

    def checkpoint():
        return checkpoints.Results(
            store,
            range(8),
            name=lambda task: f"task-{task}",
            pack=lambda result: {"value": np.array(result)},
            unpack=lambda arrays: float(arrays["value"]),
        )

    with pytest.raises(KeyError):
        run(function, range(8), together=together, checkpoint=checkpoint())
    assert set(store) == {f"task-{task}" for task in range(7)}
    assert checkpoint().known == {task: task + 0.5 for task in range(7)}
    assert run(function, range(8), together=together, checkpoint=checkpoint()) == [
        task + 0.5 for task in range(8)
    ]
    assert sorted(calls) == [0, 1, 2, 3, 4, 5, 6, 7, 7]


def test_without_a_store_nothing_is_known_saved_or_named():
    checkpoint = checkpoints.Results(None, range(3), name=None, pack=None, unpack=None)
    assert checkpoint.known == {}
    assert run(lambda task, advance: task, range(3), checkpoint=checkpoint) == [0, 1, 2]


def test_the_time_left_follows_the_work_and_not_the_units():
    work = {0: 0.0, 1: 10.0, 2: 14.0, 3: 16.0, 4: 20.0}
    left = execution.TimeLeft(4, work.__getitem__)
    assert left.seconds(0, 3.0) is None
    # Half of the work took 5 seconds, with a compilation that is not known yet.
    assert left.seconds(1, 5.0) == 5.0
    # Without what came before: 4 units of work in 2 seconds, and 6 are left.
    assert left.seconds(2, 7.0) == 3.0
    assert left.seconds(4, 9.0) == 0.0


def test_the_bar_says_the_time_left(capsys):
    with Progress("Fuel", 4, "points", lambda count: float(count**2)) as bar:
        bar.advance(2)
        bar._bar.refresh()
        text = bar._bar.format_meter(**bar._bar.format_dict)
    assert "2/4 points" in text and text.endswith(" left]")
    assert "Fuel" in capsys.readouterr().err
