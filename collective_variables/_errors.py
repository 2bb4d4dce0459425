"""Tell errors that a user can mend from everything else."""

import dis
from types import TracebackType

RAISE = dis.opmap["RAISE_VARARGS"]
PACKAGE = __name__.partition(".")[0]


class UserError(Exception):
    """An argument, a file or a table cannot be used; the message says what to change."""


class InvalidTypeError(UserError, TypeError):
    """An argument is of the wrong kind."""


class InvalidValueError(UserError, ValueError):
    """An argument has a value that is not allowed."""


class Failure(Exception):
    """What was asked for could not be done; the message says why, as a sentence for the user."""


class ComputationError(Failure, ArithmeticError):
    """Nothing could be computed."""


class WriteError(Failure, OSError):
    """A result cannot be printed or written."""


def is_user_error(error: BaseException) -> bool:
    """Return whether `error` reports a wrong argument or wrong data, not a failure or a bug.

    That is every `UserError`, and every TypeError or ValueError that comes from a `raise` statement
    of this package: the package raises them for wrong arguments only. The same kinds of error out
    of an operation or another library, such as `1 + "a"` or `int("x")`, are bugs.
    """
    if isinstance(error, UserError):
        return True
    return isinstance(error, TypeError | ValueError) and _is_raised_here(error.__traceback__)


def _is_raised_here(traceback: TracebackType | None) -> bool:
    """Return whether the innermost frame is this package's and was executing a `raise`."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    module = frame.f_globals.get("__name__", "")
    is_ours = module == PACKAGE or module.startswith(f"{PACKAGE}.")
    return is_ours and frame.f_code.co_code[traceback.tb_lasti] == RAISE
