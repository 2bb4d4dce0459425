"""RandomSubset: subsets of the pool drawn at random, the baseline of every selection."""

from pathlib import Path

import zntrack

from collective_variables import ensembles, selection
from nodes import files, sources
from nodes.load_dataset import LoadDataset


class RandomSubset(zntrack.Node):
    """Draw a nested subset for every member of the ensemble."""

    data: LoadDataset = zntrack.deps()
    members_path: Path = zntrack.deps_path()

    code: tuple = zntrack.deps_path(sources.of(__file__))
    subset_path: Path = zntrack.outs_path(zntrack.nwd / "subset.npz")

    method = "random"

    def run(self) -> None:
        budget = files.read_values(self.members_path)
        key = ensembles.key(budget.pop("seed"), "subsets")
        chosen = selection.random(len(self.data.dataset.inputs), **budget, key=key)
        print(f"{self.name}: {budget['n_members']} random subsets of {budget['n_selected']} points")
        files.write_arrays(self.subset_path, indices=chosen.indices, distances=chosen.distances)

    @property
    def subset(self) -> selection.Selection:
        """Indices into the pool and distances (NaN here), each (n_members, n_selected)."""
        return selection.Selection(**files.read_arrays(self, self.subset_path))
