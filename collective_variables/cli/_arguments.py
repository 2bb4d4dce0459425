"""Interpret the arguments of the command line: options, a network, a seed, and checks."""

import argparse
import os
import sys
from collections.abc import Sequence

from collective_variables import _extras
from collective_variables.cli import commands
from collective_variables.data import encoding
from collective_variables.data._errors import DataError
from collective_variables.networks import imported

# The keywords of `encoding.read_table`, with the arguments that give them.
READING = {
    "ignored": "ignore",
    "used": "use",
    "identity": "id",
    "task": "task",
    "image_size": "image_size",
    "encoding": "encoding",
    "decimal": "decimal",
    "day_first": "day_first",
    "header": "header",
    "missing": "missing",
    "texts": "texts",
}

# What `compare` trains without --rounds. Rounds have the defaults of `FitSettings`.
COMPARED = {"methods": ["rnd-linearised"], "epochs": 500, "learning_rate": 0.005, "loss": "mse"}


def with_defaults(arguments: argparse.Namespace, /) -> argparse.Namespace:
    """Return the arguments of `compare` without --rounds, with the defaults that it then has."""
    values = {name: getattr(arguments, name) for name in COMPARED}
    given = {name: value for name, value in values.items() if value is not None}
    return argparse.Namespace(**vars(arguments) | COMPARED | given)


def reading(arguments: argparse.Namespace, /) -> dict[str, object]:
    """Return the keywords of `encoding.read_table` that were given."""
    values = {name: getattr(arguments, argument) for name, argument in READING.items()}
    return {name: value for name, value in values.items() if value not in (None, [])}


def parse_options(pairs: Sequence[str], /) -> dict[str, object]:
    """Return NAME=VALUE as a dictionary; values are read as YAML.

    Raises:
        DataError: A pair has another form, or a name occurs twice.
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
        # YAML raises ValueError for a date that does not exist.
        except (yaml.YAMLError, ValueError):
            raise DataError(f"The value of an option must be YAML: received {pair!r}.") from None
    return options


def shared(arguments: argparse.Namespace, /) -> dict[str, object]:
    """Return the settings that all commands have."""
    network, options = arguments.layers, parse_options(arguments.model_option)
    if arguments.model is not None:
        network = _load_model(arguments.model, options)
    elif options:
        raise DataError(
            f"--model-option is for the network of --model: received {', '.join(options)} only."
        )
    return {"network": network, "seed": seed(arguments)}


def _load_model(path: str, options: dict[str, object]) -> imported.Model:
    """Return the user's network; its modules may be in the current folder."""
    # `python -m` adds the folder to the path, the installed program does not.
    folder = os.getcwd()
    if not {"", folder} & set(sys.path):
        sys.path.insert(0, folder)
    return imported.load_model(path, options)


def seed(arguments: argparse.Namespace, /) -> int:
    """Return the seed, 0 by default."""
    return 0 if arguments.seed is None else arguments.seed


def progress(arguments: argparse.Namespace, /) -> str:
    """Return the text in front of progress bars; "" shows none."""
    return "" if arguments.quiet else arguments.command


def note(arguments: argparse.Namespace, text: str, /) -> None:
    """Print a note to standard error, unless the user asked for quiet."""
    if not arguments.quiet:
        warn(text)


def warn(text: str, /) -> None:
    """Print a warning to standard error."""
    print(text, file=sys.stderr)


def check_method(
    arguments: argparse.Namespace,
    n_rows: int,
    options: dict[str, object],
    labelled: Sequence[int],
    /,
) -> None:
    """Reject arguments of `select` that have no effect, and note a seed that has none.

    Args:
        arguments: The parsed arguments.
        n_rows: Number of rows to select from.
        options: Options of the method.
        labelled: Rows that are labelled.

    Raises:
        DataError: A network is given to a method without one.

    Also raises the errors of `check_typed` and `check_predictions`.
    """
    method = arguments.method
    check_typed(options)
    check_predictions([method])
    has_network = arguments.layers is not None or arguments.model is not None
    if has_network and not commands.uses_network(method, options):
        raise DataError(
            f"--layers and --model are for methods that use a network, "
            f"{', '.join(commands.NETWORK_METHODS)}, and for the option kernel of others: received "
            f"the method {method}."
        )
    uses_seed = commands.uses_seed(method, options, n_rows, labelled=labelled)
    if arguments.seed is not None and not uses_seed:
        note(arguments, f"--seed changes nothing: {method} draws no random numbers here.")


def check_typed(options: dict[str, object], /) -> None:
    """Raise DataError if labelled rows or arrays are given as an option of a method."""
    if "labelled" in options:
        raise DataError("Labelled rows are read from a file: use --labelled, not --option.")
    if arrays := [name for name in commands.NOT_TYPED if name in options]:
        raise DataError(
            f"The option {arrays[0]} holds arrays, which cannot be typed: call select in Python."
        )


def check_predictions(methods: Sequence[str], /) -> None:
    """Raise DataError if one of the methods needs predictions."""
    for method in methods:
        if method in commands.PREDICTION_METHODS:
            raise DataError(
                f"{method} needs predictions of trained networks, which compare --rounds has: "
                "choose another method, or call select in Python with the option predictions."
            )


def check_split(arguments: argparse.Namespace, table: encoding.Table, /) -> None:
    """Raise DataError unless test points and all rows of `compare` fit the table."""
    n_rows = int(table.is_labelled.sum())
    if table.targets is None or n_rows == 0:
        return  # `encoding.split_table` says so
    n_test = arguments.n_test
    if n_test is None:
        n_test = max(1, n_rows // encoding.TEST_SHARE)
    if not 0 < n_test < n_rows:
        raise DataError(
            f"--n-test must be from 1 to {n_rows - 1}, for {n_rows} rows with a target: "
            f"received {n_test}."
        )
    n_pool, most = n_rows - n_test, max(arguments.n_points)
    if arguments.rounds is not None and (n_labels := most * (arguments.rounds + 1)) > n_pool:
        raise DataError(
            f"--rounds {arguments.rounds} label {n_labels} rows, {most} at first and in each "
            f"round. The pool has {n_pool}, which {n_test} test points leave of {n_rows}: lower "
            "--rounds or --n-points."
        )
    if most > n_pool:
        raise DataError(
            f"--n-points must not exceed the pool of {n_pool} rows, which {n_test} test points "
            f"leave of {n_rows}: received {most}."
        )


def check_subset(sizes: Sequence[int], table: encoding.Table, /) -> None:
    """Raise DataError unless the largest subset of `measure` fits the table."""
    n_rows, most = int(table.is_labelled.sum()), max(sizes)
    if n_rows > 1 and most > n_rows:
        what = "rows" if table.targets is None else "rows with a target"
        raise DataError(f"--n-points must not exceed the {n_rows} {what}: received {most}.")
