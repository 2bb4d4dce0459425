"""Read the arrays of NumPy's files, whose headers are checked before their values are read."""

import io
import math
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from collective_variables import _memory
from collective_variables.data._errors import DataError
from collective_variables.data.files import tables
from collective_variables.data.files.contents import check_n_columns, check_names

HEADER_BYTES = 2**16  # in which the header of an array ends
READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an archive, after a check of its table of contents."""
    contents = {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        check_names(path, [entry.filename.removesuffix(".npy") for entry in entries])
        _memory.check(f"The arrays of {path.name}", sum(entry.file_size for entry in entries))
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if not entry.filename.endswith(".npy") or re.search(r"[/\\]|^\.", name):
                raise DataError(
                    f"{path.name} must hold arrays NAME.npy only: received {entry.filename[:50]!r}."
                )
            with archive.open(entry) as file:
                contents[name] = _read_array(path, name, file, entry.file_size)
    return contents


def read_npy(path: Path) -> dict[str, np.ndarray]:
    """Read the fields of a structured array, or the columns of a two-dimensional one."""
    with path.open("rb") as file:
        array = _read_array(path, path.stem, file, path.stat().st_size)
    if array.dtype.names:
        names = check_names(path, list(array.dtype.names))
        return {name: _converted(path, name, array[name]) for name in names}
    if array.ndim != 2:
        raise DataError(
            f"The array of {path.name} must have fields or two dimensions, rows and columns: "
            f"received {array.shape}."
        )
    check_n_columns(path, array.shape[1])
    return {str(number): array[:, number] for number in range(array.shape[1])}


def _read_array(path: Path, name: str, file: BinaryIO, n_bytes: int) -> np.ndarray:
    """Return one array in NumPy's format, which takes `n_bytes` with its header."""
    header = io.BytesIO(file.read(HEADER_BYTES))
    version = np.lib.format.read_magic(header)
    if version not in READ_HEADER:
        raise DataError(
            f"{name} of {path.name} must be in version 1.0 or 2.0 of NumPy's format: "
            f"received {version}."
        )
    shape, is_fortran, dtype = READ_HEADER[version](header)
    if dtype.hasobject:
        raise DataError(
            f"{name} of {path.name} holds Python objects, which would have to be unpickled: "
            "save numbers or texts."
        )
    expected = header.tell() + math.prod(shape) * dtype.itemsize
    if expected != n_bytes:
        raise DataError(
            f"{name} of {path.name} must have {expected} bytes by its header: received {n_bytes}."
        )
    _memory.check(f"{name} of {path.name}", n_bytes)
    values = header.read() + file.read()
    array = np.frombuffer(values, dtype, count=math.prod(shape))
    array = array.reshape(shape, order="F" if is_fortran else "C")
    return array if dtype.names else _converted(path, name, array)


def _converted(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Return an array with one of the dtypes of `reading.read_file`."""
    kind = array.dtype.kind
    if kind in "SU":
        texts = np.char.decode(array, "utf-8") if kind == "S" else array
        if array.ndim != 1:
            raise DataError(
                f"Texts of {path.name} must be a column: {name} has the shape {array.shape}."
            )
        return tables.text_array(path, name, texts.tolist())
    if kind == "M":
        return array.astype("datetime64[s]")
    if kind not in "biuf":
        raise DataError(
            f"{name} of {path.name} must hold numbers, truth values, dates or texts: "
            f"received {array.dtype}."
        )
    if array.ndim > 1:
        # Images and the like keep their small dtype.
        return array.astype(array.dtype.newbyteorder("="))
    dtypes = {
        "b": np.bool_,
        "i": np.int64,
        "u": np.int64 if array.dtype.itemsize < 8 else np.float64,
        "f": np.float64,
    }
    return array.astype(dtypes[kind])
