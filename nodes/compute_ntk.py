"""ComputeNTK: collective variables of the kernels on every subset, before training."""

from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables import ensembles, measuring, networks
from nodes import files, network, sources
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset
from nodes.rnd_select import RNDSelect


class ComputeNTK(zntrack.Node):
    """Compute one kernel per parametrisation, selection method and member, and the spectra of its leading blocks.

    The networks are those that TrainModel starts from; a member's is the same for all methods and sizes.
    """

    data: LoadDataset = zntrack.deps()
    subsets: list[RandomSubset | RNDSelect] = zntrack.deps()
    members_path: Path = zntrack.deps_path()
    n_points_path: Path = zntrack.deps_path()
    architecture_path: Path = zntrack.deps_path()

    code: tuple = zntrack.deps_path(sources.of(__file__))
    spectra_path: Path = zntrack.outs_path(zntrack.nwd / "spectra.npz")
    collective_variables_path: Path = zntrack.outs_path(zntrack.nwd / "collective_variables.csv")
    round_off: dict = zntrack.metrics()

    def run(self) -> None:
        dataset, budget = self.data.dataset, files.read_values(self.members_path)
        n_points = np.array(files.read_values(self.n_points_path))
        keys = ensembles.member_keys(ensembles.key(budget["seed"], "initialisation"), budget["n_members"])
        methods = [subset.method for subset in self.subsets]
        subsets = [subset.subset.indices for subset in self.subsets]
        spectra = {}
        for parametrisation, model in network.read(self.architecture_path).items():
            networks.check_fit(model, dataset.inputs, dataset.targets)
            progress = f"{self.name}: kernels of {parametrisation} networks"
            measured = measuring.measure(model, dataset.inputs, keys, subsets, n_points, progress=progress)
            spectra |= {f"{parametrisation}/{method}": of for method, of in zip(methods, measured)}
        self._write(spectra, n_points)

    def _write(self, spectra: dict[str, measuring.Spectra], n_points: np.ndarray) -> None:
        self.round_off = {label: measuring.round_off(of)._asdict() for label, of in spectra.items()}
        files.write_arrays(self.spectra_path, **{label: measuring.padded(of) for label, of in spectra.items()})
        tables = {label: measuring.table(of, n_points) for label, of in spectra.items()}
        files.write_table(self.collective_variables_path, files.labelled(tables))

    @property
    def spectra(self) -> files.Arrays:
        """Eigenvalues by "parametrisation/method", each (n_members, n_sizes, n_largest), NaN behind a kernel's size."""
        return files.read_arrays(self, self.spectra_path)

    @property
    def collective_variables(self) -> pd.DataFrame:
        """One row per parametrisation, method, member and subset size."""
        return files.read_table(self, self.collective_variables_path)
