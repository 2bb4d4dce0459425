"""End a stage at once on Ctrl-C, also while XLA computes and no line of Python runs.

Files of stages are complete or do not exist (`_files.whole`), so there is no need to wait.
"""

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

INTERRUPTED = 130  # 128 + SIGINT


@contextmanager
def at_once(name: str, kept: Path) -> Generator[None]:
    """End this process when it is interrupted, and print what is kept in the folder `kept`.

    If interruptions are ignored, as in the background of a script, they stay ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    # The main thread may be in XLA for minutes; the number of the signal is written at once.
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda *_: None)
    threading.Thread(target=_wait, args=(reads, name, kept), daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(before)
        os.close(writes)  # which ends the thread


def _wait(reads: int, name: str, kept: Path) -> None:
    """Wait for the number of the signal, and end the process."""
    while received := os.read(reads, 1):
        if received[0] == signal.SIGINT:
            end(name, kept)
    os.close(reads)


def end(name: str, kept: Path) -> None:
    """End the process with one line on standard error."""
    resumes = any(kept.glob("*/*.npz"))
    rest = (
        "what was computed is kept, and the next run resumes from it"
        if resumes
        else ("nothing of it is kept")
    )
    # On a separate line, below the progress bar.
    os.write(sys.stderr.fileno(), f"\n{name}: interrupted; {rest}.\n".encode())
    os._exit(INTERRUPTED)
