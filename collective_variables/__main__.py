"""The command line: `python -m collective_variables select | compare | measure FILE …`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from collective_variables import commands, methods, own_data, own_files, training

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
  python -m collective_variables measure houses.csv --layers "dense 32" "dense 32" --spectrum eigenvalues.csv""",
}
SHOWN = {  # of each method and size in `compare`
    "min_test_loss": "min_test_loss",
    "min_test_loss_standard_error": "standard_error",
}


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
    of.add_argument("--layers", nargs="+", metavar="LAYER", help='hidden layers of the network, such as "dense 128" or "conv 32 3x3"')


def _add_select(of: argparse.ArgumentParser) -> None:
    of.add_argument("--n-points", type=int, required=True, metavar="N", help="rows to choose, beyond those already labelled")
    of.add_argument("--method", choices=methods.METHODS, default="rnd", help="how (default: rnd, random network distillation)")
    of.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of the method; may be given several times")
    of.add_argument("--labelled", type=Path, metavar="ROWS", help="file with the rows that are labelled already, one on a line")
    of.add_argument("--output", type=Path, metavar="CSV", help="write order, row and distance to this file")
