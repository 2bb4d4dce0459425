"""Make two parts of README.md from reference/: six findings, and the paper next to ours.

The home page of the site shows the same.
"""

import functools

import pandas as pd

from benchmarks._markdown import percent, table
from benchmarks.pages import claims, paper_scale
from benchmarks.pages.files import ROOT, read
from collective_variables.papers import results_2023

DEFAULT, PAPER = claims.SCALES["C"]
SECOND_PAPER = claims.SCALES["F"]["1000 images, 500 epochs"]
README = ROOT / "README.md"
MARKERS = ("findings", "paper")
# Networks of Table 2 by group, with their names in this table.
NETWORKS = {"fuel-dense": "Fuel, dense", "mnist-dense": "MNIST, dense", "mnist-conv": "MNIST, conv"}


def effects(claim: str, scale: str, group: str | None = None) -> pd.DataFrame:
    """Return the evidence for a claim of the first paper at a scale, or that of one group."""
    evidence = read(claims.SCALES["C"][scale])
    part = evidence[evidence["claim"] == claim]
    return part if group is None else part[part["group"] == group]


@functools.cache
def kept_runs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs of both experiments at the paper's scale."""
    return paper_scale.split_experiments(paper_scale.read_runs()[0])


def relative_loss(method: str) -> float:
    """Return the minimum test loss relative to random on MNIST at the paper's scale, minus 1."""
    differences = paper_scale.analyse(kept_runs()[1]).differences
    is_loss = differences["variable"] == "min_test_loss"
    chosen = differences[is_loss & (differences["method"] == method)]
    return chosen["relative_difference"].mean()


def depth_effect() -> float:
    """Return how much more the entropy changes in ten layers than in two, in nats (F3)."""
    evidence = read(SECOND_PAPER)
    is_depth = evidence["parametrisation"] == "depth 10 − depth 2"
    (effect,) = evidence.loc[(evidence["claim"] == "F3") & is_depth, "effect"]
    return effect


def whole(value: float) -> str:
    """Return the size of a fraction in whole percent."""
    return percent(abs(value), 0)


def direction(value: float) -> str:
    """Return whether a difference in loss is lower or higher."""
    return "lower" if value < 0 else "higher"


def six_findings(prefix: str = "") -> str:
    """Return six findings with a number each.

    Args:
        prefix: Path from the page to docs/results/.

    Returns:
        The text in Markdown.
    """
    trace = effects("C1", PAPER)["effect"].max()
    given_size = effects("C5", PAPER)["effect"].min()
    (fuel,) = effects("C7", DEFAULT, "fuel")["effect"]
    (mnist,) = effects("C7", PAPER, "mnist")["effect"]
    linearised = relative_loss("rnd-linearised")
    findings = [
        "**Trace and test loss go together.** In all networks of the paper a larger trace before "
        "training goes with a lower test loss. The weakest rank correlation is "
        f"{trace:+.2f} ({link('C1', prefix)}).",
        "**The subset size explains this.** Among runs of equal subset size the strongest "
        f"correlation of the claimed sign is {given_size:+.2f} ({link('C5', prefix)}).",
        "**Random network distillation (RND) helps on a small table.** On Fuel the minimum test "
        f"loss is {whole(fuel)} {direction(fuel)} with its subsets than with random ones "
        f"({link('C7', prefix)}).",
        "**RND does not help on MNIST.** With the paper's pool and subset sizes the minimum test "
        f"loss is {whole(mnist)} {direction(mnist)} with its subsets than with random ones "
        f"({link('C7', prefix)}).",
        "**A linearised predictor repairs this.** With subsets that our form `rnd-linearised` "
        f"chooses from the same pool, this loss is {whole(linearised)} "
        f"{direction(linearised)} than with random ones "
        f"([each size]({prefix}paper-scale.md#experiment-2-on-mnist)).",
        "**Depth decides what training does to the entropy.** It rises in ten layers and falls in "
        f"two. The two changes differ by {depth_effect():.1f} nats ({link('F3', prefix)}).",
    ]
    return "\n".join(f"- {finding}" for finding in findings)


def link(claim: str, prefix: str) -> str:
    """Return a link to a claim."""
    return f"[{claim}]({prefix}index.md#{claim.lower()})"


