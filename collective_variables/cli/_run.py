"""Run a command: read the file, report on it, compute, print and write the results."""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from collective_variables import _errors, _extras
from collective_variables.cli import _arguments, _pool, _rows, commands, dry_run
from collective_variables.cli.results import chosen, comparison, files
from collective_variables.cli.results.files import Result
from collective_variables.data import encoding, problems, scaling
from collective_variables.training import schedules

VARIABLES = (
    "n_points",
    "entropy",
    "trace",
    "largest_eigenvalue",
    "effective_rank",
    "trace_per_point",
)
MAX_DEFAULT_POINTS = 1000  # of a kernel without a size from the user
OUTPUTS = ("output", "runs", "page", "spectrum")  # arguments that name files to write
INPUTS = ("labelled", "exclude")  # arguments that name files to read


def run(arguments: argparse.Namespace) -> None:
    """Read the file, report on it, and run the command.

    Also raises UserError if the arguments, the file or the table cannot be used, and WriteError if
    a result cannot be printed or written.

    Raises:
        ComputationError: Nothing could be computed. The rest is printed first.
    """
    _check_files(arguments)
    table = encoding.read_table(arguments.file, arguments.target, **_arguments.reading(arguments))
    _arguments.note(arguments, table.report())
    result = COMMANDS[arguments.command](arguments, table)
    if arguments.quiet:
        # Decisions that change the result are printed even then.
        for sentence in table.warnings:
            _arguments.warn(sentence)
    text = result.text
    if arguments.json:
        values = _about(table) | dict(result.values)
        text = json.dumps({name: _json(value) for name, value in values.items()})
    files.emit(result, text)
    if result.failure:
        raise _errors.ComputationError(result.failure)


def _check_files(arguments: argparse.Namespace) -> None:
    """Raise DataError if a file cannot be written, or is also read."""
    named = {name: getattr(arguments, name, None) for name in OUTPUTS}
    outputs = {f"--{name}": path for name, path in named.items() if path is not None}
    inputs = [("the file that is read", Path(arguments.file))]
    for name in INPUTS:
        inputs += [(f"the file of --{name}", path) for path in getattr(arguments, name, [])]
    files.check(outputs, inputs)


def _about(table: encoding.Table) -> dict[str, object]:
    return {
        "task": table.task,
        "classes": list(table.classes),
        "columns": table.columns,
        "notes": list(table.notes),
    }


