"""Define LoadFile: a file of the user as a problem, instead of LoadDataset."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import zntrack

from collective_variables import _errors
from collective_variables.data import encoding
from nodes import _files
from nodes.load_dataset import LoadDataset

# Parameters of the functions that read and split a table.
READING = ("ignored", "used", "task")
READING += ("encoding", "decimal", "day_first", "header", "missing", "texts")
SPLITTING = ("n_available", "n_test", "seed", "scaling", "input_scaling")


class LoadFile(zntrack.Node):
    """Read a file, report its contents, and split and scale it (`data.encoding`).

    The parameters from `encoding` to `texts` say how the cells of a text file are read; null
    detects them (`data.reading.read_file`).

    Args:
        path: Path of the file or the folder of images, from the project's root and inside it. Run
            `python main.py` after a change of the path, because DVC follows the file itself.
        targets: Column or columns to predict.
        ignored: Columns that are neither targets nor inputs.
        used: Columns that are inputs although they look like ids or row numbers.
        task: "auto", "regression" or "classification".
        image_size: [height, width] that images are resized to, null for their original size.
        encoding: Encoding of the text.
        decimal: "." or "," as the decimal sign.
        day_first: Whether 01/02/2020 is in February.
        header: Whether the first line holds names.
        missing: Further cells that stand for missing values.
        texts: Columns that are texts whatever they hold.
        n_available: As in LoadDataset.
        n_test: As in LoadDataset, except that null is one row in five.
        seed: As in LoadDataset.
        scaling: As in LoadDataset.
        input_scaling: How inputs are scaled, one of `data.scaling.SCALINGS`.
    """

    file: Path = zntrack.deps_path()

    path: str = zntrack.params()
    targets: list | str | int = zntrack.params()
    ignored: list | str | int = zntrack.params(default_factory=list)
    used: list | str | int = zntrack.params(default_factory=list)
    task: str = zntrack.params("auto")
    image_size: list | None = zntrack.params(None)
    encoding: str | None = zntrack.params(None)
    decimal: str | None = zntrack.params(None)
    day_first: bool | None = zntrack.params(None)
    header: bool | None = zntrack.params(None)
    missing: list | str = zntrack.params(default_factory=list)
    texts: list | str = zntrack.params(default_factory=list)
    n_available: int | None = zntrack.params(None)
    n_test: int | None = zntrack.params(None)
    seed: int = zntrack.params(0)
    scaling: str = zntrack.params("train")
    input_scaling: str = zntrack.params("bounded")

    code: Path = zntrack.deps_path(Path("nodes/Sources/LoadFile.txt"))
    dataset_path: Path = zntrack.outs_path(zntrack.nwd / "dataset.npz")
    columns_path: Path = zntrack.outs_path(zntrack.nwd / "columns.csv")

    def run(self) -> None:
        """Read the file, print how its columns were encoded, and write the points."""
        if Path(self.path) != Path(self.file):
            raise _errors.InvalidValueError(
                f"path must be the file that the graph follows, {self.file}: received {self.path}. "
                "Run python main.py."
            )
        size = self.image_size and tuple(self.image_size)
        options = {name: getattr(self, name) for name in READING}
        table = encoding.read_table(self.file, self.targets, image_size=size, **options)
        options = {name: getattr(self, name) for name in SPLITTING}
        dataset = encoding.split_table(table, Path(self.path).stem, **options)
        print(table.report())
        sizes = f"{len(dataset.inputs)} points in the pool, {len(dataset.test_inputs)} test points"
        print(f"{self.name}: {sizes}")
        _files.write_table(self.columns_path, table.columns)
        _files.write_arrays(self.dataset_path, **asdict(dataset))

    dataset = LoadDataset.dataset

    @property
    def columns(self) -> pd.DataFrame:
        """How each column of the file was interpreted and encoded."""
        return _files.read_table(self, self.columns_path)
