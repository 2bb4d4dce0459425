"""Start one stage.

    python nodes/_start.py nodes.ensemble.Ensemble --name fuel_Ensemble

Importing JAX, pandas and ZnTrack takes seconds, and `dvc repro` starts a process for every stage.
The first stage of a `dvc` therefore also starts a process that imports these packages, and no code
of this project (nodes/_warm.py). The following stages are forks of it, and start in a fraction of a
second. That process serves only this `dvc`, has its limits, environment and process group, and ends
with it. If it is not available, a stage runs in this process, as the first one does.

COLLECTIVE_VARIABLES_WARM=0 in the environment turns this off.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SWITCH = "COLLECTIVE_VARIABLES_WARM"
# DVC sets this variable to the name of the stage for every command that it runs.
STAGE = "DVC_STAGE"
FOLDER = Path(".dvc/tmp/warm")
INTERRUPTED = 130  # 128 + SIGINT
# Variables that a shell changes between two commands, and that no package reads.
VOLATILE = {STAGE, "_", "OLDPWD", "PWD", "SHLVL"}


class Process(NamedTuple):
    """Identify a process, by its number and the time of its start."""

    pid: int
    start: str


def main(arguments: list[str]) -> None:
    """Run a stage in a fork of the warm process, or here."""
    path, _, name = arguments
    if os.environ.get(SWITCH) != "0" and sys.platform == "linux" and STAGE in os.environ:
        try:
            status = _run_elsewhere(path, name)
        except OSError:
            status = None
        if status is not None:
            sys.exit(status)
    run_here(path, name)


def run_here(path: str, name: str) -> None:
    """Run a stage in this process, with modules of the project from the working directory."""
    sys.path.append(os.getcwd())
    from nodes._stage import run_stage

    run_stage(path, name)


def _run_elsewhere(path: str, name: str) -> int | None:
    """Return the exit status of a stage in the warm process; None if it has to run here."""
    dvc = find_dvc()
    if dvc is None or not FOLDER.parent.is_dir():
        return None
    address = FOLDER / f"{dvc.pid}-{dvc.start}-{_fingerprint()}"
    if not address.exists():
        _start_warm_process(address, dvc)
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        return _ask(connection, path, name)


def _ask(connection: socket.socket, path: str, name: str) -> int | None:
    """Return the exit status of a stage after asking for it; None if nobody runs it."""
    folder, environment = os.getcwd(), dict(os.environ)
    request = {"path": path, "name": name, "folder": folder, "environment": environment}
    text = json.dumps(request).encode()
    # The stage handles Ctrl-C, and this process waits for its answer.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(text)
        if connection.recv(1) != b"1":
            return None
        # From here on the stage runs, and must not run a second time.
        return _wait(connection, name)
    finally:
        signal.signal(signal.SIGINT, before)


def _wait(connection: socket.socket, name: str) -> int:
    try:
        status = connection.recv(16)
    except OSError:
        status = b""
    if not status:
        print(f"{name} still runs: the process that it is a fork of is gone.", file=sys.stderr)
    return int(status or 1)


def find_dvc() -> Process | None:
    """Return the nearest process that is not part of the stage, which runs the stage.

    A shell, or other programs that run commands for the user, may be in between.
    """
    own = f"{STAGE}={os.environ[STAGE]}".encode()
    pid = os.getppid()
    while pid > 0:
        if own not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return Process(pid, read_start(pid))
        pid = int(_read_status(pid)[1])
    return None


def read_start(pid: int) -> str:
    """Return when a process was started, in ticks since the start of the machine."""
    return _read_status(pid)[19]


def _read_status(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the program's name: state, parent and others."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _fingerprint() -> str:
    """Return a name for all that packages may have read when they were imported."""
    values = sorted((name, value) for name, value in os.environ.items() if name not in VOLATILE)
    code = [
        Path(__file__).with_name("_warm.py").stat().st_mtime_ns,
        Path(__file__).stat().st_mtime_ns,
    ]
    text = json.dumps([sys.executable, values, code])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _start_warm_process(address: Path, dvc: Process) -> None:
    address.parent.mkdir(exist_ok=True)
    program = str(Path(__file__).with_name("_warm.py"))
    command = [sys.executable, program, str(address), str(dvc.pid), dvc.start]
    # Without the streams of this process, whose readers would wait until they are closed.
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    subprocess.Popen(command, **streams)


if __name__ == "__main__":
    # The folder of this file has modules, such as `report`, that packages must not import.
    sys.path = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:  # while it imports; later the stage itself says so
        sys.exit(INTERRUPTED)
