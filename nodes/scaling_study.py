"""ScalingStudy: entropy, trace and loss through training, over activation, width and depth."""

import itertools
from pathlib import Path

import pandas as pd
import zntrack

from collective_variables import recording, regimes, scaling, training
from nodes import files, sources
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset


class ScalingStudy(zntrack.Node):
    """Train every network of every study for each member, and record its kernels (`collective_variables.recording`).

    studies: by name {activation, width, depth}, each a value or a list; all combinations of a study are trained.
    kind: "dense", or "conv" for 3x3 convolutions; width is that of each of the `depth` hidden layers.
    loss, optimiser, learning_rate, n_epochs, batch_size, evaluate_every: as in TrainModel.
    record: fields of `recording.Settings`: epochs, n_train, n_test, subsample, observables, outputs, n_modes.
    resolution: changes of the entropy in nats that are smaller are no phase (`collective_variables.regimes`).
    Members train on all points of their random subsets.
    """

    data: LoadDataset = zntrack.deps()
    subset: RandomSubset = zntrack.deps()
    members_path: Path = zntrack.deps_path()

    studies: dict = zntrack.params()
    kind: str = zntrack.params("dense")
    loss: str = zntrack.params("cross-entropy")
    optimiser: str = zntrack.params("adam")
    learning_rate: float = zntrack.params(0.001)
    n_epochs: int = zntrack.params(100)
    batch_size: int | None = zntrack.params(128)
    evaluate_every: int = zntrack.params(1)
    record: dict = zntrack.params(default_factory=lambda: {"epochs": {"log_spaced": 20}})
    resolution: float = zntrack.params(0.05)

    code: tuple = zntrack.deps_path(sources.of(__file__))
    recording_path: Path = zntrack.outs_path(zntrack.nwd / "recording.csv")
    regimes_path: Path = zntrack.outs_path(zntrack.nwd / "regimes.csv")
    metrics: dict = zntrack.metrics()

    def run(self) -> None:
        studies = scaling.shapes(self.studies)
        names = ("loss", "optimiser", "learning_rate", "n_epochs", "batch_size", "evaluate_every")
        options = {
            "schedule": training.Schedule(**{name: getattr(self, name) for name in names}),
            "settings": recording.Settings(**self.record),
            "seed": files.read_values(self.members_path)["seed"],
            "progress": self.name,
        }
        dataset, indices = self.data.dataset, self.subset.subset.points.indices
        pool = training.Points(dataset.inputs, dataset.targets)
        test = training.Points(dataset.test_inputs, dataset.test_targets)
        every = list(dict.fromkeys(itertools.chain(*studies.values())))
        with files.kept(self.nwd / "unfinished", self.code) as store:
            found = scaling.train(every, self.kind, pool, test, indices, **options, store=store)
            files.write_table(self.recording_path, found.recording)
            phases = regimes.of_recording(found.recording, scaling.AXES, resolution=self.resolution)
            files.write_table(self.regimes_path, phases)
            self.metrics = {"diverged": found.n_diverged, "networks": len(every)}

    @property
    def recording(self) -> pd.DataFrame:
        """A row for each network, member, kind of points and recorded epoch."""
        return files.read_table(self, self.recording_path)

    @property
    def regimes(self) -> pd.DataFrame:
        """A row for each phase of the entropy of each network and kind of points."""
        return files.read_table(self, self.regimes_path)
