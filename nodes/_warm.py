"""Import what stages need, and fork for each of them; nodes/_start.py starts and asks this process.

    python nodes/_warm.py ADDRESS PID START

It imports only packages, no code of this project, and does not start JAX's backend: every stage
starts a backend, and reads the project's code as it is then. It is a child of one `dvc` and in its
process group, so that what ends or limits `dvc` and its stages also ends or limits this process:
Ctrl-C reaches the stage, and `kill -9` of the group all. It ends when `dvc` ends, however that
happens, or after a minute without work. Stages that still run then continue, as without it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import warnings
from pathlib import Path

PACKAGES = (
    *("zntrack", "yaml", "numpy", "pandas", "scipy.io", "scipy.optimize", "scipy.spatial"),
    *("scipy.stats", "jax", "jax.numpy", "flax.linen", "optax", "jaxtyping", "tqdm"),
    *("threadpoolctl", "plotly.graph_objects", "plotly.offline", "plotly.subplots", "jinja2"),
)
IDLE = 60.0  # seconds
# The handler of `dvc`: interruptions are ignored in the background of a script.
INTERRUPT = signal.getsignal(signal.SIGINT)
# Has an entry after a stage ended without an error.
successes: list[bool] = []


@atexit.register
def end_quickly() -> None:
    """End a stage without taking apart all packages, which takes longer than many stages.

    This runs after the threads of the stage have ended and all that was registered later has run.
    """
    if successes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class Request:
    """Hold the request for a stage, and the connection to the process that asks."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        size, self.streams, _, _ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as text:
            self.values = json.loads(text.read(int.from_bytes(size, "big")))

    def close(self) -> None:
        """Close what only the stage needs."""
        for stream in self.streams:
            os.close(stream)


def listen(address: str) -> socket.socket:
    """Return a socket for this user only; it listens as soon as its address exists."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    listener.bind(f"{address}.new")
    os.umask(mask)
    listener.listen(64)
    os.rename(f"{address}.new", address)
    return listener


class Server:
    """Fork for each request, report how the stage ended, and kill it if nobody waits for it."""

    def __init__(self, address: str, dvc: int):
        self.listener = listen(address)
        self.dvc = dvc
        self.stages: dict[int, socket.socket] = {}
        self.ends, writes = os.pipe()
        os.set_blocking(writes, False)
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.inherited = (self.ends, writes, dvc)

    def serve(self) -> Request | None:
        """Wait for requests; return each in its fork, and None in this process at the end."""
        while True:
            sources = [self.listener, self.dvc, self.ends, *self.stages.values()]
            ready = select.select(sources, [], [], None if self.stages else IDLE)[0]
            if not ready or self.dvc in ready:
                return None
            if self.ends in ready:
                os.read(self.ends, 2**12)
                self._report()
            for pid, connection in self.stages.items():
                if connection in ready:
                    os.kill(pid, signal.SIGKILL)  # since the process that asked was killed
            if self.listener in ready and (request := self._accept()):
                return request

    def _accept(self) -> Request | None:
        """Fork for the next request; return None in this process, or if nobody waits for it."""
        connection, _ = self.listener.accept()
        try:
            connection.settimeout(10.0)
            request = Request(connection)
            connection.sendall(b"1")
        except (OSError, ValueError):
            connection.close()
            return None
        with warnings.catch_warnings():
            # About threads that packages have started, and that no stage uses.
            warnings.simplefilter("ignore")
            pid = os.fork()
        if pid == 0:
            self._leave(request)
            return request
        request.close()
        self.stages[pid] = connection
        return None

    def _report(self) -> None:
        """Report how the stages that have ended did so."""
        for pid in list(self.stages):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                with contextlib.suppress(OSError), self.stages.pop(pid) as connection:
                    connection.sendall(str(code if code >= 0 else 128 - code).encode())

    def _leave(self, request: Request) -> None:
        """Leave in a fork all that belongs to this process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, INTERRUPT)
        for descriptor in self.inherited:
            os.close(descriptor)
        for connection in (self.listener, request.connection, *self.stages.values()):
            connection.close()


def import_packages(dvc: int) -> bool:
    """Import all available packages, and return whether `dvc` still waits for them."""
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
        if select.select([dvc], [], [], 0)[0]:
            return False
    return True


def has_backend() -> bool:
    """Return whether an import has started JAX's backend, whose threads a fork would lack."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(bridge and bridge.backends_are_initialized())


def become(request: Request) -> None:
    """Take over the streams, folder and environment of the request, and run the stage."""
    for place, stream in enumerate(request.streams):
        os.dup2(stream, place)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # pyrefly: ignore[missing-attribute]
    values = request.values
    os.chdir(values["folder"])
    os.environ.clear()
    os.environ.update(values["environment"])
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    sys.argv = ["nodes/_start.py", values["path"], "--name", values["name"]]
    sys.path.append(os.getcwd())
    with contextlib.suppress(OSError):  # what `top` shows
        Path("/proc/self/comm").write_text(values["name"])
    from nodes._stage import run_stage

    run_stage(values["path"], values["name"])
    successes.append(True)


def remove_others(address: str) -> None:
    """Remove the addresses of processes that were killed."""
    for path in Path(address).parent.glob("*[!w]"):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)


def main(address: str, pid: int, start: str) -> None:
    """Serve one `dvc`; in the fork for a stage, run it."""
    dvc = os.pidfd_open(pid)
    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] != start:
        return
    remove_others(address)
    server, place = Server(address, dvc), Path(address).resolve()
    os.chdir("/")
    is_wanted = import_packages(dvc)
    if has_backend():
        # The address stays although nobody listens, so that no stage starts this again.
        return
    gc.freeze()  # so that no fork copies what it does not change
    if request := server.serve() if is_wanted else None:
        try:
            become(request)
        except KeyboardInterrupt:  # while it imports; later the stage itself says so
            sys.exit(130)
    else:
        place.unlink(missing_ok=True)


if __name__ == "__main__":
    # The folder of this file has modules, such as `report`, that packages must not import.
    sys.path = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
