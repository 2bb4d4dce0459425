"""Run groups at the paper's scale with the library alone, on whatever device JAX finds, and keep
their tables of runs.

    python benchmarks/at_scale.py GROUP ... [--into reference/paper] [--scale 1.0] [--commit ID]

Each group's parameters are those of params.yaml with params-paper.yaml over them, and its runs are
those of the stages (`make paper` and `make paper-dynamics` run these; tests compare the two). Kept
are GROUP.csv.gz, with six digits the runs or, of a group of learning dynamics, the recording, and
GROUP.json, what they were computed with. scale: a fraction of the members of each group, two at
least. `benchmarks/scale_report.py` writes the README's parts on them.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax

from collective_variables.data import problems
from collective_variables.ensembles import seeding, subset_sizes
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.selection import base, registry
from collective_variables.training import (
    ensemble_training,
    loop,
    recording,
    scaling_study,
    schedules,
    study_cases,
)

KEPT = ROOT / "reference" / "paper"
KEYS = ["parametrisation", "method", "member", "n_points"]
COLUMNS = ["group", *KEYS, "entropy", "trace", "largest_eigenvalue"]
COLUMNS += [f"{which}_{of}" for of in ("test_loss", "train_loss") for which in ("min", "final")]
COLUMNS += ["max_test_accuracy", "final_test_accuracy", "diverged"]
OF_SCHEDULE = (
    "loss",
    "optimiser",
    "learning_rate",
    "n_epochs",
    "trace_every",
)  # of a ScalingStudy, whose cases have the rest
PACKAGES = ("jax", "flax", "optax", "numpy")
Sections = dict[str, dict]


def parameters(group: str) -> Sections:
    """A group's sections by stage, at the paper's scale."""
    given, paper = (
        yaml.safe_load((ROOT / name).read_text()) for name in ("params.yaml", "params-paper.yaml")
    )
    sections = {name.rpartition("_")[2]: name for name in given if name.rpartition("_")[0] == group}
    if not sections:
        raise SystemExit(f"GROUP must have sections in params.yaml: received {group}.")
    return {stage: merged(given[name], paper.get(name, {})) for stage, name in sections.items()}


def merged(values: dict, over: dict) -> dict:
    """`values` with those of `over` in their places."""
    return values | {
        name: merged(values[name], value) if isinstance(value, dict) else value
        for name, value in over.items()
    }


def compute(group: str, sections: Sections) -> Iterator[tuple[pd.DataFrame, dict[str, float]]]:
    """For each parametrisation its rows of CorrelationAnalysis's table of runs, and the seconds of
    each part until then.

    Kernels of classes and of infinite width, which ComputeNTK has in tables of their own, and
    records are left out.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start

    of_data = dict(sections["LoadDataset"])
    dataset = problems.load_problem(of_data.pop("problem"), **of_data)
    ensemble, architecture = sections["Ensemble"], sections["Network"]
    n_members, seed = ensemble["n_members"], ensemble["seed"]
    n_points = subset_sizes.draw(ensemble["n_points"], n_members=n_members, seed=seed)
    options = {name: architecture[name] for name in ("activation", "padding", "b_std")}
    models = {
        of: sequential.build_network(architecture["layers"], parametrisation=of, **options)
        for of in architecture["parametrisations"]
    }

    problem = registry.Problem(
        dataset.inputs, dataset.targets, dataset.task, next(iter(models.values())), seed
    )
    chosen = {}
    for name, (method, options) in selections(sections).items():
        with timed(f"selection, {name}"):
            budget = registry.Budget(
                subset_sizes.largest(ensemble["n_points"]), n_members, progress=f"{group}: {name}"
            )
            chosen[name] = registry.select_by(method, problem, budget, options).indices

    pool, test = (
        loop.Points(dataset.inputs, dataset.targets),
        loop.Points(dataset.test_inputs, dataset.test_targets),
    )
    to_train = [ensemble_training.runs(indices, n_points, seed=seed) for indices in chosen.values()]
    schedule, settings = (
        kind(**{of.name: sections[stage][of.name] for of in fields(kind)})
        for kind, stage in (
            (schedules.Schedule, "TrainModel"),
            (measurement.Settings, "ComputeNTK"),
        )
    )
    to_measure = measurement.Pool(dataset.inputs, dataset.targets)
    for parametrisation, model in models.items():
        progress = f"{group}: {parametrisation} networks"
        with timed("training"):
            curves = ensemble_training.train_ensemble(
                model, pool, test, to_train, schedule=schedule, progress=progress
            )
        with timed("kernels"):
            options = {"settings": settings, "progress": f"{progress}, kernels"}
            measured = measurement.measure_ensemble(
                model, to_measure, list(chosen.values()), n_points, seed=seed, **options
            )
        parts = []
        for method, of_runs, of_kernels in zip(chosen, curves, measured):
            losses = ensemble_training.losses_table(of_runs, n_points, dataset.task)
            runs = of_kernels.tables["collective_variables"].merge(
                losses, on=["member", "n_points"], validate="one_to_one"
            )
            parts.append(runs.assign(group=group, parametrisation=parametrisation, method=method))
        yield pd.concat(parts, ignore_index=True), seconds


