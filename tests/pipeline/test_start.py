"""Stages start as forks of one process for each `dvc`, and nothing else is different by it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import ROOT

# In place of ZnTrack's: says whose child it is, and does what its name asks for.
STAGE = """
import os, sys, time
import package

def run_stage(path, name):
    parent = os.getppid()
    program = open(f"/proc/{parent}/cmdline").read()
    kind = "fork" if "nodes/_warm.py" in program else "program"
    print(name, kind, os.getpid(), parent, os.environ.get("VALUE"), package.VALUE, flush=True)
    if path == "wait":
        try:
            print("waiting", flush=True)
            for _ in range(60_000):
                time.sleep(0.01)  # a signal just before a long sleep would wait for its end
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            raise
    elif path == "orphan":
        while os.getppid() == parent:
            time.sleep(0.01)
        print("alone", flush=True)
    elif path == "read":
        print(sys.stdin.readline().strip(), sys.argv, os.getcwd(), flush=True)
    elif path == "fail":
        raise ValueError("as it should")
    elif path == "exit":
        sys.exit("one line")
    elif path == "kill":
        os.kill(os.getpid(), 9)
"""
# In place of DVC: runs one command after the other in a shell, which it waits for as DVC does.
DVC = """
import os, signal, subprocess, sys

# Also where the tests run in the background of a script, which ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number, line in enumerate(sys.stdin):
    name, path, *settings = line.split()
    environment = os.environ | {"DVC_STAGE": name} | dict(text.split("=") for text in settings)
    command = f"{sys.executable} nodes/_start.py {path} --name {name}"
    shell = [sys.argv[1], "-c", command + sys.argv[2]]
    process = subprocess.Popen(shell, env=environment, stdin=subprocess.PIPE, text=True)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.communicate("input\\\\n")
    signal.signal(signal.SIGINT, before)
    print("ended", process.returncode, flush=True)
