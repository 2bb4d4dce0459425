"""Time recordings of learning dynamics and their groups, and compare them with their limits.

    python -m benchmarks.bench_dynamics [recording] [d1] [groups] [dynamics-agent …]

recording: the time that a recording adds to a training, from medians of three runs each. It takes
    50 log-spaced epochs of one dense network on 1000 images, train and test points.
d1: the studies of activation, width and depth on MNIST at the paper's setting (params-paper.yaml)
    with only the library, one run. `studies.paper_scale` keeps the result in reference/paper.
groups: each group of dynamics/dvc.yaml at its default scale, by `dvc repro` in a fresh clone, one
    run. Names of groups select some of them.
"""

import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks import bench_all
from collective_variables.data import problems
from collective_variables.networks import sequential
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
)
from studies import paper_scale

ROOT = Path(__file__).resolve().parents[1]
N_POINTS, N_EPOCHS, N_RECORDED, REPEATS = 1000, 500, 50, 3
LAST = ("_ScalingStudy", "_TrainAutoencoder", "_TrainAgent")
LIMITS = {"recording": 20.0, "d1": 1800.0, "groups": 300.0}  # seconds


def line(name: str, seconds: float, limit: float, more: str = "") -> None:
    """Print a line of the table."""
    print(f"{name:36}{seconds:10.1f}{limit:8.0f}  {more}", flush=True)


def time_recording() -> None:
    """Time one training with and without a recording."""
    dataset = problems.load_problem("mnist", n_available=3000, n_test=N_POINTS)
    pool = loop.Points(dataset.inputs, dataset.targets)
    test = loop.Points(dataset.test_inputs, dataset.test_targets)
    network = sequential.build_network(["dense 128", "dense 128", "dense 10"])
    runs = ensemble_training.runs(np.arange(N_POINTS)[None], np.array([[N_POINTS]]), seed=0)
    schedule = schedules.Schedule("cross-entropy", "adam", 0.001, N_EPOCHS, 128)
    cases = {"without": None, "with": recording.Settings(epochs={"log_spaced": N_RECORDED})}
    seconds = {name: [] for name in cases}
    for _, (name, settings) in itertools.product(range(REPEATS), cases.items()):
        start = time.perf_counter()
        recorded_training.train_ensemble(
            network, pool, test, [runs], schedule=schedule, settings=settings
        )
        seconds[name].append(time.perf_counter() - start)
    without, with_record = (statistics.median(values) for values in seconds.values())
    more = f"{without:.1f} s without, {with_record:.1f} s with it"
    line("recording adds", with_record - without, LIMITS["recording"], more)


def time_d1() -> None:
    """Time the studies of the second paper at its scale."""
    start = time.perf_counter()
    paper_scale.run_group("dynamics-mnist")
    line("d1", time.perf_counter() - start, LIMITS["d1"])


def time_groups(*groups: str) -> None:
    """Time groups of the graph; all of them by default."""
    stages = yaml.safe_load((ROOT / "dynamics" / "dvc.yaml").read_text())["stages"]
    last = [
        name
        for name in stages
        if name.endswith(LAST) and (not groups or name.rpartition("_")[0] in groups)
    ]
    with tempfile.TemporaryDirectory() as folder:
        project = bench_all.clone_into(Path(folder))
        for name in last:
            seconds = bench_all.run(["dvc", "repro", f"dynamics/dvc.yaml:{name}"], project)
            line(name, seconds, LIMITS["groups"])


def main() -> None:
    """Time the named parts or groups, or all, and print a line for each."""
    parts = {"recording": time_recording, "d1": time_d1, "groups": time_groups}
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'what':36}{'seconds':>10}{'limit':>8}")
    names = sys.argv[1:] or list(parts)
    for name in names:
        if name in parts:
            parts[name]()
    if groups := [name for name in names if name not in parts]:
        time_groups(*groups)


if __name__ == "__main__":
    main()
