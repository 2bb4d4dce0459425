"""Write the help: examples, which a test runs, and the options of the methods."""

import inspect
import textwrap
from dataclasses import MISSING, fields

from collective_variables.active_learning import choosing
from collective_variables.cli import commands, labelling
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
examples, three batches that are labelled one after the other:
  {program} select houses.csv --target price --n-points 20 --output batch1.csv
  {program} select houses.csv --target price --n-points 20 --labelled batch1.csv --output batch2.csv
  {program} select houses.csv --target price --n-points 20 --labelled batch1.csv --labelled \
batch2.csv --output batch3.csv --predictions predictions.csv

Each command writes 20 rows, with an empty column price. Fill the column in, in
a spreadsheet or an editor, and save it as CSV. The next command reads the
prices, trains networks on them, and chooses rows by what they have learnt. It
also says how good the networks are, what 20 more labels would bring, and
whether random rows would do as well. Rows that are not filled in wait: they are
not selected again. Instead, prices may be filled into houses.csv itself; then
call the first command again. Stop when the error is small enough;
--predictions writes what the networks predict for all other rows.

further examples:
  {program} select houses.csv --target price --n-points 100 > rows.txt
  {program} select houses.csv --target price --n-points 20 --labelled rows.txt >> rows.txt
  {program} select houses.csv --target price --n-points 20 --labelled batch1.csv --id id
  {program} select new.csv --target price --n-points 20 --labelled-table labelled.csv
  {program} select houses.csv --n-points 50 --method k-center --output selected.csv
  {program} select photos/ --n-points 200 --option normalisation=unit --json

Prints one row per line, in the order of selection: its number from 0, its value
in the column of --id, or the file of an image. Rows with a target and the rows
of --labelled count as labelled and are not selected again. If every row has a
target, rows to train on are selected.

Without --method, 16 rows with two different targets at least are needed for
networks. Before that, the method is linearised random network distillation,
which trains none; `--method rnd` is Algorithm 1 of Tovey et al. 2023.

The option kernel of rules for batches, from max-diag to max-herding, is linear,
or that of the network of --layers: infinite-width, ntk or sketch. Where there
are labels, max-diag to lcmd, k-means++ and max-herding choose by the sketch of
the trained networks. margin, predictive-entropy and ensemble-variance choose by
what these predict. With classes, lcmd has weights=committee: it prefers rows on
which networks disagree.

methods, and their options for --option:
{methods}""",
    "compare": """\
examples:
  {program} compare houses.csv --target price --n-points 20 50 100
  {program} compare houses.csv --target price --n-points 50 --methods rnd-linearised rnd greedy
  {program} compare photos/ --target class --n-points 50 100 --page curves.html --runs runs.csv
  {program} compare houses.csv --target price --rounds 5 --n-points 20 --methods bait lcmd

Prints the smallest test loss of each method and size, as mean and standard
error over networks. Also prints the paired difference from random selection
with a 95 % interval, and how many random rows the chosen ones are worth.

--rounds plays labelling on a table whose targets are known. The first rows are
drawn at random. In every round each method chooses as many further ones, with
networks that were trained on its labels so far. --members repeats it all with
other test points, first rows and networks. Prints the mean error or accuracy
by the number of labels, and the paired difference from random selection. Also
prints with how many labels a method is as good as random rows with all. Each
training takes --epochs steps on all labelled rows.""",
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
        defaults |= {field.name: field.default for field in fields(registry.SETTINGS[method])}
    if method in labelling.RULES:
        # Without a noise and weights the loop has defaults that depend on kernel and task.
        defaults |= {"kernel": choosing.Rule(method).kernel, "weights": None, "noise": None}
    names = [name for name in registry.OPTIONS[method] if name not in commands.NOT_TYPED]
    return {name: _yaml(defaults[name]) for name in names}


def _yaml(value: object) -> str:
    if value is None or value is MISSING or value is inspect.Parameter.empty:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
