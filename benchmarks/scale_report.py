"""Judge the claims of both papers on what is kept in reference/paper/, draw it, and write the
README's parts on it.

    python benchmarks/scale_report.py

`benchmarks/at_scale.py` makes those tables of runs and recordings; the evidence of all of them and
the pictures are written beside them.
"""

import json
from typing import Any, NamedTuple

import pandas as pd
from at_scale import KEPT, ROOT, cases_of
from dvc_render import VegaRenderer
from pictures import EVOLUTION, MEASURED, evolution, render, selection, verdicts
from tables import against_table_2, into_readme, table

from collective_variables.analysis import statistics
from collective_variables.papers import claims, claims_2023, claims_2024, report

About = dict[str, dict[str, Any]]
PICTURES = {  # template, x, y; of Experiment 1, and of the means of Experiment 2
    "figure-2": ("scatter-by-test-loss", ("entropy", "Entropy S"), ("trace", "Trace Tr")),
    "figure-2-trace": (
        "scatter-by-n-points",
        ("trace", "Trace Tr"),
        ("min_test_loss", "Minimum test loss"),
    ),
    "figure-4": (
        "comparison",
        ("n_points", "Subset size n"),
        ("min_test_loss", "Minimum test loss"),
    ),
    "figure-5-entropy": ("comparison", ("n_points", "Subset size n"), ("entropy", "Entropy S")),
    "figure-5-trace": ("comparison", ("n_points", "Subset size n"), ("trace", "Trace Tr")),
}


class Analysis(NamedTuple):
    """What CorrelationAnalysis makes of the runs of a group of Experiment 2."""

    summary: pd.DataFrame
    differences: pd.DataFrame


def kept() -> tuple[pd.DataFrame, About]:
    """The runs of all groups of the first paper, and what they were computed with."""
    about = about_groups("TrainModel")
    runs = pd.concat([pd.read_csv(KEPT / f"{group}.csv.gz") for group in about], ignore_index=True)
    return runs.assign(
        largest_eigenvalue_fraction=runs["largest_eigenvalue"] / runs["trace"]
    ), about


def kept_studies() -> tuple[dict[str, claims_2024.Group], About]:
    """The recordings of all groups of learning dynamics, and what they were computed with."""
    about, groups = about_groups("ScalingStudy"), {}
    for name, of in about.items():
        recording = pd.read_csv(KEPT / f"{name}.csv.gz")
        groups[name] = claims_2024.Group(
            recording, cases_of(of["params"]), pd.DataFrame(), of["params"]["ScalingStudy"]["kind"]
        )
    return groups, about


def about_groups(stage: str) -> About:
    """What the groups with this stage were computed with."""
    about = {path.stem: json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))}
    return {group: of for group, of in about.items() if stage in of["params"]}


def machines(about: About) -> str:
    """Where each group ran, and the seconds of its parts."""
    rows = []
    for group, of in about.items():
        versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
        parts = ", ".join(f"{part} {value:.0f}" for part, value in of["seconds"].items())
        rows.append([group, of["device"], versions, f"`{of['commit']}`", parts])
    return table(["network", "device", "versions", "commit", "seconds"], rows)


def judged(evidence: pd.DataFrame, stated: claims.Claims) -> str:
    """A row for each claim with evidence, then, folded, all evidence."""
    of_claims = claims.judge_claims(evidence, stated).dropna(subset="smallest").to_dict("records")
    rows = [
        [of["claim"], f"{of['effect']}: {report.effects(of)}", of["verdict"]] for of in of_claims
    ]
    short = table(["claim", "our effects [and ends of their intervals]", "verdict"], rows)
    rows = []
    for of in evidence.itertuples():
        interval = f"{of.effect:+.3f} [{of.lower:+.3f}, {of.upper:+.3f}]"
        p_value = "–" if pd.isna(of.p_value_holm) else f"{of.p_value_holm:.3f}"
        rows.append(
            [of.claim, of.group, of.parametrisation, of.variable, interval, p_value, of.verdict]
        )
    every = table(
        ["claim", "network", "parametrisation", "variable", "effect", "p, corrected", "verdict"],
        rows,
    )
    return (
        f"{short}\n\n<details><summary>Each network and variable</summary>\n\n{every}\n\n</details>"
    )


