"""Start the command line, and turn errors into one line and an exit code.

Only the standard library is imported at the top, so that an interruption ends cleanly even while
JAX and pandas load.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from collective_variables import _errors, _extras, _machine

DONE = 0
FAILED = 1  # the result could not be computed or written
WRONG_INPUT = 2  # as argparse has it
INTERRUPTED = 130  # 128 + SIGINT
DEBUG = "COLLECTIVE_VARIABLES_DEBUG"
MAX_CHARACTERS = 500  # of a message; compilers write pages
# The names of arguments in errors of the library.
ARGUMENTS = {
    "learning_rate": "--learning-rate",
    "loss": "--loss",
    "n_epochs": "--epochs",
    "n_members": "--members",
    "n_points": "--n-points",
    "n_selected": "--n-points",
    "n_test": "--n-test",
    "seed": "--seed",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    One line on standard error reports an error; `--debug`, or the environment variable
    COLLECTIVE_VARIABLES_DEBUG, adds the traceback.

    Args:
        arguments: Words of the command line; by default those of this process.

    Returns:
        0 if all is done, 2 for wrong arguments, files and tables (see `_errors.is_user_error`), and
        130 for an interruption. All other failures return 1, bugs included: numbers that overflow,
        too little memory, a full disk.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _open_standard_error()
        _machine.CLOCK.restart()  # a forecast includes the time before it
        from collective_variables.cli import _run, command_line

        _run.run(command_line.parse_arguments(arguments, program()))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe.
        _drop_output()
        return FAILED
    except Exception as error:
        if "--debug" in arguments or os.environ.get(DEBUG):
            traceback.print_exc()
        _drop_output()
        _say(f"error: {_message(error)}")
        return WRONG_INPUT if _errors.is_user_error(error) else FAILED
    return DONE


def program() -> str:
    """Return the name by which the user called the command line."""
    is_module = Path(sys.argv[0]).name == "__main__.py"
    return "python -m collective_variables" if is_module else "collective-variables"


def _open_standard_error() -> None:
    """Discard standard error if `2>&-` closed it; `print` would write to standard output."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, for the rest of the process


def _message(error: Exception) -> str:
    """Return an error in one line, and for a failure how to see more."""
    text = " ".join(str(error).split())
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]} …"
    is_sentence = isinstance(error, _errors.Failure | _extras.MissingPackageError)
    if is_sentence or _errors.is_user_error(error):
        return _as_typed(text)
    name = type(error).__name__
    return f"{name}: {text} (--debug shows where)" if text else f"{name} (--debug shows where)"


def _as_typed(text: str) -> str:
    """Return an error of the library that begins with the argument as the user typed it."""
    name, space, rest = text.partition(" ")
    return f"{ARGUMENTS.get(name, name)}{space}{rest}"


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _drop_output() -> None:
    """Drop output that cannot be written; Python would try again at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
