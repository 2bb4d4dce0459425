"""Print a result and write its files: checked before the work, written whole or not at all."""

import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from collective_variables._errors import WriteError
from collective_variables.data._errors import DataError
from collective_variables.data.files import images

DEVICES = ("/dev/", "/proc/")


class Result(NamedTuple):
    """The result of a command.

    Attributes:
        text: The result as text.
        values: The result for JSON.
        files: Functions that return the text of each file to write.
        failure: Why the result could not be computed; "" if it could.
    """

    text: str
    values: Mapping[str, object]
    files: Mapping[Path, Callable[[], str]] = MappingProxyType({})
    failure: str = ""


def check(outputs: Mapping[str, Path], inputs: Sequence[tuple[str, Path]]) -> None:
    """Check before the work that all files can be written.

    Args:
        outputs: The files to write, by their arguments.
        inputs: The files to read, each with a description: none may be overwritten.

    Raises:
        DataError: A file cannot be written, would overwrite an input, or is another output, too.
    """
    seen = {}
    for option, path in outputs.items():
        _check_place(path)
        for name, source in inputs:
            if _is_same(path, source) or _is_image_of(path, source):
                raise DataError(f"{option} would overwrite {name}, {path}: choose another file.")
        if _is_regular(path):
            if is_standard_output(path):
                raise DataError(
                    f"{option} and standard output must be two files: received {path} for both."
                )
            for other, earlier in seen.items():
                if _is_same(path, earlier):
                    raise DataError(
                        f"{other} and {option} must be two files: received {path} for both."
                    )
        seen[option] = path


def _check_place(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        _check_folder(path)
        return
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None
    if stat.S_ISDIR(mode):
        raise DataError(f"The file to write must not be a folder: received {path}.")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise DataError(f"{path} cannot be written: it is neither a file, a pipe nor a stream.")
    if not os.access(path, os.W_OK):
        raise DataError(f"{path} cannot be written: permission denied.")


def _check_folder(path: Path) -> None:
    """Raise DataError unless a file or the target of a link can be created."""
    folder = path.resolve().parent
    if _is_device(path) or not folder.is_dir():
        raise DataError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written: permission denied in {folder}.")


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file, which need not exist yet."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def _is_image_of(path: Path, folder: Path) -> bool:
    """Return whether a path is that of an image in a folder, which need not exist yet."""
    is_image = path.suffix.lower() in images.ENDINGS
    return is_image and folder.is_dir() and path.resolve().is_relative_to(folder.resolve())


def _is_device(path: Path) -> bool:
    """Return whether a path names a stream of the process rather than a file behind it."""
    return os.path.abspath(path).startswith(DEVICES)


def _is_regular(path: Path) -> bool:
    """Return whether a path is a regular file or could become one."""
    return not _is_device(path) and (path.is_file() or not path.exists())


def is_standard_output(path: Path) -> bool:
    """Return whether standard output goes into this file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False


def emit(result: Result, text: str) -> None:
    """Print `text`, and write the files of a result.

    A failure does not stop the other outputs; the first error is raised at the end. Raises
    WriteError if the text or a file cannot be written, and BrokenPipeError if the reader of
    standard output has closed it.
    """
    errors = []
    for attempt in (
        lambda: _print(text),
        *(lambda path=path, make=make: _make(path, make) for path, make in result.files.items()),
    ):
        try:
            attempt()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _print(text: str) -> None:
    if sys.stdout is None:  # after `>&-`
        raise WriteError("Standard output cannot be written: it is closed.")
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _write_error("Standard output", error) from error


def _make(path: Path, make: Callable[[], str]) -> None:
    text = make()
    try:
        write(path, text)
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(name: object, error: OSError) -> WriteError:
    return WriteError(f"{name} cannot be written: {error.strerror or error}.")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, or into a device or pipe; links are followed.

    A .csv file with letters beyond ASCII begins with the mark by which spreadsheets detect UTF-8.
    """
    data = text.encode("utf-8" if text.isascii() or path.suffix != ".csv" else "utf-8-sig")
    if not _is_regular(path):
        _append(path, data)
        return
    target = path.resolve()
    # A file in a read-only folder, or a single file mounted into a container, cannot be replaced.
    if target.exists() and (not os.access(target.parent, os.W_OK) or os.path.ismount(target)):
        target.write_bytes(data)
    else:
        _replace(target, data)


def _append(path: Path, data: bytes) -> None:
    """Write into a device or a pipe, or to the end of the file behind a stream."""
    with open(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as file:
        file.write(data)


def _replace(target: Path, data: bytes) -> None:
    unfinished = target.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("xb") as file:
            file.write(data)
        if target.exists():
            shutil.copymode(target, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
