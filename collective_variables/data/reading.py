"""What a file of one's own holds, as arrays of equally many rows by name, read without trusting the
file.

A table (.csv, .tsv, .parquet) has its columns, .npz its arrays, .npy the fields of a structured
array or the columns of a two-dimensional one under "0", "1", …, and a folder its images under
"image", with the folder of each under "class" and its path under "file". Nothing is unpickled,
unpacked to the disk or run; what is broken, larger than the memory or not what its name says is
refused in one sentence before it is read.
"""

import io
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from collective_variables import _memory
from collective_variables.data._errors import DataError

if TYPE_CHECKING:
    import pyarrow

Contents = dict[str, np.ndarray]
MAX_COLUMNS = 10_000
MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")  # cells of a text file
UNNAMED = "Unnamed: 0"  # as pandas has it
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
MAX_PIXELS = 2**26  # of one image
# A number between semicolons, with a comma or without.
DECIMAL_COMMA = r"^[+-]?\d+(?:,\d+)?(?:[eE][+-]?\d+)?$"
# What a spreadsheet would run if the chosen rows were opened in one; a number may start with a
# sign.
FORMULA = r"^\s*(?:[=@]|[+-]\s*[^\d.,\s])"


def read_file(path: str | Path, /, *, image_size: tuple[int, int] | None = None) -> Contents:
    """The arrays of a file or the images of a folder, all with as many rows.

    Columns are 1-dimensional: float64, int64 or bool, datetime64, or objects, texts and None where
    there is none. In a text file, which has its names in the first line and is UTF-8, separated by
    commas, semicolons or tabs, a column is one of numbers if all its cells are, and `MISSING` are
    no value; between semicolons numbers may have a decimal comma, and a first column without a
    name, as pandas and R write row numbers, is "Unnamed: 0". Images are (n, height, width, 1 or 3)
    uint8, of `image_size` (height, width) or of one size from the start.

    Raises DataError for what can't be taken, FileNotFoundError, and MemoryError for what is larger
    than the free memory.
    """
    path = Path(path)
    if path.is_dir():
        return _checked(path, _read_images(path, image_size))
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(
            f"{path.name} must end in {', '.join(READERS)} or be a folder of images: received {kind or 'no ending'}."
        )
    with _in_one_sentence(path):
        contents = READERS[kind](path)
    return _checked(path, contents)


def _checked(path: Path, contents: Contents) -> Contents:
    """The same, with at least a row, as many in each array, and not too many columns."""
    if not contents:
        raise DataError(f"{path.name} must hold at least one column: it holds none.")
    if len(contents) > MAX_COLUMNS:
        raise DataError(
            f"{path.name} must have at most {MAX_COLUMNS} columns: it has {len(contents)}."
        )
    lengths = {name: len(array) if array.ndim else 0 for name, array in contents.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"The arrays of {path.name} must have as many rows: {first} {lengths[first]}, {name} {length}."
            )
    if lengths[first] == 0:
        raise DataError(f"{path.name} must hold at least one row: it holds none.")
    return contents


@contextmanager
def _in_one_sentence(path: Path) -> Generator[None]:
    """What a library says of a broken file as a DataError of one line."""
    try:
        with warnings.catch_warnings():
            # Of an image that is a bomb, of a header that is none; not what a library says to its
            # own users.
            for kind in (RuntimeWarning, UserWarning):
                warnings.simplefilter("error", kind)
            yield
    except (DataError, MemoryError):
        raise
    # Libraries raise whatever comes to them for a broken file.
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path.name} is broken or not what its ending says: {why}") from None


def _names(path: Path, names: list[str]) -> list[str]:
    """The names of columns, if there are not too many, none is empty and none is there twice."""
    if len(names) > MAX_COLUMNS:
        raise DataError(
            f"{path.name} must have at most {MAX_COLUMNS} columns: it has {len(names)}."
        )
    seen = set()
    for place, name in enumerate(names):
        if not name.strip() or name in seen:
            raise DataError(
                f"Each column of {path.name} must have a name of its own: column {place} is {name[:50]!r}."
            )
        seen.add(name)
    return names


