"""Define ComputeNTK: collective variables of the kernels on every subset, before training."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import zntrack

from collective_variables import _errors
from collective_variables.experiment import join, measure
from collective_variables.observables import measurement
from nodes import _files, network
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset
from nodes.rnd_select import RNDSelect
from nodes.select_subset import SelectSubset


class ComputeNTK(zntrack.Node):
    """Measure one kernel per parametrisation, selection method, member and subset size.

    The networks are those that TrainModel starts from; a member has the same network for all
    methods and sizes.

    Args:
        outputs: "mean" or "sum" over the network's outputs, "per-output" for a kernel each, "full"
            for one over all.
        implementation: Implementation of the kernel; "auto" lets `empirical.empirical_ntk` choose.
        block_size: Points on a side of the kernel's tiles; null lets `empirical.empirical_ntk`
            choose.
        dtype: "float32" or "float64", of points, parameters and kernels; eigenvalues are always in
            float64.
        spectrum: "exact" eigenvalues, "stochastic" estimates from products of the kernel, which
            need not fit the memory, or "auto": exact if it fits.
        n_leading: Number of leading eigenvectors in estimates (`lanczos.estimate_entropy`).
        n_probes: Number of random vectors in estimates.
        n_steps: Number of Lanczos steps in estimates.
        per_class: Whether the points of each class are also measured separately.
        infinite_width: Whether kernels in the "ntk" parametrisation are compared with their limit
            of infinite width.
        subsample: {n_samples, sample_size} of estimates from samples of the points, null for none.
        accuracy: Relative accuracy of the entropy, for which samples are planned
            (`subsampling.plan_samples`), null for none.
        loss: "mse" or "cross-entropy", whose spectral position is measured as well (`decompose`),
            null for none.
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
    loss: str | None = zntrack.params(None)

    code: Path = zntrack.deps_path(Path("nodes/Sources/ComputeNTK.txt"))
    results_path: Path = zntrack.outs_path(zntrack.nwd / "results")
    metrics: dict = zntrack.metrics()

    def run(self) -> None:
        """Measure the kernels and write their spectra, tables and metrics."""
        settings = measurement.Settings(
            **{field.name: getattr(self, field.name) for field in fields(measurement.Settings)}
        )
        dataset, seed = self.data.dataset, _files.read_values(self.members_path)["seed"]
        architecture, n_points = (
            _files.read_values(path) for path in (self.architecture_path, self.n_points_path)
        )
        measurements = measure.measure_subsets(
            dataset,
            network.build(architecture),
            _files.read_subsets(self.subsets),
            np.array(n_points),
            seed=seed,
            settings=settings,
            limit=_limit(architecture) if self.infinite_width else None,
            per_class=self.per_class,
            loss=self.loss,
            progress=self.name,
        )
        self._write(measurements)

    def _write(self, measurements: dict[str, measurement.Measurement]) -> None:
        self.metrics = {
            _in_words(name): value for name, value in measurement.metrics(measurements).items()
        }
        spectra = {label: one.eigenvalues for label, one in measurements.items()}
        _files.write_arrays(self.results_path / "spectra.npz", **spectra)
        for name in next(iter(measurements.values())).tables:
            tables = {label: one.tables[name] for label, one in measurements.items()}
            _files.write_table(self.results_path / f"{name}.csv", join.label_tables(tables))

    @property
    def spectra(self) -> _files.Arrays:
        """Eigenvalues by "parametrisation/method", each (n_members, n_sizes, n_largest).

        With outputs "per-output" each is (n_members, n_sizes, n_outputs, n_largest). They are NaN
        beyond a kernel's size, and if they were estimated.
        """
        return _files.read_arrays(self, self.results_path / "spectra.npz")

    @property
    def collective_variables(self) -> pd.DataFrame:
        """One row per parametrisation, method, member and subset size, means over "per-output"."""
        return self._table("collective_variables")

    @property
    def per_output(self) -> pd.DataFrame:
        """The same with a row for each output; no rows unless outputs is "per-output"."""
        return self._table("per_output")

    @property
    def classes(self) -> pd.DataFrame:
        """The same for the points of each class among themselves; no rows without `per_class`."""
        return self._table("classes")

    @property
    def limits(self) -> pd.DataFrame:
        """Each member's largest kernel and its limit; no rows without `infinite_width`."""
        return self._table("limits")

    @property
    def samples(self) -> pd.DataFrame:
        """Estimates from samples of each member's largest subset; no rows without `subsample`."""
        return self._table("samples")

    @property
    def required(self) -> pd.DataFrame:
        """Samples that `accuracy` requires for each largest subset; no rows without it."""
        return self._table("required")

    def _table(self, name: str) -> pd.DataFrame:
        return _files.read_table(self, self.results_path / f"{name}.csv")


def _in_words(name: str) -> str:
    """Return "kernels k-center ntk" for "ntk/k-center", as other metrics name kernels."""
    parametrisation, _, method = name.partition("/")
    return f"kernels {method} {parametrisation}" if method else name


def _limit(architecture: dict) -> measurement.Limit:
    """Return the infinitely wide kernel of an architecture; ValueError without one."""
    if "model" in architecture:
        raise _errors.InvalidValueError(
            f"infinite_width needs a network of layers: received the model {architecture['model']}."
        )
    return measurement.infinite_width_limit(**architecture)
