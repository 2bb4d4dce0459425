"""Read the columns of text and Parquet files, through Arrow."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from collective_variables import _extras, _memory
from collective_variables.data._errors import DataError
from collective_variables.data.files.contents import MAX_COLUMNS, check_names

if TYPE_CHECKING:
    import pyarrow

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")  # cells of a text file
UNNAMED = "Unnamed: 0"  # the name that pandas gives
# A number between semicolons, with a comma or without.
DECIMAL_COMMA = r"^[+-]?\d+(?:,\d+)?(?:[eE][+-]?\d+)?$"
# What a spreadsheet would run if the selected rows were opened in one; a number may start with a
# sign.
FORMULA = r"^\s*(?:[=@]|[+-]\s*[^\d.,\s])"


def read_text(path: Path) -> dict[str, np.ndarray]:
    """Read the columns of a text file.

    Cells are texts until all cells of a column turn out to be something else.
    """
    with _extras.required("cli"):
        import pyarrow
        from pyarrow import csv, string

    separator = _separator(path)
    _memory.check(f"The cells of {path.name}", 8 * path.stat().st_size)
    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as file:
        in_file = file.schema.names
    names = check_names(path, [in_file[0] or UNNAMED, *in_file[1:]])
    convert = csv.ConvertOptions(
        column_types={name: string() for name in in_file},
        null_values=list(MISSING),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    try:
        table = csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pyarrow.ArrowInvalid as error:
        if "invalid UTF8" in str(error):
            raise _not_utf8(path) from None
        raise
    contents = {}
    for name, texts in zip(names, table.columns, strict=True):
        # One column at a time, so that the texts of all columns are never held twice.
        parsed = _parsed(texts.combine_chunks(), decimal_comma=separator == ";")
        contents[name] = column_array(path, name, parsed)
    return contents


def _separator(path: Path) -> str:
    """Return the separator, which is the most frequent of three in the line of names."""
    with path.open("rb") as file:
        # The line of names of a million columns would have megabytes.
        start = file.readline(2**22)
    try:
        header = start.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    if "\0" in header or not header.strip():
        raise DataError(f"{path.name} must begin with a line of names: received {header[:50]!r}.")
    separator = max(",;\t", key=header.count)
    n_columns = header.count(separator) + 1
    # Separators within quotes are counted too, hence the factor.
    if n_columns > 2 * MAX_COLUMNS:
        raise DataError(
            f"{path.name} must have at most {MAX_COLUMNS} columns: "
            f"its first line has about {n_columns}."
        )
    return separator


def _not_utf8(path: Path) -> DataError:
    return DataError(f'{path.name} is not UTF-8: save it as "CSV UTF-8".')


def _parsed(texts: "pyarrow.StringArray", *, decimal_comma: bool) -> "pyarrow.Array":
    """Return cells as whole numbers, numbers or ISO 8601 dates if all are, else as texts."""
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


def read_parquet(path: Path) -> dict[str, np.ndarray]:
    """Read the columns of a Parquet file."""
    with _extras.required("cli"):
        from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = check_names(path, file.schema_arrow.names)
        # A few bytes can say that a value repeats a billion times.
        _memory.check(f"The cells of {path.name}", 16 * file.metadata.num_rows * len(names))
        table = file.read()
    return {name: column_array(path, name, table[name].combine_chunks()) for name in names}


def text_array(path: Path, name: str, texts: list[str]) -> np.ndarray:
    """Return texts of NumPy as a column of objects, checked as those of a table; "" is missing."""
    with _extras.required("cli"):
        import pyarrow

    return column_array(
        path, name, pyarrow.array([text or None for text in texts], pyarrow.string())
    )


def column_array(path: Path, name: str, column: "pyarrow.Array") -> np.ndarray:
    """Return a column of a table as an array; missing values are NaN, NaT or None."""
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    if types.is_dictionary(kind):
        return column_array(path, name, column.dictionary_decode())
    if types.is_boolean(kind) or types.is_integer(kind):
        return _whole_numbers(column)
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return compute.cast(column, pyarrow.float64()).to_numpy(zero_copy_only=False)
    if types.is_date(kind) or types.is_timestamp(kind):
        seconds = compute.cast(column, pyarrow.timestamp("s"), safe=False)
        return seconds.to_numpy(zero_copy_only=False)
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise DataError(
            f"Column {name} of {path.name} must hold numbers, truth values, dates or texts: "
            f"received {kind}."
        )
    _check_formulas(path, name, column)
    return np.array(column.to_pylist(), dtype=object)


def _whole_numbers(column: "pyarrow.Array") -> np.ndarray:
    """Return whole numbers or truth values, as float64 if some are missing."""
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    # int64 and bool have no NaN, and 64 bits without a sign do not fit into int64.
    has_floats = column.null_count > 0 or types.is_uint64(kind)
    if types.is_boolean(kind):
        column = compute.cast(column, pyarrow.uint8())  # Arrow casts no bool to float64
    numbers = compute.cast(column, pyarrow.float64() if has_floats else kind)
    dtype = np.float64 if has_floats else np.bool_ if types.is_boolean(kind) else np.int64
    return numbers.to_numpy(zero_copy_only=False).astype(dtype)


def _check_formulas(path: Path, name: str, column: "pyarrow.Array") -> None:
    """Raise DataError if a text would be run by a spreadsheet."""
    from pyarrow import compute

    matches = compute.match_substring_regex(column, FORMULA)
    # A missing text matches nothing, so it is null here.
    is_formula = compute.fill_null(matches, False).to_numpy(zero_copy_only=False)
    if is_formula.any():
        row = int(np.argmax(is_formula))
        raise DataError(
            f"Column {name} of {path.name} holds a formula in row {row}, which is not run: "
            f"{column[row].as_py()[:50]!r}."
        )
