"""Load the learning problems of the papers: read, checked, split and scaled.

The problems are the four of P1 (Tovey et al. 2023, Table 1), all of MNIST, words, their letters,
and molecules. Fuel, 10000 images of MNIST, words and molecules are embedded in the package.
Concrete and Gait (from UCI) and the 60000 images of MNIST are downloaded into a cache outside the
repository. If the environment variable COLLECTIVE_VARIABLES_DATA names a folder or a base URL, they
are read from there and nothing else is tried. Every file is checked by its SHA-256.
`data/README.md` gives origin, licence and columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from collective_variables import _checks, _scaling
from collective_variables.data import _download, _readers

UCI = ("https://archive.ics.uci.edu/ml", "https://archive.ics.uci.edu")
MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)


WORDS = _download.File(
    "words.csv", "f345340ec83696755ca712a85a3f4fddcad3572450aea899749f0e5925c1301e"
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A learning problem, split into pool and test points, and scaled.

    Attributes:
        inputs: (n_pool, ...) float32, the points of the pool.
        targets: (n_pool, n_outputs) float32.
        test_inputs: (n_test, ...) float32, the test points.
        test_targets: (n_test, n_outputs) float32.
        task: "regression" or "classification".
        index: (n_pool,) int64, the rows of the pool in the problem's file, counted from 0. For
            "mnist", the array `index` of mnist_10k.npz maps them to the rows of "mnist-60000".
        test_index: (n_test,) int64, the rows of the test points.
        name: Name of the problem.

    Example:
        >>> import collective_variables as cv
        >>> data = cv.load_problem("fuel")
        >>> data.name, data.task, len(data.index), len(data.test_index)
        ('fuel', 'regression', 272, 120)
    """

    inputs: np.ndarray
    targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    task: str
    index: np.ndarray
    test_index: np.ndarray
    name: str


@dataclass(frozen=True)
class Problem:
    """The files of a problem, the function that reads them, and its row of P1 Table 1."""

    files: tuple[_download.File, ...]
    read: Callable[..., _readers.Arrays]
    n_rows: int
    n_test: int
    task: str
    standardised: bool = True


def load_problem(
    name: str,
    *,
    n_test: int | None = None,
    seed: int = 0,
    scaling: str = "train",
    n_available: int | None = None,
) -> Dataset:
    """Load a learning problem as pool and test points.

    The rows `numpy.random.default_rng(seed).permutation(n_rows)[:n_available]` are split: the first
    `n_test` are the test points and the rest the pool, in that order.

    Inputs and regression targets become dimensionless z-scores, (x − mean) / std, with the
    population standard deviation (ddof=0) in float64. A constant column becomes 0 everywhere;
    duplicate columns stay. `scaling` does not change letters, graphs, the one-hot targets of a
    classification, and the inputs of MNIST, which are divided by 255.

    Raises TypeError for an argument of the wrong type and ValueError for a wrong value, before any
    file is read. Raises DataError, which is a ValueError, if a file is missing, corrupt or cannot
    be downloaded. Raises ValueError if the file holds values that are not finite, and ImportError
    if a download needs `pip install "collective-variables[data]"`.

    Args:
        name: "fuel", "mnist", "mnist-60000", "concrete", "gait", "words", "letters" or
            "molecules".
        n_test: Number of test points; by default that of Tovey et al. 2023, Table 1.
        seed: Seed of the permutation.
        scaling: The rows that give mean and std: "train" for the pool, or "all" for pool and test
            points, as the paper's authors do.
        n_available: Number of rows to split; by default all rows of the file.

    Returns:
        Pool and test points.

    Example:
        >>> import collective_variables as cv
        >>> data = cv.load_problem("fuel")
        >>> data.inputs.shape, data.targets.shape, data.test_inputs.shape
        ((272, 9), (272, 1), (120, 9))
        >>> [f"{value:.3f}" for value in data.targets[:3, 0]]
        ['0.473', '-0.691', '0.511']
    """
    problem = PROBLEMS[_checks.choice("problem", name, PROBLEMS)]
    _checks.choice("scaling", scaling, ("train", "all"))
    n_test = problem.n_test if n_test is None else n_test
    test_index, index = split(
        name, problem.n_rows, n_test=n_test, n_available=n_available, seed=seed
    )
    inputs, targets = problem.read(*map(_download.locate, problem.files))
    _checks.finite(f"inputs of {name}", inputs)
    _checks.finite(f"targets of {name}", targets)
    reference = index if scaling == "train" else np.concatenate([test_index, index])
    if problem.standardised:
        inputs = z_score(inputs, reference)
    if problem.task == "regression":
        targets = z_score(targets, reference)
    inputs = inputs.astype(np.float32)
    targets = targets.astype(np.float32)
    return Dataset(
        inputs[index],
        targets[index],
        inputs[test_index],
        targets[test_index],
        problem.task,
        index,
        test_index,
        name,
    )


