"""Read a user's file as arrays with equally many rows, without trusting the file.

A table (.csv, .tsv, .parquet) gives its columns, .npz its arrays, and .npy the fields of a
structured array or the columns of a two-dimensional one under "0", "1", …. A folder gives its
images under "image", the folder of each image under "class" and its path under "file".

Nothing is unpickled, unpacked to the disk or run. Files that are broken, larger than the free
memory or not what their ending says are rejected with a one-line error, before they are read where
possible.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from collective_variables.data._errors import DataError, MissingFileError
from collective_variables.data.files import arrays, images, tables
from collective_variables.data.files.contents import Contents, check_contents, one_line_errors

READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".csv": tables.read_text,
    ".tsv": tables.read_text,
    ".parquet": tables.read_parquet,
    ".npz": arrays.read_npz,
    ".npy": arrays.read_npy,
}


def read_file(path: str | Path, /, *, image_size: tuple[int, int] | None = None) -> Contents:
    """Read the arrays of a file, or the images of a folder, all with as many rows.

    Columns are 1-dimensional arrays of float64, int64, bool, datetime64, or objects: texts, and
    None where a text is missing. Images are uint8 of the shape (n, height, width, 1 or 3).

    Text files are UTF-8, have the names of the columns in their first line, and are separated by
    commas, semicolons or tabs. A column of a text file holds numbers if all its cells do; the
    cells `tables.MISSING` are missing values. Between semicolons, numbers may have a decimal
    comma. A first column without a name, as pandas and R write row numbers, is "Unnamed: 0".

    Args:
        path: Of the file or folder.
        image_size: Height and width to which images are resized; by default all images must have
            one size.

    Raises:
        DataError: The file cannot be used.
        MissingFileError: There is no such file; it is a DataError and a FileNotFoundError.
        MemoryError: The contents are larger than the free memory.
        MissingPackageError: A table needs pyarrow, and images need pillow, from the extra `cli`.
    """
    path = Path(path)
    if os.path.isdir(path):
        return Contents(check_contents(path, images.read_images(path, image_size)))
    # Not `path.is_file()`, which raises an error for a name that is too long.
    if not os.path.isfile(path):
        raise MissingFileError(f"There is no file or folder {path}.")
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(
            f"{path.name} must end in {', '.join(READERS)} or be a folder of images: "
            f"received {kind or 'no ending'}."
        )
    with one_line_errors(path):
        contents = READERS[kind](path)
    return Contents(check_contents(path, contents))
