"""The command line: `python -m collective_variables select | compare | measure FILE …`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from collective_variables import commands, forecast, methods, own_data, own_files, own_models, training

DESCRIPTION = """\
Which rows of a table to label or to train on, what other ways of choosing them give, and what the
neural tangent kernel of a network says of them.

FILE is a table (.csv, .tsv, .parquet), arrays (.npz, .npy) or a folder of images. Rows count from 0,
without the line of names. Results go to standard output or to the files asked for, everything else to
standard error."""
EXAMPLES = {
    None: """\
examples:
  python -m collective_variables select houses.csv --target price --n-points 100
  python -m collective_variables compare houses.csv --target price --n-points 20 50 100
  python -m collective_variables measure houses.csv --target price --n-points 50 200

exit codes: 0 done, 1 it could not be computed, 2 wrong arguments or data, 130 interrupted""",
    "select": """\
examples:
  python -m collective_variables select houses.csv --target price --n-points 100 > rows.txt
  python -m collective_variables select houses.csv --target price --n-points 20 --labelled rows.txt
  python -m collective_variables select houses.csv --n-points 50 --method k-center --output chosen.csv
  python -m collective_variables select photos/ --n-points 200 --option normalisation=unit --json

One row on a line, in the order of choice.""",
    "compare": """\
examples:
  python -m collective_variables compare houses.csv --target price --n-points 20 50 100
  python -m collective_variables compare houses.csv --target price --n-points 50 --methods rnd paper greedy
  python -m collective_variables compare photos/ --target class --n-points 50 100 --page curves.html --runs runs.csv

Of each method and size the smallest test loss, mean and standard error over members, and its paired
difference from random choice with a 95 % interval.""",
    "measure": """\
examples:
  python -m collective_variables measure houses.csv --target price --n-points 50 200
  python -m collective_variables measure houses.csv --layers "dense 32" "dense 32" --spectrum eigenvalues.csv
  python -m collective_variables measure houses.csv --target price --model models.Residual --model-option n_outputs=1""",
}
SUMMARY = ("method", "n_points", "min_test_loss", "min_test_loss_standard_error", "entropy", "trace")
DIFFERENCES = ("method", "n_points", "mean_difference", "lower", "upper", "win_rate")
VARIABLES = ("n_points", "entropy", "trace", "largest_eigenvalue", "effective_rank", "trace_per_point")
LARGEST = 1000  # points of a kernel that nobody asked for


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    made = argparse.ArgumentParser(
        "python -m collective_variables", description=DESCRIPTION, epilog=EXAMPLES[None], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands_of = made.add_subparsers(dest="command", required=True, metavar="select | compare | measure")
    for name, words in (
        ("select", "choose rows to label or to train on"),
        ("compare", "train networks on what each method chooses, and compare their test losses"),
        ("measure", "entropy, trace and spectrum of a network's kernel on random rows"),
    ):
        of = commands_of.add_parser(
            name, help=words, description=words[0].upper() + words[1:] + ".", epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_data(of)
        ADD[name](of)
        _add_rest(of)
    return made


def _add_data(of: argparse.ArgumentParser) -> None:
    of.add_argument("file", metavar="FILE", help="table, arrays, or folder of images")
    of.add_argument("--target", action="append", default=[], metavar="NAME", help="column to predict; may be given several times")
    of.add_argument("--ignore", action="append", default=[], metavar="NAME", help="column that is neither target nor input; may be given several times")
    of.add_argument("--task", choices=own_data.TASKS, default="auto", help="what the target is (auto: texts or few whole numbers are classes)")
    of.add_argument("--image-size", type=_size, metavar="HxW", help="pixels that images are brought to")
    network = of.add_mutually_exclusive_group()
    network.add_argument("--layers", nargs="+", metavar="LAYER", help='hidden layers of the network, such as "dense 128" or "conv 32 3x3"')
    network.add_argument("--model", metavar="PATH", help="import path of a network of your own, such as models.Residual")
    of.add_argument("--model-option", action="append", default=[], metavar="NAME=VALUE", help="option of that network; may be given several times")


def _add_select(of: argparse.ArgumentParser) -> None:
    of.add_argument("--n-points", type=int, required=True, metavar="N", help="rows to choose, beyond those already labelled")
    of.add_argument("--method", choices=methods.METHODS, default="rnd", help="how (default: rnd, random network distillation)")
    of.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of the method; may be given several times")
    of.add_argument("--labelled", type=Path, metavar="ROWS", help="file with the rows that are labelled already, one on a line")
    of.add_argument("--output", type=Path, metavar="CSV", help="write order, row and distance to this file")


def _add_compare(of: argparse.ArgumentParser) -> None:
    of.add_argument("--n-points", type=int, nargs="+", required=True, metavar="N", help="sizes of what is chosen")
    of.add_argument("--methods", nargs="+", choices=methods.METHODS, default=["rnd"], metavar="METHOD", help="beside random choice (default: rnd)")
    of.add_argument("--members", type=int, default=5, metavar="N", help="networks for each method and size (default: 5)")
    of.add_argument("--n-test", type=int, metavar="N", help="test points (default: one row in five)")
    of.add_argument("--epochs", type=int, default=500, metavar="N", help="passes over what is chosen (default: 500)")
    of.add_argument("--learning-rate", type=float, default=0.005, metavar="RATE", help="of Adam (default: 0.005)")
    of.add_argument("--loss", choices=training.LOSSES, default="mse", help="(default: mse)")
    of.add_argument("--runs", type=Path, metavar="CSV", help="write a row for each network to this file")
    of.add_argument("--page", type=Path, metavar="HTML", help="write a page with the learning curves")


def _add_measure(of: argparse.ArgumentParser) -> None:
    of.add_argument("--n-points", type=int, nargs="+", metavar="N", help="sizes of the random subsets (default: all rows, at most 1000)")
    of.add_argument("--members", type=int, default=5, metavar="N", help="networks (default: 5)")
    of.add_argument("--spectrum", type=Path, metavar="CSV", help="write all eigenvalues to this file")


ADD = {"select": _add_select, "compare": _add_compare, "measure": _add_measure}


def _add_rest(of: argparse.ArgumentParser) -> None:
    of.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    of.add_argument("--json", action="store_true", help="one JSON object on standard output, in place of words")
    of.add_argument("--quiet", action="store_true", help="no words about the data and no progress")
    of.add_argument("--dry-run", action="store_true", help="say what is there, and what time and memory it will take")


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH: received {text!r}")
    return int(height), int(width)


def _options(pairs: Sequence[str]) -> dict[str, object]:
    """NAME=VALUE, the values as in YAML."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in found:
            raise own_data.DataError(f"An option must be NAME=VALUE, each once: received {pair!r}.")
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
            raise own_data.DataError(f"Line {number} of {path} must be a row, 0 to {n_rows - 1}: received {line.strip()[:50]!r}.")
        rows.append(int(line))
    return rows


