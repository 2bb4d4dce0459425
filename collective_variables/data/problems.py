"""The four problems of P1 (Tovey et al. 2023, Table 1), all of MNIST, words and molecules: read,
checked, split and scaled.

Fuel, 10000 images of MNIST, words and molecules are embedded in `data/`; every file is checked by
SHA-256. Concrete and Gait (from UCI) and the 60000 images of MNIST are fetched into a cache outside
the repository, or taken from the folder or base URL that the environment variable
COLLECTIVE_VARIABLES_DATA names (empty is unset); then nothing else is tried. `data/README.md` gives
origin, licence and columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from collective_variables import _checks
from collective_variables.data import _download, _readers

UCI = ("https://archive.ics.uci.edu/ml", "https://archive.ics.uci.edu")
MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """One problem, split and scaled; arrays are float32, the rows int64.

    inputs (n_pool, ...) and targets (n_pool, n_outputs) are the pool, test_inputs and test_targets
    the test points, task is "regression" or "classification". index (n_pool,) and test_index
    (n_test,) are their rows in the problem's file, counted from 0; for "mnist" the array `index` of
    mnist_10k.npz leads on to the rows of "mnist-60000".
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
    """The files of a problem, how their paths are read, and its row of P1 Table 1."""

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
    """Return the problem `name`, one of `PROBLEMS`, as pool and test points.

    Split: of `numpy.random.default_rng(seed).permutation(n_rows)[:n_available]` the first `n_test`
    rows are the test points and the rest the pool, in that order. By default `n_available` is every
    row and `n_test` is P1's.

    Scaling: inputs (one-hot origin of Fuel included) and regression targets become z-scores,
    without unit, with the population standard deviation (ddof=0) in float64 of the pool ("train")
    or of all available rows, test included ("all", the practice of P1's authors). A column constant
    there becomes 0 everywhere; duplicate columns are kept. MNIST inputs are divided by 255 instead,
    letters and graphs are as they are, and classification targets are one-hot: `scaling` leaves all
    of these alone.

    Raises TypeError or ValueError for a wrong argument, before any file is read, and for values
    that are not finite; DataError if a file is missing, corrupt or cannot be downloaded.
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
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)
    pool, test = (inputs[index], targets[index]), (inputs[test_index], targets[test_index])
    return Dataset(*pool, *test, problem.task, index, test_index, name)


def split(
    name: str, n_rows: int, *, n_test: int, n_available: int | None, seed: int
) -> _readers.Arrays:
    """Return the rows of the test points and of the pool of `n_rows` by the rule in `load`;
    n_available None is all.
    """
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
    """Return (table − mean)/std per column with the statistics of the rows `reference`; a constant
    column gives 0.
    """
    mean, std = table[reference].mean(axis=0), table[reference].std(axis=0)
    # Equal values can have a std of 1e-17 rather than 0, because their mean is rounded: compare the
    # values themselves.
    constant = np.ptp(table[reference], axis=0) == 0
    return np.where(constant, 0.0, (table - mean) / np.where(constant, 1.0, std))


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
        (
            _download.File(
                "words.csv", "f345340ec83696755ca712a85a3f4fddcad3572450aea899749f0e5925c1301e"
            ),
        ),
        _readers.read_words,
        n_rows=12000,
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
