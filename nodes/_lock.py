"""Run one process at a time for each stage: one that a killed `dvc` has left running ends first."""

import fcntl
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import zntrack


@contextmanager
def alone(node: zntrack.Node) -> Generator[None]:
    """Wait for another process that runs the same stage in the same folder, and print a line.

    If the process that asked for the stage, such as `dvc`, is killed meanwhile, the stage does not
    run any more.
    """
    path = node.nwd.parent / f".{node.nwd.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getppid()
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read()
            print(
                f"{node.name} is still run by another process, {other}: waiting for its end",
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.getppid() != parent:
                sys.exit(f"{node.name}: the process that asked for it, PID {parent}, is gone.")
        file.truncate(0)
        file.write(f"PID {os.getpid()}")
        file.flush()
        yield
