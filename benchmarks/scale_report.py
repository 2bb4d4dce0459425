"""Judge the claims on what is kept in reference/paper/, draw it, and write the README's part on it.

    python benchmarks/scale_report.py

`benchmarks/at_scale.py` makes those tables of runs; the evidence of all of them and the pictures are written beside them.
"""

import json
from typing import Any

import pandas as pd
import vl_convert
from at_scale import KEPT, ROOT
from dvc_render import VegaRenderer
from tables import into_readme, table

from collective_variables import claims, paper, statistics

About = dict[str, dict[str, Any]]
PICTURES = {  # template, x, y
    "figure-2": ("scatter-by-test-loss", ("entropy", "Entropy S"), ("trace", "Trace Tr")),
    "figure-2-trace": ("scatter-by-n-points", ("trace", "Trace Tr"), ("min_test_loss", "Minimum test loss")),
}


def kept() -> tuple[pd.DataFrame, About]:
    """The runs of all groups, and what they were computed with."""
    about = {path.stem: json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))}
    runs = pd.concat([pd.read_csv(KEPT / f"{group}.csv.gz") for group in about], ignore_index=True)
    return runs.assign(largest_eigenvalue_fraction=runs["largest_eigenvalue"] / runs["trace"]), about


def networks(runs: pd.DataFrame, about: About) -> str:
    """Table 2 of the paper beside ours."""
    rows = []
    for (group, parametrisation), of in runs.groupby(["group", "parametrisation"], sort=False):
        params = about[group]["params"]
        of_paper = params["LoadDataset"]["problem"], ", ".join(params["Network"]["layers"])
        n_runs, accuracy, loss = paper.TABLE_2.get(of_paper, (None, None, None))
        best = of[~of["diverged"]]
        counts = ["–" if n_runs is None else f"{n_runs}", f"{len(of)}", f"{of['n_points'].min()} to {of['n_points'].max()}"]
        accuracies = [in_percent(accuracy), in_percent(best["max_test_accuracy"].max())]
        losses = ["–" if loss is None else f"{loss:.3f}", f"{best['min_test_loss'].min():.3f}"]
        rows.append([group, parametrisation, *counts, *accuracies, *losses])
    header = ["network", "parametrisation", "runs, paper", "ours", "points", "max accuracy, paper", "ours"]
    return table([*header, "min test loss, paper", "ours"], rows)


def in_percent(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{100 * value:.1f} %"


def machines(about: About) -> str:
    """Where each group ran, and the seconds of its parts."""
    rows = []
    for group, of in about.items():
        versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
        parts = ", ".join(f"{part} {value:.0f}" for part, value in of["seconds"].items())
        rows.append([group, of["device"], versions, f"`{of['commit']}`", parts])
    return table(["network", "device", "versions", "commit", "seconds, all parametrisations"], rows)


def judged(evidence: pd.DataFrame) -> str:
    rows = []
    for of in evidence.itertuples():
        interval = f"{of.effect:+.3f} [{of.lower:+.3f}, {of.upper:+.3f}]"
        p_value = "–" if pd.isna(of.p_value_holm) else f"{of.p_value_holm:.3f}"
        rows.append([of.claim, of.group, of.parametrisation, of.variable, interval, p_value, of.verdict])
    return table(["claim", "network", "parametrisation", "variable", "effect", "p, corrected", "verdict"], rows)


def draw(runs: pd.DataFrame, name: str) -> None:
    """Render a plot with one of the templates of `dvc plots show`."""
    template, (x, x_label), (y, y_label) = PICTURES[name]
    labels = {"x": x, "x_label": x_label, "y": y, "y_label": y_label}
    points = runs.astype(str).assign(rev="").to_dict("records")
    options = {"template": template, "template_dir": str(ROOT / ".dvc" / "plots"), "title": "", **labels}
    filled = VegaRenderer(points, name, **options).get_filled_template()
    del filled["spec"]["encoding"]["shape"]  # of several revisions
    picture = vl_convert.vegalite_to_png(filled, vl_version="5.20", scale=1.3)
    (KEPT / f"{name}.png").write_bytes(picture)


def main() -> None:
    runs, about = kept()
    first = runs[~statistics.compares_methods(runs)]
    for name in PICTURES:
        draw(first, name)
    layers = {group: of["params"]["Network"]["layers"] for group, of in about.items()}
    convolutional = [group for group, of in layers.items() if any(layer.startswith("conv") for layer in of)]
    evidence = claims.evidence(runs, convolutional=convolutional)
    evidence.to_csv(KEPT / "evidence.csv", index=False, float_format="%.6g")
    effects = "\n".join(f"- {name}: {claims.CLAIMS[name].effect}" for name in dict.fromkeys(evidence["claim"]))
    text = "\n\n".join([networks(runs, about), machines(about), judged(evidence), effects])
    into_readme("scale", text)
    print(text)


if __name__ == "__main__":
    main()
