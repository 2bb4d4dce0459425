"""Read a user's file as arrays with equally many rows, without trusting the file.

A table (.csv, .tsv, .txt, .parquet) gives its columns, .npz its arrays, and .npy the fields of a
structured array, the columns of a two-dimensional one under "0", "1", …, or one of more dimensions
under the name of the file. A column of lists is an array. A folder gives its
images under "image", the folder of each image under "class" and its path under "file".

Nothing is unpickled, unpacked to the disk or run. Files that are broken, larger than the free
memory or not what their ending says are rejected with a one-line error, before they are read where
possible.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from collective_variables.data._errors import DataError, MissingFileError
from collective_variables.data.files import arrays, images, parquet, text
from collective_variables.data.files.contents import Contents, Parts, finish, one_line_errors
from collective_variables.data.files.options import Options

READERS: dict[str, Callable[[Path, Options], Parts]] = {
    ".csv": text.read_text,
    ".tsv": text.read_text,
    ".txt": text.read_text,
    ".parquet": parquet.read_parquet,
    ".npz": arrays.read_npz,
    ".npy": arrays.read_npy,
}
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
TABLES = (".feather", ".arrow", ".orc")
ARRAYS = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".h5", ".hdf5", ".safetensors", ".mat")
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
ADVICE = {
    **dict.fromkeys(SPREADSHEETS, " Save the sheet as a text file."),
    **dict.fromkeys(TABLES, " Save the table by DataFrame.to_parquet."),
    **dict.fromkeys(ARRAYS, " Save an array by numpy.save, or a table by DataFrame.to_parquet."),
    **dict.fromkeys(ARCHIVES, " Unpack it, and name what was in it."),
    **dict.fromkeys(images.ENDINGS, " Name the folder where the images are."),
}


def read_file(
    path: str | Path,
    /,
    *,
    image_size: tuple[int, int] | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    day_first: bool | None = None,
    header: bool | None = None,
    missing: str | Sequence[str] = (),
    texts: str | Sequence[str] = (),
) -> Contents:
    """Read the arrays of a file, or the images of a folder, all with as many rows.

    Columns are 1-dimensional arrays of float64, int64, bool, datetime64[s] or [us], or objects:
    texts, and None where a text is missing. Images are uint8 of the shape (n, height, width, 1 or
    3), turned as viewers show them.

    What a column of texts holds is decided once, by the evidence of the whole file. It is the same
    for text files and for the columns of texts of all other formats:

    1. Cells that stand for missing values are set aside: empty ones, those of the option
       `missing`, the errors of spreadsheets such as #DIV/0!, the words NA, N/A, null, None, ? and
       their like, and, if all else are numbers or dates, signs such as "-" and ".". Among texts,
       the words are texts if the column also has empty cells.
    2. If all other cells are numbers, these are numbers: with a decimal point or a decimal comma,
       signs between thousands, the same unit, currency or percent sign (which is left out),
       parentheses or a minus behind for negative ones. 1.234 is what other cells of the column or
       other columns of the file prove, such as 1,5. If none does, 1.234 between commas has a
       decimal point and 1,234 between semicolons a decimal comma; other columns are refused.
    3. If all are dates, these are dates: ISO 8601 in all its forms, and days, months (as numbers
       or in English) and years of four digits in any usual order. Times with a zone become UTC. For
       01/02/2020 other cells or columns decide; if none does, the column is refused.
    4. If all are times of day or durations in one form, such as 8:30 or 1:30:00, these are numbers
       of hours. Forms that may be scores or ratios, such as 25:17, are texts.
    5. If at least 80 % of the cells are numbers or dates, but not all, the column is refused with
       the cells that are not. So it is from 50 % on, or with few different units, if it has more
       different texts than could be classes. Otherwise it holds texts.

    Text files are UTF-8, UTF-16 or Windows-1252, are separated by commas, semicolons, tabs or
    bars, and have the names of the columns in their first line, unless that holds numbers or dates
    as the lines after it do. The columns are then "0", "1", …. A line "sep=;" may come first. A
    column without a name is "Unnamed: 0" with its number, as in pandas. Rows without a cell are not
    counted. A title above the names, units below them and sums at the end are errors.

    Args:
        path: Of the file or folder.
        image_size: Height and width to which images are resized; by default all images must have
            one size, of at most 1024 x 1024 pixels or as many.
        encoding: Of a text file, such as "cp1252"; by default found out.
        decimal: "." or "," as the decimal sign; by default found out.
        day_first: Whether 01/02/2020 is in February; by default found out.
        header: Whether the first line of a text file holds names; by default found out.
        missing: Further cells that stand for missing values, in all columns.
        texts: Columns that are texts whatever they hold, with empty cells alone missing.

    Returns:
        The columns; why some of them cannot be used; and notes on how cells were read.

    Raises:
        DataError: The file cannot be used.
        MissingFileError: There is no such file; it is a DataError and a FileNotFoundError.
        MemoryError: The contents are larger than the free memory.
        MissingPackageError: A table needs pyarrow, and images need pillow, from the extra `cli`.
    """
    path = Path(path)
    options = Options(encoding, decimal, day_first, header, _words(missing), _words(texts))
    if os.path.isdir(path):
        return finish(path, images.read_images(path, image_size), options)
    # Not `path.is_file()`, which raises an error for a name that is too long.
    if not os.path.isfile(path):
        raise MissingFileError(f"There is no file or folder {path}.")
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(
            f"{path.name} must end in {', '.join(READERS)} or be a folder of images: "
            f"received {kind or 'no ending'}.{ADVICE.get(kind, '')}"
        )
    with one_line_errors(path.name):
        return finish(path, READERS[kind](path, options), options)


def _words(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)
