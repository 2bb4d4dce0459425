"""RandomSubset: subsets of the pool drawn at random, the baseline of every selection."""

from pathlib import Path

import zntrack

from collective_variables.ensembles import seeding
from collective_variables.selection import base
from nodes import files, sources
from nodes.alone import alone
from nodes.load_dataset import LoadDataset


class RandomSubset(zntrack.Node):
    """Draw a nested subset for every member of the ensemble."""

    data: LoadDataset = zntrack.deps()
    members_path: Path = zntrack.deps_path()

    code: tuple = zntrack.deps_path(sources.of(__file__))
    subset_path: Path = zntrack.outs_path(zntrack.nwd / "subset.npz")

    @alone
    def run(self) -> None:
        budget = files.read_values(self.members_path)
        key = seeding.key(budget.pop("seed"), "subsets")
        chosen = base.random(len(self.data.dataset.inputs), **budget, key=key)
        print(f"{self.name}: {budget['n_members']} random subsets of {budget['n_selected']} points")
        files.write_subset(self.subset_path, "random", chosen)

    @property
    def subset(self) -> files.Subset:
        """The name of the method in tables, and the points that it chose for every member."""
        return files.read_subset(self, self.subset_path)
