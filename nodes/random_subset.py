"""Define RandomSubset: random subsets of the pool, the baseline of every selection."""

from pathlib import Path

import zntrack

from collective_variables.ensembles import seeding
from collective_variables.selection import base
from nodes import _files
from nodes.load_dataset import LoadDataset


class RandomSubset(zntrack.Node):
    """Draw a nested subset for every member of the ensemble."""

    data: LoadDataset = zntrack.deps()
    members_path: Path = zntrack.deps_path()

    code: Path = zntrack.deps_path(Path("nodes/Sources/RandomSubset.txt"))
    subset_path: Path = zntrack.outs_path(zntrack.nwd / "subset.npz")

    def run(self) -> None:
        """Draw the subsets and write them."""
        budget = _files.read_values(self.members_path)
        key = seeding.key(budget.pop("seed"), "subsets")
        chosen = base.random(len(self.data.dataset.inputs), **budget, key=key)
        print(f"{self.name}: {budget['n_members']} random subsets of {budget['n_selected']} points")
        _files.write_subset(self.subset_path, "random", chosen)

    @property
    def subset(self) -> _files.Subset:
        """Name of the method in tables, and the points that it chose for every member."""
        return _files.read_subset(self, self.subset_path)
