"""Define Report: the page that judges the claims of the paper by the runs of all groups."""

import itertools
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import pandas as pd
import yaml
import zntrack

from collective_variables.papers import claims, claims_2023, report, results_2023
from collective_variables.papers.labelling import results as labelling_results
from collective_variables.papers.pages import graph
from nodes import _files
from nodes.correlation_analysis import CorrelationAnalysis
from nodes.findings import Findings
from nodes.load_dataset import LoadDataset

DECISIONS = Path(__file__).parent / "decisions.yaml"
# Read and not imported: the stage Sources follows them.
FOLLOWED_FILES = (
    "collective_variables/papers/templates/base.html",
    "collective_variables/papers/templates/draw.js",
    "collective_variables/papers/templates/parts.html",
    "collective_variables/papers/templates/report.html",
    "collective_variables/papers/templates/style.css",
    "nodes/decisions.yaml",
)
# Prefixes that `dvc repro` needs for the stages of each graph.
GRAPHS = {Path("dvc.yaml"): "", Path("dynamics/dvc.yaml"): "dynamics/dvc.yaml:"}
PACKAGES = (
    "jax",
    "flax",
    "optax",
    "neural-tangents",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "zntrack",
    "dvc",
)
TITLE = "Entropy, trace and random network distillation: do the claims hold?"
INTRODUCTION = (
    "This page tests claims C1 to C11 of Tovey, Krippendorf, Nikolaou and Holm (2023), “Towards a "
    "Phenomenological Understanding of Neural Networks: Data”, on networks that this project "
    "trained. The claims are about the entropy and the trace of a network's neural tangent kernel "
    "before training. They say how both predict the test loss, and how much a network gains if "
    "random network distillation (RND) selects its training data.",
    "The “minimum test loss” is that of early stopping on the test points, as in the paper. It is "
    "therefore optimistic for every method alike.",
)


class Report(zntrack.Node):
    """Test the claims of P1 (`papers.claims_2023`) on the runs of all groups, and write the page.

    Args:
        findings: One stage with findings on learning dynamics to show as well, or no stage.
        algorithm: The method that is RND as in P1.
        n_resamples: Number of bootstrap resamples.
        n_permutations: Number of permutations of runs, and of flips of members' signs.
        confidence: Confidence of all intervals, and 1 - level of the tests.
        degree: Degree of the polynomial that removes the subset size.
        seed: Seed of resamples, permutations and sign flips.
    """

    analyses: list[CorrelationAnalysis] = zntrack.deps()
    data: list[LoadDataset] = zntrack.deps()
    findings: list[Findings] = zntrack.deps()
    architecture_paths: list[Path] = zntrack.deps_path()
    rounds_paths: list[Path] = zntrack.deps_path()
    time_paths: list[Path] = zntrack.deps_path()
    params_path: Path = zntrack.deps_path(Path("params.yaml"))

    algorithm: str = zntrack.params("rnd")
    n_resamples: int = zntrack.params(1000)
    n_permutations: int = zntrack.params(10_000)
    confidence: float = zntrack.params(0.95)
    degree: int = zntrack.params(3)
    seed: int = zntrack.params(0)

    code: Path = zntrack.deps_path(Path("nodes/Sources/Report.txt"))
    page_path: Path = zntrack.outs_path(zntrack.nwd / "report.html")
    claims_path: Path = zntrack.outs_path(zntrack.nwd / "claims.json")
    evidence_path: Path = zntrack.outs_path(zntrack.nwd / "evidence.csv")
    verdicts: dict = zntrack.metrics()

    def run(self) -> None:
        """Write the page, the claims and their evidence."""
        params = yaml.safe_load(self.params_path.read_text())
        runs, summary, correlations = (
            self._joined(name) for name in ("runs", "summary", "correlations")
        )
        problems = self._problems()
        names = ("n_resamples", "n_permutations", "confidence", "degree", "seed")
        options = {name: getattr(self, name) for name in names}
        convolutional = [group for group, one in problems.items() if one.is_convolutional]
        evidence = claims_2023.evidence(
            runs, convolutional=convolutional, algorithm=self.algorithm, **options
        )
        content = report.Content(
            title=TITLE,
            introduction=INTRODUCTION,
            parts=[
                report.Part("claims", "Claims", claims_2023.CLAIMS, evidence),
                *(part for node in self.findings for part in node.parts),
            ],
            pictures=[
                picture._replace(command=f"dvc repro {_target(self.name)}")
                for picture in self._pictures(runs, summary, correlations)
            ],
            tables=[
                *results_2023.tables(runs, problems, **options),
                *labelling_results.tables(self._rounds(), confidence=self.confidence),
                *(table for node in self.findings for table in node.tables),
                _decisions(params),
                self._times(),
            ],
            settings=params,
            about=_about(),
            stages=_stages(self.name, params, self._seconds()),
        )
        _files.write_table(self.evidence_path, evidence)
        record = (claims.claims_record(part.evidence, part.claims) for part in content.parts)
        _files.write_values(self.claims_path, list(itertools.chain(*record)))
        with _files.whole(self.page_path) as unfinished:
            unfinished.write_text(report.html(content))
        self.verdicts = (
            claims.judge_claims(evidence, claims_2023.CLAIMS)
            .set_index("claim")["verdict"]
            .to_dict()
        )
        print(f"{self.name} wrote {self.page_path}")

    def _joined(self, name: str) -> pd.DataFrame:
        return pd.concat([getattr(analysis, name) for analysis in self.analyses], ignore_index=True)

    def _pictures(self, *tables: pd.DataFrame) -> list[report.Picture]:
        others = [picture for node in self.findings for picture in node.pictures]
        rounds = labelling_results.pictures(self._rounds(), confidence=self.confidence)
        return results_2023.pictures(*tables) + rounds + others

    def _rounds(self) -> dict[str, pd.DataFrame]:
        return {path.parts[-3]: pd.read_csv(path) for path in self.rounds_paths}

    def _problems(self) -> dict[str, results_2023.Problem]:
        layers = {
            path.parts[-3]: _files.read_values(path)["layers"] for path in self.architecture_paths
        }
        problems = {}
        for node in self.data:
            group, data = node.nwd.parent.name, node.dataset
            shapes = data.inputs.shape[1:], data.targets.shape[1]
            sizes = len(data.inputs), len(data.test_inputs), *shapes
            problems[group] = results_2023.Problem(data.name, data.task, *sizes, layers[group])
        return problems

    def _seconds(self) -> dict[tuple[str, str], float]:
        """Return the time of each stage by its group and its name there."""
        return {path.parts[-3:-1]: _files.read_values(path)["run_time"] for path in self.time_paths}

    def _times(self) -> report.Table:
        rows = [(*names, seconds) for names, seconds in self._seconds().items()]
        table = pd.DataFrame(rows, columns=["group", "stage", "seconds"])
        caption = (
            "Seconds of computation in the last run of each stage, possibly on another machine. "
            "The start of Python and its imports is not included."
        )
        return report.Table("time", "Time", caption, table)


