"""Carry out a command: read the file, report on it, compute, print and write the results."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from collective_variables import _extras
from collective_variables.cli import commands, dry_run
from collective_variables.data import encoding
from collective_variables.data._errors import DataError, MissingFileError
from collective_variables.networks import imported
from collective_variables.training import schedules

SUMMARY = (
    "method",
    "n_points",
    "min_test_loss",
    "min_test_loss_standard_error",
    "entropy",
    "trace",
)
DIFFERENCES = ("method", "n_points", "mean_difference", "lower", "upper", "win_rate")
VARIABLES = (
    "n_points",
    "entropy",
    "trace",
    "largest_eigenvalue",
    "effective_rank",
    "trace_per_point",
)
MAX_DEFAULT_POINTS = 1000  # of a kernel whose size the user does not give
FILES = ("output", "runs", "page", "spectrum")  # arguments that name files to write


class Result(NamedTuple):
    """What a command prints as text or as JSON, and the files that it writes."""

    text: str
    values: dict[str, object]
    files: Mapping[Path, str] = MappingProxyType({})


def run(arguments: argparse.Namespace) -> None:
    """Read the file, report on it, and do what was asked for."""
    check_outputs(arguments)
    table = encoding.read_table(
        arguments.file,
        arguments.target,
        ignored=arguments.ignore,
        task=arguments.task,
        image_size=arguments.image_size,
    )
    _note(arguments, _report(table))
    result = COMMANDS[arguments.command](arguments, table)
    # Printed before the files are written, so that a full disk does not take everything.
    if arguments.json:
        values = _about(table) | result.values
        print(json.dumps({name: _json(value) for name, value in values.items()}))
    else:
        print(result.text)
    for path, text in result.files.items():
        write(path, text)


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise DataError for a file that cannot be written, before the work begins."""
    for path in (getattr(arguments, name, None) for name in FILES):
        if path is not None:
            try:
                _check_output(path)
            except OSError as error:
                raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


