"""Learning problems: values compared with a recomputation in plain Python from the raw files."""

import csv
import gzip
import hashlib
import os
import statistics
import tracemalloc
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import scipy.io
from problem_files import (
    IMAGES,
    LABELS,
    ROOT,
    assert_one_error,
    assert_z_scores,
    embedded,
    idx,
    slump_table,
    with_file,
)

from collective_variables.data import _download, _readers, problems

SYNTHETIC = "synthetic files"


def public_folders():
    """What stands for the public files: synthetic ones, and the real ones where they are."""
    source = os.environ.get(_download.ENVIRONMENT)
    return [SYNTHETIC, source] if source else [SYNTHETIC]


@pytest.fixture
def synthetic(tmp_path, monkeypatch):
    """A folder with files of the sizes and peculiarities of the public ones, which may not be
    committed.
    """
    generator = np.random.default_rng(0)
    rows = np.column_stack([np.arange(1, 104), generator.uniform(0, 900, size=(103, 10)).round(2)])
    np.savetxt(
        tmp_path / "slump_test.data",
        rows,
        fmt="%.10g",
        delimiter=",",
        header="No" + ",x" * 10,
        comments="",
    )
    features = generator.normal(size=(48, 321))
    features[:, 8:16] = features[:, :8]
    features[:, 170] = features[:, 169]
    features[1, 170] += 1.0
    features[43, 111] = np.nan
    persons = np.repeat(np.arange(16), 3).astype(np.uint8)[:, None]
    scipy.io.savemat(tmp_path / "PersonGaitDataSet.mat", {"X": features, "Y": persons})
    for name in ("concrete", "gait"):
        problem = problems.PROBLEMS[name]
        digest = hashlib.sha256((tmp_path / problem.files[0].name).read_bytes()).hexdigest()
        monkeypatch.setitem(problems.PROBLEMS, name, with_file(problem, sha256=digest))
    return tmp_path


@pytest.fixture(
    params=public_folders(), ids=lambda folder: "synthetic" if folder == SYNTHETIC else "public"
)
def public(request, monkeypatch):
    """A folder, or a base URL's cache, with the files of Concrete and Gait."""
    folder = request.param
    if folder == SYNTHETIC:
        folder = str(request.getfixturevalue("synthetic"))
    monkeypatch.setenv(_download.ENVIRONMENT, folder)
    return _download.locate(problems.PROBLEMS["gait"].files[0]).parent


@pytest.fixture(
    params=public_folders(), ids=lambda folder: "synthetic" if folder == SYNTHETIC else "public"
)
def all_of_mnist(request, tmp_path, monkeypatch):
    """The 60000 images and labels as uint8; the synthetic ones are the embedded 10000 and zeros."""
    if request.param != SYNTHETIC:
        monkeypatch.setenv(_download.ENVIRONMENT, request.param)
        contents = []
        for file in (IMAGES, LABELS):
            path = _download.locate(file)
            contents.append(
                gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            )
        return np.frombuffer(contents[0], np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
            contents[1][8:], np.uint8
        )
    monkeypatch.setenv(_download.ENVIRONMENT, str(tmp_path))
    images, labels = np.zeros((60000, 28, 28), np.uint8), np.zeros(60000, np.uint8)
    some_images, some_labels, index = embedded()
    images[index], labels[index] = some_images, some_labels
    for file, array in ((IMAGES, images), (LABELS, labels)):
        content = idx(file, array)
        (tmp_path / file.plain).write_bytes(content)
        problem = with_file(
            problems.PROBLEMS["mnist-60000"], file, sha256=hashlib.sha256(content).hexdigest()
        )
        monkeypatch.setitem(problems.PROBLEMS, "mnist-60000", problem)
    return images, labels


