"""The four problems of P1 (Tovey et al. 2023, Table 1), all of MNIST, words and molecules: read, checked, split and scaled.

Fuel, 10000 images of MNIST, words and molecules are embedded in `data/`; every file is checked by SHA-256. Concrete and
Gait (from UCI) and the 60000 images of MNIST are fetched into a cache outside the repository, or taken from the folder or
base URL that the environment variable COLLECTIVE_VARIABLES_DATA names (empty is unset); then nothing else is tried.
`data/README.md` gives origin, licence and columns.
"""

import gzip
import hashlib
import io
import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.io

from collective_variables import checks, downloads

EMBEDDED = Path(__file__).resolve().parents[1] / "data"
ENVIRONMENT = "COLLECTIVE_VARIABLES_DATA"
UCI = ("https://archive.ics.uci.edu/ml", "https://archive.ics.uci.edu")
MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
Arrays = tuple[np.ndarray, np.ndarray]
TIMEOUT = (4.0, 15.0)  # seconds to connect, and between two pieces of an answer
MOST = 2**26  # bytes of a file that is not packed


class DataError(OSError):
    """A data file is missing, corrupt or out of reach; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One problem, split and scaled; arrays are float32, the rows int64.

    inputs (n_pool, ...) and targets (n_pool, n_outputs) are the pool, test_inputs and test_targets the test points,
    task is "regression" or "classification". index (n_pool,) and test_index (n_test,) are their rows in the problem's
    file, counted from 0; for "mnist" the array `index` of mnist_10k.npz leads on to the rows of "mnist-60000".
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
class File:
    """A file and where it is (no `urls`: embedded).

    With n_bytes the public file is packed by gzip, and sha256 and n_bytes are those of its content, since every mirror
    packs it differently. `name` then ends in .gz, and the file may be there under `plain` instead, unpacked.
    """

    name: str
    sha256: str
    urls: tuple[str, ...] = ()
    n_bytes: int | None = None

    @property
    def plain(self) -> str:
        """The name of the file once unpacked."""
        return self.name.removesuffix(".gz")

    @property
    def checksum(self) -> str:
        """The checksum in words, for messages."""
        return f"{'SHA-256' if self.n_bytes is None else 'unpacked SHA-256'} {self.sha256}"


@dataclass(frozen=True)
class Problem:
    """The files of a problem, how their paths are read, and its row of P1 Table 1."""

    files: tuple[File, ...]
    read: Callable[..., Arrays]
    n_rows: int
    n_test: int
    task: str
    standardised: bool = True


def load(
    name: str, *, n_test: int | None = None, seed: int = 0, scaling: str = "train", n_available: int | None = None
) -> Dataset:
    """Return the problem `name`, one of `PROBLEMS`, as pool and test points.

    Split: of `numpy.random.default_rng(seed).permutation(n_rows)[:n_available]` the first `n_test` rows are the test
    points and the rest the pool, in that order. By default `n_available` is every row and `n_test` is P1's.

    Scaling: inputs (one-hot origin of Fuel included) and regression targets become z-scores, without unit, with the
    population standard deviation (ddof=0) in float64 of the pool ("train") or of all available rows, test included
    ("all", the practice of P1's authors). A column constant there becomes 0 everywhere; duplicate columns are kept.
    MNIST inputs are divided by 255 instead, letters and graphs are as they are, and classification targets are one-hot:
    `scaling` leaves all of these alone.

    Raises TypeError or ValueError for a wrong argument, before any file is read, and for values that are not finite;
    DataError if a file is missing, corrupt or cannot be downloaded.
    """
    problem = PROBLEMS[checks.choice("problem", name, PROBLEMS)]
    checks.choice("scaling", scaling, ("train", "all"))
    n_test = problem.n_test if n_test is None else n_test
    test_index, index = split(name, problem.n_rows, n_test=n_test, n_available=n_available, seed=seed)
    inputs, targets = problem.read(*map(_locate, problem.files))
    checks.finite(f"inputs of {name}", inputs)
    checks.finite(f"targets of {name}", targets)
    reference = index if scaling == "train" else np.concatenate([test_index, index])
    if problem.standardised:
        inputs = z_score(inputs, reference)
    if problem.task == "regression":
        targets = z_score(targets, reference)
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)
    pool, test = (inputs[index], targets[index]), (inputs[test_index], targets[test_index])
    return Dataset(*pool, *test, problem.task, index, test_index, name)


def split(name: str, n_rows: int, *, n_test: int, n_available: int | None, seed: int) -> Arrays:
    """Return the rows of the test points and of the pool of `n_rows` by the rule in `load`; n_available None is all."""
    n_available = n_rows if n_available is None else checks.integer("n_available", n_available, minimum=2)
    checks.integer("n_test", n_test, minimum=1)
    if n_available > n_rows:
        raise ValueError(f"n_available must not exceed the rows of {name}: {n_available} > {n_rows}.")
    if n_test >= n_available:
        raise ValueError(f"n_test must be less than n_available, to leave a pool: {n_test} >= {n_available}.")
    generator = np.random.default_rng(checks.integer("seed", seed, minimum=0))
    rows = generator.permutation(n_rows)[:n_available].astype(np.int64)
    return rows[:n_test], rows[n_test:]


def z_score(table: np.ndarray, reference: np.ndarray) -> np.ndarray:
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
    """Return (n, 28, 28, 1) grey values in 0 … 1 as float32 and (n, 10) one-hot digits."""
    with np.load(path, allow_pickle=False) as file:
        return _grey(file["images"]), _one_hot(file["labels"], 10)


def _read_mnist_60000(images: Path, labels: Path) -> Arrays:
    """Return the same as `_read_mnist` from the public files, packed or not."""
    return _grey(_read_idx(images)), _one_hot(_read_idx(labels), 10)


def _grey(images: np.ndarray) -> np.ndarray:
    """Return (n, 28, 28, 1) float32 grey values in 0 … 1 of (n, 28, 28) uint8."""
    # Not by way of float64, which would take 376 MB for 60000 images; for each of the 256 values the result is the same.
    return np.divide(images[..., None], 255, dtype=np.float32)


def _read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array of an idx file: 0, 0, 8 (for uint8), n dimensions; n sizes, 4 bytes each; the values."""
    with _open(path) as file:
        n_dimensions = file.read(4)[3]
        shape = [int.from_bytes(file.read(4), "big") for _ in range(n_dimensions)]
        return np.frombuffer(file.read(math.prod(shape)), dtype=np.uint8).reshape(shape)


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


def _read_words(path: Path) -> Arrays:
    """Return (n, 12) letters of a word, 1 (a) … 26 (z) and 0 behind its end, and its number of syllables, 1 … 4, one-hot."""
    words, n_syllables = np.loadtxt(path, dtype=str, delimiter=",", skiprows=1, unpack=True)
    letters = words.astype("S12").view(np.uint8).reshape(len(words), -1).astype(np.float32)
    return np.where(letters > 0, letters - (ord("a") - 1), 0.0), _one_hot(n_syllables.astype(int) - 1, 4)


def _read_molecules(path: Path) -> Arrays:
    """Return (n, 14, 28) graphs and (n, 1) enthalpies of formation at 298 K in kcal/mol.

    The row of an atom is its element, one-hot in the order of atomic numbers, and behind it 1/distance (1/Å) for each
    atom that it is bonded to, else 0. Rows without an atom are 0.
    """
    with np.load(path, allow_pickle=False) as file:
        numbers, positions, bonds, enthalpy = (file[name] for name in ("numbers", "positions", "bonds", "enthalpy"))
    elements = np.unique(numbers[numbers > 0])
    distances = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
    adjacency = np.divide(1.0, distances, out=np.zeros_like(distances), where=bonds > 0)
    return np.concatenate([numbers[..., None] == elements, adjacency], axis=-1), enthalpy[:, None]


def _locate(file: File) -> Path:
    """Return the path of the file, its checksum verified; raises DataError."""
    if not file.urls:
        return _in_folder(file, EMBEDDED, "Restore it from the repository.")
    source = os.environ.get(ENVIRONMENT, "")
    if source.lower().startswith(("http://", "https://")):
        return _download(file, (f"{source.rstrip('/')}/{file.name}",))
    if source:
        remedy = f"{ENVIRONMENT} names the folder: put the file there, or unset it to try {' or '.join(file.urls)}."
        return _in_folder(file, Path(os.path.expanduser(source)).absolute(), remedy)
    return _download(file, file.urls)


def _in_folder(file: File, folder: Path, remedy: str) -> Path:
    """Return the path of the file in `folder`, read in place; raises DataError, ending in `remedy`."""
    path = next((folder / name for name in (file.plain, file.name) if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{file.name} ({file.checksum}) is not in {folder}. {remedy}")
    if (received := _sha256(path, file)) != file.sha256:
        raise DataError(f"{path} is corrupt: expected {file.checksum}, received {received}. {remedy}")
    return path


def _download(file: File, urls: tuple[str, ...]) -> Path:
    """Return the path of the file in the cache, unpacked; if not there, download it from the first of `urls` that has it.

    A cached file with another checksum is fetched again. A broken download goes on where it was. pooch moves a download to its name once its checksum is
    right, so that neither a partial nor a wrong file stays. Raises DataError with the failure of each URL.
    """
    # Imported here because the package has to import without pooch, which brings requests.
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    cache = pooch.os_cache("collective-variables")
    cached = cache / file.plain
    # pooch would ask this too, but not of a packed file that someone has put there.
    if cached.is_file() and _sha256(cached, file) == file.sha256:
        return cached

    def fetch(url: str, path: str, caller: object) -> None:
        """Download to `path`, which pooch has yet to check, and unpack it there."""
        # What is packed is smaller still.
        with _Limited(path, file.n_bytes or MOST) as stream:
            downloads.fetch(url, stream, timeout=TIMEOUT)
        if file.n_bytes is not None:
            Path(path).write_bytes(_content(Path(path), file.n_bytes))

    failures = []
    for url in urls:
        try:
            return Path(pooch.retrieve(url, file.sha256, fname=file.plain, path=cache, downloader=fetch))
        except (requests.ConnectionError, requests.Timeout) as error:
            # Their messages are long and hide the kind.
            failures.append(f"{url}: the connection failed ({type(error).__name__})")
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    if cached.is_file():
        failures.append(f"{cached}: corrupt, expected {file.checksum}, received {_sha256(cached, file)}")
    raise DataError(
        "\n  ".join([f"{file.name} could not be downloaded:", *failures])
        + f"\nPut the file with {file.checksum} at {cached}, or set {ENVIRONMENT} to a folder that holds it."
    )


class _Limited(io.FileIO):
    """A file to write that refuses to grow beyond `limit` bytes: requests unpacks as it goes what a server has packed."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(path, "wb")
        self.limit = limit

    def write(self, piece: bytes, /) -> int:  # pyrefly: ignore[bad-override]
        if self.tell() + len(piece) > self.limit:
            raise ValueError(f"more than {self.limit} bytes")
        return super().write(piece)


def _open(path: Path) -> BinaryIO:
    """Open a file to read its content, unpacked if it is gzip, whatever its name: a server may unpack as it sends."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _content(path: Path, n_bytes: int) -> bytes:
    """Return the content of a file, packed or not; raises ValueError for a broken gzip file or more than `n_bytes`."""
    try:
        with _open(path) as file:
            content = file.read(n_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"a broken gzip file ({error})") from None
    if len(content) > n_bytes:
        raise ValueError(f"more than {n_bytes} bytes")
    return content


def _sha256(path: Path, file: File) -> str:
    """Return the SHA-256 of a copy of the file in hexadecimal, or in words why it has none."""
    if file.n_bytes is None:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        return hashlib.sha256(_content(path, file.n_bytes)).hexdigest()
    except ValueError as error:
        return str(error)


PROBLEMS = {
    "fuel": Problem(
        (File("auto-mpg.csv", "c886c5db3dd7caed2eb5d07358899e61a25b1aeae90052a42d056514cc07ece4"),),
        _read_fuel, n_rows=392, n_test=120, task="regression",
    ),
    "mnist": Problem(
        (File("mnist_10k.npz", "0ef86e6c20b2452fc0a798449812f1e73f88615cf833e47f0f97f556d5d61121"),),
        _read_mnist, n_rows=10000, n_test=500, task="classification", standardised=False,
    ),
    "mnist-60000": Problem(
        (
            File(
                "train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                tuple(f"{site}/train-images-idx3-ubyte.gz" for site in MNIST), n_bytes=16 + 60000 * 28 * 28,
            ),
            File(
                "train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                tuple(f"{site}/train-labels-idx1-ubyte.gz" for site in MNIST), n_bytes=8 + 60000,
            ),
        ),
        _read_mnist_60000, n_rows=60000, n_test=500, task="classification", standardised=False,
    ),
    "concrete": Problem(
        (
            File(
                "slump_test.data", "9da600e23a290719300d4c7e2190bc7d02936e7e4f05fb17615cb3e8bdfd9997",
                tuple(f"{site}/machine-learning-databases/concrete/slump/slump_test.data" for site in UCI),
            ),
        ),
        _read_concrete, n_rows=103, n_test=10, task="regression",
    ),
    "gait": Problem(
        (
            File(
                "PersonGaitDataSet.mat", "082066e05f2196a1d81dcf1d8adb10021b34c0e7860d38859f4ed97a49b48b04",
                tuple(f"{site}/machine-learning-databases/00604/PersonGaitDataSet.mat" for site in UCI),
            ),
        ),
        _read_gait, n_rows=48, n_test=10, task="classification",
    ),
    "words": Problem(
        (File("words.csv", "f345340ec83696755ca712a85a3f4fddcad3572450aea899749f0e5925c1301e"),),
        _read_words, n_rows=12000, n_test=500, task="classification", standardised=False,
    ),
    "molecules": Problem(
        (File("molecules.npz", "8985aeb58e983b95b15ff69b66e41c0a9f6b719515487f4b6841cdb9f1fa52cd"),),
        _read_molecules, n_rows=148, n_test=30, task="regression", standardised=False,
    ),
}
