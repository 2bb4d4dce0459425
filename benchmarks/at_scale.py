"""Keep what `make paper` computed in reference/paper/, and write the README's tables of it.

    python benchmarks/at_scale.py [FOLDER GROUP ...]

FOLDER: of the project where `make paper GROUPS=…` ran; its groups' tables of runs are copied to reference/paper/GROUP.csv.gz,
with six digits, and what they were computed with to GROUP.json. Without arguments the README is written from what is there.
"""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import yaml
from reproduce import REFERENCE, ROOT
from tables import into_readme, table

from collective_variables import claims, paper

KEPT = REFERENCE / "paper"
COLUMNS = ["group", "parametrisation", "method", "member", "n_points", "entropy", "trace", "largest_eigenvalue"]
COLUMNS += [f"{which}_{of}" for of in ("test_loss", "train_loss") for which in ("min", "final")]
COLUMNS += ["max_test_accuracy", "final_test_accuracy", "diverged"]
PACKAGES = ("jax", "flax", "optax", "numpy")


def keep(project: Path, group: str) -> None:
    KEPT.mkdir(exist_ok=True)
    nodes = project / "nodes" / group
    runs = pd.read_csv(nodes / "CorrelationAnalysis" / "runs.csv")
    runs[COLUMNS].to_csv(KEPT / f"{group}.csv.gz", index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})
    params = yaml.safe_load((project / "params.yaml").read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=project, capture_output=True, text=True, check=True)
    seconds = {stage: json.loads((nodes / stage / "node-meta.json").read_text())["run_time"] for stage in ("ComputeNTK", "TrainModel")}
    about = {
        "device": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit.stdout.strip(),
        "seconds": seconds,
        "params": {name: values for name, values in params.items() if name.rpartition("_")[0] == group},
    }
    (KEPT / f"{group}.json").write_text(json.dumps(about, indent=1) + "\n")


def kept() -> tuple[pd.DataFrame, dict[str, dict]]:
    """The runs of all groups, and what they were computed with."""
    about = {path.stem: json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))}
    runs = pd.concat([pd.read_csv(KEPT / f"{group}.csv.gz") for group in about], ignore_index=True)
    return runs.assign(largest_eigenvalue_fraction=runs["largest_eigenvalue"] / runs["trace"]), about


def networks(runs: pd.DataFrame, about: dict[str, dict]) -> str:
    rows = []
    for (group, parametrisation), of in runs.groupby(["group", "parametrisation"], sort=False):
        params = about[group]["params"]
        layers = ", ".join(params[f"{group}_Network"]["layers"])
        n_runs, accuracy, loss = paper.TABLE_2[params[f"{group}_LoadDataset"]["problem"], layers]
        best = of[~of["diverged"]]
        accuracies = ["–" if accuracy is None else f"{100 * value:.1f} %" for value in (accuracy or 0, best["max_test_accuracy"].max())]
        losses = [f"{value:.3f}" for value in (loss, best["min_test_loss"].min())]
        seconds = [f"{about[group]['seconds'][stage]:.0f}" for stage in ("TrainModel", "ComputeNTK")]
        sizes = f"{of['n_points'].min()} to {of['n_points'].max()}"
        rows.append([group, parametrisation, f"{n_runs}", f"{len(of)}", sizes, *accuracies, *losses, *seconds])
    header = ["network", "parametrisation", "runs, paper", "ours", "points", "max accuracy, paper", "ours"]
    header += ["min test loss, paper", "ours", "seconds, training both", "kernels of both"]
    return table(header, rows)


def judged(evidence: pd.DataFrame) -> str:
    rows = []
    for of in evidence.itertuples():
        interval = f"{of.effect:+.3f} [{of.lower:+.3f}, {of.upper:+.3f}]"
        p_value = "–" if pd.isna(of.p_value_holm) else f"{of.p_value_holm:.3f}"
        rows.append([of.claim, of.group, of.parametrisation, of.variable, interval, p_value, of.verdict])
    return table(["claim", "network", "parametrisation", "variable", "effect", "p, corrected", "verdict"], rows)


def main() -> None:
    if len(sys.argv) > 1:
        for group in sys.argv[2:]:
            keep(Path(sys.argv[1]), group)
    runs, about = kept()
    layers = {group: of["params"][f"{group}_Network"]["layers"] for group, of in about.items()}
    convolutional = [group for group, of in layers.items() if any(layer.startswith("conv") for layer in of)]
    evidence = claims.evidence(runs, convolutional=convolutional)
    evidence.to_csv(KEPT / "evidence.csv", index=False, float_format="%.6g")
    effects = "\n".join(f"- {name}: {claims.CLAIMS[name].effect}" for name in dict.fromkeys(evidence["claim"]))
    text = f"{networks(runs, about)}\n\n{judged(evidence)}\n\n{effects}"
    into_readme("scale", text)
    print(text)


if __name__ == "__main__":
    main()
