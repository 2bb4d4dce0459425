"""Draw the README's pictures and write its tables from the results of the stages in the workspace.

    python -m benchmarks.update_results

Run `make all` and `make dynamics` first. Pictures go to reference/*.png and all tables to
reference/results.md. The parts `claims`, `findings`, `results` and `decisions` of README.md lie
between two comments each, and are written anew. The tables that `benchmarks.check_reproduction`
compares with go to reference/*.csv, those on learning dynamics and their picture to
reference/dynamics.
"""

import json
import subprocess
from pathlib import Path

import pandas as pd
import vl_convert
import yaml
import zntrack

from benchmarks import check_reproduction
from benchmarks._markdown import (
    PARAMETRISATIONS,
    VERDICT_COLUMNS,
    compare_with_table_2,
    count_verdicts,
    insert_into_readme,
    table,
    verdict,
)
from benchmarks.check_reproduction import REFERENCE, ROOT
from collective_variables.papers import claims_2024, figures_2024, report
from collective_variables.training import study_cases
from nodes.findings import Findings
from nodes.scaling_study import ScalingStudy

PICTURES = {
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
MEASURED = ("min_test_loss", "final_test_loss", "entropy", "trace")
EVOLUTION = "dynamics-mnist"  # the group that is drawn over the epochs
LIMIT_PAIRS = ((("entropy", "limit_entropy"), 2), (("trace", "limit_trace"), 1))  # and digits
DIGITS = {"min_test_loss": 3, "entropy": 2, "trace": 1}
FIRST_METHODS = ["random", "rnd-linearised", "rnd"]  # in tables


def render(plot: dict, path: Path) -> None:
    """Write a plot of Vega-Lite as PNG."""
    path.write_bytes(vl_convert.vegalite_to_png(plot, vl_version="5.20", scale=1.3))


def draw(title: str, path: Path) -> None:
    """Render one plot of `dvc plots show` to PNG."""
    command = ["dvc", "plots", "show", "--show-vega", f"plots/dvc.yaml::{title}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    render(json.loads(shown.splitlines()[-1]), path)


def evolution(recording: pd.DataFrame, studies: dict[str, list[study_cases.Case]]) -> dict:
    """Return a plot of the studies of a group over the epochs, a row of panels for each study."""
    rows = []
    for study, cases in studies.items():
        networks = claims_2024.split_networks(study_cases.study_rows(recording, cases))
        lines = pd.concat(
            [part.assign(network=words) for words, part in networks], ignore_index=True
        )
        panels = [panel(lines, quantity) for quantity in figures_2024.QUANTITIES]
        rows.append({"title": study, "hconcat": panels})
    return {"vconcat": rows, "resolve": {"scale": {"color": "independent"}}}


def panel(lines: pd.DataFrame, quantity: str) -> dict:
    """Return a plot of one quantity: means over members, and one standard deviation.

    Its epochs are shown + 1 on a logarithmic axis.
    """
    parts = {
        words: figures_2024.mean_and_band(part, quantity)
        for words, part in lines.groupby(["network", "points"])
    }
    bands = pd.concat(parts, names=["network", "points"]).reset_index()
    bands["epoch"] += 1
    scale = {"type": "log"} if quantity == "loss" else {"zero": False}
    axis = {"tickCount": 4, "format": "~g" if quantity == "loss" else "~s"}
    y = {"field": "mean", "type": "quantitative", "scale": scale, "title": quantity, "axis": axis}
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
        "title": "epoch + 1",
    },
    "color": {
        "field": "network",
        "type": "nominal",
        "sort": None,
        "title": None,
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


def selection_table(analyses: dict) -> str:
    """Return the means of every group, size and method, and differences from random selection."""
    rows = []
    for group, analysis in analyses.items():
        differences = analysis.differences.set_index(["method", "n_points", "variable"])
        for n in sorted(analysis.summary["n_points"].unique()):
            means = analysis.summary[analysis.summary["n_points"] == n].set_index("method")
            for method in ordered(means.index):
                row = [group, f"{n:.0f}", method, *_means_and_errors(means.loc[method])]
                if method != "random":
                    row += _difference(differences.loc[(method, n, "min_test_loss")])
                rows.append(row if method != "random" else [*row, "", "", ""])
    header = ["problem", "n", "method", "min test loss", "S", "Tr"]
    header += ["95 % interval of the paired difference", "its loss is", "win rate"]
    return table(header, rows)


def _means_and_errors(means: pd.Series) -> list[str]:
    return [
        f"{means[variable]:.{digits}f} ± {means[f'{variable}_standard_error']:.{digits}f}"
        for variable, digits in DIGITS.items()
    ]


def _difference(loss: pd.Series) -> list[str]:
    rate, low, high = (100 * loss[f"win_rate{end}"] for end in ("", "_lower", "_upper"))
    ends = loss["lower"], loss["upper"]
    return [
        f"{ends[0]:+.3f} … {ends[1]:+.3f}",
        verdict(*ends),
        f"{rate:.0f} % ({low:.0f} to {high:.0f})",
    ]


def ordered(methods: pd.Index) -> list[str]:
    """Return the methods with random selection and both forms of RND first."""
    first = [method for method in FIRST_METHODS if method in methods]
    return first + sorted(set(methods) - set(FIRST_METHODS))


def verdicts_table(analyses: dict) -> str:
    """Return relative differences of each method from random selection, means over sizes."""
    rows = []
    for group, analysis in analyses.items():
        for method in ordered(pd.Index(analysis.differences["method"].unique())):
            part = analysis.differences[analysis.differences["method"] == method]
            differences = dict(iter(part.groupby("variable")))
            loss = differences["min_test_loss"]
            relative = [
                f"{100 * differences[name]['relative_difference'].mean():+.0f} %"
                for name in MEASURED
            ]
            counts = count_verdicts(loss["lower"], loss["upper"])
            rate = f"{100 * loss['win_rate'].mean():.0f} %"
            rows.append([group, method, *relative, rate, *counts])
    header = ["problem", "method", "min test loss", "final test loss", "S", "Tr", "win rate"]
    return table([*header, *VERDICT_COLUMNS], rows)


def correlations_table(analyses: dict) -> str:
    """Return the correlations of entropy and trace with the minimum test loss."""
    keys = ["parametrisation", "kind", "x_variable", "y_variable"]
    rows = []
    for group, analysis in analyses.items():
        coefficients = analysis.correlations.set_index(keys)
        for parametrisation in analysis.runs["parametrisation"].unique():
            row = [f"{group}, {PARAMETRISATIONS[parametrisation]}"]
            for variable in ("entropy", "trace"):
                for kind in ("pearson", "pearson given size"):
                    one = coefficients.loc[(parametrisation, kind, variable, "min_test_loss")]
                    row.append(
                        f"{one['coefficient']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"
                    )
            rows.append(row)
    return table(["network", "S", "S, given the size", "Tr", "Tr, given the size"], rows)


def limits_table(kernels: dict) -> str:
    """Return kernels of random subsets next to those of infinite width, means over members.

    Networks have the parametrisation "ntk".
    """
    rows = []
    for group, node in kernels.items():
        limits = node.limits
        limits = limits[limits["method"] == "random"]
        if len(limits):
            mean = limits.mean(numeric_only=True)
            error = limits["relative_distance"].sem()
            rows.append(
                [
                    group,
                    str(len(limits)),
                    f"{limits['n_points'].max()}",
                    f"{mean['relative_distance']:.2f} ± {error:.2f}",
                    f"{mean['alignment']:.2f}",
                    *(
                        f"{mean[name]:.{digits}f}"
                        for names, digits in LIMIT_PAIRS
                        for name in names
                    ),
                ]
            )
    header = ["network", "members", "points, at most", "distance", "alignment"]
    return table([*header, "S", "S, infinite", "Tr", "Tr, infinite"], rows)


def claims_table(path: Path, words: str) -> str:
    """Return a table of the report, without its sentences."""
    rows = []
    for claim in json.loads((ROOT / path).read_text()):
        word = claim["verdict"]
        rows.append(
            [
                claim["claim"],
                claim["words"],
                f"{claim['effect']}: {report.effects(claim)}",
                word if word == "undecided" else f"**{word}**",
            ]
        )
    return table(["", words, "our effects [and ends of their intervals]", "verdict"], rows)


def decisions_table() -> str:
    """Return the decisions where the paper is silent."""
    decisions = yaml.safe_load((ROOT / "nodes" / "decisions.yaml").read_text())
    rows = [[each["question"], each["ours"], f"`{each['where']}`"] for each in decisions]
    return table(["question", "ours", "where"], rows)


def join_sections(parts: dict[str, str]) -> str:
    """Return parts with their titles."""
    return "\n\n".join(f"**{title}**\n\n{content}" for title, content in parts.items())


def update_first_paper(params: dict) -> str:
    """Write tables and pictures of the first paper; return all its tables."""
    groups = check_reproduction.known_groups()
    analyses = {group: zntrack.from_rev(f"{group}_CorrelationAnalysis") for group in groups}
    kernels = {group: zntrack.from_rev(f"{group}_ComputeNTK") for group in groups}
    sizes = {group: params[f"{group}_Ensemble"]["n_points"] for group in groups}
    first = {group: analyses[group] for group in groups if isinstance(sizes[group], dict)}
    second = {group: analyses[group] for group in groups if group not in first}
    networks = {
        group: (params[f"{group}_LoadDataset"]["problem"], params[f"{group}_Network"]["layers"])
        for group in first
    }
    runs = pd.concat([analysis.runs for analysis in first.values()], ignore_index=True)
    short = {
        "Experiment 2: each method minus random selection, relative, mean over the subset sizes":
            verdicts_table(second),
        "Experiment 1: Pearson's r with the minimum test loss, plain and after a cubic in ln n is "
        "regressed out": correlations_table(first),
        "Experiment 1 next to the paper's Table 2": compare_with_table_2(runs, networks),
        "Kernels of these networks compared with those of infinite width, before training":
            limits_table(kernels),
    }  # fmt: skip
    claims_path = zntrack.from_rev("all_Report").claims_path
    insert_into_readme("claims", claims_table(claims_path, "the paper's words"))
    insert_into_readme("results", join_sections(short))
    insert_into_readme("decisions", decisions_table())
    text = join_sections(short | {"Experiment 2, every size": selection_table(second)})
    (REFERENCE / "results.md").write_text(text + "\n")
    check_reproduction.collect(ROOT, groups, True, REFERENCE)
    for name, title in PICTURES.items():
        draw(title, REFERENCE / f"{name}.png")
    return text


def update_second_paper() -> None:
    """Write tables and the picture of the second paper."""
    findings = Findings.from_rev("dynamics_Findings")
    insert_into_readme("findings", claims_table(findings.findings_path, "the second paper says"))
    folder = REFERENCE / "dynamics"
    folder.mkdir(exist_ok=True)
    for path in (
        findings.evidence_path,
        findings.networks_path,
        findings.phases_path,
        findings.laws_path,
    ):
        rows = pd.read_csv(ROOT / path)
        rows.to_csv(folder / path.name, index=False, float_format="%.6g")
    study = ScalingStudy.from_rev(f"{EVOLUTION}_ScalingStudy")
    render(evolution(study.recording, study.cases), folder / "evolution.png")


def main() -> None:
    REFERENCE.mkdir(exist_ok=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    text = update_first_paper(params)
    update_second_paper()
    print(text)


if __name__ == "__main__":
    main()