def _decisions(params: dict[str, dict]) -> report.Table:
    """Tabulate the settings that the paper does not state, with their values in the groups."""
    rows = []
    for decision in yaml.safe_load(DECISIONS.read_text()):
        stage, name = decision["where"].split(".")
        sections = [
            values
            for section, values in params.items()
            if section.endswith(f"_{stage}") and name in values
        ]
        values = dict.fromkeys(json.dumps(values[name]) for values in sections)
        words = [decision[name] for name in ("question", "ours", "where")]
        rows.append((*words, "; ".join(values), f"dvc exp run -S '{decision['change']}'"))
    table = pd.DataFrame(
        rows, columns=["question", "default, and why", "parameter", "values here", "change it"]
    )
    return report.Table("decisions", "Where the paper is silent", "Each is a parameter.", table)


def _graph() -> dict[str, dict]:
    """Return the stages of both graphs, except the one that follows the code."""
    stages = {}
    for path in filter(Path.is_file, GRAPHS):
        stages |= yaml.safe_load(path.read_text())["stages"]
    return {name: stage for name, stage in stages.items() if name != "Sources"}


def _target(name: str) -> str:
    """Return the name of a stage for `dvc repro`."""
    files = [path for path in GRAPHS if path.is_file() and f"\n  {name}:\n" in path.read_text()]
    return f"{GRAPHS[files[0]]}{name}" if files else name


def _stages(
    last: str, params: dict[str, dict], seconds: dict[tuple[str, str], float]
) -> list[graph.Stage]:
    """Return the stages that lead to the last one, with their parameters, code and seconds."""
    # dvc.yaml is not a dependency: any change in it that affects the page changes a dependency.
    stages = _graph()
    makers = {path: name for name, stage in stages.items() for path in _outputs(stage)}
    after = {
        name: list(dict.fromkeys(makers[path] for path in stage["deps"] if path in makers))
        for name, stage in stages.items()
    }
    needed = [last] if last in stages else []
    for name in needed:
        needed += [other for other in after[name] if other not in needed]
    result = []
    for name in sorted(needed, key=list(stages).index):
        group, _, label = name.rpartition("_")
        module = stages[name]["cmd"].split()[2].rpartition(".")[0]
        result.append(
            graph.Stage(
                name,
                label.removeprefix("SelectSubset-"),
                group,
                after[name],
                f"{module.replace('.', '/')}.py",
                params.get(name, {}),
                seconds.get((group, label)),
            )
        )
    return result


def _outputs(stage: dict) -> list[str]:
    entries = [entry for kind in ("outs", "metrics") for entry in stage.get(kind, [])]
    return [path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)]


def _about() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    machine = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"Written by Python {platform.python_version()} with {versions}, on {machine}."
