"""Define the arguments of the command line."""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from collective_variables.cli import _help
from collective_variables.data import encoding, scaling
from collective_variables.selection import registry
from collective_variables.training import schedules

METHOD = "rnd-linearised"
COMMAND = "select | compare | measure"


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, without the usage."""

    def command(self, name: str) -> "Parser":
        """Return the parser of a command."""
        (commands,) = (
            action for action in self._actions if isinstance(action, argparse._SubParsersAction)
        )
        return commands.choices[name]

    def options(self) -> list[str]:
        """Return the names of all options."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message."""
        if message.endswith(COMMAND):
            message = "say what to do: select, compare or measure"
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parse_arguments(arguments: Sequence[str], program: str, /) -> argparse.Namespace:
    """Return the parsed arguments, or exit with 2 and name the argument that may be meant.

    Args:
        arguments: Words of the command line.
        program: The program's name in usage and examples.

    Returns:
        The parsed arguments.
    """
    parser = build_parser(program)
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = parser.command(parsed.command)
        known = [option for option in command.options() if option.startswith("--")]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], known, 1)
        hint = f", did you mean {near[0]}?" if near else ""
        command.error(f"unknown argument {' '.join(unknown)}{hint}")
    return parsed


def build_parser(program: str = "collective-variables") -> argparse.ArgumentParser:
    """Return the parser of all commands; usage and examples show the name `program`."""
    shared = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = Parser(
        program, description=_help.DESCRIPTION, epilog=_help.epilogue(None, program), **shared
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar=COMMAND)
    for name, (add, summary) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=_help.epilogue(name, program),
            **shared,
        )
        _add_data(command)
        add(command)
        _add_format(command)
        _add_general(command)
    return parser


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file",
        metavar="FILE",
        help="table, arrays (each array of an .npz file is a column), or folder of images",
    )
    command.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        help="column to predict; may be repeated",
    )
    _add_names(command, "--ignore", "columns that are neither target nor input")
    _add_names(command, "--use", "columns that are inputs although they look like identities")
    command.add_argument(
        "--id", metavar="COLUMN", help="column that identifies rows and is not an input"
    )
    command.add_argument(
        "--task",
        choices=encoding.TASKS,
        default="auto",
        metavar="TASK",
        help="auto, regression or classification (default: auto, for which texts or few whole "
        "numbers are classes)",
    )
    command.add_argument(
        "--scaling",
        choices=scaling.SCALINGS,
        default=scaling.DEFAULT,
        metavar="NAME",
        help=f"scaling of inputs (default: {scaling.DEFAULT}). {_sentences(scaling.SCALINGS)}",
    )
    command.add_argument(
        "--image-size", type=_size, metavar="HxW", help="size in pixels to which images are resized"
    )
    network = command.add_mutually_exclusive_group()
    network.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help='hidden layers of the network, such as "dense 128" or "conv 32 3x3"',
    )
    network.add_argument(
        "--model",
        metavar="PATH",
        help="import path of your network, such as models.Residual for models.py in this folder",
    )
    command.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of that network; may be repeated",
    )


def _add_names(
    command: argparse._ActionsContainer, option: str, words: str, metavar: str = "NAME"
) -> None:
    command.add_argument(
        option, nargs="+", action="extend", default=[], metavar=metavar, help=words
    )


def _sentences(named: Mapping[str, str]) -> str:
    # argparse would replace a single percent sign.
    return "; ".join(f"{name}: {text}" for name, text in named.items()).replace("%", "%%")


def _add_format(command: argparse.ArgumentParser) -> None:
    """Add the options that decide how a text table is read where the file does not."""
    group = command.add_argument_group("text tables (by default detected from the whole file)")
    group.add_argument("--encoding", metavar="NAME", help="such as utf-8, utf-16 or cp1252")
    group.add_argument("--decimal", choices=(".", ","), metavar="SIGN", help="decimal sign, . or ,")
    group.add_argument(
        "--day-first",
        action=argparse.BooleanOptionalAction,
        help="whether 01/02/2020 is 1 February",
    )
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line holds the names of the columns",
    )
    _add_names(group, "--missing", "further cells that stand for a missing value", metavar="CELL")
    _add_names(group, "--texts", "columns of texts that are kept as written")


