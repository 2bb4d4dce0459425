"""Print a result and write its files: looked at before the work, whole or not at all after it."""

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
    """What a command prints as text or as JSON, and the files that it writes.

    files: the function that makes the text of each file. failure: what to say at the end of a
    command that could not compute what was asked for, "" for one that could.
    """

    text: str
    values: Mapping[str, object]
    files: Mapping[Path, Callable[[], str]] = MappingProxyType({})
    failure: str = ""


def check(outputs: Mapping[str, Path], inputs: Sequence[tuple[str, Path]]) -> None:
    """Raise DataError for a file that cannot be written, before the work begins.

    Args:
        outputs: The files to write, by their arguments.
        inputs: The files to read, behind what they are to the user: none may be overwritten.
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
    """Raise DataError unless a file that does not exist, or the target of a link, can be made."""
    folder = path.resolve().parent
    if _is_device(path) or not folder.is_dir():
        raise DataError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written: permission denied in {folder}.")


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, also one that does not exist yet."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def _is_image_of(path: Path, folder: Path) -> bool:
    """Return whether a path is where an image of a folder is, or could be."""
    is_image = path.suffix.lower() in images.ENDINGS
    return is_image and folder.is_dir() and path.resolve().is_relative_to(folder.resolve())


def _is_device(path: Path) -> bool:
    """Return whether a path names a stream of the process rather than a file behind it."""
    return os.path.abspath(path).startswith(DEVICES)


def _is_regular(path: Path) -> bool:
    """Return whether a path is a regular file, or could become one."""
    return not _is_device(path) and (path.is_file() or not path.exists())


def is_standard_output(path: Path) -> bool:
    """Return whether standard output goes into this file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False


def emit(result: Result, text: str) -> None:
    """Print `text`, and write the files of a result.

    What can be printed or written is, whatever becomes of the rest; the first error is raised
    afterwards.

    Raises:
        WriteError: The text or a file cannot be written.
        BrokenPipeError: The reader of standard output has enough.
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
    if sys.stdout is None:  # as `>&-` leaves it
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
    """Write a file whole or not at all; a link leads to its target, a device or pipe stays.

    A text with letters beyond ASCII begins with the mark by which spreadsheets know UTF-8.
    """
    data = text.encode("utf-8" if text.isascii() or path.suffix != ".csv" else "utf-8-sig")
    if not _is_regular(path):
        _append(path, data)
        return
    target = path.resolve()
    # A file in a folder that is closed, or a single file that a container was given, cannot be
    # replaced.
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
