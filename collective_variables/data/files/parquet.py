"""Read the columns of a Parquet file, through Arrow."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from collective_variables import _extras, _memory
from collective_variables.data.files.contents import Column, Parts, check_names, unusable
from collective_variables.data.files.lines import row_place
from collective_variables.data.files.options import Options
from collective_variables.data.files.texts import arrow
from collective_variables.data.files.texts.columns import read_columns

if TYPE_CHECKING:
    import pyarrow


def read_parquet(path: Path, options: Options) -> Parts:
    """Read the columns of a Parquet file; those of texts as the columns of a text file."""
    with _extras.required("cli"):
        from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        names = check_names(path, file.schema_arrow.names)
        # A few bytes can say that a value repeats a billion times.
        _memory.check(f"The cells of {path.name}", 16 * file.metadata.num_rows * len(names))
        table = file.read()
    columns, texts, categories = {}, {}, []
    for name, column in zip(names, table.columns):
        column = column.combine_chunks()
        if types.is_dictionary(column.type):
            # Categories of pandas: what is missing among them is null.
            categories.append(name)
            column = column.dictionary_decode()
        if arrow.is_text(column.type):
            texts[name] = column
        else:
            columns[name] = _column(column)
    options = replace(options, texts=(*options.texts, *categories))
    columns |= read_columns(texts, options, row_place, usual=".")
    return Parts({name: columns[name] for name in names})


def _column(column: "pyarrow.Array") -> Column:
    """Return a column of anything but texts."""
    from pyarrow import types

    kind = column.type
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    if any(test(kind) for test in tests):
        return Column(arrow.to_numpy(column))
    if types.is_date(kind) or types.is_timestamp(kind):
        return Column(arrow.instants(column))
    return unusable(
        len(column), f"it must hold numbers, truth values, dates or texts: it holds {kind}"
    )
