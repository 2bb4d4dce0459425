"""Define TrainAutoencoder: a variational autoencoder for each member, and its encoder's kernels."""

from dataclasses import fields
from pathlib import Path

import pandas as pd
import zntrack

from collective_variables.training import autoencoder, recording
from nodes import _files
from nodes.load_dataset import LoadDataset
from nodes.random_subset import RandomSubset


class TrainAutoencoder(zntrack.Node):
    """Train an autoencoder on the images of each random subset.

    Args:
        n_latents: Number of latents (`collective_variables.training.autoencoder`).
        width: Width of the hidden layers.
        beta: Weight of the divergence in the loss.
        optimiser: As in TrainModel.
        learning_rate: As in TrainModel.
        n_epochs: As in TrainModel.
        batch_size: As in TrainModel.
        evaluate_every: As in TrainModel.
        record: Fields of `collective_variables.training.recording.Settings`, with observables that
            do not need targets.
    """

    data: LoadDataset = zntrack.deps()
    subset: RandomSubset = zntrack.deps()
    members_path: Path = zntrack.deps_path()

    n_latents: int = zntrack.params(20)
    width: int = zntrack.params(500)
    beta: float = zntrack.params(1.0)
    optimiser: str = zntrack.params("adam")
    learning_rate: float = zntrack.params(0.001)
    n_epochs: int = zntrack.params(100)
    batch_size: int | None = zntrack.params(128)
    evaluate_every: int = zntrack.params(1)
    record: dict = zntrack.params(
        default_factory=lambda: {"epochs": {"log_spaced": 20}, "observables": ["drift", "position"]}
    )

    code: Path = zntrack.deps_path(Path("nodes/Sources/TrainAutoencoder.txt"))
    recording_path: Path = zntrack.outs_path(zntrack.nwd / "recording.csv")

    def run(self) -> None:
        """Train and record the autoencoders, and write their table."""
        dataset = self.data.dataset
        names = [field.name for field in fields(autoencoder.Schedule)]
        options = {
            "schedule": autoencoder.Schedule(**{name: getattr(self, name) for name in names}),
            "settings": recording.Settings(**self.record),
            "seed": _files.read_values(self.members_path)["seed"],
            "progress": self.name,
        }
        with _files.kept(self.nwd / "unfinished", self.code) as store:
            data = dataset.inputs, dataset.test_inputs, self.subset.subset.points.indices
            table = autoencoder.train_ensemble(*data, **options, store=store)["recording"]
            _files.write_table(self.recording_path, table.rename(columns={"run": "member"}))

    @property
    def recording(self) -> pd.DataFrame:
        """A row for each member, kind of points and recorded epoch."""
        return _files.read_table(self, self.recording_path)