def paper_and_ours(prefix: str = "") -> str:
    """Return at most ten results of the paper next to ours.

    Args:
        prefix: Path from the page to docs/results/.

    Returns:
        The text in Markdown.
    """
    rows = [_best_of(group, name) for group, name in NETWORKS.items()]
    rows += [
        _claim_row(
            "C1", prefix, "rank correlation of trace and minimum test loss", "negative", PAPER
        ),
        _claim_row("C5", prefix, "the same at equal subset size", "negative", PAPER),
        _selection_row("fuel", DEFAULT, prefix, "Fuel"),
        _selection_row("mnist", PAPER, prefix, "MNIST"),
        _relative_row(prefix),
        _ratio_row(prefix),
        _fraction_row(prefix),
    ]
    return table(["what", "paper", "ours", "verdict"], rows)


def _best_of(group: str, name: str) -> list[str]:
    runs, _ = kept_runs()
    part = runs[(runs["group"] == group) & ~runs["diverged"]]
    problem, layers = paper_scale.networks_of(paper_scale.describe_groups("TrainModel"))[group]
    n_runs, accuracy, loss = results_2023.TABLE_2[problem, ", ".join(layers)]
    has_accuracy = accuracy is not None
    theirs = f"{loss:.3f}" + (f", {percent(accuracy, 0)}" if has_accuracy else "")
    best = percent(part["max_test_accuracy"].max(), 1)
    ours = f"{part['min_test_loss'].min():.3f}" + (f", {best}" if has_accuracy else "")
    our_runs = part.groupby("parametrisation").size().max()
    is_reached = part["min_test_loss"].min() <= loss
    what = f"{name}: smallest test loss" + (" and best accuracy" if has_accuracy else "")
    return [what, f"{theirs} ({n_runs} runs)", f"{ours} ({our_runs} runs)", reached(is_reached)]


def reached(is_reached: bool) -> str:
    """Return whether our best loss is that of the paper."""
    return "reached" if is_reached else "not reached"


def _verdict(claim: str, scale: str, prefix: str) -> str:
    return f"{link(claim, prefix)}: {claims.judge('C', scale)[claim]['verdict']}"


def _claim_row(claim: str, prefix: str, what: str, theirs: str, scale: str) -> list[str]:
    values = effects(claim, scale)["effect"]
    ours = f"{values.min():+.2f} to {values.max():+.2f}"
    return [what, theirs, ours, _verdict(claim, scale, prefix)]


def _selection_row(group: str, scale: str, prefix: str, name: str) -> list[str]:
    ((_, row),) = effects("C7", scale, group).iterrows()
    n_sizes = row[["n_lower", "n_undecided", "n_higher"]].sum()
    (effect, *ends) = (percent(row[name], 0, sign=True) for name in ("effect", "lower", "upper"))
    ours = (
        f"{effect} [{', '.join(ends)}]; lower at {row['n_lower']:.0f}, higher at "
        f"{row['n_higher']:.0f} of {n_sizes:.0f} sizes"
    )
    what = f"test loss of RND's subsets relative to random ones, {name}"
    return [what, "lower at all sizes", ours, f"{link('C7', prefix)}: {row['verdict']}"]


def _relative_row(prefix: str) -> list[str]:
    values = effects("C9", DEFAULT)
    values = values[values["variable"] == "trace"]["effect"]
    ends = [percent(end, 0, sign=True) for end in (values.min(), values.max())]
    what = "trace of RND's subsets relative to random ones"
    return [what, "larger", " to ".join(ends), _verdict("C9", DEFAULT, prefix)]


def _ratio_row(prefix: str) -> list[str]:
    values = 10 ** effects("C10", DEFAULT)["effect"]
    what = "trace in LeCun's parametrisation over that in the NTK parametrisation"
    ours = f"{values.min():.0f} to {values.max():.0f}"
    return [what, "about 100", ours, _verdict("C10", DEFAULT, prefix)]


def _fraction_row(prefix: str) -> list[str]:
    values = effects("C11", DEFAULT)["effect"]
    what = "largest eigenvalue relative to the trace"
    ours = f"{whole(values.min())} to {whole(values.max())}"
    return [what, "about 100 %", ours, _verdict("C11", DEFAULT, prefix)]


def readme_parts() -> dict[str, str]:
    """Return the two parts of README.md, by the name of their markers."""
    prefix = "docs/results/"
    return dict(zip(MARKERS, (six_findings(prefix), paper_and_ours(prefix))))


def replace_parts(text: str) -> str:
    """Return README.md with both parts rewritten; unchanged if it lacks markers."""
    ends = [(f"<!-- {name} -->\n", f"<!-- /{name} -->") for name in MARKERS]
    if not all(start in text and end in text for start, end in ends):
        return text
    for (start, end), part in zip(ends, readme_parts().values()):
        head, _, rest = text.partition(start)
        text = f"{head}{start}{part}\n{end}{rest.partition(end)[2]}"
    return text
