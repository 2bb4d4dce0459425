"""Keep the results of the stages in the workspace: tables in reference/, and pictures.

    python -m benchmarks.update_results

Run `make all` and `make dynamics` first. reference/*.csv receives the tables of the pages of
results, and those that `benchmarks.check_reproduction` compares with. Tables on learning dynamics
go to reference/dynamics, and pictures to docs/results/pictures. `make results` then writes the
pages.
"""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import vl_convert
import yaml
import zntrack

from benchmarks import check_reproduction
from benchmarks.check_reproduction import REFERENCE, ROOT
from benchmarks.pages import experiments
from benchmarks.pages.files import DYNAMICS, PICTURES
from collective_variables.papers import claims_2024, figures_2023, figures_2024
from collective_variables.training import study_cases
from nodes.findings import Findings
from nodes.scaling_study import ScalingStudy

DRAWN = {
    "figure-2": "Figures 2 and 6: trace against entropy, by minimum test loss",
    "figure-2-trace": "Figures 2 and 6: minimum test loss against trace",
    "figure-3": "Figures 3 and 7: Pearson correlation",
    "figure-3-given-size": "Figures 3 and 7 given the size: Pearson correlation",
    "figure-4": "Figure 4: minimum test loss",
    "figure-4-final": "Figure 4: final test loss",
    "figure-5-entropy": "Figure 5: entropy",
    "figure-5-trace": "Figure 5: trace",
    "rnd-history": "RND, Algorithm 1: distance of the chosen point, and of the pool",
    "rnd-chosen": "RND, Algorithm 1: the points chosen first, with their order",
}
EVOLUTION = "dynamics-mnist"  # the group whose evolution is drawn
REACH = "dynamics-reach"  # the group whose spectral position is drawn


def render(plot: dict, path: Path) -> None:
    """Write a plot of Vega-Lite as PNG."""
    path.write_bytes(vl_convert.vegalite_to_png(plot, vl_version="5.20", scale=1.3))


def draw(title: str, path: Path) -> None:
    """Render one plot of `dvc plots show` to PNG."""
    command = ["dvc", "plots", "show", "--show-vega", f"plots/dvc.yaml::{title}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    render(json.loads(shown.splitlines()[-1]), path)


def evolution(
    recording: pd.DataFrame,
    studies: dict[str, list[study_cases.Case]],
    quantities: Sequence[str] = figures_2024.QUANTITIES,
) -> dict:
    """Return a plot of the studies of a group over the epochs, a row of panels for each study."""
    rows = []
    for study, cases in studies.items():
        networks = claims_2024.split_networks(study_cases.study_rows(recording, cases))
        lines = pd.concat(
            [part.assign(network=words) for words, part in networks], ignore_index=True
        )
        panels = [panel(lines, quantity) for quantity in quantities]
        rows.append({"title": study, "hconcat": panels})
    return {"vconcat": rows, "resolve": {"scale": {"color": "independent"}}}


def panel(lines: pd.DataFrame, quantity: str) -> dict:
    """Return a plot of one quantity: means over members, and one standard deviation.

    The logarithmic axis shows epoch + 1.
    """
    parts = {
        words: figures_2024.mean_and_band(part, quantity)
        for words, part in lines.groupby(["network", "points"], sort=False)
    }
    bands = pd.concat(parts, names=["network", "points"]).reset_index()
    bands["epoch"] += 1
    is_logarithmic = quantity in figures_2024.LOGARITHMS
    scale = {"type": "log"} if is_logarithmic else {"zero": False}
    axis = {"tickCount": 4, "format": "~g" if is_logarithmic else "~s"}
    y = {"field": "mean", "type": "quantitative", "scale": scale, "axis": axis}
    y["title"] = re.sub("<.*?>", "", figures_2024.LABELS[quantity])  # Vega has no subscripts
    band = {
        "mark": {"type": "area", "opacity": 0.2},
        "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
    }
    return {
        "width": 220,
        "height": 140,
        "data": {"values": json.loads(bands.to_json(orient="records"))},
        "encoding": LINES,
        "layer": [band, {"mark": "line", "encoding": {"y": y}}],
    }


LINES = {
    "x": {
        "field": "epoch",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False},
        "title": "Epoch + 1",
    },
    "color": {
        "field": "network",
        "type": "nominal",
        "sort": None,
        "title": None,
        "scale": {"range": list(figures_2023.PALETTE)},
        "legend": {"symbolOpacity": 1},
    },
    "detail": {"field": "points"},
    "strokeDash": {
        "field": "points",
        "type": "nominal",
        "sort": ["train", "test"],
        "title": None,
    },
}


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table with six digits."""
    table.to_csv(path, index=False, float_format="%.6g")


def update_first_paper() -> None:
    """Write tables and pictures of the first paper."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    groups = check_reproduction.known_groups()
    check_reproduction.collect(ROOT, groups, True, REFERENCE)
    analyses = {group: zntrack.from_rev(f"{group}_CorrelationAnalysis") for group in groups}
    differences = [
        analysis.differences for analysis in analyses.values() if len(analysis.differences)
    ]
    differences = pd.concat(differences, ignore_index=True)
    measured = differences["variable"].isin(experiments.MEASURED)
    write(differences.loc[measured, experiments.DIFFERENCES], REFERENCE / "differences.csv")
    # A range of sizes marks a group of Experiment 1.
    is_range = {
        group: isinstance(params[f"{group}_Ensemble"]["n_points"], dict) for group in groups
    }
    runs = [analysis.runs for group, analysis in analyses.items() if is_range[group]]
    best = experiments.best_runs(pd.concat(runs, ignore_index=True))
    write(best, REFERENCE / "best-runs.csv")
    limits = {group: zntrack.from_rev(f"{group}_ComputeNTK").limits for group in groups}
    means = [experiments.mean_limits(part, group) for group, part in limits.items() if len(part)]
    write(pd.DataFrame(means), REFERENCE / "limits.csv")
    for name, title in DRAWN.items():
        draw(title, PICTURES / f"{name}.png")


def update_later_papers() -> None:
    """Write tables and pictures of the second paper and those after it."""
    findings = Findings.from_rev("dynamics_Findings")
    DYNAMICS.mkdir(exist_ok=True)
    for path in (
        findings.evidence_path,
        findings.position_path,
        findings.networks_path,
        findings.phases_path,
        findings.laws_path,
    ):
        write(pd.read_csv(ROOT / path), DYNAMICS / path.name)
    study = ScalingStudy.from_rev(f"{EVOLUTION}_ScalingStudy")
    render(evolution(study.recording, study.cases), PICTURES / "evolution.png")
    study = ScalingStudy.from_rev(f"{REACH}_ScalingStudy")
    quantities = ("loss", "trace", "chi_pos")
    render(evolution(study.recording, study.cases, quantities), PICTURES / "position.png")


def main() -> None:
    """Write tables and pictures of all papers."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    update_first_paper()
    update_later_papers()


if __name__ == "__main__":
    main()
