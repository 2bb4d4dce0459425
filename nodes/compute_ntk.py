"""ComputeNTK: collective variables of the kernels on every subset, before training."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables.networks import parameters
from collective_variables.observables import measurement
from nodes import files, network, sources
from nodes.alone import alone
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset
from nodes.rnd_select import RNDSelect
from nodes.select_subset import SelectSubset


class ComputeNTK(zntrack.Node):
    """Compute one kernel per parametrisation, selection method and member, and what its leading
    blocks tell.

    outputs: "mean" or "sum" over the network's outputs, "per-output" for a kernel each, "full" for
    one over all.
    implementation, block_size: "auto" and null let `empirical.empirical_ntk` choose.
    dtype: "float32" or "float64", of points, parameters and kernels; eigenvalues are always in
    float64.
    spectrum: "exact" eigenvalues, "stochastic" estimates from products of the kernel, for which it
        need not fit the memory, or "auto", exact where it fits. n_leading, n_probes, n_steps: of
        the estimates (`lanczos.estimate_entropy`).
    per_class: measure the points of each class by themselves, too.
    infinite_width: compare kernels in the "ntk" parametrisation with their analytic limit of
    infinite width.
    subsample: {n_samples, sample_size} of estimates from samples of the points, null for none.
    accuracy: relative one of the entropy, samples for it: `subsampling.plan_samples`,
    null for none. The networks are those that TrainModel starts from; a member's is the same for
    all methods and sizes.
    """

    data: LoadDataset = zntrack.deps()
    subsets: list[RandomSubset | RNDSelect | SelectSubset] = zntrack.deps()
    members_path: Path = zntrack.deps_path()
    n_points_path: Path = zntrack.deps_path()
    architecture_path: Path = zntrack.deps_path()

    outputs: str = zntrack.params("mean")
    implementation: str = zntrack.params("auto")
    block_size: int | None = zntrack.params(None)
    dtype: str = zntrack.params("float32")
    spectrum: str = zntrack.params("auto")
    n_leading: int = zntrack.params(32)
    n_probes: int = zntrack.params(32)
    n_steps: int = zntrack.params(24)
    per_class: bool = zntrack.params(False)
    infinite_width: bool = zntrack.params(False)
    subsample: dict | None = zntrack.params(None)
    accuracy: float | None = zntrack.params(None)

    code: tuple = zntrack.deps_path(sources.of(__file__))
    spectra_path: Path = zntrack.outs_path(zntrack.nwd / "spectra.npz")
    collective_variables_path: Path = zntrack.outs_path(zntrack.nwd / "collective_variables.csv")
    per_output_path: Path = zntrack.outs_path(zntrack.nwd / "per_output.csv")
    classes_path: Path = zntrack.outs_path(zntrack.nwd / "classes.csv")
    limits_path: Path = zntrack.outs_path(zntrack.nwd / "limits.csv")
    samples_path: Path = zntrack.outs_path(zntrack.nwd / "samples.csv")
    required_path: Path = zntrack.outs_path(zntrack.nwd / "required.csv")
    metrics: dict = zntrack.metrics()

    @alone
    def run(self) -> None:
        settings = measurement.Settings(
            **{of.name: getattr(self, of.name) for of in fields(measurement.Settings)}
        )
        dataset, seed = self.data.dataset, files.read_values(self.members_path)["seed"]
        architecture, n_points = (
            files.read_values(path) for path in (self.architecture_path, self.n_points_path)
        )
        limit = _limit(architecture) if self.infinite_width else None
        classes = measurement.classes_of(dataset.targets, dataset.task) if self.per_class else None
        pool = measurement.Pool(dataset.inputs, dataset.targets, classes)
        subsets = files.read_subsets(self.subsets)
        measured = {}
        for name, model in network.build(architecture).items():
            parameters.check_fit(model, *pool[:2])
            options = {
                "settings": settings,
                "limit": limit,
                "progress": f"{self.name}: kernels of {name} networks",
            }
            found = measurement.measure_ensemble(
                model, pool, list(subsets.values()), np.array(n_points), seed=seed, **options
            )
            measured |= {f"{name}/{method}": of for method, of in zip(subsets, found)}
        self._write(measured)

    def _write(self, measured: dict[str, measurement.Measurement]) -> None:
        self.metrics = measurement.metrics(measured)
        files.write_arrays(
            self.spectra_path, **{label: of.eigenvalues for label, of in measured.items()}
        )
        for table in next(iter(measured.values())).tables:
            of_table = files.labelled({label: of.tables[table] for label, of in measured.items()})
            files.write_table(getattr(self, f"{table}_path"), of_table)

    @property
    def spectra(self) -> files.Arrays:
        """Eigenvalues by "parametrisation/method", each (n_members, n_sizes, n_largest), NaN behind
        a kernel's size.

        With outputs "per-output" (n_members, n_sizes, n_outputs, n_largest); NaN where they were
        estimated.
        """
        return files.read_arrays(self, self.spectra_path)

    @property
    def collective_variables(self) -> pd.DataFrame:
        """One row per parametrisation, method, member and subset size; with "per-output" the means
        over outputs.
        """
        return files.read_table(self, self.collective_variables_path)

    @property
    def per_output(self) -> pd.DataFrame:
        """The same with a row for each output; no rows but with outputs "per-output"."""
        return files.read_table(self, self.per_output_path)

    @property
    def classes(self) -> pd.DataFrame:
        """The same for the points of each class among themselves; no rows without `per_class`."""
        return files.read_table(self, self.classes_path)

    @property
    def limits(self) -> pd.DataFrame:
        """Each member's largest kernel beside that of infinite width; no rows without
        `infinite_width`.
        """
        return files.read_table(self, self.limits_path)

    @property
    def samples(self) -> pd.DataFrame:
        """Estimates from samples of each member's largest subset beside the exact ones; no rows
        without `subsample`.
        """
        return files.read_table(self, self.samples_path)

    @property
    def required(self) -> pd.DataFrame:
        """The samples that `accuracy` takes for each member's largest subset; no rows without
        it.
        """
        return files.read_table(self, self.required_path)


def _limit(architecture: dict) -> measurement.Limit:
    """The kernel of infinite width of an architecture; ValueError for one without."""
    if "model" in architecture:
        raise ValueError(
            f"infinite_width needs a network of layers: received the model {architecture['model']}."
        )
    return measurement.infinite_width_limit(**architecture)