def _select(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    by_identity = arguments.id is not None or chosen.holds_images(table)
    targets = _pool.target_names(table)
    read = partial(_rows.read_rows, by_identity=by_identity)
    listed = read(arguments.labelled, table, targets)
    excluded = read(arguments.exclude, table)
    pool = _pool.pool_of_table(
        table, arguments.n_points, listed=listed.rows, excluded=excluded.rows
    )
    for sentence in (*listed.notes, *pool.notes):
        _arguments.note(arguments, sentence)
    settings = _arguments.shared(arguments) | {
        "n_points": arguments.n_points,
        "method": arguments.method,
        "options": _arguments.parse_options(arguments.option),
        "labelled": pool.labelled,
        "scaling": arguments.scaling,
    }
    _arguments.check_method(arguments, len(pool.rows), settings["options"], pool.labelled)
    if arguments.dry_run:
        return _forecast(dry_run.forecast_select(pool.table, **settings))
    rows = commands.select(pool.table, **settings, progress=_arguments.progress(arguments))
    rows[chosen.ROW] = pool.rows[rows[chosen.ROW]]
    for sentence in scaling.notes(table, rows[chosen.ROW].to_numpy()):
        _arguments.warn(sentence)
    outputs = {}
    if arguments.output is not None:
        outputs[arguments.output] = lambda: chosen.to_csv(chosen.sheet(table, rows, targets))
    text = chosen.lines(table, rows[chosen.ROW], by_identity=by_identity)
    return Result(text, {"chosen": chosen.identified(table, rows)}, outputs)


def _compare(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    if arguments.page is not None:
        # A missing package must fail before the computation.
        with _extras.required("figures"):
            import jinja2  # noqa: F401
            import plotly  # noqa: F401
    _arguments.check_split(arguments, table)
    dataset = encoding.split_table(
        table,
        Path(arguments.file).stem,
        n_test=arguments.n_test,
        seed=_arguments.seed(arguments),
        input_scaling=arguments.scaling,
    )
    methods = [name for name in arguments.methods if name != commands.REFERENCE]
    schedule = schedules.Schedule(
        arguments.loss, learning_rate=arguments.learning_rate, n_epochs=arguments.epochs
    )
    settings = _arguments.shared(arguments) | {
        "n_points": arguments.n_points,
        "methods": {name: (name, {}) for name in methods},
        "n_members": arguments.members,
        "schedule": schedule,
    }
    if arguments.dry_run:
        return _forecast(dry_run.forecast_compare(dataset, **settings))
    compared = commands.compare(dataset, **settings, progress=_arguments.progress(arguments))
    return _compared(arguments, table, compared, _setting(arguments, table, dataset))


def _setting(
    arguments: argparse.Namespace, table: encoding.Table, dataset: problems.Dataset
) -> comparison.Setting:
    target = None
    if dataset.task == "regression" and table.targets is not None and len(table.targets.T) == 1:
        target = _pool.target_names(table)[0], float(np.std(table.targets[dataset.index]))
    return comparison.Setting(
        dataset.task,
        arguments.loss,
        arguments.learning_rate,
        len(dataset.index),
        len(dataset.test_index),
        arguments.members,
        arguments.epochs,
        target,
    )


def _compared(
    arguments: argparse.Namespace,
    table: encoding.Table,
    compared: commands.Comparison,
    setting: comparison.Setting,
) -> Result:
    from collective_variables.cli.results import page, provenance

    summary = comparison.summary(compared, setting)
    differences = comparison.differences(compared)
    sentences = comparison.sentences(compared, setting)
    parts = [_text(summary), "\n".join(sentences)]
    if len(differences):
        heading = "smallest test loss minus that of random selection, with a 95 % interval:"
        parts.insert(1, f"{heading}\n{_text(differences)}")
    outputs = {}
    if arguments.runs is not None:
        outputs[arguments.runs] = lambda: chosen.to_csv(compared.runs)
    if arguments.page is not None:
        outputs[arguments.page] = lambda: page.page(
            compared, setting, table, provenance.origin(arguments)
        )
    values = {"summary": summary, "differences": differences, "sentences": sentences}
    return Result("\n\n".join(parts), values, outputs, comparison.failure(compared, setting))


def _measure(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    sizes = arguments.n_points or [min(MAX_DEFAULT_POINTS, int(table.is_labelled.sum()))]
    _arguments.check_subset(sizes, table)
    settings = _arguments.shared(arguments) | {
        "n_points": sizes,
        "n_members": arguments.members,
        "scaling": arguments.scaling,
    }
    if arguments.dry_run:
        return _forecast(dry_run.forecast_measure(table, **settings))
    measurement = commands.measure(table, **settings, progress=_arguments.progress(arguments))
    means = measurement.variables[list(VARIABLES)].groupby("n_points", as_index=False).mean()
    outputs = {}
    if arguments.spectrum is not None:
        outputs[arguments.spectrum] = lambda: chosen.to_csv(measurement.spectra)
    text = f"{_text(means)}\nmeans over {arguments.members} networks"
    return Result(text, {"variables": measurement.variables}, outputs)


COMMANDS = {"select": _select, "compare": _compare, "measure": _measure}


def _forecast(forecast: dry_run.Forecast) -> Result:
    return Result(f"It would take {forecast.in_words()}.", forecast.values())


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.4g}".format, na_rep="-")


def _json(value: object) -> object:
    """Return a table as a list of rows, with null for numbers that are not finite."""
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records", double_precision=15))
    return value