def analyses(runs: pd.DataFrame) -> dict[str, Analysis]:
    """The groups of Experiment 2."""
    second = runs[statistics.compares_methods(runs)]
    return {
        group: Analysis(
            statistics.summary(of, MEASURED), statistics.paired_differences(of, MEASURED)
        )
        for group, of in second.groupby("group", sort=False)
    }


def against_random(second: dict[str, Analysis]) -> str:
    """Each method beside random selection, then, folded, every size."""
    if not second:
        return ""
    folded = f"<details><summary>Each size</summary>\n\n{selection(second)}\n\n</details>"
    return f"Each method minus random selection, relative, mean over the subset sizes:\n\n{verdicts(second)}\n\n{folded}"


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
    filled = VegaRenderer(points, name, **options).get_filled_template()
    # What tells several revisions apart.
    if template == "comparison":
        del filled["spec"]["layer"][0]["encoding"]["strokeDash"]
    else:
        del filled["spec"]["encoding"]["shape"]
    render(filled, KEPT / f"{name}.png")


def networks_of(about: About) -> dict[str, tuple[str, list[str]]]:
    """Problem and layers of each group."""
    return {
        group: (of["params"]["LoadDataset"]["problem"], of["params"]["Network"]["layers"])
        for group, of in about.items()
    }


def section(
    first: pd.DataFrame, second: dict[str, Analysis], about: About, evidence: pd.DataFrame
) -> str:
    """The README's part, of the runs of Experiment 1 and the groups of Experiment 2."""
    of_claims = judged(evidence, claims_2023.CLAIMS)
    parts = [
        against_table_2(first, networks_of(about)),
        against_random(second),
        of_claims,
        machines(about),
    ]
    return "\n\n".join(filter(None, parts))


def section_of_studies(about: About, evidence: pd.DataFrame) -> str:
    """The README's part of the groups of learning dynamics."""
    return f"{judged(evidence, claims_2024.FINDINGS)}\n\n{machines(about)}"


def of_first_paper() -> str:
    """Write the evidence and the pictures; the README's part."""
    runs, about = kept()
    first = runs[~statistics.compares_methods(runs)]
    second = analyses(runs)
    means = [of.summary for of in second.values()]
    for name, (template, *_) in PICTURES.items():
        if template != "comparison":
            draw(first, name)
        elif means:
            draw(pd.concat(means, ignore_index=True), name)
    layers = {group: layers for group, (_, layers) in networks_of(about).items()}
    convolutional = [
        group for group, of in layers.items() if any(layer.startswith("conv") for layer in of)
    ]
    claims_2023.evidence(runs, convolutional=convolutional).to_csv(
        KEPT / "evidence.csv", index=False, float_format="%.6g"
    )
    return section(first, second, about, pd.read_csv(KEPT / "evidence.csv"))


def of_second_paper() -> str:
    """Write the evidence and the picture; the README's part."""
    groups, about = kept_studies()
    claims_2024.evidence(groups).to_csv(
        KEPT / "evidence-dynamics.csv", index=False, float_format="%.6g"
    )
    drawn = groups[EVOLUTION]
    render(evolution(drawn.recording, drawn.studies), KEPT / "evolution.png")
    return section_of_studies(about, pd.read_csv(KEPT / "evidence-dynamics.csv"))


def main() -> None:
    for name, text in (("scale", of_first_paper()), ("dynamics-scale", of_second_paper())):
        into_readme(name, text)
        print(text)


if __name__ == "__main__":
    main()
