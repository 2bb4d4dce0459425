"""Read the files of each problem."""

import math
from pathlib import Path

import numpy as np
import scipy.io

from collective_variables.data import _download

Arrays = tuple[np.ndarray, np.ndarray]


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return (n, n_classes) float64 with a 1 in the column of each label 0 … n_classes − 1."""
    return np.eye(n_classes)[np.asarray(labels, dtype=np.int64)]


def read_fuel(path: Path) -> Arrays:
    """Return (n, 9) inputs and (n, 1) miles per gallon.

    Inputs: cylinders, displacement (cubic inch), horsepower, weight (lb), acceleration (s), model
    year − 1900, and one-hot origin (USA, Europe, Japan).
    """
    # Column 7 is the name of the car.
    table = np.loadtxt(
        path, delimiter=",", skiprows=1, usecols=(0, 1, 2, 3, 4, 5, 6, 8), comments=None
    )
    return np.hstack([table[:, :6], one_hot(table[:, 6] - 1, 3)]), table[:, 7:]


def read_mnist(path: Path) -> Arrays:
    """Return (n, 28, 28, 1) grey values in 0 … 1 as float32 and (n, 10) one-hot digits."""
    with np.load(path, allow_pickle=False) as file:
        return _grey(file["images"]), one_hot(file["labels"], 10)


def read_mnist_60000(images: Path, labels: Path) -> Arrays:
    """Return the arrays of `read_mnist` from the public files, packed or not."""
    return _grey(_read_idx(images)), one_hot(_read_idx(labels), 10)


def _grey(images: np.ndarray) -> np.ndarray:
    """Return grey values in 0 … 1, (n, 28, 28, 1) float32, from (n, 28, 28) uint8."""
    # float64 would take 376 MB for 60000 images; the results are the same for all 256 values.
    return np.divide(images[..., None], 255, dtype=np.float32)


def _read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array of an idx file.

    The file holds 0, 0, 8 (for uint8), the number of dimensions, 4 bytes for each size, and the
    values.
    """
    with _download.open_unpacked(path) as file:
        n_dimensions = file.read(4)[3]
        shape = [int.from_bytes(file.read(4), "big") for _ in range(n_dimensions)]
        return np.frombuffer(file.read(math.prod(shape)), dtype=np.uint8).reshape(shape)


def read_concrete(path: Path) -> Arrays:
    """Return (n, 7) components of the concrete in kg/m³ and (n, 3) of its properties.

    The properties are slump (cm), flow (cm) and the strength after 28 days (MPa).
    """
    # Column 0 numbers the rows.
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    return table[:, 1:8], table[:, 8:11]


def read_gait(path: Path) -> Arrays:
    """Return (n, 321) features of a walk and (n, 16) one-hot persons.

    The missing X[43, 111] becomes the mean of its column over the observed values of all rows, test
    points included. P1 prints 328 inputs. The public file has 321, with eight pairs of copies.
    """
    file = scipy.io.loadmat(path)
    features = file["X"].astype(np.float64)
    inputs = np.where(np.isnan(features), np.nanmean(features, axis=0), features)
    return inputs, one_hot(file["Y"].ravel(), 16)


def read_words(path: Path) -> Arrays:
    """Return (n, 12) letters of words and (n, 4) one-hot numbers of syllables, 1 … 4.

    A letter is 1 (a) … 26 (z); places after the end of the word are 0.
    """
    words, n_syllables = np.loadtxt(path, dtype=str, delimiter=",", skiprows=1, unpack=True)
    letters = words.astype("S12").view(np.uint8).reshape(len(words), -1).astype(np.float32)
    inputs = np.where(letters > 0, letters - (ord("a") - 1), 0.0)
    return inputs, one_hot(n_syllables.astype(int) - 1, 4)


def read_letters(path: Path) -> Arrays:
    """Return (n, 12) beginnings of words, as `read_words`, and (n, 27) one-hot letters after them.

    Each word gives a row for each of its letters, with all letters up to it. The class is that of
    the next letter, 0 (a) … 25 (z), or 26 for the end of the word.
    """
    words, _ = read_words(path)
    lengths = np.count_nonzero(words, axis=1)
    rows = np.repeat(np.arange(len(words)), lengths)
    ends = np.concatenate([np.arange(1, length + 1) for length in lengths])
    beginnings = np.where(np.arange(words.shape[1]) < ends[:, None], words[rows], 0.0)
    following = np.pad(words, [(0, 0), (0, 1)])[rows, ends].astype(int) - 1
    return beginnings, one_hot(np.where(following < 0, 26, following), 27)


def read_molecules(path: Path) -> Arrays:
    """Return (n, 14, 28) graphs and (n, 1) enthalpies of formation at 298 K in kcal/mol.

    The row of an atom begins with its element, one-hot in the order of atomic numbers. Then follows
    1/distance (1/Å) for each atom that it is bonded to, else 0. Rows without an atom are 0.
    """
    with np.load(path, allow_pickle=False) as file:
        numbers, positions, bonds, enthalpy = (
            file[name] for name in ("numbers", "positions", "bonds", "enthalpy")
        )
    elements = np.unique(numbers[numbers > 0])
    distances = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
    adjacency = np.divide(1.0, distances, out=np.zeros_like(distances), where=bonds > 0)
    return np.concatenate([numbers[..., None] == elements, adjacency], axis=-1), enthalpy[:, None]
