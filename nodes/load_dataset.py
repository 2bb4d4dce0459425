"""LoadDataset: one of the problems of P1's Table 1, or all of MNIST, split and scaled."""

from dataclasses import asdict
from pathlib import Path

import zntrack

from collective_variables.data.problems import PROBLEMS, Dataset, load_problem
from nodes import files, sources
from nodes.alone import alone

EMBEDDED = sorted(
    f"data/{file.name}" for problem in PROBLEMS.values() for file in problem.files if not file.urls
)


class LoadDataset(zntrack.Node):
    """Load, split and scale a problem (`collective_variables.data.problems.load_problem` says how).

    problem: one of `problems.PROBLEMS`, such as fuel, mnist (10000 of its images, embedded) or
        mnist-60000 (all for training, fetched).
    n_available: rows drawn at random before the split, test points included; null for all.
    n_test: test points; null for Table 1's.
    seed: of the draw and the split.
    scaling: "train" takes mean and standard deviation from the training pool, "all" from every row,
    test included.
    """

    problem: str = zntrack.params()
    n_available: int | None = zntrack.params(None)
    n_test: int | None = zntrack.params(None)
    seed: int = zntrack.params(0)
    scaling: str = zntrack.params("train")

    code: tuple = zntrack.deps_path(sources.of(__file__, *EMBEDDED))
    dataset_path: Path = zntrack.outs_path(zntrack.nwd / "dataset.npz")

    @alone
    def run(self) -> None:
        dataset = load_problem(
            self.problem,
            n_available=self.n_available,
            n_test=self.n_test,
            seed=self.seed,
            scaling=self.scaling,
        )
        print(
            f"{self.name}: {len(dataset.inputs)} points in the pool, {len(dataset.test_inputs)} test points"
        )
        files.write_arrays(self.dataset_path, **asdict(dataset))

    @property
    def dataset(self) -> Dataset:
        """Pool and test points."""
        arrays = files.read_arrays(self, self.dataset_path)
        texts = {name: str(arrays.pop(name)) for name in ("task", "name")}
        return Dataset(**arrays, **texts)
