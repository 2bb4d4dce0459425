"""Read NumPy's files; headers are checked before values are read."""

import io
import math
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from collective_variables import _extras, _memory
from collective_variables.data._errors import DataError
from collective_variables.data.files.contents import (
    Column,
    Parts,
    check_n_columns,
    check_names,
    unusable,
)
from collective_variables.data.files.lines import row_place
from collective_variables.data.files.options import Options
from collective_variables.data.files.texts import arrow
from collective_variables.data.files.texts.columns import read_columns

HEADER_BYTES = 2**16  # no header is longer
READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path, options: Options) -> Parts:
    """Read the arrays of an archive after a check of its table of contents."""
    columns, texts = {}, {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = check_names(path, [entry.filename.removesuffix(".npy") for entry in entries])
        _memory.check(f"The arrays of {path.name}", sum(entry.file_size for entry in entries))
        for name, entry in zip(names, entries, strict=True):
            if not re.fullmatch(r"[^/\\.][^/\\]*\.npy", entry.filename):
                raise DataError(
                    f"{path.name} must hold arrays NAME.npy only: received {entry.filename[:50]!r}."
                )
            with archive.open(entry) as file:
                array = _read_array(path, name, file, entry.file_size)
            _enter(name, array, columns, texts)
    return _parts(names, columns, texts, options)


def read_npy(path: Path, options: Options) -> Parts:
    """Return the fields of a structured array, or the columns of a two-dimensional one.

    An array of more dimensions is a single column with the name of the file, as in an archive.

    Raises:
        DataError: The array has fewer than two dimensions, or cannot be used.
    """
    with path.open("rb") as file:
        array = _read_array(path, path.stem, file, path.stat().st_size)
    if isinstance(array, Column):
        raise DataError(f"The array of {path.name} cannot be used: {array.refused}.")
    columns, texts = {}, {}
    if array.dtype.names:
        names = check_names(path, array.dtype.names)
        for name, field in zip(names, array.dtype.names, strict=True):
            _enter(name, array[field], columns, texts)
    elif array.ndim > 1 and (refused := _refusal(array)) is not None:
        # One error for the array, not one for each of its columns.
        raise DataError(f"The array of {path.name} cannot be used: {refused}.")
    elif array.ndim > 2:
        names = check_names(path, [path.stem])
        _enter(names[0], array, columns, texts)
    elif array.ndim == 2:
        check_n_columns(path, array.shape[1])
        names = [str(number) for number in range(array.shape[1])]
        for number, name in enumerate(names):
            _enter(name, array[:, number], columns, texts)
    else:
        raise DataError(
            f"The array of {path.name} must have fields, or rows along the first of at least two "
            f"dimensions: received the shape {array.shape}. Save a single column by "
            "array.reshape(-1, 1)."
        )
    return _parts(names, columns, texts, options)


def _parts(
    names: list[str], columns: dict[str, Column], texts: dict[str, np.ndarray], options: Options
) -> Parts:
    """Return the columns in order; columns of texts are read as in a text file."""
    if texts:
        with _extras.required("cli"):
            import pyarrow

        strings = {name: pyarrow.array(array, pyarrow.string()) for name, array in texts.items()}
        columns |= read_columns(strings, options, row_place, usual=".")
    return Parts({name: columns[name] for name in names})


def _read_array(path: Path, name: str, file: BinaryIO, n_bytes: int) -> np.ndarray | Column:
    """Return one array in NumPy's format, whose header and values have `n_bytes`.

    An array of Python objects is not unpickled; it becomes a column that cannot be used.

    Raises:
        DataError: The version of the format is unknown, or the header and `n_bytes` disagree.
    """
    header = io.BytesIO(file.read(HEADER_BYTES))
    version = np.lib.format.read_magic(header)
    if version not in READ_HEADER:
        raise DataError(
            f"{name} of {path.name} must be in version 1.0 or 2.0 of NumPy's format: "
            f"received {version}."
        )
    shape, is_fortran, dtype = READ_HEADER[version](header)
    if dtype.hasobject:
        n_rows = shape[0] if shape else 0
        _memory.check(f"{name} of {path.name}", 8 * n_rows)
        return unusable(
            n_rows,
            "it holds Python objects, which would have to be unpickled: save numbers (by "
            "numpy.stack, if each object is an array) or texts (with empty ones where one is "
            "missing)",
        )
    expected = header.tell() + math.prod(shape) * dtype.itemsize
    if expected != n_bytes:
        raise DataError(
            f"{name} of {path.name} must have {expected} bytes by its header: received {n_bytes}."
        )
    _memory.check(f"{name} of {path.name}", n_bytes)
    values = header.read() + file.read()
    array = np.frombuffer(values, dtype, count=math.prod(shape))
    return array.reshape(shape, order="F" if is_fortran else "C")


def _enter(
    name: str,
    array: np.ndarray | Column,
    columns: dict[str, Column],
    texts: dict[str, np.ndarray],
) -> None:
    """Enter an array among the columns, or among the texts that are read later."""
    if isinstance(array, Column):
        columns[name] = array
    elif array.dtype.kind in "SU" and array.ndim > 0 and array.size == len(array):
        array = array.reshape(-1)  # a column of texts may be (n, 1)
        try:
            texts[name] = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
        except UnicodeDecodeError:
            columns[name] = unusable(len(array), "its texts are not UTF-8")
    else:
        columns[name] = _column(array)


def _column(array: np.ndarray) -> Column:
    """Return an array as a column with one of the dtypes of `reading.read_file`."""
    kind = array.dtype.kind
    n_rows = len(array) if array.ndim else 0
    if kind in "SU":
        return unusable(n_rows, f"texts must be a column: it has the shape {array.shape}")
    if (refused := _refusal(array)) is not None:
        return unusable(n_rows, refused)
    if kind == "M":
        return Column(arrow.shortest(array))
    if array.ndim == 3 and array.shape[1] == 1:
        array = array[:, 0]  # a single embedding of each row, not an image of one line
    if array.ndim > 1:
        # Images and the like keep their small dtype.
        return Column(array.astype(array.dtype.newbyteorder("=")))
    dtypes = {
        "b": np.bool_,
        "i": np.int64,
        "u": np.int64 if array.dtype.itemsize < 8 else np.float64,
        "f": np.float64,
    }
    return Column(array.astype(dtypes[kind]))


def _refusal(array: np.ndarray) -> str | None:
    """Return why an array of this dtype cannot be used; None if it can."""
    if array.dtype.kind in "biufMSU":
        return None
    # NumPy writes the bfloat16 of other packages as two bytes without meaning.
    advice = ": save it as float32" if array.dtype.kind == "V" else ""
    return f"it must hold numbers, truth values, dates or texts: it holds {array.dtype}{advice}"
