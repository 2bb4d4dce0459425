"""Run groups at the paper's scale with only the library, and keep their tables of runs.

    python -m studies.paper_scale GROUP ... [--into reference/paper] [--scale 1.0] [--commit ID]

The groups run on any device that JAX finds. Parameters are those of params.yaml, replaced by those
of params-paper.yaml. The runs are those of the stages (`make paper` and `make paper-dynamics` run
these; tests compare the two). GROUP.csv.gz keeps the runs with six digits or, for a group of
learning dynamics, the recording. GROUP.json keeps the settings. --scale takes a fraction of the
members of each group, at least two. `python -m studies.paper_scale_report` judges the claims.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import jax
import pandas as pd
import yaml

from collective_variables.data import problems
from collective_variables.ensembles import seeding, subset_sizes
from collective_variables.experiment.composition import run_experiment
from collective_variables.experiment.select import select_subsets
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.selection import base
from collective_variables.training import loop, recording, scaling_study, schedules, study_cases

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "reference" / "paper"
KEYS = ["parametrisation", "method", "member", "n_points"]
COLUMNS = ["group", *KEYS, "entropy", "trace", "largest_eigenvalue"]
COLUMNS += ["min_test_loss", "final_test_loss", "min_train_loss", "final_train_loss"]
COLUMNS += ["max_test_accuracy", "final_test_accuracy", "diverged"]
# Parameters of a ScalingStudy that all its cases share.
SHARED = ("loss", "optimiser", "learning_rate", "n_epochs", "trace_every")
PACKAGES = ("jax", "flax", "optax", "numpy")
Sections = dict[str, dict]
Parts = Iterator[tuple[pd.DataFrame, dict[str, float]]]


def read_group(group: str) -> Sections:
    """Return a group's sections of params.yaml by stage."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    names = {name.rpartition("_")[2]: name for name in params if name.rpartition("_")[0] == group}
    if not names:
        raise SystemExit(f"GROUP must have sections in params.yaml: received {group}.")
    return {stage: params[name] for stage, name in names.items()}


def read_parameters(group: str) -> Sections:
    """Return a group's sections by stage, at the paper's scale."""
    paper = yaml.safe_load((ROOT / "params-paper.yaml").read_text())
    return {
        stage: merge(values, paper.get(f"{group}_{stage}", {}))
        for stage, values in read_group(group).items()
    }


def merge(values: dict, replacements: dict) -> dict:
    """Return `values` with some of them replaced, at any depth."""
    return values | {
        name: merge(values[name], value) if isinstance(value, dict) else value
        for name, value in replacements.items()
    }


def load_data(sections: Sections) -> problems.Dataset:
    """Load the dataset of a group."""
    options = dict(sections["LoadDataset"])
    return problems.load_problem(options.pop("problem"), **options)


class Stopwatch:
    """Seconds of each part of a computation; `watch(part)` adds to them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the seconds of the block to a part."""
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def compute_runs(group: str, sections: Sections) -> Parts:
    """Yield for each parametrisation its rows in CorrelationAnalysis's table of runs.

    The second element holds the seconds of each part so far. Kernels of classes and of infinite
    width, which ComputeNTK has in separate tables, and records are left out.
    """
    dataset, ensemble = load_data(sections), sections["Ensemble"]
    n_members, seed = ensemble["n_members"], ensemble["seed"]
    networks = build_networks(sections["Network"])
    watch = Stopwatch()
    # The first network selects for all of them.
    subsets = select_subsets(
        dataset,
        next(iter(networks.values())),
        selections(sections),
        subset_sizes.largest(ensemble["n_points"]),
        n_members,
        seed=seed,
        progress=group,
        watch=watch,
    )
    for network in networks.values():
        runs = run_experiment(
            dataset,
            network,
            subsets,
            ensemble["n_points"],
            members=n_members,
            seed=seed,
            schedule=_from_section(schedules.Schedule, sections["TrainModel"]),
            settings=_from_section(measurement.Settings, sections["ComputeNTK"]),
            name=group,
            progress=group,
            watch=watch,
        )
        yield runs[COLUMNS], watch.seconds


def _from_section(settings: type, section: dict) -> object:
    """Return settings from the values of a section that have their names."""
    return settings(**{field.name: section[field.name] for field in fields(settings)})


def build_networks(architecture: dict) -> dict[str, sequential.Network]:
    """Build the networks of a group, by their parametrisation."""
    options = {name: architecture[name] for name in ("activation", "padding", "b_std")}
    return {
        name: sequential.build_network(architecture["layers"], parametrisation=name, **options)
        for name in architecture["parametrisations"]
    }


