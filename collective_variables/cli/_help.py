"""Write the help: examples, which a test runs, and the options of the methods."""

import inspect
import textwrap
from dataclasses import MISSING, fields

from collective_variables.selection import registry

DESCRIPTION = """\
Choose which rows of a table to label or to train on, compare selection methods,
and measure the neural tangent kernel of a network on the rows.

FILE is a table (.csv, .tsv, .parquet), arrays (.npz, .npy) or a folder of
images. Rows are counted from 0, without the line of names. Results go to
standard output or to the files asked for; everything else goes to standard
error."""
# {program} is the name by which the user called it.
EPILOGUES = {
    None: """\
examples:
  {program} select houses.csv --target price --n-points 100
  {program} compare houses.csv --target price --n-points 20 50 100
  {program} measure houses.csv --target price --n-points 50 200

exit codes: 0 done, 1 not computed or not written, 2 wrong arguments or data,
130 interrupted""",
    "select": """\
examples:
  {program} select houses.csv --target price --n-points 100 > rows.txt
  {program} select houses.csv --target price --n-points 20 --labelled rows.txt >> rows.txt
  {program} select houses.csv --target price --n-points 20 --output chosen.csv
  {program} select houses.csv --target price --n-points 20 --labelled chosen.csv --id id
  {program} select houses.csv --n-points 50 --method k-center --output selected.csv
  {program} select photos/ --n-points 200 --option normalisation=unit --json

Prints one row per line, in the order of selection: its number from 0, its value
in the column of --id, or the file of an image. --output writes the rows
themselves, with an empty target to fill in. Rows with a target and the rows of
--labelled count as labelled and are not selected again. If every row has a
target, rows to train on are selected.

The default method is linearised random network distillation, which trains no
network; `--method rnd` is Algorithm 1 of Tovey et al. 2023.

methods, and their options for --option:
{methods}""",
    "compare": """\
examples:
  {program} compare houses.csv --target price --n-points 20 50 100
  {program} compare houses.csv --target price --n-points 50 --methods rnd-linearised rnd greedy
  {program} compare photos/ --target class --n-points 50 100 --page curves.html --runs runs.csv

Prints the smallest test loss of each method and size, as mean and standard
error over networks. Also prints the paired difference from random selection
with a 95 % interval, and how many random rows the chosen ones are worth.""",
    "measure": """\
examples:
  {program} measure houses.csv --target price --n-points 50 200
  {program} measure houses.csv --layers "dense 32" "dense 32" --spectrum eigenvalues.csv
  {program} measure houses.csv --target price --model models.Residual --model-option n_outputs=1

Prints entropy, trace and further collective variables, as means over networks.""",
}
WIDTH = 80


def epilogue(name: str | None, program: str) -> str:
    """Return the text after the arguments in the help of a command; None for the whole program."""
    return EPILOGUES[name].format(program=program, methods=_methods())


def _methods() -> str:
    """Return a paragraph for each method: its name and its options with their defaults."""
    paragraphs = []
    for method in registry.SELECTION_METHODS:
        options = " ".join(f"{name}={value}" for name, value in _options(method).items())
        paragraphs.append(
            textwrap.fill(
                options,
                width=WIDTH,
                initial_indent=f"  {method:<19}",
                subsequent_indent=" " * 21,
                break_on_hyphens=False,
            )
            if options
            else f"  {method}"
        )
    return "\n".join(paragraphs)


def _options(method: str) -> dict[str, str]:
    """Return the options of a method with their defaults, as YAML writes them."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(
            registry.SELECTION_METHODS[method]
        ).parameters.items()
    }
    if method in registry.SETTINGS:
        defaults |= {each.name: each.default for each in fields(registry.SETTINGS[method])}
    names = [name for name in registry.OPTIONS[method] if name != "labelled"]
    return {name: _yaml(defaults[name]) for name in names}


def _yaml(value: object) -> str:
    if value is None or value is MISSING or value is inspect.Parameter.empty:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