def cases_of(sections: Sections) -> dict[str, list[study_cases.Case]]:
    """The networks of each study of a group of learning dynamics, whose members all have one subset
    size.
    """
    study, (n_points,) = sections["ScalingStudy"], sections["Ensemble"]["n_points"]
    return study_cases.list_cases(
        study["studies"], n_points=n_points, batch_size=study["batch_size"]
    )


def record(group: str, sections: Sections) -> Iterator[tuple[pd.DataFrame, dict[str, float]]]:
    """For each network its rows of ScalingStudy's recording, and the seconds of it and those
    before.
    """
    study, ensemble = sections["ScalingStudy"], sections["Ensemble"]
    of_data = dict(sections["LoadDataset"])
    dataset = problems.load_problem(of_data.pop("problem"), **of_data)
    (n_points,), n_members, seed = ensemble["n_points"], ensemble["n_members"], ensemble["seed"]
    key = seeding.key(seed, "subsets")
    chosen = base.random(len(dataset.inputs), n_selected=n_points, n_members=n_members, key=key)
    pool, test = (
        loop.Points(dataset.inputs, dataset.targets),
        loop.Points(dataset.test_inputs, dataset.test_targets),
    )
    options = {
        "schedule": schedules.Schedule(**{name: study[name] for name in OF_SCHEDULE}),
        "settings": recording.Settings(**study["record"]),
        "seed": seed,
        "task": dataset.task,
        "noise_from": study["noise_from"],
    }
    every = list(dict.fromkeys(itertools.chain(*cases_of(sections).values())))
    seconds = 0.0
    for number, case in enumerate(every, start=1):
        start = time.perf_counter()
        progress = f"{group}, network {number} of {len(every)}"
        trained = scaling_study.train_cases(
            [case], study["kind"], pool, test, chosen.indices, **options, progress=progress
        )
        seconds += time.perf_counter() - start
        yield trained.tables["recording"], {"training and kernels": seconds}


def selections(sections: Sections) -> dict[str, tuple[str, dict]]:
    """The methods of a group and their options by the names that they have in the tables."""
    found = {"random": ("random", {})}
    if isinstance(sections["Ensemble"]["n_points"], dict):
        return found
    of_rnd = sections.get("RNDSelect", {})
    method = of_rnd.get("method", "rnd")
    found[method] = method, of_rnd.get("options", {})
    for stage, values in sections.items():
        if stage.startswith("SelectSubset"):
            name = stage.removeprefix("SelectSubset").removeprefix("-") or values["method"]
            found[name] = values["method"], values.get("options", {})
    return found


def keep(group: str, *, scale: float = 1.0, commit: str | None = None, into: Path = KEPT) -> None:
    """Run a group and write its two files, anew after each parametrisation or network: a machine
    may be lent for less than all.

    commit: of the code, where it is not in a clone.
    """
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = (
        commit
        or subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    sections = parameters(group)
    sections["Ensemble"]["n_members"] = max(2, round(scale * sections["Ensemble"]["n_members"]))
    into.mkdir(parents=True, exist_ok=True)
    is_study = "ScalingStudy" in sections
    parts = []
    for part, seconds in (record if is_study else compute)(group, sections):
        parts.append(part if is_study else part[COLUMNS])
        rows = pd.concat(parts, ignore_index=True)
        compression = {"method": "gzip", "mtime": 0}
        rows.to_csv(
            into / f"{group}.csv.gz", index=False, float_format="%.6g", compression=compression
        )
        about = {
            "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, {platform.machine()}",
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "commit": commit,
            "seconds": {name: round(value, 1) for name, value in seconds.items()},
            "params": sections,
        }
        (into / f"{group}.json").write_text(json.dumps(about, indent=1) + "\n")
        spent = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        what = "rows of networks" if is_study else "runs"
        print(f"{group}: {len(rows)} {what}; {spent}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="+", metavar="GROUP")
    parser.add_argument("--into", type=Path, default=KEPT)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--commit")
    given = parser.parse_args()
    for group in given.groups:
        keep(group, scale=given.scale, commit=given.commit, into=given.into)


if __name__ == "__main__":
    main()
