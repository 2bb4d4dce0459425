"""Define LoadDataset: one of the problems of P1's Table 1, or all of MNIST, split and scaled."""

from dataclasses import asdict
from pathlib import Path

import zntrack

from collective_variables.data.problems import Dataset, load_problem
from nodes import _files

# Read and not imported: the stage Sources follows them. A test compares them with the problems.
FOLLOWED_FILES = ("data/auto-mpg.csv", "data/mnist_10k.npz", "data/molecules.npz", "data/words.csv")


class LoadDataset(zntrack.Node):
    """Load, split and scale a problem, as `collective_variables.data.problems.load_problem` does.

    Args:
        problem: One of `problems.PROBLEMS`, such as fuel, mnist (10000 of its images, embedded) or
            mnist-60000 (all for training, downloaded).
        n_available: Rows drawn at random before the split, test points included; null for all.
        n_test: Number of test points; null for that of Table 1.
        seed: Seed of the draw and the split.
        scaling: "train" takes mean and standard deviation from the training pool, "all" from every
            row, test included.
    """

    problem: str = zntrack.params()
    n_available: int | None = zntrack.params(None)
    n_test: int | None = zntrack.params(None)
    seed: int = zntrack.params(0)
    scaling: str = zntrack.params("train")

    code: Path = zntrack.deps_path(Path("nodes/Sources/LoadDataset.txt"))
    dataset_path: Path = zntrack.outs_path(zntrack.nwd / "dataset.npz")

    def run(self) -> None:
        """Load the problem and write its points."""
        dataset = load_problem(
            self.problem,
            n_available=self.n_available,
            n_test=self.n_test,
            seed=self.seed,
            scaling=self.scaling,
        )
        sizes = f"{len(dataset.inputs)} points in the pool, {len(dataset.test_inputs)} test points"
        print(f"{self.name}: {sizes}")
        _files.write_arrays(self.dataset_path, **asdict(dataset))

    @property
    def dataset(self) -> Dataset:
        """Pool and test points."""
        arrays = _files.read_arrays(self, self.dataset_path)
        texts = {name: str(arrays.pop(name)) for name in ("task", "name")}
        return Dataset(**arrays, **texts)
