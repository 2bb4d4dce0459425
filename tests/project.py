"""A copy of this project in a folder of its own, at parameters so small that every stage is done in
seconds.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import warm
import yaml
from compiled import COMPILED, ROOT
from dvc.repo import Repo, lock_repo
from dvc.utils import strictyaml
from dvc.utils.serialize import _yaml

JAX = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    **{name.upper(): str(value) for name, value in COMPILED.items()},
}
TINY = {
    "LoadDataset": {},
    "Network": {"layers": ["dense 8", "dense {n_outputs}"]},
    "Ensemble": {"n_members": 3, "n_points": [4, 8]},
    "RNDSelect": {"options": {"n_epochs": 2}},
    "SelectSubset-rnd-linearised": {},
    "ComputeNTK": {},
    "TrainModel": {"n_epochs": 4, "evaluate_every": 2},
    "CorrelationAnalysis": {"n_resamples": 20},
    "ActiveLearning": {
        "methods": {"random": {}, "lcmd": {"n_features": 8}},
        "n_start": 4,
        "n_batch": 3,
        "n_rounds": 2,
        "n_repeats": 2,
        "n_pool": 20,
        "n_epochs": 2,
    },
    "Report": {"n_resamples": 20, "n_permutations": 50},
    "Findings": {},
    "ScalingStudy": {"n_epochs": 2, "batch_size": 4},
    "TrainAutoencoder": {"n_latents": 2, "width": 4, "n_epochs": 2, "batch_size": 4},
    "TrainAgent": {
        "n_members": 3,
        "n_updates": 2,
        "n_environments": 2,
        "n_steps": 16,
        "n_minibatches": 2,
        "width": 4,
    },
}
# Of each axis of a study the first two values, small ones.
TINY_AXES = {"width": (4, 8), "depth": (1, 2), "n_points": (4, 8), "batch_size": (2, 4)}
TINY_RECORD = {"epochs": [1], "n_test": 6}
TINY_CONVOLUTION = ["conv 2 3x3 stride 3", "avgpool 2x2", "dense 10"]
TINY_RANGE = {
    "Ensemble": {"n_members": 9, "n_points": {"low": 4, "high": 9, "distribution": "uniform"}}
}
# What no group switches on by itself. Of the two sizes the smaller is formed from its products, the
# larger estimated.
TINY_OF_GROUP = {
    "mnist_Ensemble": {"n_points": [4, 12]},
    "mnist_ComputeNTK": {
        "per_class": True,
        "spectrum": "stochastic",
        "n_leading": 1,
        "n_probes": 3,
        "n_steps": 1,
        "subsample": {"n_samples": 2, "sample_size": 3},
    },
    "fuel_TrainModel": {"record": {"epochs": [2], "observables": ["drift", "modes"], "n_modes": 2}},
    "mnist_TrainModel": {
        "record": {"epochs": [0], "n_test": 6, "observables": ["alignment", "classes"]}
    },
    "mnist-conv_ComputeNTK": {"outputs": "per-output", "dtype": "float64"},
}


def read(path: Path) -> dict:
    """What a YAML file has, by the parser in C, which is six times faster."""
    return yaml.load(path.read_text(), yaml.CSafeLoader)


def mirror() -> str | None:
    """The folder or URL of the files that are not embedded, if this machine has one."""
    beside = ROOT.parent / "shared" / "data" / "mirror"
    return os.environ.get("COLLECTIVE_VARIABLES_DATA") or (str(beside) if beside.is_dir() else None)


def environment() -> dict[str, str]:
    """This process's, with the programs of its own Python first, which start in a moment."""
    programs = [str(warm.folder(tuple(JAX.items()))), str(Path(sys.executable).parent)]
    path = os.pathsep.join([*programs, os.environ["PATH"]])
    return (
        os.environ
        | JAX
        | {"PATH": path, "DVC_NO_ANALYTICS": "1", "COLLECTIVE_VARIABLES_DATA": mirror() or ""}
        # For stages the programs of the tests do what `dvc repro` does for itself.
        | {"COLLECTIVE_VARIABLES_WARM": "0"}
    )


