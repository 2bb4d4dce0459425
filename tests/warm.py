"""Programs of this Python that start in a moment: a process that has imported what they need forks
for each call.

Importing dvc, zntrack and jax takes seconds, and tests of the graph do so hundreds of times.
`folder()` has `dvc`, `zntrack` and `python` of the same Python, for the front of PATH; whatever
else is called runs as ever. Each call has a process of its own, with its own folder, environment,
input and output, in which none of this project's modules has been imported.
"""

import atexit
import functools
import gc
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

PACKAGES = (
    *(
        "jax",
        "flax.linen",
        "optax",
        "jaxtyping",
        "scipy.io",
        "scipy.optimize",
        "scipy.spatial.distance",
        "scipy.stats",
    ),
    *(
        "threadpoolctl",
        "pandas",
        "plotly.graph_objects",
        "jinja2",
        "zntrack.cli",
        "dvc.cli",
        "dvc.repo",
    ),
)
PROGRAMS = ("dvc", "zntrack", "python")
CALL = Path(__file__).with_name("warm_call.py")  # which asks for a program


@functools.cache
def folder(settings: tuple[tuple[str, str], ...]) -> Path:
    """Start the server, once, with these variables of the environment, which jax reads as it is
    imported.

    It ends with this process.
    """
    made = Path(tempfile.mkdtemp(prefix="warm-"))
    (made / "bin").mkdir()
    address = made / "socket"
    for program in PROGRAMS:
        path = made / "bin" / program
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {CALL} {address} {program} "$@"\n')
        path.chmod(0o755)
    command = [sys.executable, __file__, str(address)]
    server = subprocess.Popen(
        command, env=os.environ | dict(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    server.stdout.read(1)  # which comes when it listens

    def stop() -> None:
        server.communicate()
        shutil.rmtree(made)

    atexit.register(stop)
    return made / "bin"


def serve(address: str) -> None:
    """Fork for each call until the input ends."""
    import importlib
    import select

    for package in PACKAGES:
        importlib.import_module(package)
    read_and_write_quickly()
    gc.set_threshold(50_000, 20, 20)
    gc.freeze()  # so that no process copies what it does not change
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        os.write(1, b"\n")
        while listening in select.select([listening, 0], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                return answer(connection)
            connection.close()


def read_and_write_quickly() -> None:
    """Let DVC parse no lock that it has written itself, and of a lock write anew what has changed.

    It parses and writes the whole lock for each stage, which takes it two seconds in a graph of
    this size, with a parser that keeps comments, which a lock has none of. The file is the same to
    the byte.
    """
    from dvc.utils.serialize import _yaml

    parse, dump = _yaml.parse_yaml_for_update, _yaml._dump
    written, parts = {}, {}

    def dumped(data: dict) -> str:
        text = io.StringIO()
        dump(data, text)
        return text.getvalue()

    def part(name: str, stage: dict) -> str:
        key = json.dumps([name, stage])
        if key not in parts:
            parts[key] = dumped({"stages": {name: stage}}).removeprefix("stages:\n")
        return parts[key]

    def dump_in_parts(data: dict, stream: io.TextIOBase) -> None:
        if list(data) == ["schema", "stages"] and data["stages"]:
            begin = dumped({"schema": data["schema"]}) + "stages:\n"
            text = begin + "".join(part(name, stage) for name, stage in data["stages"].items())
        else:
            text = dumped(data)
        stream.write(text)
        written[text] = data

    def parse_unless_written(text: str, path: str) -> dict:
        # Whoever parses changes it and writes it again.
        if text in written:
            return written.pop(text)
        if not text.startswith("schema:"):
            return parse(text, path)
        data = _yaml.parse_yaml(text, path)
        texts = re.split(r"^(?=  \S)", text.partition("stages:\n")[2], flags=re.MULTILINE)[1:]
        parts.update(
            (json.dumps([name, stage]), text)
            for (name, stage), text in zip(data.get("stages", {}).items(), texts, strict=True)
        )
        return data

    _yaml.parse_yaml_for_update, _yaml._dump = parse_unless_written, dump_in_parts


def answer(connection: socket.socket) -> None:
    """Run one call in a process of its own, which is this one's child, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    request = os.fsdecode(b"".join(iter(lambda: connection.recv(2**16), b""))).split("\0")
    child = os.fork()
    if child == 0:
        connection.close()
        end(lambda: run(request, files))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(str(status if status >= 0 else 128 - status).encode())
    os._exit(0)


def end(program: Callable[[], object]) -> None:
    """End this process as an interpreter ends with its program, but without clearing up all that it
    has imported.
    """
    try:
        result = program()
    except SystemExit as exit:
        result = exit.code
    except BaseException:
        traceback.print_exc()
        result = 1
    if isinstance(result, str):
        print(result, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result if isinstance(result, int) else int(result is not None))


def run(request: list[str], files: list[int]) -> object:
    """Become the program that was called; what it ends with."""
    import importlib.metadata
    import runpy

    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    sys.executable = str(Path(sys.argv[1]).with_name("bin") / "python")  # for what this one calls
    folder, program, n_arguments, *rest = request
    arguments, variables = rest[: int(n_arguments)], rest[int(n_arguments) :]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variable.split("=", 1) for variable in variables)
    if program == "python" and arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[:1] = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return None
    if program == "python":
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")
        return None
    sys.argv = [program, *arguments]
    sys.path[0] = str(Path(sys.executable).parent)
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=program)
    return entry.load()()


if __name__ == "__main__":
    serve(sys.argv[1])
