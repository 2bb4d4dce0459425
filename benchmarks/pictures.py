"""Draw the README's pictures and write its tables, from what the stages left in the workspace (run
`make all` first).

Pictures go to reference/*.png, all tables to reference/results.md and, the long one left out,
between the two comments `results` of README.md; the claims of the report and the decisions of
nodes/decisions.yaml to their own. The tables that benchmarks/reproduce.py compares with go to
reference/*.csv, those on learning dynamics and their picture to reference/dynamics (run `make
dynamics` as well).
"""

import json
import subprocess
from pathlib import Path

import pandas as pd
import reproduce
import vl_convert
import yaml
import zntrack
from reproduce import REFERENCE, ROOT
from tables import PARAMETRISATIONS, against_table_2, into_readme, table, verdict
from tables import verdicts as counted

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
    "rnd-history": "RND: distance of the chosen point, and of the pool",
    "rnd-chosen": "RND: the points chosen first, with their order",
}
MEASURED = ("min_test_loss", "final_test_loss", "entropy", "trace")
EVOLUTION = "dynamics-mnist"  # the group that is drawn over the epochs
PAIRS = ((("entropy", "limit_entropy"), 2), (("trace", "limit_trace"), 1))


def render(plot: dict, path: Path) -> None:
    """Write a plot of Vega-Lite as PNG."""
    path.write_bytes(vl_convert.vegalite_to_png(plot, vl_version="5.20", scale=1.3))


