"""Define TrainModel: one network per subset, its loss curves and a record of its kernels."""

from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables.experiment import join, train
from collective_variables.training import recorded_training, recording, schedules
from nodes import _files, network
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset
from nodes.rnd_select import RNDSelect
from nodes.select_subset import SelectSubset

SCHEDULE = (
    *("loss", "optimiser", "learning_rate", "n_epochs", "batch_size"),
    *("evaluate_every", "trace_every"),
)


class TrainModel(zntrack.Node):
    """Train a network for every parametrisation, selection method, member and subset size.

    A network whose loss diverges is kept and marked; no statistic uses it.

    Args:
        loss: "mse" or "cross-entropy".
        optimiser: Name of an optimiser of optax.
        learning_rate: Learning rate of the optimiser.
        n_epochs: Passes over the subset.
        batch_size: Points per step, null for all.
        evaluate_every: Epochs between two evaluations of the losses.
        trace_every: Steps after which the learning rate is rescaled by the inverse of the kernel's
            trace; null for never.
        record: Fields of `collective_variables.training.recording.Settings` (epochs, n_train,
            n_test, subsample, observables, outputs, n_modes), to follow the kernels of every
            network during its training; null for none.
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

    code: Path = zntrack.deps_path(Path("nodes/Sources/TrainModel.txt"))
    results_path: Path = zntrack.outs_path(zntrack.nwd / "results")
    diverged: dict = zntrack.metrics()

    def run(self) -> None:
        """Train the networks and write their curves, losses and records."""
        schedule = schedules.Schedule(**{name: getattr(self, name) for name in SCHEDULE})
        dataset, budget = self.data.dataset, _files.read_values(self.members_path)
        n_points = np.array(_files.read_values(self.n_points_path))
        with _files.kept(self.nwd / "unfinished", self.code) as store:
            trained = train.train_subsets(
                dataset,
                network.read(self.architecture_path),
                _files.read_subsets(self.subsets),
                n_points,
                seed=budget["seed"],
                schedule=schedule,
                record=None if self.record is None else recording.Settings(**self.record),
                progress=self.name,
                store=store,
            )
            self._write(trained, n_points, schedule, dataset.task)

    def _write(
        self,
        results: dict[str, recorded_training.Recorded],
        n_points: np.ndarray,
        schedule: schedules.Schedule,
        task: str,
    ) -> None:
        tables = train.losses_tables(results, n_points, task)
        self.diverged = {label: int(table["diverged"].sum()) for label, table in tables.items()}
        arrays = {
            f"{label}/{name}": curve
            for label, one in results.items()
            for name, curve in one.curves._asdict().items()
        }
        folder = self.results_path
        _files.write_arrays(folder / "curves.npz", epochs=schedule.epochs, **arrays)
        _files.write_table(folder / "losses.csv", join.label_tables(tables))
        for name in recorded_training.TABLES:
            records = {
                label: recorded_training.by_member(one.tables[name], n_points, task)
                for label, one in results.items()
            }
            _files.write_table(folder / f"{name}.csv", join.label_tables(records))

    @property
    def curves(self) -> _files.Arrays:
        """`epochs` (n_evaluations), and curves (n_runs, n_evaluations) in the order of `losses`.

        Their names are "parametrisation/method/train_loss", …/test_loss and …/test_accuracy.
        """
        return _files.read_arrays(self, self.results_path / "curves.npz")

    @property
    def losses(self) -> pd.DataFrame:
        """One row per parametrisation, method, member and subset size."""
        return self._table("losses")

    @property
    def recording(self) -> pd.DataFrame:
        """A row per run, recorded epoch and kind of points; none without `record`."""
        return self._table("recording")

    @property
    def classes(self) -> pd.DataFrame:
        """Kernels of single classes and of unions of two, for each row of `recording`.

        There are no rows without the observable "classes".
        """
        return self._table("classes")

    @property
    def modes(self) -> pd.DataFrame:
        """Leading modes of the first epoch's kernel, for each row of `recording`.

        There are no rows without the observable "modes".
        """
        return self._table("modes")

    def _table(self, name: str) -> pd.DataFrame:
        return _files.read_table(self, self.results_path / f"{name}.csv")
