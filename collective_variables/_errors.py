"""Separate errors that the user can fix from failures and bugs."""

import dis
from types import TracebackType

RAISE = dis.opmap["RAISE_VARARGS"]
PACKAGE = __name__.partition(".")[0]


class UserError(Exception):
    """An argument, a file or a table cannot be used; the message says what to change."""


class InvalidTypeError(UserError, TypeError):
    """An argument has the wrong type."""


class InvalidValueError(UserError, ValueError):
    """An argument has a value that is not allowed."""


class Failure(Exception):
    """The program could not do what the user asked; the message says why, in one sentence."""


class ComputationError(Failure, ArithmeticError):
    """A result could not be computed."""


class WriteError(Failure, OSError):
    """A result cannot be printed or written."""


def is_user_error(error: BaseException) -> bool:
    """Return whether `error` reports a wrong argument or wrong data, not a failure or a bug.

    Every `UserError` does, and so does every TypeError or ValueError from a `raise` statement of
    this package. A TypeError or ValueError from an operation or another library is a bug, as from
    `1 + "a"` or `int("x")`.
    """
    if isinstance(error, UserError):
        return True
    return isinstance(error, TypeError | ValueError) and _is_raised_here(error.__traceback__)


def _is_raised_here(traceback: TracebackType | None) -> bool:
    """Return whether the innermost frame belongs to this package and was executing a `raise`."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    module = frame.f_globals.get("__name__", "")
    is_ours = module == PACKAGE or module.startswith(f"{PACKAGE}.")
    return is_ours and frame.f_code.co_code[traceback.tb_lasti] == RAISE
