"""Fill in the targets that files of labelled rows hold, such as those that `select` wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from collective_variables import _extras
from collective_variables.cli import _rows
from collective_variables.cli.results import chosen
from collective_variables.data._errors import DataError
from collective_variables.data.columns import targets as target_columns
from collective_variables.data.columns import values
from collective_variables.data.encoding import Table
from collective_variables.data.files.contents import Column, Contents
from collective_variables.data.files.options import Options
from collective_variables.data.files.texts.columns import read_columns

SAME = 1e-9  # share by which two numbers may differ that are written in two ways


def fill_in(
    table: Table, sheets: Sequence[_rows.Sheet], targets: Sequence[str], task: str, options: Options
) -> tuple[Table, list[str]]:
    """Return the table with the targets that files hold, and notes.

    The cells of a file are read as those of a table: all its columns decide together on decimal
    signs, units and missing values. Numbers next to texts in the table are classes, too. Also
    raises the errors of `with_targets`.

    Args:
        table: The table.
        sheets: The lines of the files, and the rows that they name.
        targets: The columns to fill in.
        task: "auto", "regression" or "classification".
        options: How texts are read.

    Returns:
        The table and the notes.

    Raises:
        DataError: A cell cannot be a target, or differs from the one that the row has.
    """
    columns = {name: table.contents[name] for name in targets if table.contents[name].ndim == 1}
    notes = []
    for sheet in sheets:
        names = [name for name in columns if chosen.column_in_file(name) in sheet.lines[0].cells]
        read = _read(sheet, options) if names else {}
        for name in names:
            column = read[chosen.column_in_file(name)]
            if column.refused is not None:
                raise DataError(f"The target {name} cannot be used: {column.refused}.")
            n_before = values.count_missing(columns[name])
            columns[name] = _filled(name, columns[name], sheet, column.values, task)
            if n_new := n_before - values.count_missing(columns[name]):
                rows = "1 row takes its" if n_new == 1 else f"{n_new} rows take their"
                notes.append(f"{rows} {name} from {sheet.path}.")
    if not notes:
        return table, []
    table, more = with_targets(table, columns, targets, task)
    return table, [*notes, *more]


def with_targets(
    table: Table, columns: Mapping[str, np.ndarray], targets: Sequence[str], task: str
) -> tuple[Table, list[str]]:
    """Return the table with other columns of targets, and notes on their classes.

    Raises DataError if the columns cannot be targets of the task.
    """
    contents = {**table.contents, **columns}
    encoded = target_columns.encode_targets(Contents(contents), targets, task)
    changed = replace(
        table,
        targets=encoded.values,
        is_labelled=np.isfinite(encoded.values).all(axis=1),
        task=encoded.task,
        classes=encoded.classes,
        contents=contents,
    )
    return changed, [*encoded.notes, *target_columns.note_classes(encoded)]


def kind(column: np.ndarray) -> str:
    """Return what the values of a column are: "numbers", "texts" or "dates"."""
    return {"O": "texts", "b": "texts", "M": "dates"}.get(column.dtype.kind, "numbers")


def without_values(n_rows: int, dtype: np.dtype) -> np.ndarray:
    """Return a column of missing values, next to which those of a dtype can stand."""
    if dtype.kind == "M":
        return np.full(n_rows, np.datetime64("NaT"), dtype)
    return np.full(n_rows, None) if dtype.kind in "Ob" else np.full(n_rows, np.nan)


def _read(sheet: _rows.Sheet, options: Options) -> dict[str, Column]:
    """Return the columns of a file, read as those of a table."""
    with _extras.required("cli"):
        import pyarrow

    lines = sheet.lines
    cells = {
        name: pyarrow.array([_cell(line, name) for line in lines], pyarrow.string())
        for name in lines[0].cells
    }
    return read_columns(
        cells, options, lambda row: lines[row].place, usual=lines[0].decimal if lines else ""
    )


def _cell(line: _rows.Line, name: str) -> str | None:
    return chosen.unescaped(line.cells.get(name, "")) or None


def _filled(
    name: str, column: np.ndarray, sheet: _rows.Sheet, cells: np.ndarray, task: str
) -> np.ndarray:
    """Return a column with the values of a file."""
    found = np.flatnonzero(~values.is_missing(cells))
    is_known = ~values.is_missing(column)
    if not len(found):
        return column
    if not is_known.any():
        column = without_values(len(column), cells.dtype)
    elif kind(column) != kind(cells):
        _check_classes(name, column, sheet, cells, task)
        texts = np.full(len(column), None, object)
        texts[is_known] = values.name_values(column[is_known])
        column = texts
        in_file = chosen.column_in_file(name)
        cells = np.array([_cell(line, in_file) for line in sheet.lines], object)
    elif kind(column) == "numbers":
        column = column.astype(np.float64)
    column = column.copy()
    for place in found:
        row, value, line = sheet.rows[place], cells[place], sheet.lines[place]
        if values.is_missing(column[row]):
            column[row] = value
        elif not _is_same(value, column[row], line.cells[chosen.column_in_file(name)]):
            raise DataError(
                f"{line.place} and the table must agree: row {row} has the {name} "
                f"{values.name_value(value)} there, and {values.name_value(column[row])} in the "
                "table or an earlier line. Correct one of them."
            )
    return column


def _check_classes(
    name: str, column: np.ndarray, sheet: _rows.Sheet, cells: np.ndarray, task: str
) -> None:
    """Raise DataError unless a column and cells of another kind can both be classes."""
    if task == "auto":
        task = target_columns.choose_task([column]) or task
    kinds = kind(column), kind(cells)
    if "dates" in kinds or task != "classification":
        place = int(np.argmax(~values.is_missing(cells)))
        raise DataError(
            f"{sheet.lines[place].place} must have {kinds[0]} in {name}, as the table has: "
            f"received {values.shorten(cells[place])!r}."
        )


def _is_same(value: object, known: object, cell: str) -> bool:
    """Return whether a value of a file can be that of the table, which may have more digits."""
    if isinstance(known, str):
        return value == known
    is_close = abs(value - known) <= SAME * abs(known)
    return bool(is_close) or (_rows.agree(cell, known) and _is_number(cell))


def _is_number(cell: str) -> bool:
    return chosen.NUMBER.match(cell.strip()) is not None
