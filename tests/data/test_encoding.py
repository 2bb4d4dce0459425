"""Columns of a user's table as a problem: how they are read, what is missing, how they are split
and scaled.
"""

import numpy as np
import pytest
from PIL import Image

from collective_variables.data import _download, encoding, problems
from collective_variables.data._errors import DataError
from collective_variables.data.encoding import encode_table, read_table, split_table
from collective_variables.data.reading import read_file


def texts(*values):
    return np.array(values, dtype=object)


HOUSES = {
    "price": np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0]),
    "rooms": np.array([3, 4, 5, 3, 4, 5]),
    "garden": np.array([True, False, True, True, False, True]),
    "area": np.array([10.0, np.nan, 30.0, 20.0, np.nan, 60.0]),
    "town": texts("Ulm", "Bonn", None, "Ulm", "Bonn", "Ulm"),
    "built": np.array(
        ["1970-01-02", "1970-01-11", "NaT", "1970-01-02", "1970-01-03", "1969-12-31"],
        dtype="datetime64[s]",
    ),
    "country": texts("D", "D", "D", "D", "D", "D"),
    "id": texts("a", "b", "c", "d", "e", "f"),
}


def test_columns_become_inputs_and_targets_by_what_they_hold():
    result = encode_table(HOUSES, ["price"], ignored=["id"])
    nan = np.nan
    expected = {
        "rooms": [3, 4, 5, 3, 4, 5],
        "garden": [1, 0, 1, 1, 0, 1],
        "area": [10, nan, 30, 20, nan, 60],
        "area missing": [0, 1, 0, 0, 1, 0],
        "town=Bonn": [0, 1, 0, 0, 1, 0],
        "town=Ulm": [1, 0, 0, 1, 0, 1],
        "town missing": [0, 0, 1, 0, 0, 0],
        "built": [1, 10, nan, 1, 2, -1],
        "built missing": [0, 0, 1, 0, 0, 0],
    }
    assert result.features == tuple(expected)
    np.testing.assert_array_equal(result.inputs, np.array(list(expected.values()), float).T)
    np.testing.assert_array_equal(result.targets, HOUSES["price"][:, None])
    assert result.is_labelled.tolist() == [True, True, False, True, True, True]
    assert result.task == "regression" and result.classes == ()
    assert result.notes == (
        "5 of 6 rows have a value in price and count as labelled; "
        "the other one can be selected, but not trained or tested on.",
    )
    sources = {name: name.split(" missing")[0].split("=")[0] for name in expected}
    assert result.sources == tuple(sources.values())
    assert result.kinds == (
        "number",
        "flag",
        "number",
        "missing",
        "category",
        "category",
        "missing",
        "date",
        "missing",
    )


def test_the_treatment_of_each_column_is_reported_in_the_order_of_the_file():
    columns = encode_table(HOUSES, ["price"], ignored=["id"]).columns
    assert list(columns.columns) == list(encoding.COLUMNS)
    assert columns["column"].tolist() == list(HOUSES)
    rows = (
        columns.set_index("column").astype(object).where(columns.set_index("column").notna(), None)
    )
    assert rows.loc["price"].tolist() == ["target", "numbers", 1, 5, "z-scores"]
    assert rows.loc["garden"].tolist() == ["input", "truth values", 0, 2, "scaled"]
    assert rows.loc["area"].tolist() == [
        "input",
        "numbers",
        2,
        4,
        "scaled; missing ones are filled in and marked in a second input",
    ]
    assert rows.loc["town"].tolist() == [
        "input",
        "texts",
        1,
        2,
        "an input for each text, and one for missing ones",
    ]
    assert rows.loc["built", "treatment"].startswith("days since 1970, scaled; missing ones")
    assert rows.loc["country"].tolist() == ["input", "texts", 0, 1, "left out: a single value"]
    assert rows.loc["id"].tolist() == ["ignored", "texts", 0, None, "left out"]


