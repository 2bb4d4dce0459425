"""TrainModel: one network per subset, with its train and test curves and, if asked for, a record of
its kernels.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
)
from nodes import files, network, sources
from nodes.alone import alone
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset
from nodes.rnd_select import RNDSelect
from nodes.select_subset import SelectSubset


class TrainModel(zntrack.Node):
    """Train a network for every parametrisation, selection method, member and subset size.

    loss: "mse" or "cross-entropy". optimiser: name of an optimiser of optax. learning_rate,
    n_epochs: of it.
    batch_size: points a step, null for all of them. evaluate_every: epochs between two evaluations
    of the losses.
    trace_every: steps after which the rate is scaled anew by the inverse of the kernel's trace;
    null for never.
    record: fields of `collective_variables.training.recording.Settings` (epochs, n_train, n_test,
        subsample, observables, outputs, n_modes), to follow the kernels of every network through
        its training; null for none. A network whose loss diverges is kept and marked; no statistic
        uses it.
    """

    data: LoadDataset = zntrack.deps()
    subsets: list[RandomSubset | RNDSelect | SelectSubset] = zntrack.deps()
    members_path: Path = zntrack.deps_path()
    n_points_path: Path = zntrack.deps_path()
    architecture_path: Path = zntrack.deps_path()

    loss: str = zntrack.params("mse")
    optimiser: str = zntrack.params("adam")
    learning_rate: float = zntrack.params(0.005)
    n_epochs: int = zntrack.params(500)
    batch_size: int | None = zntrack.params(None)
    evaluate_every: int = zntrack.params(1)
    trace_every: int | None = zntrack.params(None)
    record: dict | None = zntrack.params(None)

    code: tuple = zntrack.deps_path(sources.of(__file__))
    curves_path: Path = zntrack.outs_path(zntrack.nwd / "curves.npz")
    losses_path: Path = zntrack.outs_path(zntrack.nwd / "losses.csv")
    recording_path: Path = zntrack.outs_path(zntrack.nwd / "recording.csv")
    classes_path: Path = zntrack.outs_path(zntrack.nwd / "classes.csv")
    modes_path: Path = zntrack.outs_path(zntrack.nwd / "modes.csv")
    diverged: dict = zntrack.metrics()

    @alone
    def run(self) -> None:
        names = (
            "loss",
            "optimiser",
            "learning_rate",
            "n_epochs",
            "batch_size",
            "evaluate_every",
            "trace_every",
        )
        schedule = schedules.Schedule(**{name: getattr(self, name) for name in names})
        dataset, budget = self.data.dataset, files.read_values(self.members_path)
        pool = loop.Points(dataset.inputs, dataset.targets)
        test = loop.Points(dataset.test_inputs, dataset.test_targets)
        n_points = np.array(files.read_values(self.n_points_path))
        subsets = files.read_subsets(self.subsets)
        runs = [
            ensemble_training.runs(indices, n_points, seed=budget["seed"])
            for indices in subsets.values()
        ]
        settings = None if self.record is None else recording.Settings(**self.record)
        found = {}
        with files.kept(self.nwd / "unfinished", self.code) as store:
            for parametrisation, model in network.read(self.architecture_path).items():
                options = {
                    "schedule": schedule,
                    "progress": f"{self.name}: {parametrisation} networks",
                    "store": store,
                }
                trained = recorded_training.train_ensemble(
                    model, pool, test, runs, settings=settings, **options
                )
                found |= {f"{parametrisation}/{method}": of for method, of in zip(subsets, trained)}
            self._write(found, n_points, schedule, dataset.task)

    def _write(
        self,
        found: dict[str, recorded_training.Recorded],
        n_points: np.ndarray,
        schedule: schedules.Schedule,
        task: str,
    ) -> None:
        tables = {
            label: ensemble_training.losses_table(of.curves, n_points, task)
            for label, of in found.items()
        }
        self.diverged = {label: int(table["diverged"].sum()) for label, table in tables.items()}
        arrays = {
            f"{label}/{name}": curve
            for label, of in found.items()
            for name, curve in of.curves._asdict().items()
        }
        files.write_arrays(self.curves_path, epochs=schedule.epochs, **arrays)
        files.write_table(self.losses_path, files.labelled(tables))
        for name in recorded_training.TABLES:
            of_name = {
                label: recorded_training.by_member(of.tables[name], n_points, task)
                for label, of in found.items()
            }
            files.write_table(getattr(self, f"{name}_path"), files.labelled(of_name))

    @property
    def curves(self) -> files.Arrays:
        """`epochs`, and "parametrisation/method/train_loss", …/test_loss and …/test_accuracy:
        (n_runs, n_evaluations).

        The runs are in the order of the rows of `losses`.
        """
        return files.read_arrays(self, self.curves_path)

    @property
    def losses(self) -> pd.DataFrame:
        """One row per parametrisation, method, member and subset size."""
        return files.read_table(self, self.losses_path)

    @property
    def recording(self) -> pd.DataFrame:
        """A row per parametrisation, method, member, subset size, recorded epoch and kind of
        points; none without `record`.
        """
        return files.read_table(self, self.recording_path)

    @property
    def classes(self) -> pd.DataFrame:
        """Of each such row the kernels of single classes and of unions of two; none without the
        observable "classes".
        """
        return files.read_table(self, self.classes_path)

    @property
    def modes(self) -> pd.DataFrame:
        """Of each such row the leading modes of the first epoch's kernel; none without the
        observable "modes".
        """
        return files.read_table(self, self.modes_path)
