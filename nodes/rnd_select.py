"""RNDSelect: subsets of the pool chosen by random network distillation."""

from pathlib import Path

import zntrack

from collective_variables import ensembles, networks, selection
from nodes import files, network, sources
from nodes.load_dataset import LoadDataset


class RNDSelect(zntrack.Node):
    """Choose a nested subset for every member of the ensemble (`collective_variables.selection.rnd`).

    n_epochs: full-batch epochs of Adam with which the predictor is re-trained after every point.
    learning_rate: of that Adam.
    Target and predictor have the group's architecture, in its first parametrisation.
    """

    data: LoadDataset = zntrack.deps()
    members_path: Path = zntrack.deps_path()
    architecture_path: Path = zntrack.deps_path()

    n_epochs: int = zntrack.params(100)
    learning_rate: float = zntrack.params(0.01)

    code: tuple = zntrack.deps_path(sources.of(__file__))
    subset_path: Path = zntrack.outs_path(zntrack.nwd / "subset.npz")

    method = "rnd"

    def run(self) -> None:
        dataset, budget = self.data.dataset, files.read_values(self.members_path)
        first = next(iter(network.read(self.architecture_path).values()))
        networks.check_fit(first, dataset.inputs, dataset.targets)
        chosen = selection.rnd(
            dataset.inputs,
            first,
            key=ensembles.key(budget.pop("seed"), "rnd"),
            **budget,
            n_epochs=self.n_epochs,
            learning_rate=self.learning_rate,
            progress=f"{self.name}: {budget['n_members']} members choose {budget['n_selected']} points",
        )
        files.write_arrays(self.subset_path, indices=chosen.indices, distances=chosen.distances)

    @property
    def subset(self) -> selection.Selection:
        """Indices into the pool and the distances at which they were chosen, each (n_members, n_selected)."""
        return selection.Selection(**files.read_arrays(self, self.subset_path))