@pytest.mark.parametrize(
    "values, task, expected, classes",
    [
        (texts("b", "a", None, "b"), "auto", [[0, 1], [1, 0], [np.nan] * 2, [0, 1]], ("a", "b")),
        (
            np.array([True, False, False, True]),
            "auto",
            [[0, 1], [1, 0], [1, 0], [0, 1]],
            ("False", "True"),
        ),
        (np.array([7, 3, 3, 7]), "auto", [[0, 1], [1, 0], [1, 0], [0, 1]], ("3", "7")),
        (np.array([7, 3, 3, 7]), "regression", [[7], [3], [3], [7]], ()),
        (np.array([0.5, 1, 1, 0.5]), "auto", [[0.5], [1], [1], [0.5]], ()),
        (
            np.array([0.5, 1, 1, 0.5]),
            "classification",
            [[1, 0], [0, 1], [0, 1], [1, 0]],
            ("0.5", "1"),
        ),
        (
            np.array([[1, 2.0], [3, 4], [5, 6], [7, 8]]),
            "auto",
            [[1, 2], [3, 4], [5, 6], [7, 8]],
            (),
        ),
    ],
)
def test_the_task_is_that_of_the_target(values, task, expected, classes):
    result = encode_table({"x": np.arange(4.0), "y": values}, ["y"], task=task)
    np.testing.assert_array_equal(result.targets, np.array(expected, float))
    assert result.classes == classes and result.task == (
        "classification" if classes else "regression"
    )


def test_the_balance_of_classes_and_copies_are_said():
    result = encode_table(
        {"x": np.array([1.0, 1, 2, 3, 4]), "y": texts("a", "a", "a", "a", "b")}, ["y"]
    )
    assert result.notes == (
        "Rows of each class: a 4, b 1.",
        "Class b has a single row: it cannot be both in the pool and among the test points.",
        "1 row has the same inputs as another row.",
    )


def test_a_table_of_an_archive_is_columns_and_images_are_the_only_input():
    grid = np.array([[1.0, 5.0, 2.0], [2.0, 5.0, np.nan], [3.0, 5.0, 4.0]])
    result = encode_table({"x": grid, "y": np.arange(3.0)}, ["y"])
    assert result.features == ("x[0]", "x[2]", "x[2] missing")
    np.testing.assert_array_equal(result.inputs[:, 0], grid[:, 0])
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    result = encode_table(
        {"image": images, "file": texts("a", "b", "c"), "y": np.arange(3.0)}, ["y"]
    )
    np.testing.assert_array_equal(result.inputs, images[..., None])
    assert result.features == () and result.identities.tolist() == ["a", "b", "c"]
    assert result.columns.set_index("column").loc["file", "role"] == "identity"
    with pytest.raises(DataError, match="must be the only input: received image, x. .*--ignore x$"):
        encode_table({"image": images, "x": np.arange(3.0), "y": np.arange(3.0)}, ["y"])


@pytest.mark.parametrize("scaling", ["train", "all"])
def test_labelled_rows_are_split_and_scaled_as_the_papers_problems_are(scaling):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 2)) * [1, 100], rng.normal(size=50)
    x[[3, 20, 44], 1], y[[7, 8]] = np.nan, np.nan
    result = split_table(
        encode_table({"a": x[:, 0], "b": x[:, 1], "y": y}, ["y"]),
        "user",
        n_test=10,
        seed=3,
        scaling=scaling,
        input_scaling="standard",
    )
    labelled = np.flatnonzero(~np.isnan(y))
    rows = labelled[np.random.default_rng(3).permutation(48)]
    np.testing.assert_array_equal(result.test_index, rows[:10])
    np.testing.assert_array_equal(result.index, rows[10:])
    reference = result.index if scaling == "train" else rows
    is_missing = np.isnan(x[:, 1])
    filled = np.where(is_missing, np.nanmean(x[reference, 1]), x[:, 1])
    columns = np.stack([x[:, 0], filled, is_missing], axis=1)
    expected = (columns - columns[reference].mean(axis=0)) / columns[reference].std(axis=0)
    np.testing.assert_allclose(result.inputs, expected[result.index], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        result.test_inputs, expected[result.test_index], rtol=1e-6, atol=1e-6
    )
    expected = (y - y[reference].mean()) / y[reference].std()
    np.testing.assert_allclose(result.targets[:, 0], expected[result.index], rtol=1e-6, atol=1e-6)
    assert (result.task, result.name, result.inputs.dtype) == ("regression", "user", np.float32)
    assert (
        len(split_table(encode_table({"a": x[:, 0], "y": y}, ["y"]), "user").test_inputs)
        == 48 // encoding.TEST_SHARE
    )


def test_the_papers_problem_from_a_users_file_is_the_papers_problem():
    """Fuel's columns, with its origin as a text, give the arrays of `problems.load_problem`."""
    raw = np.loadtxt(
        _download.EMBEDDED / "auto-mpg.csv",
        delimiter=",",
        skiprows=1,
        usecols=(0, 1, 2, 3, 4, 5, 6, 8),
        comments=None,
    )
    contents = {f"c{number}": raw[:, number] for number in range(6)}
    contents |= {
        "origin": np.array(["abc"[int(value) - 1] for value in raw[:, 6]], dtype=object),
        "mpg": raw[:, 7],
    }
    result, expected = (
        split_table(
            encode_table(contents, ["mpg"]), "fuel", n_test=120, seed=5, input_scaling="standard"
        ),
        problems.load_problem("fuel", seed=5),
    )
    for name in ("inputs", "targets", "test_inputs", "test_targets", "index", "test_index"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


def test_bytes_of_images_are_divided_by_255():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)
    result = split_table(
        encode_table({"image": images, "class": texts(*"ababababab")}, ["class"]), "user", n_test=2
    )
    np.testing.assert_array_equal(result.inputs, (images[result.index] / 255).astype(np.float32))


