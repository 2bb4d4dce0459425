"""The command line: `python -m collective_variables select | compare | measure FILE …`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from collective_variables.cli import command_line, commands, dry_run
from collective_variables.data import _errors, encoding, reading
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
LARGEST = 1000  # points of a kernel that nobody asked for


def _options(pairs: Sequence[str]) -> dict[str, object]:
    """NAME=VALUE, the values as in YAML."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in found:
            raise _errors.DataError(f"An option must be NAME=VALUE, each once: received {pair!r}.")
        found[name] = yaml.safe_load(value)
    return found


def _rows(path: Path | None, n_rows: int) -> list[int]:
    """The rows in a file, one on a line; what `select` writes to standard output."""
    if path is None:
        return []
    rows = []
    for number, line in enumerate(path.read_text().split("\n"), start=1):
        if not line.strip():
            continue
        if not line.strip().isdecimal() or int(line) >= n_rows:
            raise _errors.DataError(
                f"Line {number} of {path} must be a row, 0 to {n_rows - 1}: received {line.strip()[:50]!r}."
            )
        rows.append(int(line))
    return rows


def _progress(given: argparse.Namespace) -> dict[str, str]:
    return {"progress": "" if given.quiet else given.command}


def _shared(given: argparse.Namespace) -> dict[str, object]:
    network, options = given.layers, _options(given.model_option)
    if given.model is not None:
        network = imported.load_model(given.model, options)
    elif options:
        raise _errors.DataError(
            f"--model-option is for the network of --model: received {', '.join(options)} alone."
        )
    return {"network": network, "seed": given.seed}


def _select(given: argparse.Namespace, table: encoding.Table) -> dict[str, object]:
    options = _shared(given) | {
        "n_points": given.n_points,
        "method": given.method,
        "options": _options(given.option),
        "labelled": _rows(given.labelled, len(table.inputs)),
    }
    if given.dry_run:
        return _forecast(given, dry_run.forecast_select(table, **options))
    found = commands.select(table, **options, **_progress(given))
    if given.output is not None:
        _write(given.output, found)
    if not given.json:
        print("\n".join(map(str, found["row"])))
    return {"chosen": found}


def _compare(given: argparse.Namespace, table: encoding.Table) -> dict[str, object]:
    dataset = encoding.split_table(
        table, Path(given.file).stem, n_test=given.n_test, seed=given.seed
    )
    options = _shared(given) | {
        "n_points": given.n_points,
        "chosen_by": {name: (name, {}) for name in given.methods if name != commands.REFERENCE},
        "n_members": given.members,
        "schedule": schedules.Schedule(
            given.loss, learning_rate=given.learning_rate, n_epochs=given.epochs
        ),
    }
    if given.dry_run:
        return _forecast(given, dry_run.forecast_compare(dataset, **options))
    compared = commands.compare(dataset, **options, **_progress(given))
    if given.runs is not None:
        _write(given.runs, compared.runs)
    if given.page is not None:
        _replace(given.page, commands.page(compared, Path(given.file).name))
    summary, differences = compared.summary[list(SUMMARY)], compared.differences
    differences = differences.loc[differences["variable"] == "min_test_loss", list(DIFFERENCES)]
    if not given.json:
        print(
            f"{_text(summary)}\n\nsmallest test loss minus that of random choice:\n{_text(differences)}"
        )
    return {"summary": summary, "differences": differences}


def _measure(given: argparse.Namespace, table: encoding.Table) -> dict[str, object]:
    sizes = given.n_points or [min(LARGEST, int(table.is_labelled.sum()))]
    options = _shared(given) | {"n_points": sizes, "n_members": given.members}
    if given.dry_run:
        return _forecast(given, dry_run.forecast_measure(table, **options))
    measured = commands.measure(table, **options, **_progress(given))
    if given.spectrum is not None:
        _write(given.spectrum, measured.spectra)
    means = measured.variables[list(VARIABLES)].groupby("n_points", as_index=False).mean()
    if not given.json:
        print(f"{_text(means)}\nmeans over {given.members} networks")
    return {"variables": measured.variables}


def _forecast(given: argparse.Namespace, found: dry_run.Forecast) -> dict[str, object]:
    if not given.json:
        print(f"It would take {found.in_words()}.")
    return {"seconds": list(found.seconds), "bytes": found.n_bytes}


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.4g}".format)


def _write(path: Path, table: pd.DataFrame) -> None:
    _replace(path, table.to_csv(index=False))


def _replace(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)


RUN = {"select": _select, "compare": _compare, "measure": _measure}


def _about(table: encoding.Table) -> dict[str, object]:
    return {
        "task": table.task,
        "classes": list(table.classes),
        "columns": table.columns,
        "notes": list(table.notes),
    }


def _values(found: object) -> object:
    """Tables as lists of rows, for JSON, in which what is not finite is null."""
    if isinstance(found, pd.DataFrame):
        return json.loads(found.to_json(orient="records", double_precision=15))
    return found


def run(given: argparse.Namespace) -> None:
    """Read the file, say what is in it, and do what was asked for."""
    contents = reading.read_file(given.file, image_size=given.image_size)
    table = encoding.encode_table(contents, given.target, ignored=given.ignore, task=given.task)
    if not given.quiet:
        words = [
            _text(table.columns.astype(object).fillna("")),
            *table.notes,
            f"{len(table.inputs)} rows, {table.task}",
        ]
        print("\n".join(words), file=sys.stderr)
    found = RUN[given.command](given, table)
    if given.json:
        print(json.dumps({name: _values(of) for name, of in (_about(table) | found).items()}))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 for what could not be computed, 2 for wrong arguments or data, 130 for an
    interruption.
    """
    given = command_line.build_parser().parse_args(arguments)
    try:
        run(given)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
