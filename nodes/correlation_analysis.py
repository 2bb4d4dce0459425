"""CorrelationAnalysis: how the collective variables, the selection method and the losses relate."""

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import zntrack

from collective_variables.analysis import correlation, statistics
from collective_variables.experiment import join
from collective_variables.papers import figures_2023
from nodes import _files
from nodes.compute_ntk import ComputeNTK
from nodes.train_model import TrainModel


class CorrelationAnalysis(zntrack.Node):
    """Join spectra and losses into one table of runs and compute its statistics.

    Args:
        n_bands: Number of bands of sizes in the summary if each run has a different size.
        n_resamples: Number of bootstrap resamples for the intervals of correlations.
        confidence: Confidence of all intervals.
        degree: Degree of the polynomial in ln n that is regressed out "given size".
        seed: Seed of the bootstrap.
    """

    kernels: ComputeNTK = zntrack.deps()
    networks: TrainModel = zntrack.deps()

    n_bands: int = zntrack.params(8)
    n_resamples: int = zntrack.params(1000)
    confidence: float = zntrack.params(0.95)
    degree: int = zntrack.params(3)
    seed: int = zntrack.params(0)

    code: Path = zntrack.deps_path(Path("nodes/Sources/CorrelationAnalysis.txt"))
    runs_path: Path = zntrack.outs_path(zntrack.nwd / "runs.csv")
    summary_path: Path = zntrack.outs_path(zntrack.nwd / "summary.csv")
    differences_path: Path = zntrack.outs_path(zntrack.nwd / "differences.csv")
    correlations_path: Path = zntrack.outs_path(zntrack.nwd / "correlations.csv")
    metrics: dict = zntrack.metrics()

    def run(self) -> None:
        """Write the runs, their summary, differences and correlations, and the headline numbers."""
        group = self.nwd.parent.name
        runs = join.join_runs(self.kernels.collective_variables, self.networks.losses, group=group)
        _files.write_table(self.runs_path, runs)
        summary = statistics.summary(runs, n_bands=self.n_bands)
        differences = statistics.paired_differences(runs, confidence=self.confidence)
        correlations = correlation.correlations(
            runs,
            n_resamples=self.n_resamples,
            confidence=self.confidence,
            degree=self.degree,
            seed=self.seed,
        )
        _files.write_table(self.summary_path, summary)
        _files.write_table(self.differences_path, differences)
        _files.write_table(self.correlations_path, correlations)
        self.metrics = statistics.headline(runs, differences, correlations)

    @property
    def runs(self) -> pd.DataFrame:
        """One row per trained network: its collective variables before training and its losses."""
        return _files.read_table(self, self.runs_path)

    @property
    def summary(self) -> pd.DataFrame:
        """Mean and standard error per parametrisation, method and subset size or band of sizes."""
        return _files.read_table(self, self.summary_path)

    @property
    def differences(self) -> pd.DataFrame:
        """Paired differences between each method and random selection, empty for one method."""
        return _files.read_table(self, self.differences_path)

    @property
    def correlations(self) -> pd.DataFrame:
        """Correlation matrices in long form, plain and given the subset size."""
        return _files.read_table(self, self.correlations_path)

    @property
    def figures(self) -> dict[str, go.Figure]:
        """Figures of P1 that this group's runs give, as Plotly figures."""
        return figures_2023.experiment_figures(self.runs, self.summary, self.correlations)