def _add_select(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--n-points",
        type=_whole,
        required=True,
        metavar="N",
        help="number of rows to select, in addition to those already labelled",
    )
    command.add_argument(
        "--method",
        choices=registry.SELECTION_METHODS,
        metavar="METHOD",
        help="selection method, listed below (default: with 16 labelled rows bait for numbers, "
        f"lcmd for classes; before, linearised random network distillation, {METHOD})",
    )
    command.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the method; may be repeated",
    )
    for option, words in (
        ("--labelled", "are already labelled, with or without their target"),
        ("--exclude", "cannot be labelled and must not be selected"),
    ):
        command.add_argument(
            option,
            type=Path,
            action="append",
            default=[],
            metavar="ROWS",
            help=f"file with rows that {words}: one per line, a JSON list, a .npy array, or a file "
            "written by --output; may be repeated",
        )
    command.add_argument(
        "--output",
        type=Path,
        metavar="CSV",
        help="write the selected rows to this file, with all columns and the target to fill in",
    )
    command.add_argument(
        "--labelled-table",
        type=Path,
        metavar="FILE",
        help="second table with the same columns, whose rows are labelled and not in FILE",
    )
    command.add_argument(
        "--predictions",
        type=Path,
        metavar="CSV",
        help="write what the trained networks predict for all rows without a target",
    )


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--n-points",
        type=_whole,
        nargs="+",
        required=True,
        metavar="N",
        help="sizes of the subsets; with --rounds a single one, that of each batch",
    )
    command.add_argument(
        "--rounds",
        type=_whole,
        metavar="N",
        help="draw the first rows at random, then choose N batches with networks trained on the "
        "labels so far",
    )
    command.add_argument(
        "--methods",
        nargs="+",
        choices=registry.SELECTION_METHODS,
        metavar="METHOD",
        help="methods of `select` to compare with random selection (default: with --rounds bait "
        f"for numbers, lcmd for classes; else linearised random network distillation, {METHOD})",
    )
    command.add_argument(
        "--members",
        type=_whole,
        default=5,
        metavar="N",
        help="number of networks for each method and size, or of repeats of all rounds "
        "(default: 5)",
    )
    command.add_argument(
        "--n-test",
        type=_whole,
        metavar="N",
        help="number of test points (default: one row in five)",
    )
    command.add_argument(
        "--epochs",
        type=_whole,
        metavar="N",
        help="passes over the selected rows (default: 500; 300 with --rounds)",
    )
    command.add_argument(
        "--learning-rate",
        type=_number,
        metavar="RATE",
        help="learning rate of Adam (default: 0.005; at first 0.01 with --rounds)",
    )
    command.add_argument("--loss", choices=schedules.LOSSES, help="training loss (default: mse)")
    command.add_argument(
        "--runs", type=Path, metavar="CSV", help="write a row for each network or round"
    )
    command.add_argument(
        "--page", type=Path, metavar="HTML", help="write a page with the learning curves"
    )


def _add_measure(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--n-points",
        type=_whole,
        nargs="+",
        metavar="N",
        help="sizes of the random subsets (default: all rows, at most 1000)",
    )
    command.add_argument(
        "--members", type=_whole, default=5, metavar="N", help="number of networks (default: 5)"
    )
    command.add_argument(
        "--spectrum", type=Path, metavar="CSV", help="write all eigenvalues to this file"
    )


def _add_general(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=_whole, metavar="N", help="random seed (default: 0)")
    command.add_argument("--json", action="store_true", help="print JSON instead of text")
    command.add_argument(
        "--quiet",
        action="store_true",
        help="print cautions, but no report on the data and no progress",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="only report on the data and estimate time and memory",
    )
    command.add_argument(
        "--debug", action="store_true", help="also print the traceback of an error"
    )


COMMANDS = {
    "select": (_add_select, "select rows to label or to train on"),
    "compare": (
        _add_compare,
        "train networks on the rows of each method and compare their test losses",
    ),
    "measure": (
        _add_measure,
        "measure entropy, trace and spectrum of a network's kernel on random rows",
    ),
}


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number: received {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number: received {text!r}") from None


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH: received {text!r}")
    return int(height), int(width)
