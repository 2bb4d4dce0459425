"""The four problems of P1 (Tovey et al. 2023, Table 1): read, checked by SHA-256, split and scaled.

Fuel and MNIST are embedded in `data/`. Concrete and Gait are fetched from UCI into a cache outside the repository, or
taken from the folder or base URL that the environment variable COLLECTIVE_VARIABLES_DATA names (empty is unset);
then nothing else is tried. `data/README.md` gives origin, licence and columns.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from collective_variables import checks

EMBEDDED = Path(__file__).resolve().parents[1] / "data"
ENVIRONMENT = "COLLECTIVE_VARIABLES_DATA"
UCI = ("https://archive.ics.uci.edu/ml", "https://archive.ics.uci.edu")
Arrays = tuple[np.ndarray, np.ndarray]
TIMEOUT = (4.0, 15.0)  # seconds to connect, and between two pieces of an answer


class DataError(OSError):
    """A data file is missing, corrupt or out of reach; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One problem, split and scaled; arrays are float32, the rows int64.

    inputs (n_pool, ...) and targets (n_pool, n_outputs) are the pool, test_inputs and test_targets the test points,
    task is "regression" or "classification". index (n_pool,) and test_index (n_test,) are their rows in the problem's
    file, counted from 0; for MNIST the array `index` of mnist_10k.npz leads on to the 60000 training images.
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
    """Where a problem's file is (no `urls`: embedded), how it is read, and its row of P1 Table 1."""

    file: str
    sha256: str
    read: Callable[[Path], Arrays]
    n_rows: int
    n_test: int
    task: str
    urls: tuple[str, ...] = ()
    standardised: bool = True


def load(
    name: str, *, n_test: int | None = None, seed: int = 0, scaling: str = "train", n_available: int | None = None
) -> Dataset:
    """Return the problem `name` ("fuel", "mnist", "concrete" or "gait") as pool and test points.

    Split: of `numpy.random.default_rng(seed).permutation(n_rows)[:n_available]` the first `n_test` rows are the test
    points and the rest the pool, in that order. By default `n_available` is every row and `n_test` is P1's.

    Scaling: inputs (one-hot origin of Fuel included) and regression targets become z-scores, without unit, with the
    population standard deviation (ddof=0) in float64 of the pool ("train") or of all available rows, test included
    ("all", the practice of P1's authors). A column constant there becomes 0 everywhere; duplicate columns are kept.
    MNIST inputs are divided by 255 instead, and classification targets are one-hot: `scaling` leaves both alone.

    Raises TypeError or ValueError for a wrong argument, before any file is read, and for values that are not finite;
    DataError if the file is missing, corrupt or cannot be downloaded.
    """
    problem = PROBLEMS[checks.choice("problem", name, PROBLEMS)]
    checks.choice("scaling", scaling, ("train", "all"))
    test_index, index = _split(name, problem, n_test, n_available, seed)
    inputs, targets = problem.read(_locate(problem))
    checks.finite(f"inputs of {name}", inputs)
    checks.finite(f"targets of {name}", targets)
    reference = index if scaling == "train" else np.concatenate([test_index, index])
    if problem.standardised:
        inputs = _z_score(inputs, reference)
    if problem.task == "regression":
        targets = _z_score(targets, reference)
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)
    pool, test = (inputs[index], targets[index]), (inputs[test_index], targets[test_index])
    return Dataset(*pool, *test, problem.task, index, test_index, name)


def _split(name: str, problem: Problem, n_test: int | None, n_available: int | None, seed: int) -> Arrays:
    """Return the rows of the test points and of the pool by the rule in `load`."""
    n_available = problem.n_rows if n_available is None else checks.integer("n_available", n_available, minimum=2)
    n_test = problem.n_test if n_test is None else checks.integer("n_test", n_test, minimum=1)
    if n_available > problem.n_rows:
        raise ValueError(f"n_available must not exceed the rows of {name}: {n_available} > {problem.n_rows}.")
    if n_test >= n_available:
        raise ValueError(f"n_test must be less than n_available, to leave a pool: {n_test} >= {n_available}.")
    generator = np.random.default_rng(checks.integer("seed", seed, minimum=0))
    rows = generator.permutation(problem.n_rows)[:n_available].astype(np.int64)
    return rows[:n_test], rows[n_test:]


def _z_score(table: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return (table − mean)/std per column with the statistics of the rows `reference`; a constant column gives 0."""
    mean, std = table[reference].mean(axis=0), table[reference].std(axis=0)
    # Equal values can have a std of 1e-17 rather than 0, because their mean is rounded: compare the values themselves.
    constant = np.ptp(table[reference], axis=0) == 0
    return np.where(constant, 0.0, (table - mean) / np.where(constant, 1.0, std))


def _one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return (n, n_classes) float64 with a 1 in the column of each label 0 … n_classes − 1."""
    return np.eye(n_classes)[np.asarray(labels, dtype=np.int64)]


def _read_fuel(path: Path) -> Arrays:
    """Return (n, 9) inputs and (n, 1) miles per gallon.

    Inputs: cylinders, displacement (cubic inch), horsepower, weight (lb), acceleration (s), model year − 1900, and
    one-hot origin (USA, Europe, Japan).
    """
    # Column 7 is the name of the car.
    table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1, 2, 3, 4, 5, 6, 8), comments=None)
    return np.hstack([table[:, :6], _one_hot(table[:, 6] - 1, 3)]), table[:, 7:]


