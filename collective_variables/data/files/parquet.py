"""Read the columns of a Parquet file, through Arrow."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from collective_variables import _extras, _memory
from collective_variables.data.files.contents import Column, Parts, check_names, unusable
from collective_variables.data.files.lines import row_place
from collective_variables.data.files.options import Options
from collective_variables.data.files.texts import arrow
from collective_variables.data.files.texts.columns import read_columns

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet


def read_parquet(path: Path, options: Options) -> Parts:
    """Read the columns of a Parquet file; columns of texts are read as in a text file."""
    with _extras.required("cli"):
        from pyarrow import BaseExtensionType, parquet, types

    with parquet.ParquetFile(path) as file:
        names = check_names(path, file.schema_arrow.names)
        # A few bytes can say that a value repeats a billion times.
        n_cells = max(file.metadata.num_rows * len(names), _n_values(file.metadata))
        _memory.check(f"The cells of {path.name}", 16 * n_cells)
        table = file.read()
    columns, texts, categories = {}, {}, []
    for name, column in zip(names, table.columns):
        column = column.combine_chunks()
        if isinstance(column.type, BaseExtensionType):
            column = column.storage  # a tensor is stored as lists of numbers
        if types.is_dictionary(column.type):
            # Missing categories of pandas are null.
            categories.append(name)
            column = column.dictionary_decode()
        if arrow.is_text(column.type):
            texts[name] = column
        else:
            columns[name] = _lists(column) if _is_list(column.type) else _column(column)
    options = replace(options, texts=(*options.texts, *categories))
    columns |= read_columns(texts, options, row_place, usual=".")
    return Parts({name: columns[name] for name in names})


def _n_values(metadata: "parquet.FileMetaData") -> int:
    """Return the number of all values; a list has several."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return sum(
        group.column(place).num_values for group in groups for place in range(group.num_columns)
    )


def _column(column: "pyarrow.Array") -> Column:
    """Return a column that holds neither texts nor lists."""
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


def _is_list(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _lists(column: "pyarrow.Array") -> Column:
    """Return lists of numbers, such as embeddings, as an array with a row for each list.

    The numbers of a missing list are NaN.
    """
    from pyarrow import compute

    n_rows = len(column)
    present = column.drop_null()
    lengths = compute.list_value_length(present).to_numpy(zero_copy_only=False)
    numbers = present.flatten()
    if _is_list(numbers.type):
        return unusable(n_rows, f"it must hold lists of numbers: it holds {column.type}")
    cells = _column(numbers)
    if cells.refused is not None or cells.values.dtype.kind not in "biuf":
        return unusable(n_rows, f"it must hold lists of numbers: it holds {column.type}")
    width, _ = Counter(lengths.tolist()).most_common(1)[0] if len(lengths) else (0, 0)
    if not width:
        return unusable(n_rows, "its lists are empty")
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    if len(others := np.flatnonzero(lengths != width)):
        return unusable(
            n_rows,
            f"its lists must be of one length: that of {row_place(int(rows[others[0]]))} has the "
            f"length {lengths[others[0]]}, others {width}",
        )
    array = cells.values.reshape(len(rows), width)
    if len(rows) == n_rows:
        return Column(array)
    whole = np.full((n_rows, width), np.nan)
    whole[rows] = array
    return Column(whole)
