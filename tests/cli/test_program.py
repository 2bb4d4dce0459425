"""The program in a process of its own: both entry points, exit codes, interruptions and pipes."""

import os
import subprocess
import sys
from pathlib import Path

import project
import pytest
from compiled import ROOT
from model_file import MODELS

# What an installer writes for the entry point.
SCRIPT = f"""\
#!{sys.executable}
import sys
from collective_variables.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a table and a network of the user, and the installed program elsewhere."""
    folder = tmp_path / "work"
    folder.mkdir()
    rows = [f"{1.5 * number},{number % 7},{number**0.5}" for number in range(20)]
    (folder / "houses.csv").write_text("\n".join(["area,age,price", *rows]))
    (folder / "models.py").write_text(MODELS)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "collective-variables"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    return folder


def environment(**variables):
    # In place of an installation: the package can be imported from everywhere.
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return os.environ | quick | {"PYTHONPATH": str(ROOT)} | variables


def warm_environment(**variables):
    return project.environment() | {"PYTHONPATH": str(ROOT)} | variables


def run(folder, *arguments, installed=False, **options):
    """The finished process of a command, by the installed program or `python -m`."""
    start = [sys.executable, "-m", "collective_variables"]
    if installed:
        start = [str(folder.parent / "bin" / "collective-variables")]
    options = {"stdout": subprocess.PIPE, "env": environment()} | options
    command = [*start, *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=folder, **options)


def run_warm(folder, *arguments, **options):
    """As `run`, without the seconds of the imports, for what does not depend on how the program
    starts and ends.
    """
    options = {"stdout": subprocess.PIPE, "env": warm_environment()} | options
    command = ["python", "-m", "collective_variables", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=folder, **options)


SELECT = ("select", "houses.csv", "--target", "price", "--n-points", "3", "--quiet")
MEASURE = ("measure", "houses.csv", "--target", "price", "--members", "1", "--quiet")
RESIDUAL = ("--n-points", "5", "--model", "models.Residual", "--model-option", "n_outputs=1")


def test_both_programs_select_the_same_rows(folder):
    results = [run(folder, *SELECT, installed=installed) for installed in (False, True)]
    assert [(result.returncode, result.stderr) for result in results] == [(0, "")] * 2
    assert len(results[0].stdout.split()) == 3 and results[1].stdout == results[0].stdout


def test_the_installed_program_finds_a_network_in_the_current_folder(folder):
    result = run(folder, *MEASURE, *RESIDUAL, installed=True)
    assert (result.returncode, result.stderr) == (0, "") and "entropy" in result.stdout


@pytest.mark.parametrize("installed", [False, True])
def test_the_help_names_the_program_that_was_called(installed, folder):
    result = run(folder, "select", "--help", installed=installed)
    name = "collective-variables" if installed else "python -m collective_variables"
    other = "python -m collective_variables" if installed else "collective-variables"
    assert result.stdout.startswith(f"usage: {name} select ")
    assert f"  {name} select houses.csv" in result.stdout and other not in result.stdout


def test_wrong_input_ends_with_2_and_one_line(folder):
    result = run_warm(folder, *SELECT[:-2], "21", "--quiet")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    result = run_warm(folder, "select", "houses.csv")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "--n-points" in result.stderr


def test_a_failure_ends_with_1_and_debug_shows_where(folder):
    arguments = (*MEASURE, "--model", "models.broken")
    result = run_warm(folder, *arguments)
    words = "error: ValueError: invalid literal for int() with base 10: 'no number'"
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{words} (--debug shows where)\n"
    for result in (
        run_warm(folder, *arguments, "--debug"),
        run_warm(folder, *arguments, env=warm_environment(COLLECTIVE_VARIABLES_DEBUG="1")),
    ):
        assert result.returncode == 1 and 'models.py", line 14, in broken' in result.stderr
        assert result.stderr.endswith(f"{words} (--debug shows where)\n")


def test_a_full_disk_ends_with_1_and_one_line_and_takes_nothing_else(folder):
    with open("/dev/full", "w") as full:
        result = run(folder, *SELECT, "--output", "rows.csv", stdout=full)
    words = "error: Standard output cannot be written: No space left on device.\n"
    assert (result.returncode, result.stderr) == (1, words)
    assert (folder / "rows.csv").read_text().count("\n") == 4
    result = run_warm(folder, *SELECT, "--output", "/dev/full")
    words = "error: /dev/full cannot be written: No space left on device.\n"
    assert (result.returncode, result.stderr) == (1, words)
    assert len(result.stdout.split()) == 3 and Path("/dev/full").is_char_device()


def test_streams_that_are_closed_take_nothing_else(folder):
    start = f"{sys.executable} -m collective_variables {' '.join(SELECT[:-1])}"
    for closed, code, stdout, stderr in (
        (">&-", 1, 0, "error: Standard output cannot be written: it is closed.\n"),
        ("2>&-", 0, 3, ""),
    ):
        command = ["sh", "-c", f"{start} --output rows.csv {closed}"]
        result = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, env=environment()
        )
        assert (result.returncode, len(result.stdout.split())) == (code, stdout)
        assert result.stderr.endswith(stderr)
        assert (folder / "rows.csv").read_text().count("\n") == 4


def test_the_shell_that_empties_the_list_of_rows_is_told_from_one_that_appends(folder):
    rows = folder / "rows.txt"
    first = run_warm(folder, *SELECT).stdout
    for mode, code, n_rows in (("a", 0, 6), ("w", 2, 0)):
        rows.write_text(first)
        with rows.open(mode) as file:
            result = run_warm(folder, *SELECT, "--labelled", "rows.txt", stdout=file)
        assert (result.returncode, len(set(rows.read_text().split()))) == (code, n_rows)
    assert result.stderr == (
        "error: rows.txt lists no rows: `> rows.txt` empties the file before it is read. "
        "Append to it with `>> rows.txt`, or write to another file.\n"
    )


def test_standard_output_takes_rows_and_then_a_table_but_no_file_twice(folder):
    log = folder / "log.txt"
    with log.open("w") as file:
        result = run_warm(folder, *SELECT, "--output", "/dev/stdout", stdout=file)
    lines = log.read_text().splitlines()
    assert (result.returncode, result.stderr, len(lines)) == (0, "", 7)
    assert lines[3].startswith("order,row,") and lines[:3] == [
        line.split(",")[1] for line in lines[4:]
    ]
    with log.open("w") as file:
        result = run_warm(folder, *SELECT, "--output", "log.txt", stdout=file)
    words = "--output and standard output must be two files: received log.txt for both."
    assert (result.returncode, result.stderr, log.read_text()) == (2, f"error: {words}\n", "")


def test_a_reader_that_has_enough_is_no_error_to_print(folder):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        assert run(folder, *SELECT, stdout=pipe).stderr == ""


INTERRUPTED = """\
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
# Also where the tests run in the background of a script, which ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("collective_variables", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["argparse", "numpy", "jax", "pandas", "flax.linen"])
def test_an_interruption_while_modules_load_is_one_line_and_130(module, folder):
    command = [sys.executable, "-c", INTERRUPTED, module]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment())
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n")
