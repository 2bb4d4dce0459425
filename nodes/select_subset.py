"""Define SelectSubset: subsets of the pool chosen by any selection method."""

from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables.analysis import selection_tables
from collective_variables.selection import base, registry
from nodes import _files, network
from nodes.load_dataset import LoadDataset


class SelectSubset(zntrack.Node):
    """Choose a nested subset for every member of the ensemble (`registry.select_by`).

    Networks are the group's, in its first parametrisation. In tables the subsets have the name
    behind the last "SelectSubset-" of the stage, or else that of the method.

    Args:
        method: One of `collective_variables.selection.registry.SELECTION_METHODS`.
        options: Options of that method, by name; an unknown one is rejected with a list of the
            known ones.
    """

    data: LoadDataset = zntrack.deps()
    members_path: Path = zntrack.deps_path()
    architecture_path: Path = zntrack.deps_path()

    method: str = zntrack.params()
    options: dict = zntrack.params(default_factory=dict)

    code: Path = zntrack.deps_path(Path("nodes/Sources/SelectSubset.txt"))
    results_path: Path = zntrack.outs_path(zntrack.nwd / "results")

    def run(self) -> None:
        """Choose the subsets and write them with their tables."""
        dataset, ensemble = self.data.dataset, _files.read_values(self.members_path)
        first_network = next(iter(network.read(self.architecture_path).values()))
        problem = registry.Problem(
            dataset.inputs, dataset.targets, dataset.task, first_network, ensemble["seed"]
        )
        progress = (
            f"{self.name}: {ensemble['n_members']} members choose {ensemble['n_selected']} points"
        )
        with _files.kept(self.nwd / "unfinished", self.code) as store:
            budget = registry.Budget(ensemble["n_selected"], ensemble["n_members"], progress, store)
            selection = registry.select_by(self.method, problem, budget, self.options)
            self._write(selection, dataset.inputs)

    def _write(self, selection: base.Selection, inputs: np.ndarray) -> None:
        base.check_whole(selection)
        group, label = self.nwd.parent.name, self.name.rpartition("SelectSubset-")[2]
        label = self.method if label == self.name else label
        _files.write_subset(self.results_path / "subset.npz", label, selection)
        tables = {
            "chosen": selection_tables.chosen_points(selection, inputs),
            "history": selection_tables.history(selection),
        }
        for name, table in tables.items():
            table = table.assign(group=group, method=label)
            _files.write_table(self.results_path / f"{name}.csv", table)

    @property
    def subset(self) -> _files.Subset:
        """Name of the method in tables, and the points that it chose for every member."""
        return _files.read_subset(self, self.results_path / "subset.npz")

    @property
    def chosen(self) -> pd.DataFrame:
        """First points of the first member in the order of choice, and their place in a picture."""
        return _files.read_table(self, self.results_path / "chosen.csv")

    @property
    def history(self) -> pd.DataFrame:
        """Distance of each chosen point, and the mean and largest of the pool.

        There are no rows for a method without distances.
        """
        return _files.read_table(self, self.results_path / "history.csv")