def _check_output(path: Path) -> None:
    target = path.resolve()
    if target.is_dir():
        raise DataError(f"The file to write must not be a folder: received {path}.")
    if not target.parent.is_dir():
        raise DataError(f"{path} cannot be written: there is no folder {target.parent}.")
    # A regular file is replaced, which changes its folder.
    places = [target] if target.exists() else []
    places += [target.parent] if _is_regular(target) else []
    if not all(os.access(place, os.W_OK) for place in places):
        raise DataError(f"{path} cannot be written: permission denied.")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; a link leads to its target, a device or pipe stays."""
    target = path.resolve()
    if not _is_regular(target):
        target.write_text(text, encoding="utf-8")
        return
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _is_regular(path: Path) -> bool:
    """Return whether a path is a regular file, or could become one."""
    return path.is_file() or not path.exists()


def _report(table: encoding.Table) -> str:
    lines = [
        _text(table.columns.astype(object).fillna("")),
        *table.notes,
        f"{len(table.inputs)} rows, {table.task}",
    ]
    return "\n".join(lines)


def _about(table: encoding.Table) -> dict[str, object]:
    return {
        "task": table.task,
        "classes": list(table.classes),
        "columns": table.columns,
        "notes": list(table.notes),
    }


def _select(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    settings = _shared(arguments) | {
        "n_points": arguments.n_points,
        "method": arguments.method,
        "options": parse_options(arguments.option),
        "labelled": read_rows(arguments.labelled, len(table.inputs)),
    }
    _check_effect(arguments, len(table.inputs), settings["options"], settings["labelled"])
    if arguments.dry_run:
        return _forecast(dry_run.forecast_select(table, **settings))
    rows = commands.select(table, **settings, progress=_progress(arguments))
    text = "\n".join(map(str, rows["row"]))
    return Result(text, {"chosen": rows}, _csv_files({arguments.output: rows}))


def _check_effect(
    arguments: argparse.Namespace,
    n_rows: int,
    options: dict[str, object],
    labelled: list[int],
) -> None:
    """Refuse arguments that have no effect, and note a seed that has none."""
    method = arguments.method
    if "labelled" in options:
        raise DataError("Labelled rows are read from a file: use --labelled, not --option.")
    has_network = arguments.layers is not None or arguments.model is not None
    if has_network and method not in commands.NETWORK_METHODS:
        raise DataError(
            f"--layers and --model are for methods that use a network, "
            f"{', '.join(commands.NETWORK_METHODS)}: received the method {method}."
        )
    uses_seed = commands.uses_seed(method, options, n_rows, labelled=labelled)
    if arguments.seed is not None and not uses_seed:
        _note(arguments, f"--seed changes nothing: {method} draws no random numbers here.")


def _compare(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    if arguments.page is not None:
        # Before the work, not after it.
        with _extras.required("figures"):
            import plotly  # noqa: F401
    dataset = encoding.split_table(
        table, Path(arguments.file).stem, n_test=arguments.n_test, seed=_seed(arguments)
    )
    methods = [name for name in arguments.methods if name != commands.REFERENCE]
    settings = _shared(arguments) | {
        "n_points": arguments.n_points,
        "methods": {name: (name, {}) for name in methods},
        "n_members": arguments.members,
        "schedule": schedules.Schedule(
            arguments.loss, learning_rate=arguments.learning_rate, n_epochs=arguments.epochs
        ),
    }
    if arguments.dry_run:
        return _forecast(dry_run.forecast_compare(dataset, **settings))
    comparison = commands.compare(dataset, **settings, progress=_progress(arguments))
    files = _csv_files({arguments.runs: comparison.runs})
    if arguments.page is not None:
        files[arguments.page] = commands.page(comparison, Path(arguments.file).name)
    summary = comparison.summary[list(SUMMARY)]
    is_loss = comparison.differences["variable"] == "min_test_loss"
    differences = comparison.differences.loc[is_loss, list(DIFFERENCES)]
    text = (
        f"{_text(summary)}\n\n"
        f"smallest test loss minus that of random selection:\n{_text(differences)}"
    )
    return Result(text, {"summary": summary, "differences": differences}, files)


def _measure(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    sizes = arguments.n_points or [min(MAX_DEFAULT_POINTS, int(table.is_labelled.sum()))]
    settings = _shared(arguments) | {"n_points": sizes, "n_members": arguments.members}
    if arguments.dry_run:
        return _forecast(dry_run.forecast_measure(table, **settings))
    measurement = commands.measure(table, **settings, progress=_progress(arguments))
    means = measurement.variables[list(VARIABLES)].groupby("n_points", as_index=False).mean()
    return Result(
        f"{_text(means)}\nmeans over {arguments.members} networks",
        {"variables": measurement.variables},
        _csv_files({arguments.spectrum: measurement.spectra}),
    )


COMMANDS = {"select": _select, "compare": _compare, "measure": _measure}


def parse_options(pairs: Sequence[str]) -> dict[str, object]:
    """Return NAME=VALUE as a dictionary; values are read as YAML.

    Raises DataError for anything else, and for a name that is there twice.
    """
    with _extras.required("cli"):
        import yaml

    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in options:
            raise DataError(f"An option must be NAME=VALUE, each once: received {pair!r}.")
        try:
            options[name] = yaml.safe_load(value)
        # A date that does not exist is a ValueError.
        except (yaml.YAMLError, ValueError):
            raise DataError(f"The value of an option must be YAML: received {pair!r}.") from None
    return options


def read_rows(path: Path | None, n_rows: int) -> list[int]:
    """Return the rows in a file, one on a line, which is what `select` prints; [] without a file.

    Raises DataError for a file that cannot be read, and for a line that is not one of `n_rows`.
    """
    if path is None:
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} must be a text in UTF-8, one row on a line.") from None
    except FileNotFoundError:
        raise MissingFileError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    rows = []
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        if not line:
            continue
        if not (line.isdecimal() and len(line) < 20 and int(line) < n_rows):
            raise DataError(
                f"Line {number} of {path} must be a row, 0 to {n_rows - 1}: received {line[:50]!r}."
            )
        rows.append(int(line))
    return rows


def _shared(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings that all commands have."""
    network, options = arguments.layers, parse_options(arguments.model_option)
    if arguments.model is not None:
        network = _load_model(arguments.model, options)
    elif options:
        raise DataError(
            f"--model-option is for the network of --model: received {', '.join(options)} only."
        )
    return {"network": network, "seed": _seed(arguments)}


def _load_model(path: str, options: dict[str, object]) -> imported.Model:
    """Return the user's network; its modules may lie in the current folder."""
    # `python -m` puts the folder there, the installed program does not.
    folder = os.getcwd()
    if not {"", folder} & set(sys.path):
        sys.path.insert(0, folder)
    return imported.load_model(path, options)


def _seed(arguments: argparse.Namespace) -> int:
    return 0 if arguments.seed is None else arguments.seed


def _progress(arguments: argparse.Namespace) -> str:
    return "" if arguments.quiet else arguments.command


def _note(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text, file=sys.stderr)


def _forecast(forecast: dry_run.Forecast) -> Result:
    values = {"seconds": list(forecast.seconds), "bytes": forecast.n_bytes}
    return Result(f"It would take {forecast.in_words()}.", values)


def _csv_files(tables: dict[Path | None, pd.DataFrame]) -> dict[Path, str]:
    """Return the text of each table whose file was asked for."""
    return {path: table.to_csv(index=False) for path, table in tables.items() if path is not None}


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.4g}".format)


def _json(value: object) -> object:
    """Return tables as lists of rows, in which numbers that are not finite are null."""
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records", double_precision=15))
    return value
