"""Ctrl-C ends a stage at once, and says what is kept."""

import signal
import subprocess
import sys
import time

import pytest
from project import ROOT

RUN = """
import hashlib, signal, sys
from pathlib import Path
from nodes import _interruption

if "ignored" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with _interruption.at_once("fuel_RNDSelect", Path(sys.argv[1])):
    print("runs", flush=True)
    # No line of Python is run meanwhile, as in XLA.
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 300_000 if "ignored" in sys.argv else 10**9)
assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
print("ended")
"""


def interrupt(*arguments):
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "runs\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors, time.monotonic() - start


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interruption_ends_the_stage_while_it_computes_and_says_what_is_kept(resumes, tmp_path):
    if resumes:
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "part.npz").touch()
    status, output, errors, seconds = interrupt(tmp_path)
    kept = "what was computed is kept, and the next run resumes from it"
    rest = kept if resumes else "nothing of it is kept"
    assert (status, output, errors) == (130, "", f"\nfuel_RNDSelect: interrupted; {rest}.\n")
    assert seconds < 5


def test_where_interruptions_are_ignored_the_stage_goes_on(tmp_path):
    assert interrupt(tmp_path, "ignored")[:3] == (0, "ended\n", "")
