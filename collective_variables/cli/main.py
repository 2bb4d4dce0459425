"""Start the command line, and turn what goes wrong into one line and an exit code.

Only the standard library is imported at the top, so that an interruption while JAX and pandas load
ends like any other.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from collective_variables import _errors, _extras, _machine

DONE = 0
FAILED = 1  # what was asked for could not be computed
WRONG_INPUT = 2  # as argparse has it
INTERRUPTED = 130  # 128 + SIGINT
DEBUG = "COLLECTIVE_VARIABLES_DEBUG"
MAX_CHARACTERS = 500  # of a message; compilers write pages
# What errors of the library call an argument.
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

    Wrong arguments, files and tables (see `_errors.is_user_error`) give 2. Everything else that
    goes wrong gives 1, bugs included: numbers that overflow, too little memory, a full disk. An
    interruption gives 130. One line on standard error says what happened; `--debug`, or the
    environment variable COLLECTIVE_VARIABLES_DEBUG, adds the traceback.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _open_standard_error()
        _machine.CLOCK.restart()  # a forecast counts what came before it
        from collective_variables.cli import _run, command_line

        _run.run(command_line.parse_arguments(arguments, program()))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has enough.
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
    """Let standard error lead nowhere where `2>&-` closed it: `print` would take the other one."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, for the rest of the process


def _message(error: Exception) -> str:
    """Return what went wrong in one line, and for a failure how to see more."""
    text = " ".join(str(error).split())
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]} …"
    is_sentence = isinstance(error, _errors.Failure | _extras.MissingPackageError)
    if is_sentence or _errors.is_user_error(error):
        return _as_typed(text)
    name = type(error).__name__
    return f"{name}: {text} (--debug shows where)" if text else f"{name} (--debug shows where)"


def _as_typed(text: str) -> str:
    """Return an error of the library with the argument that the user typed in front."""
    name, space, rest = text.partition(" ")
    return f"{ARGUMENTS.get(name, name)}{space}{rest}"


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _drop_output() -> None:
    """Forget output that cannot be written, which Python would try again at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