def split(
    name: str, n_rows: int, *, n_test: int, n_available: int | None, seed: int
) -> _readers.Arrays:
    """Return the rows of the test points and of the pool, as `load_problem` splits them."""
    n_available = (
        n_rows if n_available is None else _checks.integer("n_available", n_available, minimum=2)
    )
    _checks.integer("n_test", n_test, minimum=1)
    if n_available > n_rows:
        raise ValueError(
            f"n_available must not exceed the rows of {name}: {n_available} > {n_rows}."
        )
    if n_test >= n_available:
        raise ValueError(
            f"n_test must be less than n_available, to leave a pool: {n_test} >= {n_available}."
        )
    generator = np.random.default_rng(_checks.integer("seed", seed, minimum=0))
    rows = generator.permutation(n_rows)[:n_available].astype(np.int64)
    return rows[:n_test], rows[n_test:]


def z_score(table: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return (table − mean) / std per column, with the statistics of the rows `reference`.

    A column that is constant in these rows becomes 0.
    """
    return _scaling.standardise(table, table[reference])


PROBLEMS = {
    "fuel": Problem(
        (
            _download.File(
                "auto-mpg.csv", "c886c5db3dd7caed2eb5d07358899e61a25b1aeae90052a42d056514cc07ece4"
            ),
        ),
        _readers.read_fuel,
        n_rows=392,
        n_test=120,
        task="regression",
    ),
    "mnist": Problem(
        (
            _download.File(
                "mnist_10k.npz", "0ef86e6c20b2452fc0a798449812f1e73f88615cf833e47f0f97f556d5d61121"
            ),
        ),
        _readers.read_mnist,
        n_rows=10000,
        n_test=500,
        task="classification",
        standardised=False,
    ),
    "mnist-60000": Problem(
        (
            _download.File(
                "train-images-idx3-ubyte.gz",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                tuple(f"{site}/train-images-idx3-ubyte.gz" for site in MNIST),
                n_bytes=16 + 60000 * 28 * 28,
            ),
            _download.File(
                "train-labels-idx1-ubyte.gz",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                tuple(f"{site}/train-labels-idx1-ubyte.gz" for site in MNIST),
                n_bytes=8 + 60000,
            ),
        ),
        _readers.read_mnist_60000,
        n_rows=60000,
        n_test=500,
        task="classification",
        standardised=False,
    ),
    "concrete": Problem(
        (
            _download.File(
                "slump_test.data",
                "9da600e23a290719300d4c7e2190bc7d02936e7e4f05fb17615cb3e8bdfd9997",
                tuple(
                    f"{site}/machine-learning-databases/concrete/slump/slump_test.data"
                    for site in UCI
                ),
            ),
        ),
        _readers.read_concrete,
        n_rows=103,
        n_test=10,
        task="regression",
    ),
    "gait": Problem(
        (
            _download.File(
                "PersonGaitDataSet.mat",
                "082066e05f2196a1d81dcf1d8adb10021b34c0e7860d38859f4ed97a49b48b04",
                tuple(
                    f"{site}/machine-learning-databases/00604/PersonGaitDataSet.mat" for site in UCI
                ),
            ),
        ),
        _readers.read_gait,
        n_rows=48,
        n_test=10,
        task="classification",
    ),
    "words": Problem(
        (WORDS,),
        _readers.read_words,
        n_rows=12000,
        n_test=500,
        task="classification",
        standardised=False,
    ),
    "letters": Problem(
        (WORDS,),
        _readers.read_letters,
        n_rows=86285,
        n_test=500,
        task="classification",
        standardised=False,
    ),
    "molecules": Problem(
        (
            _download.File(
                "molecules.npz", "8985aeb58e983b95b15ff69b66e41c0a9f6b719515487f4b6841cdb9f1fa52cd"
            ),
        ),
        _readers.read_molecules,
        n_rows=148,
        n_test=30,
        task="regression",
        standardised=False,
    ),
}