"""
PACKAGE = "import sys\nVALUE = 'package'\n"


class FakeDVC:
    """A process that stands for `dvc`, in a project whose packages are imported in a moment."""

    def __init__(self, folder, shell="/bin/sh", behind="", environment=()):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", DVC.replace("\\\\n", "\\n"), shell, behind],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder / "site")} | dict(environment),
            start_new_session=True,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def read(self):
        return self.process.stdout.readline().strip()

    def read_until_end(self):
        """What a stage prints until it has ended, and how it did."""
        lines = []
        while not (line := self.read()).startswith("ended"):
            lines.append(line)
        return lines, int(line.split()[1])

    def run(self, line):
        self.ask(line)
        return self.read_until_end()

    def warm(self):
        """Run the first stage, and wait for the process that the next ones are forks of."""
        lines, status = self.run("first none")
        assert status == 0 and lines[0].split()[1] == "program"
        wait_for(lambda: any(self.addresses()))

    def addresses(self):
        folder = self.folder / ".dvc" / "tmp" / "warm"
        return [path for path in folder.glob("*") if path.suffix != ".new"]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("The condition is not fulfilled within half a minute.")


def is_gone(pid):
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def folder(tmp_path):
    """A project whose path is too long for the address of a socket."""
    folder = tmp_path / ("a-long-name-" * 12) / "project"
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    (folder / "nodes").mkdir()
    (folder / "site").mkdir()
    (folder / "site" / "package.py").write_text(PACKAGE)
    (folder / "nodes" / "_stage.py").write_text(STAGE)
    (folder / "nodes" / "_start.py").write_text((ROOT / "nodes" / "_start.py").read_text())
    warm = (ROOT / "nodes" / "_warm.py").read_text()
    warm, n_lines = re.subn(
        r"PACKAGES = \(.*?\n\)", 'PACKAGES = ("package",)', warm, flags=re.DOTALL
    )
    assert n_lines == 1
    (folder / "nodes" / "_warm.py").write_text(warm)
    return folder


@pytest.fixture
def start(folder):
    """Start a `dvc`; after the test neither it nor another process of it is left."""
    started = []

    def start(**options):
        started.append(FakeDVC(folder, **options))
        return started[-1]

    yield start
    for dvc in started:
        dvc.end()
        dvc.process.stdout.close()
    wait_for(lambda: not processes_in(folder))


def processes_in(folder):
    """The processes that were started for a project, and have not ended."""
    processes = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder / "site").encode() in (path / "environ").read_bytes():
                processes.append(int(path.name))
        except OSError:
            continue
    return [pid for pid in processes if not is_gone(pid)]


@pytest.mark.parametrize(
    ("shell", "behind"), [("/bin/sh", ""), ("bash", ""), ("bash", "; exit $?")]
)
def test_all_stages_after_the_first_are_forks_of_one_process_that_ends_with_dvc(
    shell, behind, start
):
    dvc = start(shell=shell, behind=behind)
    dvc.warm()
    stages = [dvc.run(f"stage-{number} none") for number in range(3)]
    words = [lines[0].split() for lines, _ in stages]
    assert [status for _, status in stages] == [0, 0, 0]
    assert {word[1] for word in words} == {"fork"} and len({word[3] for word in words}) == 1
    assert len({word[2] for word in words}) == 3
    dvc.end()
    wait_for(lambda: is_gone(int(words[0][3])) and not dvc.addresses())


def test_a_fork_has_the_streams_folder_arguments_and_environment_of_its_command(folder, start):
    dvc = start()
    cold, _ = dvc.run("first read VALUE=1")
    wait_for(dvc.addresses)
    warm, _ = dvc.run("first read VALUE=1")
    assert cold[0].split()[4:] == warm[0].split()[4:] == ["1", "package"]
    assert cold[1] == warm[1] == f"input ['nodes/_start.py', 'read', '--name', 'first'] {folder}"


@pytest.mark.parametrize(
    ("path", "status", "line"),
    [("fail", 1, "ValueError: as it should"), ("exit", 1, "one line"), ("kill", 137, None)],
)
def test_a_stage_that_fails_says_so_and_the_next_one_starts_as_ever(path, status, line, start):
    dvc = start()
    dvc.warm()
    lines, code = dvc.run(f"second {path}")
    assert code == status and (line is None or lines[-1] == line)
    lines, code = dvc.run("third none")
    assert code == 0 and lines[0].split()[1] == "fork"


def test_an_edit_of_the_code_between_two_stages_is_seen(folder, start):
    dvc = start()
    dvc.warm()
    assert dvc.run("second none")[0][0].startswith("second fork")
    code = folder / "nodes" / "_stage.py"
    code.write_text(code.read_text().replace('"fork"', '"edited"'))
    assert dvc.run("third none")[0][0].startswith("third edited")


def test_another_environment_has_another_process_since_packages_read_it(start):
    dvc = start()
    dvc.warm()
    first = dvc.run("second none")[0][0].split()
    assert dvc.run("third none JAX_PLATFORMS=cpu")[0][0].split()[1] == "program"
    wait_for(lambda: len(dvc.addresses()) == 2)
    other = dvc.run("fourth none JAX_PLATFORMS=cpu")[0][0].split()
    assert other[1] == "fork" and other[3] != first[3]
    assert dvc.run("fifth none")[0][0].split()[3] == first[3]


def test_two_dvc_at_once_have_a_process_each(start):
    both = [start(), start()]
    for dvc in both:
        dvc.run("first none")
    wait_for(lambda: len(both[0].addresses()) == 2)
    parents = {dvc.run("second none")[0][0].split()[3] for dvc in both}
    assert len(parents) == 2


GOES_ON = "second still runs: the process that it is a fork of is gone."


def ask_to_wait(dvc, path="wait"):
    """Ask for a stage and wait until it runs: its process, and the one that it is a fork of."""
    dvc.warm()
    dvc.ask(f"second {path}")
    _, kind, pid, parent, *_ = dvc.read().split()
    assert kind == "fork"
    return int(pid), int(parent)


def test_ctrl_c_interrupts_the_stage_and_nothing_else(start):
    dvc = start()
    pid, _ = ask_to_wait(dvc)
    assert dvc.read() == "waiting"
    os.killpg(dvc.process.pid, signal.SIGINT)
    lines, status = dvc.read_until_end()
    assert lines[0] == "interrupted" and not [line for line in lines if "Traceback" in line]
    assert status in (130, -signal.SIGINT)  # of the command, or of the shell that ran it
    assert is_gone(pid)
    assert dvc.run("third none")[0][0].startswith("third fork")


def test_when_the_group_of_dvc_is_killed_no_process_is_left(start):
    dvc = start()
    pids = ask_to_wait(dvc)
    os.killpg(dvc.process.pid, signal.SIGKILL)
    wait_for(lambda: all(map(is_gone, pids)))


def test_a_stage_whose_command_is_killed_is_killed(start):
    dvc = start()
    pid, parent = ask_to_wait(dvc)
    (command,) = [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if is_command_of(path, dvc.process.pid) and int(path.name) not in (pid, parent)
    ]
    os.kill(command, signal.SIGKILL)
    wait_for(lambda: is_gone(pid))
    assert dvc.read_until_end()[1] != 0
    assert dvc.run("third none")[0][0].startswith("third fork")


def is_command_of(path, group):
    """Whether a process is the command of a stage in this group of processes."""
    try:
        fields = (path / "stat").read_text().rpartition(")")[2].split()
        arguments = (path / "cmdline").read_text().split("\0")
    except OSError:
        return False
    return int(fields[2]) == group and "nodes/_start.py" in arguments


def test_when_dvc_alone_is_killed_its_stage_goes_on_and_has_another_parent(start):
    """By this a stage that waits for another one learns that nobody wants it any more."""
    dvc = start()
    pid, parent = ask_to_wait(dvc, "orphan")
    dvc.process.kill()
    assert {dvc.read(), dvc.read()} == {"alone", GOES_ON}
    wait_for(lambda: is_gone(pid) and is_gone(parent))


def test_when_the_process_of_the_forks_is_killed_stages_run_as_programs(start):
    dvc = start()
    pid, parent = ask_to_wait(dvc)
    assert dvc.read() == "waiting"  # or it would come in the middle of the other line
    os.kill(parent, signal.SIGKILL)
    lines, status = dvc.read_until_end()
    assert status == 1 and lines[-1] == GOES_ON
    os.kill(pid, signal.SIGKILL)
    assert dvc.run("third none")[0][0].startswith("third program")


BACKEND = """
import sys
from types import SimpleNamespace
sys.modules["jax._src.xla_bridge"] = SimpleNamespace(backends_are_initialized=lambda: True)
VALUE = "package"
"""


@pytest.mark.parametrize("package", [BACKEND, "raise RuntimeError\n"])
def test_after_an_import_that_a_fork_could_not_use_stages_run_as_programs(package, folder, start):
    (folder / "site" / "package.py").write_text(package)
    (folder / "nodes" / "_stage.py").write_text(
        STAGE.replace("import package", "class package: VALUE = 1")
    )
    dvc = start()
    for number in range(3):
        wait_for(lambda: number == 0 or processes_in(folder) == [dvc.process.pid])
        assert dvc.run("stage none")[0][0].startswith("stage program")
    assert len(dvc.addresses()) == 1


@pytest.mark.parametrize("runs_by_hand", [True, False])
def test_it_can_be_turned_off_and_is_for_stages_of_dvc_alone(runs_by_hand, folder, start):
    if runs_by_hand:
        command = [sys.executable, "nodes/_start.py", "none", "--name", "first"]
        environment = os.environ | {"PYTHONPATH": str(folder / "site")}
        process = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
        assert process.stdout.startswith(b"first program")
    else:
        dvc = start(environment={"COLLECTIVE_VARIABLES_WARM": "0"})
        assert all(dvc.run("first none")[0][0].startswith("first program") for _ in range(2))
    assert not (folder / ".dvc" / "tmp" / "warm").exists()


def test_the_packages_do_not_start_the_backend_of_jax_and_are_those_that_stages_import():
    """And importing a stage afterwards imports no further package."""
    program = """
import importlib, os, sys
sys.path.append(".")
from nodes import _warm
assert _warm.import_packages(os.pipe()[0])
assert not _warm.has_backend()
before = set(sys.modules)
for module in ("report", "findings", "compute_ntk"):
    importlib.import_module(f"nodes.{module}")
assert not _warm.has_backend()
new = [sys.modules[name] for name in set(sys.modules) - before]
packages = [module for module in new if "site-packages" in (module.__dict__.get("__file__") or "")]
print(*sorted({module.__name__.split(".")[0] for module in packages}))
"""
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # What belongs to packages that were imported, and is loaded when it is used.
    assert set(output.split()) <= {"_plotly_utils", "jaxtyping", "plotly", "scipy", "wadler_lindig"}
