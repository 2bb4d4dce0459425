"""Define the arguments of the command line."""

import argparse
import textwrap
from pathlib import Path

from collective_variables.data import encoding
from collective_variables.selection import registry
from collective_variables.training import schedules

METHOD = "rnd-linearised"
DESCRIPTION = """\
Choose which rows of a table to label or to train on, compare methods of selection, and measure the
neural tangent kernel of a network on the rows.

FILE is a table (.csv, .tsv, .parquet), arrays (.npz, .npy) or a folder of images. Rows count from
0, without the line of names. Results go to standard output or to the files asked for, everything
else goes to standard error."""
# {program} is the name that the user called.
EXAMPLES = {
    None: """\
examples:
  {program} select houses.csv --target price --n-points 100
  {program} compare houses.csv --target price --n-points 20 50 100
  {program} measure houses.csv --target price --n-points 50 200

exit codes: 0 done, 1 could not be computed, 2 wrong arguments or data, 130 interrupted""",
    "select": """\
examples:
  {program} select houses.csv --target price --n-points 100 > rows.txt
  {program} select houses.csv --target price --n-points 20 --labelled rows.txt
  {program} select houses.csv --n-points 50 --method k-center --output selected.csv
  {program} select photos/ --target class --n-points 200 --option normalisation=unit --json

Prints one row on a line, in the order of selection. The default method is random network
distillation in its linearised form, which trains no network; `--method rnd` is Algorithm 1 of
Tovey et al. 2023.

methods:
{methods}""",
    "compare": """\
examples:
  {program} compare houses.csv --target price --n-points 20 50 100
  {program} compare houses.csv --target price --n-points 50 --methods rnd-linearised rnd greedy
  {program} compare photos/ --target class --n-points 50 100 --page curves.html --runs runs.csv

Prints the smallest test loss of each method and size, as mean and standard error over networks, and
its paired difference from random selection with a 95 % interval.""",
    "measure": """\
examples:
  {program} measure houses.csv --target price --n-points 50 200
  {program} measure houses.csv --layers "dense 32" "dense 32" --spectrum eigenvalues.csv
  {program} measure houses.csv --target price --model models.Residual --model-option n_outputs=1

Prints entropy, trace and further collective variables, as means over networks.""",
}


def build_parser(program: str = "collective-variables") -> argparse.ArgumentParser:
    """Return the parser of all commands; `program` is the name in usage and examples."""
    shared = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    methods = textwrap.fill(
        ", ".join(registry.SELECTION_METHODS),
        width=80,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    epilogs = {
        name: text.format(program=program, methods=methods) for name, text in EXAMPLES.items()
    }
    parser = argparse.ArgumentParser(
        program, description=DESCRIPTION, epilog=epilogs[None], **shared
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="select | compare | measure"
    )
    for name, (add, summary) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilogs[name],
            **shared,
        )
        _add_data(command)
        add(command)
        _add_general(command)
    return parser


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="table, arrays, or folder of images")
    command.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        help="column to predict; may be given several times",
    )
    command.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="column that is neither target nor input; may be given several times",
    )
    command.add_argument(
        "--task",
        choices=encoding.TASKS,
        default="auto",
        help="what the target is (auto: texts or few whole numbers are classes)",
    )
    command.add_argument(
        "--image-size", type=_size, metavar="HxW", help="pixels to which images are resized"
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
        help="option of that network; may be given several times",
    )


def _add_select(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--n-points",
        type=int,
        required=True,
        metavar="N",
        help="rows to select, in addition to those already labelled",
    )
    command.add_argument(
        "--method",
        choices=registry.SELECTION_METHODS,
        default=METHOD,
        metavar="METHOD",
        help=f"method of selection, see below (default: {METHOD}, "
        "which is random network distillation, linearised)",
    )
    command.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the method; may be given several times",
    )
    command.add_argument(
        "--labelled",
        type=Path,
        metavar="ROWS",
        help="file with the rows that are already labelled, one on a line",
    )
    command.add_argument(
        "--output", type=Path, metavar="CSV", help="write order, row and distance to this file"
    )


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--n-points",
        type=int,
        nargs="+",
        required=True,
        metavar="N",
        help="sizes of the subsets",
    )
    command.add_argument(
        "--methods",
        nargs="+",
        choices=registry.SELECTION_METHODS,
        default=[METHOD],
        metavar="METHOD",
        help="methods of `select` to compare with random selection (default: "
        f"{METHOD}, which is random network distillation, linearised)",
    )
    command.add_argument(
        "--members",
        type=int,
        default=5,
        metavar="N",
        help="networks for each method and size (default: 5)",
    )
    command.add_argument(
        "--n-test", type=int, metavar="N", help="test points (default: one row in five)"
    )
    command.add_argument(
        "--epochs",
        type=int,
        default=500,
        metavar="N",
        help="passes over the selected rows (default: 500)",
    )
    command.add_argument(
        "--learning-rate",
        type=float,
        default=0.005,
        metavar="RATE",
        help="learning rate of Adam (default: 0.005)",
    )
    command.add_argument(
        "--loss", choices=schedules.LOSSES, default="mse", help="training loss (default: mse)"
    )
    command.add_argument(
        "--runs", type=Path, metavar="CSV", help="write a row for each network to this file"
    )
    command.add_argument(
        "--page", type=Path, metavar="HTML", help="write a page with the learning curves"
    )


def _add_measure(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--n-points",
        type=int,
        nargs="+",
        metavar="N",
        help="sizes of the random subsets (default: all rows, at most 1000)",
    )
    command.add_argument(
        "--members", type=int, default=5, metavar="N", help="networks (default: 5)"
    )
    command.add_argument(
        "--spectrum", type=Path, metavar="CSV", help="write all eigenvalues to this file"
    )


def _add_general(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, metavar="N", help="random seed (default: 0)")
    command.add_argument("--json", action="store_true", help="print JSON instead of text")
    command.add_argument(
        "--quiet", action="store_true", help="print no report on the data and no progress"
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="report on the data, and estimate time and memory, without the work",
    )
    command.add_argument(
        "--debug", action="store_true", help="print the traceback of an error, too"
    )


COMMANDS = {
    "select": (_add_select, "select rows to label or to train on"),
    "compare": (
        _add_compare,
        "train networks on the rows that each method selects, and compare their test losses",
    ),
    "measure": (
        _add_measure,
        "measure entropy, trace and spectrum of a network's kernel on random rows",
    ),
}


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH: received {text!r}")
    return int(height), int(width)
