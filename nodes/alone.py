"""One process at a time for each stage, with its parameters: what a killed `dvc` leaves at work
ends before it is run again.
"""

import fcntl
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import yaml
import zntrack
from zntrack.config import PARAMS_FILE_PATH

Node = TypeVar("Node", bound=zntrack.Node)


def alone(run: Callable[[Node], None]) -> Callable[[Node], None]:
    """Let `run` of a node wait for another process that runs the same stage in the same folder, and
    say so.

    Whose own `dvc` is killed while it waits does not run any more.
    """

    @wraps(run)
    def run_alone(node: Node) -> None:
        path = node.nwd.parent / f".{node.nwd.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        asked_by = os.getppid()
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                print(
                    f"{node.name} is still run by another process, {file.read()}: waiting for its end",
                    flush=True,
                )
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.getppid() != asked_by:
                    sys.exit(
                        f"{node.name}: the process that asked for it, PID {asked_by}, is gone."
                    )
            file.truncate(0)
            file.write(f"PID {os.getpid()}")
            file.flush()
            _read_parameters(node)
            run(node)

    return run_alone


def _read_parameters(node: zntrack.Node) -> None:
    """Read all parameters of a stage at once; ZnTrack would parse the file anew for each, which
    takes it a fifth of a second.
    """
    values = yaml.load(PARAMS_FILE_PATH.read_bytes(), yaml.CSafeLoader)
    node.__dict__.update(values.get(node.name) or {})
