"""Which errors are the user's to mend, and which are failures."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from collective_variables import _checks, _errors
from collective_variables.data import _errors as data_errors
from collective_variables.networks import sequential


def function_of_package(source):
    """The function `run` of a module of the package that has this source."""
    namespace = {"__name__": "collective_variables.example"}
    exec(source, namespace)
    return namespace["run"]


def error_of(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("no error")


def raise_value_error():
    raise ValueError("of someone else")


@pytest.mark.parametrize(
    "function, arguments",
    [
        (_checks.integer, ("n", 2.0)),
        (_checks.choice, ("method", "best", ("a", "b"))),
        (sequential.parse, ("dense x",)),
        (function_of_package("def run(): raise TypeError('wrong')"), ()),
        (function_of_package("def run(): raise ValueError('wrong') from None"), ()),
        (lambda: ThreadPoolExecutor(1).submit(sequential.parse, "dense x").result(), ()),
    ],
)
def test_an_error_that_the_package_raises_for_an_argument_is_the_users(function, arguments):
    assert _errors.is_user_error(error_of(function, *arguments))


@pytest.mark.parametrize(
    "source",
    [
        "def run(): return 1 + 'a'",
        "def run(): return int('x')",
        "def run(): return [][0]",
        "def run():\n try: int('x')\n except ValueError: raise",
        "def run():\n try: int('x')\n except ValueError as error: raise error",
        "def run(): raise RuntimeError('failed')",
        "def run(): raise FloatingPointError('not finite')",
        "def run(): raise MemoryError('too large')",
        "def run(): raise OSError(28, 'No space left on device')",
    ],
)
def test_bugs_and_failures_of_the_package_are_not_the_users(source):
    assert not _errors.is_user_error(error_of(function_of_package(source)))


def test_an_error_that_other_code_raises_is_not_the_users():
    call = function_of_package("def run(function): function()")
    for function in (raise_value_error, lambda: call(raise_value_error)):
        assert not _errors.is_user_error(error_of(function))
    assert not _errors.is_user_error(ValueError("never raised"))


@pytest.mark.parametrize(
    "kind, base", [(_errors.WriteError, OSError), (_errors.ComputationError, ArithmeticError)]
)
def test_what_could_not_be_done_is_not_the_users(kind, base):
    error = kind("The disk is full.")
    assert isinstance(error, base) and str(error) == "The disk is full."
    assert not _errors.is_user_error(error)


def test_errors_of_data_and_arguments_can_be_caught_as_before():
    assert issubclass(_errors.InvalidTypeError, TypeError)
    assert issubclass(_errors.InvalidValueError, ValueError)
    assert issubclass(data_errors.DataError, ValueError)
    missing = data_errors.MissingFileError("There is no file a.csv.")
    assert isinstance(missing, FileNotFoundError) and isinstance(missing, data_errors.DataError)
    assert str(missing) == "There is no file a.csv."
