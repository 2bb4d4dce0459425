"""SelectSubset: subsets of the pool chosen by any method of the field."""

from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables.analysis import selection_tables
from collective_variables.selection import base, registry
from nodes import files, network, sources
from nodes.alone import alone
from nodes.load_dataset import LoadDataset


class SelectSubset(zntrack.Node):
    """Choose a nested subset for every member of the ensemble
    (`collective_variables.selection.registry.select_by`).

    method: one of `registry.METHODS`.
    options: of that method, by name; an unknown one is refused with the list of those there are.
    Networks are the group's, in its first parametrisation. In the tables the subsets have the name
    behind the last "SelectSubset-" of the stage, or without one that of the method.
    """

    data: LoadDataset = zntrack.deps()
    members_path: Path = zntrack.deps_path()
    architecture_path: Path = zntrack.deps_path()

    method: str = zntrack.params()
    options: dict = zntrack.params(default_factory=dict)

    code: tuple = zntrack.deps_path(sources.of(__file__))
    subset_path: Path = zntrack.outs_path(zntrack.nwd / "subset.npz")
    chosen_path: Path = zntrack.outs_path(zntrack.nwd / "chosen.csv")
    history_path: Path = zntrack.outs_path(zntrack.nwd / "history.csv")

    @alone
    def run(self) -> None:
        dataset, ensemble = self.data.dataset, files.read_values(self.members_path)
        of_group = next(iter(network.read(self.architecture_path).values()))
        problem = registry.Problem(
            dataset.inputs, dataset.targets, dataset.task, of_group, ensemble["seed"]
        )
        progress = (
            f"{self.name}: {ensemble['n_members']} members choose {ensemble['n_selected']} points"
        )
        with files.kept(self.nwd / "unfinished", self.code) as store:
            budget = registry.Budget(ensemble["n_selected"], ensemble["n_members"], progress, store)
            chosen = registry.select_by(self.method, problem, budget, self.options)
            self._write(chosen, dataset.inputs)

    def _write(self, chosen: base.Selection, inputs: np.ndarray) -> None:
        base.check_whole(chosen)
        group, label = self.nwd.parent.name, self.name.rpartition("SelectSubset-")[2]
        label = self.method if label == self.name else label
        files.write_subset(self.subset_path, label, chosen)
        files.write_table(
            self.chosen_path,
            selection_tables.chosen_points(chosen, inputs).assign(group=group, method=label),
        )
        files.write_table(
            self.history_path, selection_tables.history(chosen).assign(group=group, method=label)
        )

    @property
    def subset(self) -> files.Subset:
        """The name of the method in tables, and the points that it chose for every member."""
        return files.read_subset(self, self.subset_path)

    @property
    def chosen(self) -> pd.DataFrame:
        """The first points of the first member in the order of choice, and where a picture of them
        shows each.
        """
        return files.read_table(self, self.chosen_path)

    @property
    def history(self) -> pd.DataFrame:
        """Each chosen point's distance and the mean and largest of the pool; no rows for a method
        without distances.
        """
        return files.read_table(self, self.history_path)
