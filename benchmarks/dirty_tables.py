"""Make dirty tables from real data: with blanks, typing errors, outliers and the like.

The data comes with packages: the embedded table Fuel (auto-mpg), and scikit-learn's diabetes, wine
and breast cancer. Nothing is downloaded.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from sklearn import datasets

from collective_variables.data import problems

TARGET = "target"
ORIGINS = np.array(["USA", "Europe", "Japan"])
FUEL = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year"]
N_GROUPS = 4  # of the column of texts that is made from numbers

Generator = np.random.Generator


def fuel() -> pd.DataFrame:
    """Return the cars of Fuel: six numbers, the origin as a text, and miles per gallon."""
    path = problems._download.locate(problems.PROBLEMS["fuel"].files[0])
    inputs, targets = problems.PROBLEMS["fuel"].read(path)
    table = pd.DataFrame(inputs[:, :6], columns=FUEL)
    return table.assign(origin=ORIGINS[inputs[:, 6:].argmax(axis=1)], **{TARGET: targets[:, 0]})


def from_scikit_learn(load: Callable, /) -> pd.DataFrame:
    """Return a table of scikit-learn, with texts as classes."""
    bunch = load(as_frame=True)
    is_class = len(np.unique(bunch.target)) < 20
    targets = bunch.target_names[bunch.target] if is_class else bunch.target.to_numpy(float)
    return bunch.data.assign(**{TARGET: targets})


BASES: Mapping[str, Callable[[], pd.DataFrame]] = {
    "fuel": fuel,
    "diabetes": lambda: from_scikit_learn(datasets.load_diabetes),
    "wine": lambda: from_scikit_learn(datasets.load_wine),
    "cancer": lambda: from_scikit_learn(datasets.load_breast_cancer),
}


def clean(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Return the table as it is."""
    return table


def blanks(share: float) -> Callable[[pd.DataFrame, Generator], pd.DataFrame]:
    """Return a function that empties a share of the cells of the inputs."""

    def blank(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
        inputs = table.drop(columns=TARGET)
        return inputs.mask(generator.random(inputs.shape) < share).assign(**{TARGET: table[TARGET]})

    return blank


def _grouped(table: pd.DataFrame) -> np.ndarray:
    """Return a text for each row, which names the quarter of its first number."""
    ranks = table.iloc[:, 0].rank(method="first").to_numpy()
    groups = ((ranks - 1) * N_GROUPS // len(table)).astype(int)
    return np.array(["north", "east", "south", "west"], dtype=object)[groups]


def rare_categories(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Add a column of texts, twelve of which are in one or two rows each."""
    places = _grouped(table)
    rows = generator.permutation(len(table))[:18]
    for number, row in enumerate(rows):
        places[row] = f"place {number % 12}"
    return table.assign(place=places)


def misspelt(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Add two columns of texts; in each, six rows have different typing errors."""
    columns = {}
    for name in ("place", "quarter"):
        texts = _grouped(table)
        for number, row in enumerate(generator.permutation(len(table))[:6]):
            texts[row] = texts[row][:-1] + "qxzjvk"[number]
        columns[name] = texts
    return table.assign(**columns)


def outliers(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Multiply ten cells by ten thousand, as lost decimal points do."""
    table = table.copy()
    numbers = [name for name in table.select_dtypes("number") if name != TARGET]
    for row in generator.permutation(len(table))[:10]:
        column = numbers[generator.integers(len(numbers))]
        table.loc[row, column] = 1e4 * (abs(table.loc[row, column]) + 1.0)
    return table


def sparse_flags(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Add 30 meaningless columns of 0 and 1, each 1 in one row of a hundred."""
    flags = generator.random((len(table), 30)) < 0.01
    flags[generator.integers(len(table), size=30), np.arange(30)] = True
    names = [f"tag {number}" for number in range(30)]
    return pd.concat([pd.DataFrame(flags.astype(int), columns=names), table], axis=1)


def heavy_tails(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Add five columns from a Cauchy distribution, and raise every third number to the power 5."""
    table = table.copy()
    numbers = [name for name in table.select_dtypes("number") if name != TARGET]
    for name in numbers[::3]:
        score = (table[name] - table[name].mean()) / table[name].std()
        table[name] = score**5
    tails = generator.standard_cauchy((len(table), 5))
    names = [f"ratio {number}" for number in range(5)]
    return pd.concat([table, pd.DataFrame(tails, columns=names)], axis=1)


def identity(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Add a column of six-digit numbers that tell rows apart."""
    numbers = 100_000 + generator.permutation(900_000)[: len(table)]
    table = table.copy()
    table.insert(0, "number", numbers)
    return table


def constant(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Add a column with a single value, and one with a single value in all rows but one."""
    nearly = np.zeros(len(table), int)
    nearly[generator.integers(len(table))] = 1
    return table.assign(version=3, archived=nearly)


def duplicates(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Repeat a quarter of the rows, some of them several times."""
    rows = generator.integers(len(table), size=len(table) // 4)
    return pd.concat([table, table.iloc[rows]], ignore_index=True)


def irrelevant(table: pd.DataFrame, generator: Generator) -> pd.DataFrame:
    """Add 200 columns of normal random numbers."""
    noise = pd.DataFrame(
        generator.standard_normal((len(table), 200)),
        columns=[f"noise {number}" for number in range(200)],
    )
    return pd.concat([table, noise], axis=1)


KINDS: Mapping[str, Callable[[pd.DataFrame, Generator], pd.DataFrame]] = {
    "clean": clean,
    "1 % blank": blanks(0.01),
    "20 % blank": blanks(0.2),
    "rare categories": rare_categories,
    "misspelt": misspelt,
    "outliers": outliers,
    "sparse flags": sparse_flags,
    "heavy tails": heavy_tails,
    "id": identity,
    "constant": constant,
    "duplicates": duplicates,
    "200 irrelevant": irrelevant,
}
