"""The arguments of the command line."""

import argparse
from pathlib import Path

from collective_variables.data import encoding
from collective_variables.selection import registry
from collective_variables.training import schedules

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


def build_parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    made = argparse.ArgumentParser(
        "python -m collective_variables",
        description=DESCRIPTION,
        epilog=EXAMPLES[None],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands_of = made.add_subparsers(
        dest="command", required=True, metavar="select | compare | measure"
    )
    for name, words in (
        ("select", "choose rows to label or to train on"),
        ("compare", "train networks on what each method chooses, and compare their test losses"),
        ("measure", "entropy, trace and spectrum of a network's kernel on random rows"),
    ):
        of = commands_of.add_parser(
            name,
            help=words,
            description=words[0].upper() + words[1:] + ".",
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_data(of)
        ADD[name](of)
        _add_rest(of)
    return made


def _add_data(of: argparse.ArgumentParser) -> None:
    of.add_argument("file", metavar="FILE", help="table, arrays, or folder of images")
    of.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        help="column to predict; may be given several times",
    )
    of.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="column that is neither target nor input; may be given several times",
    )
    of.add_argument(
        "--task",
        choices=encoding.TASKS,
        default="auto",
        help="what the target is (auto: texts or few whole numbers are classes)",
    )
    of.add_argument(
        "--image-size", type=_size, metavar="HxW", help="pixels that images are brought to"
    )
    network = of.add_mutually_exclusive_group()
    network.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help='hidden layers of the network, such as "dense 128" or "conv 32 3x3"',
    )
    network.add_argument(
        "--model",
        metavar="PATH",
        help="import path of a network of your own, such as models.Residual",
    )
    of.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of that network; may be given several times",
    )


def _add_select(of: argparse.ArgumentParser) -> None:
    of.add_argument(
        "--n-points",
        type=int,
        required=True,
        metavar="N",
        help="rows to choose, beyond those already labelled",
    )
    of.add_argument(
        "--method",
        choices=registry.METHODS,
        default="rnd",
        help="how (default: rnd, random network distillation)",
    )
    of.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the method; may be given several times",
    )
    of.add_argument(
        "--labelled",
        type=Path,
        metavar="ROWS",
        help="file with the rows that are labelled already, one on a line",
    )
    of.add_argument(
        "--output", type=Path, metavar="CSV", help="write order, row and distance to this file"
    )


def _add_compare(of: argparse.ArgumentParser) -> None:
    of.add_argument(
        "--n-points",
        type=int,
        nargs="+",
        required=True,
        metavar="N",
        help="sizes of what is chosen",
    )
    of.add_argument(
        "--methods",
        nargs="+",
        choices=registry.METHODS,
        default=["rnd"],
        metavar="METHOD",
        help="beside random choice (default: rnd)",
    )
    of.add_argument(
        "--members",
        type=int,
        default=5,
        metavar="N",
        help="networks for each method and size (default: 5)",
    )
    of.add_argument(
        "--n-test", type=int, metavar="N", help="test points (default: one row in five)"
    )
    of.add_argument(
        "--epochs",
        type=int,
        default=500,
        metavar="N",
        help="passes over what is chosen (default: 500)",
    )
    of.add_argument(
        "--learning-rate",
        type=float,
        default=0.005,
        metavar="RATE",
        help="of Adam (default: 0.005)",
    )
    of.add_argument("--loss", choices=schedules.LOSSES, default="mse", help="(default: mse)")
    of.add_argument(
        "--runs", type=Path, metavar="CSV", help="write a row for each network to this file"
    )
    of.add_argument(
        "--page", type=Path, metavar="HTML", help="write a page with the learning curves"
    )


def _add_measure(of: argparse.ArgumentParser) -> None:
    of.add_argument(
        "--n-points",
        type=int,
        nargs="+",
        metavar="N",
        help="sizes of the random subsets (default: all rows, at most 1000)",
    )
    of.add_argument("--members", type=int, default=5, metavar="N", help="networks (default: 5)")
    of.add_argument(
        "--spectrum", type=Path, metavar="CSV", help="write all eigenvalues to this file"
    )


ADD = {"select": _add_select, "compare": _add_compare, "measure": _add_measure}


def _add_rest(of: argparse.ArgumentParser) -> None:
    of.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)"
    )
    of.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, in place of words"
    )
    of.add_argument("--quiet", action="store_true", help="no words about the data and no progress")
    of.add_argument(
        "--dry-run",
        action="store_true",
        help="say what is there, and what time and memory it will take",
    )


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH: received {text!r}")
    return int(height), int(width)
