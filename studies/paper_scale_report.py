"""Judge the claims of both papers on the results in reference/paper/ and draw them.

    python -m studies.paper_scale_report

`python -m studies.paper_scale` makes those tables of runs and recordings. The evidence of all of
them and the pictures are written next to them, and the README's parts `scale` and `dynamics-scale`
are written anew.
"""

import json
from typing import Any, NamedTuple

import pandas as pd
from dvc_render import VegaRenderer

from benchmarks._markdown import compare_with_table_2, fold, insert_into_readme, table
from benchmarks.update_results import (
    EVOLUTION,
    MEASURED,
    evolution,
    render,
    selection_table,
    verdicts_table,
)
from collective_variables.analysis import statistics
from collective_variables.papers import claims, claims_2023, claims_2024, report
from studies.paper_scale import RESULTS, ROOT, list_cases

About = dict[str, dict[str, Any]]
LOSS = ("min_test_loss", "Minimum test loss")
SIZE = ("n_points", "Subset size n")
ENTROPY, TRACE = ("entropy", "Entropy S"), ("trace", "Trace Tr")
# Template, x and y. "comparison" shows the means of Experiment 2, the others Experiment 1.
PICTURES = {
    "figure-2": ("scatter-by-test-loss", ENTROPY, TRACE),
    "figure-2-trace": ("scatter-by-n-points", TRACE, LOSS),
    "figure-4": ("comparison", SIZE, LOSS),
    "figure-5-entropy": ("comparison", SIZE, ENTROPY),
    "figure-5-trace": ("comparison", SIZE, TRACE),
}


class Analysis(NamedTuple):
    """The tables of CorrelationAnalysis for a group of Experiment 2."""

    summary: pd.DataFrame
    differences: pd.DataFrame


def read_runs() -> tuple[pd.DataFrame, About]:
    """Return the runs of all groups of the first paper, and what they were computed with."""
    about = describe_groups("TrainModel")
    tables = [pd.read_csv(RESULTS / f"{group}.csv.gz") for group in about]
    runs = pd.concat(tables, ignore_index=True)
    fraction = runs["largest_eigenvalue"] / runs["trace"]
    return runs.assign(largest_eigenvalue_fraction=fraction), about


def read_studies() -> tuple[dict[str, claims_2024.Group], About]:
    """Return the recordings of all groups of learning dynamics, and what they come from."""
    about = describe_groups("ScalingStudy")
    groups = {}
    for name, description in about.items():
        recording = pd.read_csv(RESULTS / f"{name}.csv.gz")
        params = description["params"]
        kind = params["ScalingStudy"]["kind"]
        groups[name] = claims_2024.Group(recording, list_cases(params), pd.DataFrame(), kind)
    return groups, about


def describe_groups(stage: str) -> About:
    """Return what the groups with a stage were computed with."""
    about = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    return {group: each for group, each in about.items() if stage in each["params"]}


def machines_table(about: About) -> str:
    """Return where each group ran, and the seconds of its parts."""
    rows = []
    for group, each in about.items():
        versions = ", ".join(f"{name} {version}" for name, version in each["versions"].items())
        parts = ", ".join(f"{part} {value:.0f}" for part, value in each["seconds"].items())
        rows.append([group, each["device"], versions, f"`{each['commit']}`", parts])
    return table(["network", "device", "versions", "commit", "seconds"], rows)


def verdicts_on(evidence: pd.DataFrame, statements: claims.Claims) -> str:
    """Return a row for each claim with evidence, then, folded, all evidence."""
    judged = claims.judge_claims(evidence, statements).dropna(subset="smallest")
    rows = [
        [claim["claim"], f"{claim['effect']}: {report.effects(claim)}", claim["verdict"]]
        for claim in judged.to_dict("records")
    ]
    short = table(["claim", "our effects [and ends of their intervals]", "verdict"], rows)
    rows = []
    for row in evidence.itertuples():
        interval = f"{row.effect:+.3f} [{row.lower:+.3f}, {row.upper:+.3f}]"
        p_value = "–" if pd.isna(row.p_value_holm) else f"{row.p_value_holm:.3f}"
        case = [row.claim, row.group, row.parametrisation, row.variable]
        rows.append([*case, interval, p_value, row.verdict])
    header = ["claim", "network", "parametrisation", "variable", "effect", "p, corrected"]
    return f"{short}\n\n{fold('Each network and variable', table([*header, 'verdict'], rows))}"