def _read_text(path: Path) -> Contents:
    """The columns of a text file, whose cells are texts until all of a column are seen to be
    something else.
    """
    from pyarrow import csv, string

    with path.open("rb") as file:
        # Of a million columns the line of names alone has megabytes.
        header = file.readline(2**22).decode("utf-8-sig")
    if "\0" in header or not header.strip():
        raise DataError(f"{path.name} must begin with a line of names: received {header[:50]!r}.")
    separator = max(",;\t", key=header.count)
    if (n_columns := header.count(separator) + 1) > 2 * MAX_COLUMNS:
        raise DataError(
            f"{path.name} must have at most {MAX_COLUMNS} columns: its first line has about {n_columns}."
        )
    _memory.check(f"The cells of {path.name}", 8 * path.stat().st_size)
    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as file:
        in_file = file.schema.names
    names = _names(path, [in_file[0] or UNNAMED, *in_file[1:]])
    convert = csv.ConvertOptions(
        column_types={name: string() for name in in_file},
        null_values=list(MISSING),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    table = csv.read_csv(path, parse_options=parse, convert_options=convert)
    contents = {}
    for name, texts in zip(names, table.columns, strict=True):
        contents[name] = _of_column(
            path, name, _of_texts(texts.combine_chunks(), decimal_comma=separator == ";")
        )
    return contents


def _of_texts(texts: "pyarrow.StringArray", *, decimal_comma: bool) -> "pyarrow.Array":
    """Cells of text as whole numbers, numbers or dates (ISO 8601), whichever all of them are first,
    or as they are.
    """
    import pyarrow
    from pyarrow import compute

    trimmed = compute.utf8_trim_whitespace(texts)
    if decimal_comma and compute.all(compute.match_substring_regex(trimmed, DECIMAL_COMMA)).as_py():
        trimmed = compute.replace_substring(trimmed, ",", ".")
    for kind in (pyarrow.int64(), pyarrow.float64(), pyarrow.timestamp("s")):
        try:
            return compute.cast(trimmed, kind)
        except pyarrow.ArrowInvalid:
            continue
    return trimmed


def _of_column(path: Path, name: str, column: "pyarrow.Array") -> np.ndarray:
    """A column of a table as an array; what is missing is NaN, NaT or None."""
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    if types.is_dictionary(kind):
        return _of_column(path, name, column.dictionary_decode())
    if types.is_boolean(kind) or types.is_integer(kind):
        whole = np.bool_ if types.is_boolean(kind) else np.int64
        # Whole numbers have no value for what is missing, and 64 bits without a sign do not fit.
        target = pyarrow.float64() if column.null_count or types.is_uint64(kind) else kind
        numbers = compute.cast(
            compute.cast(column, pyarrow.uint8()) if types.is_boolean(kind) else column, target
        )
        return numbers.to_numpy(zero_copy_only=False).astype(
            whole if target == kind else np.float64
        )
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return compute.cast(column, pyarrow.float64()).to_numpy(zero_copy_only=False)
    if types.is_date(kind) or types.is_timestamp(kind):
        return compute.cast(column, pyarrow.timestamp("s"), safe=False).to_numpy(
            zero_copy_only=False
        )
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise DataError(
            f"Column {name} of {path.name} must hold numbers, truth values, dates or texts: received {kind}."
        )
    formulas = compute.match_substring_regex(column, FORMULA).to_numpy(zero_copy_only=False) == True  # noqa: E712 - what is missing is None there
    if formulas.any():
        row = int(np.argmax(formulas))
        raise DataError(
            f"Column {name} of {path.name} holds a formula in row {row}, which is not run: {column[row].as_py()[:50]!r}."
        )
    return np.array(column.to_pylist(), dtype=object)


def _read_parquet(path: Path) -> Contents:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = _names(path, file.schema_arrow.names)
        # A few bytes may say that a value repeats a billion times.
        _memory.check(f"The cells of {path.name}", 16 * file.metadata.num_rows * len(names))
        table = file.read()
    return {name: _of_column(path, name, table[name].combine_chunks()) for name in names}


def _read_npz(path: Path) -> Contents:
    """The arrays of an archive; what its directory says of them is looked at before any is
    unpacked.
    """
    contents = {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _names(path, [entry.filename.removesuffix(".npy") for entry in entries])
        _memory.check(f"The arrays of {path.name}", sum(entry.file_size for entry in entries))
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if not entry.filename.endswith(".npy") or re.search(r"[/\\]|^\.", name):
                raise DataError(
                    f"{path.name} must hold arrays NAME.npy alone: received {entry.filename[:50]!r}."
                )
            with archive.open(entry) as file:
                contents[name] = _array(path, name, file, entry.file_size)
    return contents


def _read_npy(path: Path) -> Contents:
    with path.open("rb") as file:
        array = _array(path, path.stem, file, path.stat().st_size)
    if array.dtype.names:
        return {
            name: _plain(path, name, array[name]) for name in _names(path, list(array.dtype.names))
        }
    if array.ndim != 2:
        raise DataError(
            f"The array of {path.name} must have fields or two dimensions, rows and columns: received {array.shape}."
        )
    if array.shape[1] > MAX_COLUMNS:
        raise DataError(
            f"{path.name} must have at most {MAX_COLUMNS} columns: it has {array.shape[1]}."
        )
    return {str(number): array[:, number] for number in range(array.shape[1])}


def _array(path: Path, name: str, file: BinaryIO, n_bytes: int) -> np.ndarray:
    """One array in NumPy's format of `n_bytes` in all; its header is checked before its values are
    read.
    """
    header = io.BytesIO(file.read(2**16))
    version = np.lib.format.read_magic(header)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read_header:
        raise DataError(
            f"{name} of {path.name} must be in version 1.0 or 2.0 of NumPy's format: received {version}."
        )
    shape, fortran, dtype = read_header[version](header)
    if dtype.hasobject:
        raise DataError(
            f"{name} of {path.name} holds Python objects, which would have to be unpickled: save numbers or texts."
        )
    expected = header.tell() + math.prod(shape) * dtype.itemsize
    if expected != n_bytes:
        raise DataError(
            f"{name} of {path.name} must have {expected} bytes by its header: received {n_bytes}."
        )
    _memory.check(f"{name} of {path.name}", n_bytes)
    values = header.read() + file.read()
    array = np.frombuffer(values, dtype, count=math.prod(shape)).reshape(
        shape, order="F" if fortran else "C"
    )
    return array if dtype.names else _plain(path, name, array)


def _plain(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """An array of NumPy as `read` gives it."""
    kind = array.dtype.kind
    if kind in "SU":
        texts = np.char.decode(array, "utf-8") if kind == "S" else array
        if array.ndim != 1:
            raise DataError(
                f"Texts of {path.name} must be a column: {name} has the shape {array.shape}."
            )
        import pyarrow

        return _of_column(
            path, name, pyarrow.array([text or None for text in texts.tolist()], pyarrow.string())
        )
    if kind == "M":
        return array.astype("datetime64[s]")
    if kind not in "biuf":
        raise DataError(
            f"{name} of {path.name} must hold numbers, truth values, dates or texts: received {array.dtype}."
        )
    if array.ndim > 1:
        # Images and the like stay as small as they are.
        return array.astype(array.dtype.newbyteorder("="))
    return array.astype(
        {
            "b": np.bool_,
            "i": np.int64,
            "u": np.int64 if array.dtype.itemsize < 8 else np.float64,
            "f": np.float64,
        }[kind]
    )


def _read_images(folder: Path, size: tuple[int, int] | None) -> Contents:
    """Every image below a folder, in the order of their paths; the first folder on the way is its
    class, if there is one.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    )
    if not paths:
        raise DataError(f"{folder} must hold images ({', '.join(IMAGES)}): it holds none.")
    inside = folder.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(inside):
            raise DataError(f"{path} leads out of {folder}: put a copy of the image there.")
    files = [path.relative_to(folder) for path in paths]
    if len(depths := {len(file.parts) > 1 for file in files}) > 1:
        raise DataError(
            f"The images of {folder} must all be in folders of their classes or none: {files[0]}, {files[-1]}."
        )
    images, n_bytes = [], 0
    for path in paths:
        images.append(_image(path, size))
        n_bytes += images[-1].nbytes
        if images[-1].shape[:2] != images[0].shape[:2]:
            (height, width, _), (first_height, first_width, _) = images[-1].shape, images[0].shape
            raise DataError(
                f"The images of {folder} must have one size, or one must be asked for: {files[0]} has {first_height} x "
                f"{first_width} pixels, {path.relative_to(folder)} {height} x {width}."
            )
        _memory.check(f"The images of {folder}", n_bytes)
    if len({image.shape[2] for image in images}) > 1:
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    contents = {
        "image": np.stack(images),
        "file": np.array([file.as_posix() for file in files], dtype=object),
    }
    if depths == {True}:
        contents["class"] = np.array([file.parts[0] for file in files], dtype=object)
    return contents


def _image(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """An image as (height, width, 1 or 3) of bytes, grey or of colours; transparency is left
    out.
    """
    from PIL import Image

    with _in_one_sentence(path), Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"{path.name} must have at most {MAX_PIXELS} pixels: it has {image.width} x {image.height}."
            )
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"{path.name} must have 8 bits for each colour: received the mode {image.mode}."
            )
        shown = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        if size is not None:
            shown = shown.resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(shown).reshape(shown.height, shown.width, -1)


READERS: dict[str, Callable[[Path], Contents]] = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
    ".npy": _read_npy,
}
