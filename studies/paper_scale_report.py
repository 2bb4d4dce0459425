"""Judge the claims of both papers on the results in reference/paper/ and draw them.

    python -m studies.paper_scale_report

`python -m studies.paper_scale` makes those tables of runs and recordings. This program writes their
evidence next to them, and the pictures to docs/results/pictures/paper-scale. `make results` then
writes the pages.
"""

import pandas as pd
from dvc_render import VegaRenderer

from benchmarks.pages import paper_scale as kept
from benchmarks.pages.files import PICTURES
from benchmarks.update_results import EVOLUTION, evolution, render
from collective_variables.papers import claims_2023, claims_2024, labels
from studies.paper_scale import RESULTS, ROOT, list_cases

FOLDER = PICTURES / "paper-scale"
LOSS, SIZE, ENTROPY, TRACE = (
    (name, labels.axis_label(name)) for name in ("min_test_loss", "n_points", "entropy", "trace")
)
# Template, x and y. "comparison" shows the means of Experiment 2, the others Experiment 1.
DRAWN = {
    "figure-2": ("scatter-by-test-loss", ENTROPY, TRACE),
    "figure-2-trace": ("scatter-by-n-points", TRACE, LOSS),
    "figure-4": ("comparison", SIZE, LOSS),
    "figure-5-entropy": ("comparison", SIZE, ENTROPY),
    "figure-5-trace": ("comparison", SIZE, TRACE),
}


def read_studies() -> dict[str, claims_2024.Group]:
    """Return the recordings of all groups of learning dynamics."""
    groups = {}
    for name, description in kept.describe_groups("ScalingStudy").items():
        recording = pd.read_csv(RESULTS / f"{name}.csv.gz")
        params = description["params"]
        kind = params["ScalingStudy"]["kind"]
        groups[name] = claims_2024.Group(recording, list_cases(params), pd.DataFrame(), kind)
    return groups


def draw(runs: pd.DataFrame, name: str) -> None:
    """Render a plot of rows with a template of `dvc plots show`."""
    template, (x, x_label), (y, y_label) = DRAWN[name]
    axes = {"x": x, "x_label": x_label, "y": y, "y_label": y_label}
    points = runs.astype(str).assign(rev="").to_dict("records")
    options = {
        "template": template,
        "template_dir": str(ROOT / ".dvc" / "plots"),
        "title": "",
        **axes,
    }
    plot = VegaRenderer(points, name, **options).get_filled_template()
    # These channels distinguish several revisions.
    if template == "comparison":
        del plot["spec"]["layer"][0]["encoding"]["strokeDash"]
    else:
        del plot["spec"]["encoding"]["shape"]
    render(plot, FOLDER / f"{name}.png")


def report_first_paper() -> None:
    """Write evidence and pictures of the first paper."""
    runs, about = kept.read_runs()
    first, second = kept.split_experiments(runs)
    for name, (template, *_) in DRAWN.items():
        if template != "comparison":
            draw(first, name)
        elif len(second):
            draw(kept.analyse(second).summary, name)
    convolutional = [
        group
        for group, (_, layers) in kept.networks_of(about).items()
        if any(layer.startswith("conv") for layer in layers)
    ]
    evidence = claims_2023.evidence(runs, convolutional=convolutional)
    evidence.to_csv(RESULTS / "evidence.csv", index=False, float_format="%.6g")


def report_second_paper() -> None:
    """Write evidence and the picture of the second paper."""
    groups = read_studies()
    evidence = claims_2024.evidence(groups)
    evidence.to_csv(RESULTS / "evidence-dynamics.csv", index=False, float_format="%.6g")
    group = groups[EVOLUTION]
    render(evolution(group.recording, group.studies), FOLDER / "evolution.png")


def main() -> None:
    """Write evidence and pictures of both papers."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    report_first_paper()
    report_second_paper()


if __name__ == "__main__":
    main()
