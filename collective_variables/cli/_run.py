"""Run a command: read the file, report on it, compute, print and write the results."""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from collective_variables import _errors, _extras
from collective_variables.cli import (
    _arguments,
    _pool,
    command_line,
    commands,
    dry_run,
    labelling,
    rounds,
)
from collective_variables.cli.labels import known
from collective_variables.cli.results import chosen, comparison, files
from collective_variables.cli.results import rounds as round_results
from collective_variables.cli.results.files import Result
from collective_variables.data import encoding, problems, scaling
from collective_variables.data.files.contents import Contents
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
OUTPUTS = (
    "output",
    "predictions",
    "runs",
    "page",
    "spectrum",
)  # arguments that name files to write
INPUTS = ("labelled", "labelled_table", "exclude")


def run(arguments: argparse.Namespace) -> None:
    """Read the file, report on it, and run the command.

    Also raises UserError if the arguments, the file or the table cannot be used, and WriteError if
    a result cannot be printed or written.

    Raises:
        ComputationError: Nothing could be computed. The rest is printed first.
    """
    _check_files(arguments)
    outside = known.read_outside(arguments)
    table = known.read_table(arguments, outside)
    _arguments.note(arguments, table.report())
    if outside is None:
        result = COMMANDS[arguments.command](arguments, table)
    else:
        result = _select(arguments, table, outside)
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
        paths = getattr(arguments, name, None) or []
        paths = [paths] if isinstance(paths, Path) else paths
        inputs += [(f"the file of --{name.replace('_', '-')}", path) for path in paths]
    files.check(outputs, inputs)


def _about(table: encoding.Table) -> dict[str, object]:
    return {
        "task": table.task,
        "classes": list(table.classes),
        "columns": table.columns,
        "notes": list(table.notes),
    }


def _select(
    arguments: argparse.Namespace, table: encoding.Table, outside: Contents | None = None
) -> Result:
    found = known.gather(arguments, table, outside)
    pool = _pool.pool_of_table(
        found.table,
        arguments.n_points,
        listed=found.labelled,
        excluded=found.excluded,
        is_complete=found.is_complete,
    )
    plan = labelling.plan(arguments, found, pool, command_line.METHOD)
    for sentence in (*found.notes, *pool.notes, *plan.in_words()):
        _arguments.note(arguments, sentence)
    settings = _arguments.shared(arguments) | {
        "n_points": arguments.n_points,
        "scaling": arguments.scaling,
        "wants_outlook": arguments.json or not arguments.quiet,
        "wants_predictions": arguments.predictions is not None,
    }
    if arguments.dry_run:
        return _forecast(dry_run.forecast_labelling(plan, pool, **settings))
    choice = labelling.choose(
        plan, found, pool, **settings, progress=_arguments.progress(arguments)
    )
    return _chosen(arguments, table, (found, pool, plan), choice)


def _chosen(
    arguments: argparse.Namespace,
    table: encoding.Table,
    prepared: tuple[known.Known, _pool.Pool, labelling.Plan],
    choice: labelling.Choice,
) -> Result:
    found, pool, plan = prepared
    rows = choice.rows.assign(**{chosen.ROW: pool.rows[choice.rows[chosen.ROW]]})
    for sentence in choice.notes(" and ".join(found.targets)):
        _arguments.note(arguments, sentence)
    cautions = [*scaling.notes(table, rows[chosen.ROW].to_numpy()), choice.caution()]
    for sentence in filter(None, cautions):
        _arguments.warn(sentence)
    outputs, predictions = {}, choice.predictions
    if arguments.output is not None:
        targets = found.targets
        outputs[arguments.output] = lambda: chosen.to_csv(chosen.sheet(table, rows, targets))
    if predictions is not None:
        outputs[arguments.predictions] = lambda: chosen.to_csv(
            chosen.identified(table, predictions)
        )
    by_identity = arguments.id is not None or chosen.holds_images(table)
    text = chosen.lines(table, rows[chosen.ROW], by_identity=by_identity)
    values = {
        "task": found.table.task,
        "classes": list(found.table.classes),
        "method": plan.method,
        "reason": plan.reason,
        "chosen": chosen.identified(table, rows),
        **choice.values(),
    }
    return Result(text, values, outputs)


def _compare(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    if arguments.page is not None:
        # A missing package must fail before the computation.
        with _extras.required("figures"):
            import jinja2  # noqa: F401
            import plotly  # noqa: F401
    if arguments.rounds is not None:
        return _compare_rounds(arguments, table)
    given, arguments = arguments, _arguments.with_defaults(arguments)
    _arguments.check_split(arguments, table)
    _arguments.check_predictions(arguments.methods)
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
    return _compared(given, table, compared, _setting(arguments, table, dataset))


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


def _compare_rounds(arguments: argparse.Namespace, table: encoding.Table) -> Result:
    game = rounds.game(arguments, table)
    if arguments.dry_run:
        return _forecast(dry_run.forecast_rounds(game))
    setting = _rounds_setting(game, _pool.target_names(table))
    played = round_results.evaluate(game.play(_arguments.progress(arguments)), setting)
    return _played(arguments, table, played, setting)


def _rounds_setting(game: rounds.Game, targets: list[str]) -> round_results.Setting:
    first, fit = game.splits[0], game.plan.settings
    return round_results.Setting(
        game.task,
        targets[0] if len(targets) == 1 else None,
        len(first.inputs),
        len(first.test_inputs),
        len(game.plan.sizes) - 1,
        game.plan.sizes[0],
        len(game.splits),
        fit.n_networks,
        fit.n_epochs,
        fit.learning_rate,
    )


def _played(
    arguments: argparse.Namespace,
    table: encoding.Table,
    played: round_results.Rounds,
    setting: round_results.Setting,
) -> Result:
    from collective_variables.cli.results import provenance, rounds_page

    summary = round_results.summary(played, setting)
    differences = round_results.differences(played)
    sentences = round_results.sentences(played, setting)
    parts = [
        f"mean {setting.variable} with a 95 % interval:\n{_text(summary)}",
        "\n".join(sentences),
    ]
    if len(differences):
        heading = f"{setting.variable} minus that of random selection, with a 95 % interval:"
        parts.insert(1, f"{heading}\n{_text(differences)}")
    outputs = {}
    if arguments.runs is not None:
        outputs[arguments.runs] = lambda: chosen.to_csv(played.played)
    if arguments.page is not None:
        outputs[arguments.page] = lambda: rounds_page.rounds_page(
            played, setting, table, provenance.origin(arguments)
        )
    values = {
        "summary": played.means,
        "differences": played.differences,
        "savings": played.savings,
        "rounds": played.played,
        "sentences": sentences,
    }
    failure = round_results.failure(played, setting)
    return Result("\n\n".join(parts), values, outputs, failure)


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