@pytest.mark.parametrize(
    "change, options, message",
    [
        (
            {},
            {"targets": ["cost"]},
            "There is no column cost: "
            "the file has price, rooms, garden, area, town, built, country, id.",
        ),
        ({}, {"ignored": ["price"]}, "A column cannot be a target and ignored: price"),
        ({}, {"targets": ["price", "price"]}, "A target must be named once"),
        (
            {},
            {"targets": ["price", "town"]},
            "The target town of a regression must hold numbers: "
            "it was read as texts, such as 'Ulm' in row 0",
        ),
        (
            {},
            {"targets": ["rooms", "town"], "task": "classification"},
            "A classification must have one target",
        ),
        (
            {},
            {"targets": ["country"]},
            "The target country must have at least two classes: all 6 rows are 'D'",
        ),
        (
            {},
            {"targets": ["id"], "ignored": ["price"], "task": "classification"},
            "The target id has 6 classes in 6 rows: it was read as texts, such as 'a' in row 0. "
            "Choose the task regression",
        ),
        (
            {"area": np.array([1, 2, np.inf, 4, -np.inf, 6])},
            {},
            "Column area must hold finite numbers: it has 2 infinite ones, the first in row 2",
        ),
        ({"price": np.array([1, 2, 3, 4, 5, np.inf])}, {}, "Column price must hold finite numbers"),
        ({}, {"task": "ranking"}, "task must be one of auto, classification, regression"),
        (
            {},
            {"ignored": [name for name in HOUSES if name not in ("price", "country")]},
            "nothing is left to learn from",
        ),
        (
            {},
            {"ignored": [name for name in HOUSES if name != "price"]},
            "There must be a column besides targets",
        ),
    ],
)
def test_what_can_not_be_a_problem_is_one_error(change, options, message):
    with pytest.raises(ValueError, match=message):
        encode_table(HOUSES | change, **{"targets": ["price"], "ignored": ["id"]} | options)


def test_a_table_is_read_and_encoded_in_one_call(tmp_path):
    path = tmp_path / "houses.csv"
    path.write_text("id,area,town,price\n1,50,Ulm,1.5\n2,80,Bonn,2.5\n3,65,Ulm,2\n")
    expected = encode_table(read_file(path), ["price"], ignored=["id"], task="regression")
    for names in (("price", "id"), (["price"], ["id"])):
        for source in (path, str(path)):
            table = read_table(source, names[0], ignored=names[1], task="regression")
            assert table.features == expected.features == ("area", "town=Bonn", "town=Ulm")
            np.testing.assert_array_equal(table.inputs, expected.inputs)
            np.testing.assert_array_equal(table.targets, [[1.5], [2.5], [2.0]])
    assert read_table(path).targets is None
    with pytest.raises(DataError, match="There is no column p: the file has id, area"):
        read_table(path, "p")


def test_images_are_brought_to_the_size_that_is_asked_for(tmp_path):
    for name, shape in (("a", (4, 5)), ("b", (7, 3))):
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / f"{name}.png")
    assert read_table(tmp_path, image_size=(2, 3)).inputs.shape == (2, 2, 3, 1)


def test_without_a_target_there_are_inputs_and_no_problem():
    result = encode_table(HOUSES, [], ignored=["id"])
    assert result.targets is None and result.is_labelled.all() and "price" in result.features
    with pytest.raises(DataError, match="must have a target: received none"):
        split_table(result, "user")
    result = encode_table({"x": np.arange(3.0), "y": np.full(3, np.nan)}, ["y"])
    with pytest.raises(DataError, match="At least one row must have a target"):
        split_table(result, "user")


def test_a_table_is_shown_in_one_line():
    table = encode_table(
        {"x": np.zeros((500, 512)) + np.arange(500)[:, None], "y": np.arange(500)}, "y"
    )
    assert repr(table) == "Table of 500 rows, inputs (500, 512), regression"
    assert repr(encode_table({"x": np.arange(5.0)})) == "Table of 5 rows, inputs (5, 1)"