def selections(sections: Sections) -> dict[str, tuple[str, dict]]:
    """Return the methods of a group and their options, by the names in the tables."""
    methods = {"random": ("random", {})}
    if isinstance(sections["Ensemble"]["n_points"], dict):
        return methods
    section = sections.get("RNDSelect", {})
    method = section.get("method", "rnd")
    methods[method] = method, section.get("options", {})
    for stage, values in sections.items():
        if stage.startswith("SelectSubset"):
            name = stage.removeprefix("SelectSubset").removeprefix("-") or values["method"]
            methods[name] = values["method"], values.get("options", {})
    return methods


def list_cases(sections: Sections) -> dict[str, list[study_cases.Case]]:
    """Return the networks of each study of a group of learning dynamics.

    All members of such a group have the same subset size.
    """
    study, (n_points,) = sections["ScalingStudy"], sections["Ensemble"]["n_points"]
    return study_cases.list_cases(
        study["studies"], n_points=n_points, batch_size=study["batch_size"]
    )


def compute_recordings(group: str, sections: Sections) -> Parts:
    """Yield for each network its rows in ScalingStudy's recording, and the seconds so far."""
    study, ensemble = sections["ScalingStudy"], sections["Ensemble"]
    dataset = load_data(sections)
    (n_points,), seed = ensemble["n_points"], ensemble["seed"]
    subsets = base.random(
        len(dataset.inputs),
        n_selected=n_points,
        n_members=ensemble["n_members"],
        key=seeding.key(seed, "subsets"),
    )
    cases = list(dict.fromkeys(itertools.chain(*list_cases(sections).values())))
    watch = Stopwatch()
    for number, case in enumerate(cases, start=1):
        with watch("training and kernels"):
            trained = scaling_study.train_cases(
                [case],
                study["kind"],
                loop.Points(dataset.inputs, dataset.targets),
                loop.Points(dataset.test_inputs, dataset.test_targets),
                subsets.indices,
                schedule=schedules.Schedule(**{name: study[name] for name in SHARED}),
                settings=recording.Settings(**study["record"]),
                seed=seed,
                task=dataset.task,
                noise_from=study["noise_from"],
                progress=f"{group}, network {number} of {len(cases)}",
            )
        yield trained.tables["recording"], watch.seconds


def current_commit(project: Path) -> str:
    """Return the commit of a clone, with "-dirty" if tracked files differ from it.

    Untracked files do not count, because results are among them.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=project, capture_output=True, text=True, check=True
        ).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    return f"{commit}-dirty" if git("status", "--porcelain", "--untracked-files=no") else commit


def run_group(
    group: str, *, scale: float = 1.0, commit: str | None = None, into: Path = RESULTS
) -> None:
    """Run a group, and write its two files again after each parametrisation or network.

    The files then have a part of the results if the machine is available for less than all.

    Args:
        group: Name of the group.
        scale: Fraction of the members.
        commit: Commit of the code, if the code is not in a clone.
        into: Folder of the two files.
    """
    commit = commit or current_commit(ROOT)
    sections = read_parameters(group)
    sections["Ensemble"]["n_members"] = max(2, round(scale * sections["Ensemble"]["n_members"]))
    into.mkdir(parents=True, exist_ok=True)
    is_study = "ScalingStudy" in sections
    parts = []
    for part, seconds in (compute_recordings if is_study else compute_runs)(group, sections):
        parts.append(part)
        rows = pd.concat(parts, ignore_index=True)
        # Without a time in the header, the same content gives the same file.
        compression = {"method": "gzip", "mtime": 0}
        rows.to_csv(
            into / f"{group}.csv.gz", index=False, float_format="%.6g", compression=compression
        )
        about = describe(commit, seconds, sections)
        (into / f"{group}.json").write_text(json.dumps(about, indent=1) + "\n")
        times = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        what = "rows of networks" if is_study else "runs"
        print(f"{group}: {len(rows)} {what}; {times}", flush=True)


def describe(commit: str, seconds: dict[str, float], sections: Sections) -> dict:
    """Return the settings of a group."""
    kind = jax.devices()[0].device_kind
    return {
        "device": f"{kind}, {os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "params": sections,
    }


def main() -> None:
    """Run the named groups."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="+", metavar="GROUP")
    parser.add_argument("--into", type=Path, default=RESULTS)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--commit")
    arguments = parser.parse_args()
    for group in arguments.groups:
        run_group(group, scale=arguments.scale, commit=arguments.commit, into=arguments.into)


if __name__ == "__main__":
    main()
