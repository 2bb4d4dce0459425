"""LoadFile: a file of the user as a problem, in the place of LoadDataset."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import zntrack

from collective_variables.data import encoding, reading
from nodes import _files
from nodes.load_dataset import LoadDataset


class LoadFile(zntrack.Node):
    """Read a file, say what is in it, and split and scale it (`data.encoding`).

    Args:
        path: Of the file or the folder of images, from the project's root and inside it. After
            another path `python main.py` has to run, because DVC follows the file itself.
        targets: Columns to predict. ignored: Columns that are neither target nor input.
        task: "auto", "regression" or "classification".
        image_size: [height, width] that images are brought to, null for theirs.
        n_available, n_test, seed, scaling: As in LoadDataset; n_test null is one row in five.
    """

    file: Path = zntrack.deps_path()

    path: str = zntrack.params()
    targets: list = zntrack.params()
    ignored: list = zntrack.params(default_factory=list)
    task: str = zntrack.params("auto")
    image_size: list | None = zntrack.params(None)
    n_available: int | None = zntrack.params(None)
    n_test: int | None = zntrack.params(None)
    seed: int = zntrack.params(0)
    scaling: str = zntrack.params("train")

    code: Path = zntrack.deps_path(Path("nodes/Sources/LoadFile.txt"))
    dataset_path: Path = zntrack.outs_path(zntrack.nwd / "dataset.npz")
    columns_path: Path = zntrack.outs_path(zntrack.nwd / "columns.csv")

    def run(self) -> None:
        if Path(self.path) != Path(self.file):
            raise ValueError(
                f"path must be the file that the graph follows, {self.file}: received {self.path}. "
                "Run python main.py."
            )
        contents = reading.read_file(
            self.file, image_size=self.image_size and tuple(self.image_size)
        )
        table = encoding.encode_table(contents, self.targets, ignored=self.ignored, task=self.task)
        options = {
            name: getattr(self, name) for name in ("n_available", "n_test", "seed", "scaling")
        }
        dataset = encoding.split_table(table, Path(self.path).stem, **options)
        words = [table.columns.to_string(index=False), *table.notes]
        print("\n".join(words))
        sizes = f"{len(dataset.inputs)} points in the pool, {len(dataset.test_inputs)} test points"
        print(f"{self.name}: {table.task}, {sizes}")
        _files.write_table(self.columns_path, table.columns)
        _files.write_arrays(self.dataset_path, **asdict(dataset))

    dataset = LoadDataset.dataset

    @property
    def columns(self) -> pd.DataFrame:
        """What each column of the file was taken for, and what was done to it."""
        return _files.read_table(self, self.columns_path)