def fuel_table():
    """The 9 inputs and the target of each row of the raw file, in plain Python."""
    with (ROOT / "data" / "auto-mpg.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("cylinders", "displacement", "horsepower", "weight", "acceleration", "model_year")
    numeric = [[float(row[name]) for name in names] for row in rows]
    origin = [[float(row["origin"] == code) for code in "123"] for row in rows]
    return [[*n, *o, float(row["mpg"])] for n, o, row in zip(numeric, origin, rows)]


@pytest.mark.parametrize(
    ("name", "n_pool", "n_test", "point", "n_outputs", "task"),
    [
        ("fuel", 272, 120, (9,), 1, "regression"),
        ("mnist", 9500, 500, (28, 28, 1), 10, "classification"),
        ("concrete", 93, 10, (7,), 3, "regression"),
        ("gait", 38, 10, (321,), 16, "classification"),
    ],
)
def test_default_is_table_1_of_the_paper(name, n_pool, n_test, point, n_outputs, task, public):
    d = problems.load_problem(name)
    assert (d.inputs.shape, d.targets.shape) == ((n_pool, *point), (n_pool, n_outputs))
    assert (d.test_inputs.shape, d.test_targets.shape) == ((n_test, *point), (n_test, n_outputs))
    assert {a.dtype for a in (d.inputs, d.targets, d.test_inputs, d.test_targets)} == {
        np.dtype("float32")
    }
    assert d.index.dtype == d.test_index.dtype == np.int64
    assert sorted([*d.index, *d.test_index]) == list(range(n_pool + n_test))
    assert (d.name, d.task) == (name, task)
    with pytest.raises(FrozenInstanceError):
        d.inputs = None


def test_split_is_the_documented_permutation():
    d = problems.load_problem("fuel", n_test=7, n_available=50, seed=3)
    rows = np.random.default_rng(3).permutation(392)[:50]
    assert [*d.test_index, *d.index] == list(rows) and len(d.test_index) == 7


def test_split_depends_on_the_seed_alone():
    first, again, other = (problems.load_problem("fuel", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(first.index, again.index)
    assert set(first.test_index) != set(other.test_index)


def test_scaling_uses_statistics_of_the_pool_alone():
    d = problems.load_problem("fuel")
    assert_z_scores(d, fuel_table(), d.index)


def test_scaling_all_uses_the_available_rows_test_included():
    d = problems.load_problem("fuel", scaling="all", n_available=200)
    assert_z_scores(d, fuel_table(), [*d.index, *d.test_index])
    with pytest.raises(AssertionError):
        assert_z_scores(d, fuel_table(), d.index)
    with pytest.raises(AssertionError):
        assert_z_scores(d, fuel_table(), range(392))


def test_concrete_has_seven_components_before_three_scaled_targets(public):
    d = problems.load_problem("concrete", seed=5)
    assert_z_scores(d, slump_table(public / "slump_test.data"), d.index)


def test_column_constant_in_the_pool_becomes_zero_everywhere():
    table = np.full((8, 2), 0.1)
    table[:, 1] = np.arange(8)
    table[7, 0] = 5.0  # a test point differs in the column that is constant in the pool
    assert table[:7, 0].std() > 0, (
        "negative control: the rounded mean hides that the column is constant"
    )
    scaled = problems.z_score(table, np.arange(7))
    assert (scaled[:, 0] == 0).all() and (scaled[:, 1] == (np.arange(8) - 3) / 2).all()


def test_mnist_is_divided_by_255_under_either_scaling():
    images, labels, _ = embedded()
    for scaling in ("train", "all"):
        d = problems.load_problem("mnist", scaling=scaling, n_available=300, n_test=100)
        for rows, inputs, targets in (
            (d.index, d.inputs, d.targets),
            (d.test_index, d.test_inputs, d.test_targets),
        ):
            np.testing.assert_array_equal(inputs[..., 0], images[rows] / np.float32(255))
            np.testing.assert_array_equal(targets.argmax(axis=1), labels[rows])
            assert ((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all()


def test_grey_values_are_those_of_a_division_in_float64():
    values = np.arange(256, dtype=np.uint8)
    grey = _readers._grey(values[:, None, None])
    assert grey.dtype == np.float32 and grey.shape == (256, 1, 1, 1)
    assert grey.ravel().tolist() == (values / 255.0).astype(np.float32).tolist()


def test_mnist_60000_has_every_training_image_in_pool_or_test(all_of_mnist):
    images, labels = all_of_mnist
    d = problems.load_problem("mnist-60000")
    assert (d.inputs.shape, d.test_inputs.shape) == ((59500, 28, 28, 1), (500, 28, 28, 1))
    assert (d.targets.shape, d.test_targets.shape) == ((59500, 10), (500, 10))
    assert {a.dtype for a in (d.inputs, d.targets, d.test_inputs, d.test_targets)} == {
        np.dtype("float32")
    }
    assert sorted([*d.index, *d.test_index]) == list(range(60000))
    assert (d.name, d.task) == ("mnist-60000", "classification")
    for rows, inputs, targets in (
        (d.index, d.inputs, d.targets),
        (d.test_index, d.test_inputs, d.test_targets),
    ):
        np.testing.assert_array_equal(inputs[..., 0], images[rows] / np.float32(255))
        np.testing.assert_array_equal(targets, labels[rows, None] == np.arange(10))


def test_the_embedded_images_are_rows_of_the_60000(all_of_mnist):
    images, labels, index = embedded()
    assert (np.diff(index) > 0).all(), "10000 different rows"
    inputs, targets = _readers.read_mnist_60000(
        *map(_download.locate, problems.PROBLEMS["mnist-60000"].files)
    )
    some_inputs, some_targets = _readers.read_mnist(ROOT / "data" / "mnist_10k.npz")
    np.testing.assert_array_equal(inputs[index], some_inputs)
    np.testing.assert_array_equal(targets[index], some_targets)


def test_60000_images_take_half_a_gibibyte_to_load(all_of_mnist):
    tracemalloc.start()
    try:
        problems.load_problem("mnist-60000")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # float32 takes 188 MB twice, of every image and of the pool; a float64 copy 376 MB more.
    assert 2 * 188e6 < peak < 2**29


def test_gait_targets_are_one_hot_with_three_walks_a_person(public):
    d = problems.load_problem("gait")
    targets = np.concatenate([d.targets, d.test_targets])
    assert ((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all()
    assert (targets.sum(axis=0) == 3).all()
    assert [*np.concatenate([d.index, d.test_index]) // 3] == [*targets.argmax(axis=1)]


def test_gait_keeps_its_eight_pairs_of_duplicate_columns(public):
    d = problems.load_problem("gait")
    # In every row: a ninth pair, 169 and 170, differs in row 1 alone, which is a test point for
    # seed 0.
    columns = np.concatenate([d.inputs, d.test_inputs]).T
    assert sum((a == b).all() for i, a in enumerate(columns) for b in columns[:i]) == 8


def test_missing_gait_value_becomes_the_mean_of_the_observed_rows(public):
    raw = scipy.io.loadmat(public / "PersonGaitDataSet.mat")["X"]
    filled, _ = _readers.read_gait(public / "PersonGaitDataSet.mat")
    assert [tuple(place) for place in np.argwhere(filled != raw)] == [(43, 111)]
    assert filled[43, 111] == pytest.approx(
        statistics.fmean(float(x) for x in np.delete(raw[:, 111], 43)), rel=1e-14
    )


def test_gait_reader_on_a_small_file(tmp_path):
    features = np.array([[1.0, 2.0], [np.nan, 4.0], [5.0, 9.0]])
    scipy.io.savemat(
        tmp_path / "gait.mat", {"X": features, "Y": np.array([[0], [15], [2]], dtype=np.uint8)}
    )
    inputs, targets = _readers.read_gait(tmp_path / "gait.mat")
    assert inputs.tolist() == [[1, 2], [3, 4], [5, 9]] and targets.argmax(axis=1).tolist() == [
        0,
        15,
        2,
    ]
    assert targets.shape == (3, 16) and targets.sum() == 3


def test_pickled_arrays_are_never_loaded(tmp_path):
    np.savez(tmp_path / "mnist.npz", images=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        _readers.read_mnist(tmp_path / "mnist.npz")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"name": "iris"},
            ValueError,
            f"problem must be one of {', '.join(sorted(problems.PROBLEMS))}: received 'iris'.",
        ),
        (
            {"name": 3},
            TypeError,
            f"problem must be one of {', '.join(sorted(problems.PROBLEMS))}: received 3.",
        ),
        ({"n_test": 0}, ValueError, "n_test must be at least 1: received 0."),
        ({"n_test": -5}, ValueError, "n_test must be at least 1: received -5."),
        ({"n_test": 2.0}, TypeError, "n_test must be an integer: received 2.0."),
        (
            {"n_test": 392},
            ValueError,
            "n_test must be less than n_available, to leave a pool: 392 >= 392.",
        ),
        (
            {"n_available": 100},
            ValueError,
            "n_test must be less than n_available, to leave a pool: 120 >= 100.",
        ),
        (
            {"n_available": 393},
            ValueError,
            "n_available must not exceed the rows of fuel: 393 > 392.",
        ),
        ({"n_available": 1}, ValueError, "n_available must be at least 2: received 1."),
        ({"seed": "0"}, TypeError, "seed must be an integer: received '0'."),
        ({"seed": None}, TypeError, "seed must be an integer: received None."),
        ({"seed": -1}, ValueError, "seed must be at least 0: received -1."),
        ({"scaling": "test"}, ValueError, "scaling must be one of all, train: received 'test'."),
    ],
)
def test_wrong_argument_is_one_error_before_a_file_is_read(arguments, error, message, monkeypatch):
    monkeypatch.setattr(_download, "locate", lambda problem: pytest.fail("a file was looked for"))
    with pytest.raises(error) as caught:
        problems.load_problem(**{"name": "fuel", **arguments})
    assert str(caught.value) == message
    assert_one_error(caught.value)


@pytest.mark.parametrize(("part", "place"), [("inputs", 0), ("targets", 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(part, place, value, monkeypatch):
    tables = [np.ones((392, 2)), np.ones((392, 1))]
    tables[place][391, 0] = value
    monkeypatch.setitem(
        problems.PROBLEMS,
        "fuel",
        replace(problems.PROBLEMS["fuel"], read=lambda path: tuple(tables)),
    )
    with pytest.raises(
        ValueError, match=rf"{part} of fuel must be finite: 1 of .* first at \(391, 0\)"
    ):
        problems.load_problem("fuel")


def test_words_are_their_letters_and_syllables():
    with (ROOT / "data" / "words.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    dataset = problems.load_problem("words")
    for letters, index, targets in zip(dataset.inputs[:300], dataset.index, dataset.targets):
        word = rows[index]["word"]
        assert letters.tolist() == [
            float("abcdefghijklmnopqrstuvwxyz".index(letter) + 1) for letter in word
        ] + [0.0] * (12 - len(word))
        assert targets.tolist() == [
            float(n == int(rows[index]["n_syllables"])) for n in (1, 2, 3, 4)
        ]


def test_letters_follow_the_beginnings_of_words():
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    with (ROOT / "data" / "words.csv").open(newline="") as file:
        words = [row["word"] for row in csv.DictReader(file)]
    expected = [
        (word[:n], word[n] if n < len(word) else None)
        for word in words
        for n in range(1, len(word) + 1)
    ]
    dataset = problems.load_problem("letters", n_available=700)
    assert len(expected) == problems.PROBLEMS["letters"].n_rows
    for letters, index, target in zip(dataset.inputs, dataset.index, dataset.targets):
        beginning, following = expected[index]
        assert letters.tolist() == [alphabet.index(letter) + 1 for letter in beginning] + [0] * (
            12 - len(beginning)
        )
        assert target.sum() == 1
        assert target.argmax() == (26 if following is None else alphabet.index(following))


def test_molecules_are_graphs_of_inverse_distances_along_their_bonds():
    with np.load(ROOT / "data" / "molecules.npz", allow_pickle=False) as file:
        numbers, positions, bonds, enthalpy = (
            file[name] for name in ("numbers", "positions", "bonds", "enthalpy")
        )
    elements = sorted({int(z) for z in numbers.ravel() if z})
    dataset = problems.load_problem("molecules")
    pool = [float(enthalpy[i]) for i in dataset.index]
    mean, deviation = statistics.fmean(pool), statistics.pstdev(pool)
    for graph, index, target in zip(dataset.inputs, dataset.index, dataset.targets):
        assert float(target[0]) == pytest.approx(
            (enthalpy[index] - mean) / deviation, rel=1e-5, abs=1e-6
        )
        for i in range(14):
            assert graph[i, :14].tolist() == [float(z == numbers[index, i]) for z in elements]
            for j in range(14):
                distance = (
                    sum((a - b) ** 2 for a, b in zip(positions[index, i], positions[index, j]))
                    ** 0.5
                )
                assert float(graph[i, 14 + j]) == pytest.approx(
                    1 / distance if bonds[index, i, j] else 0.0, rel=1e-5
                )