def analyse(runs: pd.DataFrame) -> dict[str, Analysis]:
    """Return the tables of the groups of Experiment 2."""
    second = runs[statistics.compares_methods(runs)]
    return {
        group: Analysis(
            statistics.summary(part, MEASURED), statistics.paired_differences(part, MEASURED)
        )
        for group, part in second.groupby("group", sort=False)
    }


def compare_with_random(second: dict[str, Analysis]) -> str:
    """Return the differences of each method from random selection, then, folded, every size."""
    if not second:
        return ""
    return (
        "Each method minus random selection, relative, mean over the subset sizes:\n\n"
        f"{verdicts_table(second)}\n\n{fold('Each size', selection_table(second))}"
    )


def draw(runs: pd.DataFrame, name: str) -> None:
    """Render a plot of rows with one of the templates of `dvc plots show`."""
    template, (x, x_label), (y, y_label) = PICTURES[name]
    labels = {"x": x, "x_label": x_label, "y": y, "y_label": y_label}
    points = runs.astype(str).assign(rev="").to_dict("records")
    options = {
        "template": template,
        "template_dir": str(ROOT / ".dvc" / "plots"),
        "title": "",
        **labels,
    }
    plot = VegaRenderer(points, name, **options).get_filled_template()
    # What distinguishes several revisions.
    if template == "comparison":
        del plot["spec"]["layer"][0]["encoding"]["strokeDash"]
    else:
        del plot["spec"]["encoding"]["shape"]
    render(plot, RESULTS / f"{name}.png")


def networks_of(about: About) -> dict[str, tuple[str, list[str]]]:
    """Return problem and layers of each group."""
    return {
        group: (each["params"]["LoadDataset"]["problem"], each["params"]["Network"]["layers"])
        for group, each in about.items()
    }


def runs_section(
    first: pd.DataFrame, second: dict[str, Analysis], about: About, evidence: pd.DataFrame
) -> str:
    """Return the README's part on the runs of Experiment 1 and the groups of Experiment 2."""
    parts = [
        compare_with_table_2(first, networks_of(about)),
        compare_with_random(second),
        verdicts_on(evidence, claims_2023.CLAIMS),
        machines_table(about),
    ]
    return "\n\n".join(filter(None, parts))


def studies_section(about: About, evidence: pd.DataFrame) -> str:
    """Return the README's part on the groups of learning dynamics."""
    return f"{verdicts_on(evidence, claims_2024.FINDINGS)}\n\n{machines_table(about)}"


def report_first_paper() -> str:
    """Write evidence and pictures of the first paper; return the README's part."""
    runs, about = read_runs()
    first = runs[~statistics.compares_methods(runs)]
    second = analyse(runs)
    means = [analysis.summary for analysis in second.values()]
    for name, (template, *_) in PICTURES.items():
        if template != "comparison":
            draw(first, name)
        elif means:
            draw(pd.concat(means, ignore_index=True), name)
    convolutional = [
        group
        for group, (_, layers) in networks_of(about).items()
        if any(layer.startswith("conv") for layer in layers)
    ]
    path = RESULTS / "evidence.csv"
    evidence = claims_2023.evidence(runs, convolutional=convolutional)
    evidence.to_csv(path, index=False, float_format="%.6g")
    return runs_section(first, second, about, pd.read_csv(path))


def report_second_paper() -> str:
    """Write evidence and the picture of the second paper; return the README's part."""
    groups, about = read_studies()
    path = RESULTS / "evidence-dynamics.csv"
    claims_2024.evidence(groups).to_csv(path, index=False, float_format="%.6g")
    group = groups[EVOLUTION]
    render(evolution(group.recording, group.studies), RESULTS / "evolution.png")
    return studies_section(about, pd.read_csv(path))


def main() -> None:
    for name, text in (("scale", report_first_paper()), ("dynamics-scale", report_second_paper())):
        insert_into_readme(name, text)
        print(text)


if __name__ == "__main__":
    main()