def _read_mnist(path: Path) -> Arrays:
    """Return (n, 28, 28, 1) grey values in 0 … 1 and (n, 10) one-hot digits."""
    with np.load(path, allow_pickle=False) as file:
        return file["images"][..., None] / 255.0, _one_hot(file["labels"], 10)


def _read_concrete(path: Path) -> Arrays:
    """Return (n, 7) components of the concrete in kg/m³ and (n, 3) slump (cm), flow (cm), 28-day strength (MPa)."""
    # Column 0 numbers the rows.
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    return table[:, 1:8], table[:, 8:11]


def _read_gait(path: Path) -> Arrays:
    """Return (n, 321) features of a walk and (n, 16) one-hot persons.

    The missing X[43, 111] becomes the mean of its column over the observed values of all rows, test points included.
    P1 prints 328 inputs; the public file has 321, of which eight pairs are copies.
    """
    file = scipy.io.loadmat(path)
    features = file["X"].astype(np.float64)
    return np.where(np.isnan(features), np.nanmean(features, axis=0), features), _one_hot(file["Y"].ravel(), 16)


def _locate(problem: Problem) -> Path:
    """Return the path of the problem's file, its checksum verified; raises DataError."""
    if not problem.urls:
        return _in_folder(problem, EMBEDDED, "Restore it from the repository.")
    source = os.environ.get(ENVIRONMENT, "")
    if source.lower().startswith(("http://", "https://")):
        return _download(problem, (f"{source.rstrip('/')}/{problem.file}",))
    if source:
        remedy = f"{ENVIRONMENT} names the folder: put the file there, or unset it to try {' or '.join(problem.urls)}."
        return _in_folder(problem, Path(os.path.expanduser(source)).absolute(), remedy)
    return _download(problem, problem.urls)


def _in_folder(problem: Problem, folder: Path, remedy: str) -> Path:
    """Return the path of the file in `folder`, read in place; raises DataError, ending in `remedy`."""
    path = folder / problem.file
    if not path.is_file():
        raise DataError(f"{problem.file} (SHA-256 {problem.sha256}) is not in {folder}. {remedy}")
    if (received := _sha256(path)) != problem.sha256:
        raise DataError(f"{path} is corrupt: expected SHA-256 {problem.sha256}, received {received}. {remedy}")
    return path


def _download(problem: Problem, urls: tuple[str, ...]) -> Path:
    """Return the path of the file in the cache; if it is not there, download it from the first of `urls` that has it.

    A cached file with another checksum is fetched again. pooch moves a download to its name once its checksum is
    right, so that neither a partial nor a wrong file stays. Raises DataError with the failure of each URL.
    """
    # Imported here because the package has to import without pooch, which brings requests.
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    cache = pooch.os_cache("collective-variables")
    failures = []
    for url in urls:
        try:
            fetch = pooch.HTTPDownloader(timeout=TIMEOUT)
            return Path(pooch.retrieve(url, problem.sha256, fname=problem.file, path=cache, downloader=fetch))
        except (requests.ConnectionError, requests.Timeout) as error:
            # Their messages are long and hide the kind.
            failures.append(f"{url}: the connection failed ({type(error).__name__})")
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    cached = cache / problem.file
    if cached.is_file():
        failures.append(f"{cached}: corrupt, expected SHA-256 {problem.sha256}, received {_sha256(cached)}")
    raise DataError(
        "\n  ".join([f"{problem.file} could not be downloaded:", *failures])
        + f"\nPut the file with SHA-256 {problem.sha256} at {cached}, or set {ENVIRONMENT} to a folder that holds it."
    )


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


PROBLEMS = {
    "fuel": Problem(
        "auto-mpg.csv", "c886c5db3dd7caed2eb5d07358899e61a25b1aeae90052a42d056514cc07ece4",
        _read_fuel, n_rows=392, n_test=120, task="regression",
    ),
    "mnist": Problem(
        "mnist_10k.npz", "0ef86e6c20b2452fc0a798449812f1e73f88615cf833e47f0f97f556d5d61121",
        _read_mnist, n_rows=10000, n_test=500, task="classification", standardised=False,
    ),
    "concrete": Problem(
        "slump_test.data", "9da600e23a290719300d4c7e2190bc7d02936e7e4f05fb17615cb3e8bdfd9997",
        _read_concrete, n_rows=103, n_test=10, task="regression",
        urls=tuple(f"{site}/machine-learning-databases/concrete/slump/slump_test.data" for site in UCI),
    ),
    "gait": Problem(
        "PersonGaitDataSet.mat", "082066e05f2196a1d81dcf1d8adb10021b34c0e7860d38859f4ed97a49b48b04",
        _read_gait, n_rows=48, n_test=10, task="classification",
        urls=tuple(f"{site}/machine-learning-databases/00604/PersonGaitDataSet.mat" for site in UCI),
    ),
}
