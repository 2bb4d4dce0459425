"""TrainModel: one network per subset, with its train and test curves."""

from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables import training
from nodes import files, network, sources
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset
from nodes.rnd_select import RNDSelect
from nodes.select_subset import SelectSubset


class TrainModel(zntrack.Node):
    """Train a network for every parametrisation, selection method, member and subset size.

    loss: "mse" or "cross-entropy". optimiser: name of an optimiser of optax. learning_rate, n_epochs: of it.
    batch_size: points a step, null for all of them. evaluate_every: epochs between two evaluations of the losses.
    A network whose loss diverges is kept and marked; no statistic uses it.
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

    code: tuple = zntrack.deps_path(sources.of(__file__))
    curves_path: Path = zntrack.outs_path(zntrack.nwd / "curves.npz")
    losses_path: Path = zntrack.outs_path(zntrack.nwd / "losses.csv")
    diverged: dict = zntrack.metrics()

    def run(self) -> None:
        names = ("loss", "optimiser", "learning_rate", "n_epochs", "batch_size", "evaluate_every")
        schedule = training.Schedule(**{name: getattr(self, name) for name in names})
        dataset, budget = self.data.dataset, files.read_values(self.members_path)
        pool = training.Points(dataset.inputs, dataset.targets)
        test = training.Points(dataset.test_inputs, dataset.test_targets)
        n_points = np.array(files.read_values(self.n_points_path))
        subsets = files.read_subsets(self.subsets)
        runs = [training.runs(indices, n_points, seed=budget["seed"]) for indices in subsets.values()]
        curves = {}
        with files.kept(self.nwd / "unfinished", self.code) as store:
            for parametrisation, model in network.read(self.architecture_path).items():
                options = {"progress": f"{self.name}: {parametrisation} networks", "store": store}
                trained = training.train_ensemble(model, pool, test, runs, schedule=schedule, **options)
                curves |= {f"{parametrisation}/{method}": of for method, of in zip(subsets, trained)}
            self._write(curves, n_points, schedule, dataset.task)

    def _write(self, curves: dict, n_points: np.ndarray, schedule: training.Schedule, task: str) -> None:
        tables = {label: training.table(of, n_points, task) for label, of in curves.items()}
        self.diverged = {label: int(table["diverged"].sum()) for label, table in tables.items()}
        arrays = {f"{label}/{name}": curve for label, of in curves.items() for name, curve in of._asdict().items()}
        files.write_arrays(self.curves_path, epochs=schedule.epochs, **arrays)
        files.write_table(self.losses_path, files.labelled(tables))

    @property
    def curves(self) -> files.Arrays:
        """`epochs`, and "parametrisation/method/train_loss", …/test_loss and …/test_accuracy: (n_runs, n_evaluations).

        The runs are in the order of the rows of `losses`.
        """
        return files.read_arrays(self, self.curves_path)

    @property
    def losses(self) -> pd.DataFrame:
        """One row per parametrisation, method, member and subset size."""
        return files.read_table(self, self.losses_path)
