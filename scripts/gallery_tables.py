"""Write the tables of docs/gallery.md: needs, cost and quality of each method.

`scripts.draw_gallery` calls this. Losses come from the comparisons in reference/ (`make field`,
`make bench-tables`), and seconds from reference/bench-selection.txt (`make bench-selection`) and
`scripts.draw_gallery seconds`.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd

from benchmarks._markdown import NONE, VERDICT_COLUMNS, count_verdicts, percent
from benchmarks._markdown import table as markdown_table
from benchmarks.pages import timings
from benchmarks.pages.files import GENERATED, Fragment, describe_origin, read
from collective_variables.selection import registry
from studies import compare_methods

FIELD = tuple(f"reference/field-{part}.csv" for part in compare_methods.PARTS)
BENCH, DIRTY = "bench-selection.txt", "bench-tables.csv"
DEFAULT = compare_methods.OURS
DEFAULT_LABELS = {"greedy": "greedy entropy"}  # the form with default options
# The parts on the page: those with changing test points where these are few.
SHOWN = [*(f"{problem}-splits" for problem in compare_methods.SPLIT_PROBLEMS), "mnist"]
SHORTEST = 0.01  # seconds; shorter times have no significant digits
CASES = {
    "rnd": {
        "fuel": "100 points of Fuel's pool for 20 members",
        "mnist": "60 of 10000 images of MNIST for one member",
    },
    "rnd-linearised": {
        "1000-of-10000": "1000 of 10000 images of MNIST",
        "10000-of-60000": "10000 of 60000 images of MNIST",
    },
}


class Facts(NamedTuple):
    """Facts on one method that no table has.

    Attributes:
        looks_at: The data that the method uses.
        key: The choices that the random key decides.
        labelled: Whether labelled rows count as chosen, or are only not chosen again.
        cost: Growth of the time, in the letters of docs/gallery.md.
        is_ordered: Whether a later point depends on those before it.
    """

    looks_at: str
    key: str
    labelled: str
    cost: str
    is_ordered: bool = True


BY_KERNEL, NOTHING = "inputs, by any kernel", "nothing; the network of a kernel"
PREDICTIONS = "predictions of trained networks"
FACTS = {
    "random": Facts("nothing", "all points", "left out", "$N \\log N$", is_ordered=False),
    "stratified": Facts("targets", "all points", "count", "$N + nK$", is_ordered=False),
    "rnd": Facts("inputs, by two networks", "the networks", "count", "$(En + N) n P$"),
    "rnd-linearised": Facts(
        "inputs, by an infinite network",
        "nothing up to 1024 rows",
        "count",
        "$mN (d + n) + n^2 N$",
    ),
    "k-center": Facts("inputs", "the first point", "count", "$nNd$"),
    "k-means++": Facts("inputs", "all points", "count", "$nNd$"),
    "kernel-herding": Facts("inputs", "the first point", "count", "$N^2 d$"),
    "facility-location": Facts("inputs", "the first point", "count", "$N^2 d$ to $N^2 (d + n)$"),
    "log-determinant": Facts("your network's kernel", "the network", "count", "$N^2 P + n^2 N$"),
    "trace": Facts("your network's kernel", "the network", "left out", "$NP$"),
    "best-entropy": Facts(
        "your network's kernel",
        "network and sets",
        "count",
        "$N^2 P + s n^3$",
        is_ordered=False,
    ),
    "greedy": Facts("your network's kernel", "the network", "count", "$N^2 P + n^3 N + n^4$"),
    "max-diag": Facts(BY_KERNEL, NOTHING, "count", "$LNp$", is_ordered=False),
    "max-det": Facts(BY_KERNEL, NOTHING, "count", "$nNp$"),
    "max-dist": Facts(BY_KERNEL, NOTHING, "count", "$nNp$"),
    "bait": Facts(BY_KERNEL, NOTHING, "count", "$nNp + Np^2$"),
    "frank-wolfe": Facts(BY_KERNEL, NOTHING, "count", "$nNp$"),
    "lcmd": Facts(BY_KERNEL, NOTHING, "count", "$nNp$"),
    "typiclust": Facts(BY_KERNEL, "the clusters", "count", "$nNp + N^2 p / n$"),
    "prob-cover": Facts(BY_KERNEL, "the radius", "count", "$N^2 p$"),
    "max-herding": Facts(BY_KERNEL, NOTHING, "count", "$N^2 p$"),
    "margin": Facts(PREDICTIONS, "nothing", "left out", "$nN$", is_ordered=False),
    "predictive-entropy": Facts(PREDICTIONS, "nothing", "left out", "$nN$", is_ordered=False),
    "ensemble-variance": Facts(PREDICTIONS, "nothing", "left out", "$nN$", is_ordered=False),
}


def labels(method: str) -> list[str]:
    """Return the forms of a method in the comparison."""
    return [label for label, (name, _) in compare_methods.METHODS.items() if name == method]


def relative(table: pd.DataFrame, label: str) -> str:
    """Return the test loss relative to random rows."""
    if label not in set(table["method"]):
        return NONE
    return percent(compare_methods.relative_to_random(table, label), 0, sign=True)


def counts(table: pd.DataFrame, label: str) -> list[str]:
    """Return the numbers of sizes with a lower, an undecided and a higher loss than random rows.

    The intervals of the paired differences decide.
    """
    part = compare_methods.rows_of(table, label)
    return count_verdicts(part["lower against random"], part["upper against random"])


def title(part: str) -> str:
    """Return the heading of a part of the comparison."""
    return part.replace("-splits", f", {compare_methods.N_SPLITS} splits")


def anchor(method: str) -> str:
    """Return the anchor that MkDocs gives the heading of a method."""
    return re.sub(r"[^\w-]", "", method)


def timed(seconds: pd.DataFrame, method: str) -> dict[int, str]:
    """Return the seconds of a method by the size of the pool."""
    part = seconds[seconds["method"] == method]
    return {
        n: f"{value:.2g}" if value >= SHORTEST else f"< {SHORTEST}"
        for n, value in zip(part["n_pool"], part["seconds"])
    }


def needs_labels(method: str) -> bool:
    """Return whether a method cannot choose without the targets of all points."""
    targets = inspect.signature(registry.SELECTION_METHODS[method]).parameters.get("targets")
    return targets is not None and targets.default is inspect.Parameter.empty


def compare_table(tables: dict[str, pd.DataFrame], seconds: pd.DataFrame) -> str:
    """Return the table of all methods."""
    rows = []
    for method in registry.SELECTION_METHODS:
        facts, label = FACTS[method], DEFAULT_LABELS.get(method, method)
        rows.append(
            [
                f"[`{method}`](#{anchor(method)})",
                facts.looks_at,
                "yes" if needs_labels(method) else "no",
                *(relative(tables[part], label) for part in SHOWN),
                *timed(seconds, method).values(),
                facts.cost,
                facts.key,
                facts.labelled,
            ]
        )
    header = ["method", "looks at", "needs labels", *map(title, SHOWN)]
    header += [f"seconds, $N = {n}$" for n in sorted(set(seconds["n_pool"]))]
    header += ["time grows as", "the key decides", "labelled rows"]
    machine = f"Seconds: `python -m scripts.draw_gallery seconds`, {seconds['machine'][0]}."
    return f"{markdown_table(header, rows)}\n\n{machine}"


def losses_table(tables: dict[str, pd.DataFrame], method: str) -> str:
    """Return the forms of one method on all parts of the comparison."""
    rows = []
    for label in labels(method):
        known = {part: table for part, table in tables.items() if label in set(table["method"])}
        cells = {
            part: f"{relative(table, label)} ({'/'.join(counts(table, label))})".replace(
                " %", "&nbsp;%"
            )
            for part, table in known.items()
        }
        rows.append([f"`{label}`", *(cells.get(part, NONE) for part in tables)])
    return markdown_table(["method", *map(title, tables)], rows)


def bench_seconds() -> dict[str, str]:
    """Return the median seconds of each case of the benchmark of selection."""
    lines = map(timings.split_columns, timings.read_lines(BENCH))
    names = {case for cases in CASES.values() for case in cases}
    return {line[0]: line[3] for line in lines if line[0] in names}


def times_text(seconds: pd.DataFrame, method: str) -> str:
    """Return a sentence on the measured times of a method."""
    measured = [f"{value} s for $N = {n}$" for n, value in timed(seconds, method).items()]
    text = f"**Measured**, $n = 20$: {' and '.join(measured)}."
    bench = bench_seconds()
    more = [f"{bench[case]} s for {words}" for case, words in CASES.get(method, {}).items()]
    return f"{text} `make bench-selection`: {' and '.join(more)}." if more else text


def sections(tables: dict[str, pd.DataFrame], seconds: pd.DataFrame) -> Iterator[str]:
    """Yield the measurements of each method as a section of a snippet."""
    for method in registry.SELECTION_METHODS:
        parts = [times_text(seconds, method)]
        if method != "random" and labels(method):
            parts.append(losses_table(tables, method))
        text = "\n\n".join(parts)
        name = anchor(method)
        yield f"--8<-- [start:{name}]\n{text}\n\n--8<-- [end:{name}]"


def default_text(tables: dict[str, pd.DataFrame]) -> str:
    """Return results of the default method, next to the best method and random rows."""
    rows = []
    for part in SHOWN:
        table = tables[part]
        others = [label for label in dict.fromkeys(table["method"]) if label != "random"]
        best = min(others, key=lambda label: compare_methods.relative_to_random(table, label))
        cells = [relative(table, DEFAULT), *counts(table, DEFAULT)]
        rows.append([title(part), *cells, f"`{best}`, {relative(table, best)}"])
    header = ["problem", "test loss relative to random rows", *VERDICT_COLUMNS]
    header += ["best method on average"]
    dirty = read(DIRTY)
    is_default = (dirty["method"] == DEFAULT) & (dirty["scaling"] == "bounded")
    kinds = dirty[is_default].groupby("kind")["mean"].mean() / 100
    lowest, highest, clean = (
        percent(value, 0, sign=True) for value in (kinds.min(), kinds.max(), kinds["clean"])
    )
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"On tables of {len(kinds)} kinds, clean and with defects, the mean test loss of "
        f"`{DEFAULT}` is {lowest} to {highest} relative to random rows; on clean ones {clean}."
    )


def fragments(seconds: pd.DataFrame) -> dict[str, Fragment]:
    """Return the tables of the page by their names."""
    tables = compare_methods.read_tables()
    write: dict[str, Callable[[], str]] = {
        "default": lambda: default_text(tables),
        "compare": lambda: compare_table(tables, seconds),
        "methods": lambda: "\n\n".join(sections(tables, seconds)),
    }
    field, bench = ("make field",), ("make bench-selection",)
    origins = {
        "default": (("make field", "make bench-tables"), (*FIELD, f"reference/{DIRTY}")),
        "compare": (field, FIELD),
        "methods": ((*field, *bench), (*FIELD, f"reference/{BENCH}")),
    }
    return {f"gallery-{name}": Fragment(write[name], *origins[name]) for name in write}


def write_all(seconds: pd.DataFrame) -> None:
    """Write the tables."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    for name, fragment in fragments(seconds).items():
        text = f"{fragment.write()}\n\n{describe_origin(fragment)}\n"
        (GENERATED / f"{name}.md").write_text(text)
