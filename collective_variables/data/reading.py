"""Read a user's file as arrays with equally many rows, without trusting the file.

A table (.csv, .tsv, .txt, .parquet) gives its columns, and .npz its arrays. An .npy file gives the
fields of a structured array, or the columns of a two-dimensional array under "0", "1", …. An array
of more dimensions has the name of the file. A column of lists is an array. A folder gives its
images under "image", the folder of each image under "class" and its path under "file".

Nothing is unpickled, unpacked to the disk or run. A one-line error rejects files that are broken,
larger than the free memory or not what their ending says, where possible before they are read.
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
    """Read the arrays of a file, or the images of a folder, all with the same number of rows.

    Columns are one-dimensional arrays of float64, int64, bool, datetime64[s] or [us], or objects:
    texts, and None where a text is missing. Images are uint8 of the shape (n, height, width, 1 or
    3), turned as viewers show them.

    The whole file decides once what a column of texts holds. The rules are the same for text files
    and for columns of texts in all other formats:

    1. Cells that stand for missing values are set aside: empty cells, those of the option
       `missing`, spreadsheet errors such as #DIV/0!, and words such as NA, N/A, null, None and ?.
       If all other cells are numbers or dates, signs such as "-" and "." are missing, too. Among
       texts, the words are texts if the column also has empty cells.
    2. If all other cells are numbers, the column holds numbers. They may have a decimal point or a
       decimal comma, signs between thousands, and one unit, currency or percent sign, which is left
       out. Parentheses or a minus at the end make a number negative. For 1.234, other cells of the
       column or other columns decide, such as 1,5. If none does, 1.234 between commas has a decimal
       point and 1,234 between semicolons a decimal comma; other columns are refused.
    3. If all other cells are dates, the column holds dates: ISO 8601 in all its forms, or days,
       months (as numbers or in English) and years of four digits in any usual order. Times with a
       zone become UTC. For 01/02/2020, other cells or columns decide; if none does, the column is
       refused.
    4. If all other cells are times of day or durations in one form, such as 8:30 or 1:30:00, the
       column holds numbers of hours. Forms that may be scores or ratios, such as 25:17, are texts.
    5. If at least 80 % of the cells are numbers or dates, but not all, the column is refused, and
       the message shows the other cells. With more different texts than could be classes, this
       holds from 50 % on, and for numbers with few different units. Otherwise the column holds
       texts.

    Text files are UTF-8, UTF-16 or Windows-1252, and separated by commas, semicolons, tabs or bars.
    A line "sep=;" may come first. The first line holds the names of the columns, unless it holds
    numbers or dates like the lines below it; the columns are then "0", "1", …. A column without a
    name is "Unnamed: 0" with its number, as in pandas. Rows without a cell are not counted. A title
    above the names, units below them and sums at the end are errors.

    Also raises MemoryError if the contents are larger than the free memory. Raises
    MissingPackageError without pyarrow (for tables) or pillow (for images) from the extra `cli`.

    Args:
        path: Path of the file or folder.
        image_size: Height and width to which images are resized. By default all images must have
            one size, with at most 2²⁰ pixels (1024 x 1024).
        encoding: Encoding of a text file, such as "cp1252"; by default detected.
        decimal: "." or "," as the decimal sign; by default detected.
        day_first: Whether 01/02/2020 is in February; by default detected.
        header: Whether the first line of a text file holds names; by default detected.
        missing: Further cells that stand for missing values, in all columns.
        texts: Columns that are texts whatever they hold; only their empty cells are missing.

    Returns:
        The columns, why some of them cannot be used, and notes on how cells were read.

    Raises:
        DataError: The file cannot be used.
        MissingFileError: The file does not exist; it is a DataError and a FileNotFoundError.
    """
    path = Path(path)
    options = Options(encoding, decimal, day_first, header, _words(missing), _words(texts))
    if os.path.isdir(path):
        return finish(path, images.read_images(path, image_size), options)
    # `path.is_file()` would raise an error for a name that is too long.
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