class Project:
    """A copy of this project that commands run in."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def copy_to(cls, folder: Path) -> "Project":
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for name in listed.splitlines():
            if (ROOT / name).is_file() or (ROOT / name).is_symlink():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
        project = cls(folder)
        project.run("git", "init", "--quiet")
        project.run("git", "config", "user.email", "test@example.org")
        project.run("git", "config", "user.name", "Test")
        project.commit()
        return project

    def start(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is; its output and errors are one text."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str, fails: bool = False) -> str:
        """What a command printed; it must succeed, or fail if that is what is expected."""
        process = self.start(*command)
        status, output = process.returncode, process.stdout
        assert (status != 0) == fails, f"{' '.join(command)} ended with {status}:\n{output}"
        return output

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "State")

    def params(self) -> dict[str, dict]:
        return read(self.folder / "params.yaml")

    def stages(self, group: str) -> set[str]:
        """The stages of a group in the first graph."""
        graph = read(self.folder / "dvc.yaml")["stages"]
        return {name for name in graph if name.split("_")[0] == group}

    def write_params(self, params: dict[str, dict]) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def shrink(self, groups: Collection[str]) -> None:
        """Leave these groups alone in the graph, at tiny parameters; the kinds of layers and of
        sizes are kept.

        Of the further methods of selection, which all go through one stage, one stays.
        """
        has_studies = any(group.startswith("dynamics-") for group in groups)
        params = {
            name: values
            for name, values in self.params().items()
            if name.split("_")[0] in (*groups, *("all", "dynamics")[: 1 + has_studies])
            and name.split("_")[1] in TINY
        }
        for name, values in params.items():
            group, stage = name.split("_")
            tiny = TINY[stage]
            if stage == "Ensemble" and isinstance(values["n_points"], dict):
                tiny = TINY_RANGE[stage]
            if stage == "Network":
                n_outputs = values["layers"][-1].split()[1]
                tiny = {"layers": [layer.format(n_outputs=n_outputs) for layer in tiny["layers"]]}
                if values["layers"][0].startswith("conv"):
                    tiny = {"layers": TINY_CONVOLUTION}
            if stage == "LoadDataset" and values["problem"] in ("mnist", "words", "molecules"):
                tiny = {"n_available": 60, "n_test": 20}
            if stage == "Ensemble" and group.startswith("dynamics-"):
                tiny = {"n_members": 3, "n_points": [8]}
            if stage == "ScalingStudy":
                studies = {name: smaller(study) for name, study in values["studies"].items()}
                tiny = tiny | {"studies": studies, "record": values["record"] | TINY_RECORD}
            if stage in ("TrainAutoencoder", "TrainAgent"):
                tiny = tiny | {
                    "record": values["record"] | {"epochs": [2], "n_train": 6, "n_test": 6}
                }
            values.update(tiny | TINY_OF_GROUP.get(name, {}))
        self.write_params(params)
        self.run("python", "main.py")
        for lock in ("dvc.lock", "dynamics/dvc.lock"):
            (self.folder / lock).unlink(missing_ok=True)

    def at_scale(self, group: str, paper: dict[str, dict], into: Path) -> tuple[pd.DataFrame, dict]:
        """What studies/paper_scale.py keeps of a group, its table and what is said of it, with
        `paper` as params-paper.yaml.
        """
        values = self.folder / "params-paper.yaml"
        paper_values = values.read_text()
        values.write_text(yaml.safe_dump(paper))
        try:
            self.run("python", "-m", "studies.paper_scale", group, "--into", str(into))
        finally:
            values.write_text(paper_values)
        return pd.read_csv(into / f"{group}.csv.gz"), json.loads(
            (into / f"{group}.json").read_text()
        )

    def stale(self) -> set[str]:
        """The stages that `dvc status` says have changed themselves: code, parameters or files that
        they read.
        """
        with self.watched() as stale:
            return stale()

    @contextmanager
    def watched(self) -> Iterator[Callable[[], set[str]]]:
        """`stale`, for many changes of a graph that stays the same: what has its stages is read
        once.
        """
        # DVC would parse the parameters for each stage again, which takes it four seconds.
        once = {"attribute": "parse_yaml", "new": parse_once}
        with (
            patch.object(_yaml, **once),
            patch.object(strictyaml, **once),
            Repo(self.folder) as repo,
            lock_repo(repo),
        ):
            stages = repo.index.stages
            yield lambda: {
                name.split(":")[-1] for stage in stages for name in stage.status(check_updates=True)
            }


def smaller(study: dict) -> dict:
    """A study with as many values of each axis as it has, two at most, and small networks."""
    return {
        axis: list(TINY_AXES.get(axis, value)[:2])
        if isinstance(value, list)
        else TINY_AXES.get(axis, (value,))[-1]
        for axis, value in study.items()
    }


parsed = cache(_yaml.parse_yaml)


def parse_once(*arguments: str, **options: str) -> dict:
    """What DVC reads from a text, from memory if it has been read before."""
    return deepcopy(parsed(*arguments, **options))


def stages_run(output: str) -> set[str]:
    """The stages that a `dvc repro` or `dvc exp run` says it ran."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