def draw(title: str, path: Path) -> None:
    """Render one plot of `dvc plots show` to PNG."""
    command = ["dvc", "plots", "show", "--show-vega", f"plots/dvc.yaml::{title}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    render(json.loads(shown.splitlines()[-1]), path)


def evolution(recording: pd.DataFrame, studies: dict[str, list[study_cases.Case]]) -> dict:
    """The studies of a group over the epochs, a row of panels each: means over members, and one
    standard deviation.
    """
    rows = []
    for study, cases in studies.items():
        networks = claims_2024.split_networks(study_cases.study_rows(recording, cases))
        table = pd.concat([of.assign(network=words) for words, of in networks], ignore_index=True)
        rows.append(
            {
                "title": study,
                "hconcat": [panel(table, quantity) for quantity in figures_2024.QUANTITIES],
            }
        )
    return {"vconcat": rows, "resolve": {"scale": {"color": "independent"}}}


def panel(table: pd.DataFrame, quantity: str) -> dict:
    """One quantity against the epoch, which is shown + 1 on a logarithmic axis."""
    lines = table.groupby(["network", "points"])
    parts = {words: figures_2024.mean_and_band(line, quantity) for words, line in lines}
    found = pd.concat(parts, names=["network", "points"]).reset_index()
    found["epoch"] += 1
    scale = {"type": "log"} if quantity == "loss" else {"zero": False}
    axis = {"tickCount": 4, "format": "~g" if quantity == "loss" else "~s"}
    y = {"field": "mean", "type": "quantitative", "scale": scale, "title": quantity, "axis": axis}
    band = {
        "mark": {"type": "area", "opacity": 0.2},
        "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
    }
    line = {"mark": "line", "encoding": {"y": y}}
    shared = {
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
    values = json.loads(found.to_json(orient="records"))
    return {
        "width": 220,
        "height": 140,
        "data": {"values": values},
        "encoding": shared,
        "layer": [band, line],
    }


def selection(analyses: dict) -> str:
    rows = []
    for group, analysis in analyses.items():
        differences = analysis.differences.set_index(["method", "n_points", "variable"])
        for n in sorted(analysis.summary["n_points"].unique()):
            of_size = analysis.summary[analysis.summary["n_points"] == n].set_index("method")
            for method in ordered(of_size.index):
                row = [group, f"{n:.0f}", method]
                for variable, digits in (("min_test_loss", 3), ("entropy", 2), ("trace", 1)):
                    mean, error = of_size.loc[method, [variable, f"{variable}_standard_error"]]
                    row.append(f"{mean:.{digits}f} ± {error:.{digits}f}")
                if method == "random":
                    rows.append([*row, "", "", ""])
                    continue
                loss = differences.loc[(method, n, "min_test_loss")]
                rate, low, high = (100 * loss[f"win_rate{end}"] for end in ("", "_lower", "_upper"))
                ends = loss["lower"], loss["upper"]
                row += [
                    f"{ends[0]:+.3f} … {ends[1]:+.3f}",
                    verdict(*ends),
                    f"{rate:.0f} % ({low:.0f} to {high:.0f})",
                ]
                rows.append(row)
    header = ["problem", "n", "method", "min test loss", "S", "Tr"]
    return table(
        [*header, "95 % interval of the paired difference", "its loss is", "win rate"], rows
    )


def ordered(methods: pd.Index) -> list[str]:
    """Random and RND first."""
    first = ["random", "rnd", "paper"]
    return [method for method in first if method in methods] + sorted(set(methods) - set(first))


def verdicts(analyses: dict) -> str:
    rows = []
    for group, analysis in analyses.items():
        for method in ordered(pd.Index(analysis.differences["method"].unique())):
            of_method = analysis.differences[analysis.differences["method"] == method]
            of = dict(iter(of_method.groupby("variable")))
            loss = of["min_test_loss"]
            relative = [
                f"{100 * of[name]['relative_difference'].mean():+.0f} %" for name in MEASURED
            ]
            counts = counted(loss["lower"], loss["upper"])
            rows.append(
                [group, method, *relative, f"{100 * loss['win_rate'].mean():.0f} %", counts]
            )
    measured = ["min test loss", "final test loss", "S", "Tr"]
    return table(
        [
            "problem",
            "method",
            *measured,
            "win rate",
            "sizes where its loss is lower / undecided / higher",
        ],
        rows,
    )


def correlations(analyses: dict) -> str:
    rows = []
    for group, analysis in analyses.items():
        found = analysis.correlations.set_index(
            ["parametrisation", "kind", "x_variable", "y_variable"]
        )
        for parametrisation in analysis.runs["parametrisation"].unique():
            row = [f"{group}, {PARAMETRISATIONS[parametrisation]}"]
            for variable in ("entropy", "trace"):
                for kind in ("pearson", "pearson given size"):
                    one = found.loc[(parametrisation, kind, variable, "min_test_loss")]
                    row.append(
                        f"{one['coefficient']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"
                    )
            rows.append(row)
    header = ["network", "S", "S, given the size", "Tr", "Tr, given the size"]
    return table(header, rows)


def limits(kernels: dict) -> str:
    """Kernels of random subsets beside those of infinite width, means over members; of the
    parametrisation ntk.
    """
    rows = []
    for group, of in kernels.items():
        found = of.limits
        found = found[found["method"] == "random"]
        if len(found):
            mean, width = found.mean(numeric_only=True), found["n_points"].max()
            distance, error = mean["relative_distance"], found["relative_distance"].sem()
            pairs = [f"{mean[name]:.{digits}f}" for names, digits in PAIRS for name in names]
            rows.append(
                [
                    group,
                    str(len(found)),
                    f"{width}",
                    f"{distance:.2f} ± {error:.2f}",
                    f"{mean['alignment']:.2f}",
                    *pairs,
                ]
            )
    header = [
        "network",
        "members",
        "points, at most",
        "distance",
        "alignment",
        "S",
        "S, infinite",
        "Tr",
        "Tr, infinite",
    ]
    return table(header, rows)


def claims(path: Path, words: str) -> str:
    """A table of the report, without its sentences."""
    judged = json.loads((ROOT / path).read_text())
    rows = []
    for of in judged:
        verdict = of["verdict"] if of["verdict"] == "undecided" else f"**{of['verdict']}**"
        rows.append([of["claim"], of["words"], f"{of['effect']}: {report.effects(of)}", verdict])
    return table(["", words, "our effects [and ends of their intervals]", "verdict"], rows)


def decisions() -> str:
    found = yaml.safe_load((ROOT / "nodes" / "decisions.yaml").read_text())
    rows = [[of["question"], of["ours"], f"`{of['where']}`"] for of in found]
    return table(["question", "ours", "where"], rows)


def sections(parts: dict[str, str]) -> str:
    return "\n\n".join(f"**{title}**\n\n{content}" for title, content in parts.items())


def main() -> None:
    with (ROOT / "params.yaml").open() as file:
        params = yaml.safe_load(file)
    groups = [
        name.removesuffix("_CorrelationAnalysis")
        for name in params
        if name.endswith("_CorrelationAnalysis")
    ]
    ensembles = {group: params[f"{group}_Ensemble"] for group in groups}
    analyses = {group: zntrack.from_rev(f"{group}_CorrelationAnalysis") for group in ensembles}
    kernels = {group: zntrack.from_rev(f"{group}_ComputeNTK") for group in ensembles}
    ranged = {group for group, values in ensembles.items() if isinstance(values["n_points"], dict)}
    first = {group: analysis for group, analysis in analyses.items() if group in ranged}
    second = {group: analysis for group, analysis in analyses.items() if group not in ranged}
    networks = {
        group: (params[f"{group}_LoadDataset"]["problem"], params[f"{group}_Network"]["layers"])
        for group in first
    }
    runs = pd.concat([analysis.runs for analysis in first.values()], ignore_index=True)
    REFERENCE.mkdir(exist_ok=True)
    short = {
        "Experiment 2: each method minus random selection, relative, mean over the subset sizes": verdicts(
            second
        ),
        "Experiment 1: Pearson's r with the minimum test loss, plain and after a cubic in ln n is regressed out": correlations(
            first
        ),
        "Experiment 1 beside the paper's Table 2": against_table_2(runs, networks),
        "Kernels of these networks beside those of infinite width, before training": limits(
            kernels
        ),
    }
    into_readme("claims", claims(zntrack.from_rev("all_Report").claims_path, "the paper's words"))
    findings = Findings.from_rev("dynamics_Findings")
    into_readme("findings", claims(findings.findings_path, "the second paper says"))
    (REFERENCE / "dynamics").mkdir(exist_ok=True)
    for path in (
        findings.evidence_path,
        findings.networks_path,
        findings.phases_path,
        findings.laws_path,
    ):
        pd.read_csv(ROOT / path).to_csv(
            REFERENCE / "dynamics" / path.name, index=False, float_format="%.6g"
        )
    into_readme("results", sections(short))
    into_readme("decisions", decisions())
    text = sections(short | {"Experiment 2, every size": selection(second)})
    (REFERENCE / "results.md").write_text(text + "\n")
    reproduce.collect(ROOT, ensembles, True, REFERENCE)
    for name, title in PICTURES.items():
        draw(title, REFERENCE / f"{name}.png")
    drawn = ScalingStudy.from_rev(f"{EVOLUTION}_ScalingStudy")
    render(evolution(drawn.recording, drawn.cases), REFERENCE / "dynamics" / "evolution.png")
    print(text)


if __name__ == "__main__":
    main()
