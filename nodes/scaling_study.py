"""Define ScalingStudy: entropy, trace and loss during training for many networks and settings."""

import itertools
from pathlib import Path

import pandas as pd
import zntrack

from collective_variables.training import (
    loop,
    recorded_training,
    recording,
    scaling_study,
    schedules,
    study_cases,
)
from nodes import _files
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset


class ScalingStudy(zntrack.Node):
    """Train every network of every study for each member, and record its kernels.

    Members train on all points of their random subsets.

    Args:
        studies: By name the axes of `collective_variables.training.study_cases.Case`, each a value
            or a list: activation, width and depth, and, if wanted, n_points, batch_size,
            weight_scale, label_noise and features. All combinations of a study are trained.
        kind: "dense", "conv", "resnet", "transformer" or "graph-network".
        parametrisation: "lecun" or, for the first two kinds, "ntk", as in Network.
        loss: As in TrainModel.
        optimiser: As in TrainModel.
        learning_rate: As in TrainModel.
        n_epochs: As in TrainModel.
        trace_every: As in TrainModel.
        batch_size: Batch size of studies without one.
        noise_from: Epoch from which the labels are noisy in studies with label noise.
        record: Fields of `collective_variables.training.recording.Settings`: epochs, n_train,
            n_test, subsample, observables, outputs, n_modes.
    """

    data: LoadDataset = zntrack.deps()
    subset: RandomSubset = zntrack.deps()
    members_path: Path = zntrack.deps_path()

    studies: dict = zntrack.params()
    kind: str = zntrack.params("dense")
    parametrisation: str = zntrack.params("lecun")
    loss: str = zntrack.params("cross-entropy")
    optimiser: str = zntrack.params("adam")
    learning_rate: float = zntrack.params(0.001)
    n_epochs: int = zntrack.params(100)
    batch_size: int | None = zntrack.params(128)
    trace_every: int | None = zntrack.params(None)
    noise_from: int = zntrack.params(0)
    record: dict = zntrack.params(default_factory=lambda: {"epochs": {"log_spaced": 20}})

    code: Path = zntrack.deps_path(Path("nodes/Sources/ScalingStudy.txt"))
    results_path: Path = zntrack.outs_path(zntrack.nwd / "results")
    metrics: dict = zntrack.metrics()

    def run(self) -> None:
        """Train and record all cases, and write their tables."""
        names = ("loss", "optimiser", "learning_rate", "n_epochs", "trace_every")
        options = {
            "schedule": schedules.Schedule(**{name: getattr(self, name) for name in names}),
            "settings": recording.Settings(**self.record),
            "seed": _files.read_values(self.members_path)["seed"],
            "task": self.data.dataset.task,
            "parametrisation": self.parametrisation,
            "noise_from": self.noise_from,
            "progress": self.name,
        }
        dataset = self.data.dataset
        pool = loop.Points(dataset.inputs, dataset.targets)
        test = loop.Points(dataset.test_inputs, dataset.test_targets)
        every = list(dict.fromkeys(itertools.chain(*self.cases.values())))
        with _files.kept(self.nwd / "unfinished", self.code) as store:
            indices = self.subset.subset.points.indices
            result = scaling_study.train_cases(
                every, self.kind, pool, test, indices, **options, store=store
            )
            for name in recorded_training.TABLES:
                _files.write_table(self.results_path / f"{name}.csv", result.tables[name])
            self.metrics = {"diverged": result.n_diverged, "networks": len(every)}

    @property
    def cases(self) -> dict[str, list[study_cases.Case]]:
        """Cases of each study."""
        n_points = self.subset.subset.points.indices.shape[1]
        return study_cases.list_cases(self.studies, n_points=n_points, batch_size=self.batch_size)

    @property
    def recording(self) -> pd.DataFrame:
        """A row for each network, member, kind of points and recorded epoch."""
        return self._table("recording")

    @property
    def classes(self) -> pd.DataFrame:
        """Kernels of single classes and of unions of two, for each row of `recording`.

        There are no rows without the observable "classes".
        """
        return self._table("classes")

    @property
    def modes(self) -> pd.DataFrame:
        """Leading modes of the first epoch's kernel, for each row of `recording`.

        There are no rows without the observable "modes".
        """
        return self._table("modes")

    def _table(self, name: str) -> pd.DataFrame:
        return _files.read_table(self, self.results_path / f"{name}.csv")
