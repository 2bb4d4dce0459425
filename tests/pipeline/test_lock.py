"""One process at a time runs a stage; the others wait for its end and say so."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from project import ROOT

from nodes import _files, _stage
from nodes._lock import alone
from nodes.ensemble import Ensemble

RUN = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from nodes._lock import alone

with alone(SimpleNamespace(name="fuel_A", nwd=Path(sys.argv[1]) / "fuel" / "A")):
    print("running", flush=True)
    sys.stdin.readline()
"""


def start(folder, *before):
    command = [*before, sys.executable, "-c", RUN, str(folder)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


@pytest.mark.parametrize("stop", ["end", "kill"])
def test_a_second_process_waits_for_the_first_whether_it_ends_or_is_killed(stop, tmp_path):
    first = start(tmp_path)
    assert first.stdout.readline() == "running\n"
    second = start(tmp_path)
    assert (
        second.stdout.readline()
        == f"fuel_A is still run by another process, PID {first.pid}: waiting for its end\n"
    )
    if stop == "kill":
        first.kill()
    first.communicate("\n" if stop == "end" else None)
    assert second.stdout.readline() == "running\n"
    second.communicate("\n")
    assert second.returncode == 0


def test_who_waits_does_not_run_if_the_process_that_asked_for_it_is_gone(tmp_path):
    first = start(tmp_path)
    assert first.stdout.readline() == "running\n"
    asking = start(tmp_path, "sh", "-c", '"$0" "$@"; true')
    assert "waiting for its end" in asking.stdout.readline()
    asking.kill()
    asking.wait()
    first.communicate("\n")
    # Its streams are those of the process that it asked for.
    assert asking.communicate(timeout=60) == (
        "",
        f"fuel_A: the process that asked for it, PID {asking.pid}, is gone.\n",
    )


def test_stages_of_other_groups_and_the_same_stage_afterwards_do_not_wait(tmp_path, capsys):
    for group in ("fuel", "mnist", "fuel"):
        with alone(SimpleNamespace(name=f"{group}_A", nwd=tmp_path / group / "A")):
            print("ran")
    assert capsys.readouterr().out == "ran\n" * 3


@pytest.mark.parametrize("with_libyaml", [True, False])
def test_a_stage_reads_its_parameters_at_once_and_they_are_those_that_zntrack_reads_one_by_one(
    with_libyaml, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    committed = (ROOT / "params.yaml").read_text()
    assert yaml.load(committed, yaml.CSafeLoader) == yaml.safe_load(committed)
    values = {
        "n_members": 3,
        "n_points": {"low": 4, "high": 9, "distribution": "uniform"},
        "seed": 1,
    }
    sections = {"a_Ensemble": values, "b_Ensemble": {"n_points": [2], "seed": 2}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    node = Ensemble.from_rev("a_Ensemble", running=True)
    assert {name: getattr(node, name) for name in values} == values
    monkeypatch.setattr(yaml, "safe_load", None)  # by which ZnTrack reads
    if not with_libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader")
    node = Ensemble.from_rev("a_Ensemble", running=True)
    _stage.read_parameters(node)
    assert {name: getattr(node, name) for name in values} == values


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a" / "table.csv"
    with pytest.raises(KeyError), _files.whole(path) as unfinished:
        unfinished.write_text("half")
        raise KeyError
    assert not path.exists()
    with _files.whole(path) as unfinished:
        unfinished.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]
    with pytest.raises(KeyError), _files.whole(path) as unfinished:
        unfinished.write_text("half")
        raise KeyError
    assert path.read_text() == "whole"