def _progress(given: argparse.Namespace) -> dict[str, str]:
    return {"progress": "" if given.quiet else given.command}


def _shared(given: argparse.Namespace) -> dict[str, object]:
    network, options = given.layers, _options(given.model_option)
    if given.model is not None:
        network = own_models.load(given.model, options)
    elif options:
        raise own_data.DataError(f"--model-option is for the network of --model: received {', '.join(options)} alone.")
    return {"network": network, "seed": given.seed}


def _select(given: argparse.Namespace, table: own_data.Table) -> dict[str, object]:
    options = _shared(given) | {
        "n_points": given.n_points,
        "method": given.method,
        "options": _options(given.option),
        "labelled": _rows(given.labelled, len(table.inputs)),
    }
    if given.dry_run:
        return _forecast(given, forecast.of_select(table, **options))
    found = commands.select(table, **options, **_progress(given))
    if given.output is not None:
        _write(given.output, found)
    if not given.json:
        print("\n".join(map(str, found["row"])))
    return {"chosen": found}


def _compare(given: argparse.Namespace, table: own_data.Table) -> dict[str, object]:
    dataset = own_data.dataset(table, Path(given.file).stem, n_test=given.n_test, seed=given.seed)
    options = _shared(given) | {
        "n_points": given.n_points,
        "chosen_by": {name: (name, {}) for name in given.methods if name != commands.REFERENCE},
        "n_members": given.members,
        "schedule": training.Schedule(given.loss, learning_rate=given.learning_rate, n_epochs=given.epochs),
    }
    if given.dry_run:
        return _forecast(given, forecast.of_compare(dataset, **options))
    compared = commands.compare(dataset, **options, **_progress(given))
    if given.runs is not None:
        _write(given.runs, compared.runs)
    if given.page is not None:
        _replace(given.page, commands.page(compared, Path(given.file).name))
    summary, differences = compared.summary[list(SUMMARY)], compared.differences
    differences = differences.loc[differences["variable"] == "min_test_loss", list(DIFFERENCES)]
    if not given.json:
        print(f"{_text(summary)}\n\nsmallest test loss minus that of random choice:\n{_text(differences)}")
    return {"summary": summary, "differences": differences}


def _measure(given: argparse.Namespace, table: own_data.Table) -> dict[str, object]:
    sizes = given.n_points or [min(LARGEST, int(table.is_labelled.sum()))]
    options = _shared(given) | {"n_points": sizes, "n_members": given.members}
    if given.dry_run:
        return _forecast(given, forecast.of_measure(table, **options))
    measured = commands.measure(table, **options, **_progress(given))
    if given.spectrum is not None:
        _write(given.spectrum, measured.spectra)
    means = measured.variables[list(VARIABLES)].groupby("n_points", as_index=False).mean()
    if not given.json:
        print(f"{_text(means)}\nmeans over {given.members} networks")
    return {"variables": measured.variables}


def _forecast(given: argparse.Namespace, found: forecast.Forecast) -> dict[str, object]:
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


def _about(table: own_data.Table) -> dict[str, object]:
    return {"task": table.task, "classes": list(table.classes), "columns": table.columns, "notes": list(table.notes)}


def _values(found: object) -> object:
    """Tables as lists of rows, for JSON, in which what is not finite is null."""
    if isinstance(found, pd.DataFrame):
        return json.loads(found.to_json(orient="records", double_precision=15))
    return found


def run(given: argparse.Namespace) -> None:
    """Read the file, say what is in it, and do what was asked for."""
    contents = own_files.read(given.file, image_size=given.image_size)
    table = own_data.table(contents, given.target, ignored=given.ignore, task=given.task)
    if not given.quiet:
        words = [_text(table.columns.astype(object).fillna("")), *table.notes, f"{len(table.inputs)} rows, {table.task}"]
        print("\n".join(words), file=sys.stderr)
    found = RUN[given.command](given, table)
    if given.json:
        print(json.dumps({name: _values(of) for name, of in (_about(table) | found).items()}))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 for what could not be computed, 2 for wrong arguments or data, 130 for an interruption."""
    given = parser().parse_args(arguments)
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
