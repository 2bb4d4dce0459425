"""Labels as people write them: which are classes, how classes are called, which rows have none."""

import numpy as np
import pandas as pd
import pytest

from collective_variables.cli import main
from collective_variables.data._errors import DataError
from collective_variables.data.encoding import encode_table, read_table, split_table

N = 60
NAN = np.nan
X = np.random.default_rng(0).normal(size=N)
STARS = np.random.default_rng(1).integers(0, 10, N)
LABELLED = np.arange(N) % 3 == 0  # 20 of 60 rows
FLAGS = np.arange(N) % 2
ENDINGS = ("csv", "parquet", "npz")


def texts(*values):
    return np.array(values, dtype=object)


def write(folder, ending, column):
    """A file with an input x and the target y, as a person saves it in each format."""
    path = folder / f"data.{ending}"
    if ending == "npz":
        np.savez(path, x=X, y=column)
    elif ending == "csv":
        pd.DataFrame({"x": X, "y": column}).to_csv(path, index=False)
    else:
        pd.DataFrame({"x": X, "y": column}).to_parquet(path)
    return path


def hidden(labels):
    """Labels, NaN in rows without one."""
    return np.where(LABELLED, labels, NAN)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("labels", [STARS, FLAGS, STARS + 100], ids=["stars", "flags", "hundreds"])
def test_whole_numbers_stay_classes_when_labels_are_missing(ending, labels, tmp_path):
    whole = read_table(write(tmp_path, ending, labels), "y")
    part = read_table(write(tmp_path, ending, hidden(labels)), "y")
    names = tuple(str(number) for number in np.unique(labels[LABELLED]))
    assert whole.task == part.task == "classification"
    assert part.classes == names and set(names) <= set(whole.classes)
    assert part.is_labelled.tolist() == LABELLED.tolist() and whole.is_labelled.all()
    expected = labels[LABELLED, None] == np.array(names, int)
    np.testing.assert_array_equal(part.targets[LABELLED], expected)
    assert np.isnan(part.targets[~LABELLED]).all()


@pytest.mark.parametrize("kind", ["Int64", "Int8", "UInt8", "Float32"])
def test_whole_numbers_of_pandas_stay_classes_in_parquet(kind, tmp_path):
    labels = pd.Series(STARS).astype(kind).mask(~LABELLED)
    table = read_table(write(tmp_path, "parquet", labels), "y")
    assert table.task == "classification"
    assert table.classes == tuple(map(str, np.unique(STARS[LABELLED])))
    assert table.is_labelled.sum() == 20


def test_truth_values_of_pandas_stay_classes_in_parquet(tmp_path):
    flags = pd.Series(FLAGS == 1).astype("boolean").mask(~LABELLED)
    table = read_table(write(tmp_path, "parquet", flags), "y")
    assert table.task == "classification" and len(table.classes) == 2
    np.testing.assert_array_equal(table.targets[LABELLED, 1], FLAGS[LABELLED])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i4", "i8", ">i4", "<u8"])
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 1, 1)])
def test_whole_numbers_are_classes_whatever_their_dtype_and_shape(dtype, shape, tmp_path):
    labels = STARS.astype(dtype).reshape(shape)
    expected = (STARS[:, None] == np.arange(10)).astype(float)
    table = read_table(write(tmp_path, "npz", labels), "y")
    assert (table.task, table.classes) == ("classification", tuple("0123456789"))
    np.testing.assert_array_equal(table.targets, expected)
    if np.dtype(dtype).kind == "f":
        labels = hidden(STARS).astype(dtype).reshape(shape)
        table = read_table(write(tmp_path, "npz", labels), "y")
        assert set(table.classes) <= set("0123456789") and table.is_labelled.sum() == 20


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i8", "?"])
def test_one_hot_rows_are_classes(dtype, tmp_path):
    one_hot = np.eye(4, dtype=dtype)[np.arange(N) % 3]
    table = read_table(write(tmp_path, "npz", one_hot), "y")
    assert (table.task, table.classes) == ("classification", tuple("0123"))
    np.testing.assert_array_equal(table.targets, one_hot.astype(float))
    assert table.columns.set_index("column").loc["y"].tolist() == [
        "target",
        "4 columns of 0 and 1",
        0,
        3,
        "an output for each class",
    ]
    if np.dtype(dtype).kind == "f":
        one_hot[~LABELLED] = NAN
        one_hot[3, 1:] = NAN  # a row with a part of its label has no label
        table = read_table(write(tmp_path, "npz", one_hot), "y")
        assert table.task == "classification" and table.is_labelled.sum() == 19
        assert np.isnan(table.targets[3]).all()


@pytest.mark.parametrize(
    "column, task",
    [
        (X, "regression"),
        (hidden(X), "regression"),
        (np.arange(N), "regression"),
        (np.arange(N) % 21, "regression"),
        (np.arange(N) % 20, "classification"),
        (np.where(np.arange(N) == 7, 0.5, STARS), "regression"),
        (np.where(LABELLED, 100 * np.arange(N), NAN), "regression"),
        (np.stack([X, X], axis=1), "regression"),
        (np.stack([FLAGS, FLAGS], axis=1), "regression"),  # two ones in a row are no class
        (np.array(["a", "b"] * 30), "classification"),
        (FLAGS == 1, "classification"),
        (np.full(N, NAN), None),
    ],
)
def test_auto_decides_by_the_labels_and_not_by_the_format(column, task, tmp_path):
    assert read_table(write(tmp_path, "npz", column), "y").task == task
    if column.ndim == 1:
        for ending in ("csv", "parquet"):
            assert read_table(write(tmp_path, ending, column), "y").task == task


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_few_labels_of_many_rows_are_classes_and_this_is_said(ending, tmp_path):
    column = np.full(N, NAN)
    column[[3, 20, 44]] = [2, 7, 4]
    table = read_table(write(tmp_path, ending, column), "y")
    assert (table.task, table.classes) == ("classification", ("2", "4", "7"))
    assert any("choose the task regression if they are quantities" in note for note in table.notes)
    assert read_table(write(tmp_path, ending, column), "y", task="regression").classes == ()
    # Prices are no class numbers, and all rows of a full column are there to repeat them.
    column[[3, 20, 44]] = [120, 250, 310]
    assert read_table(write(tmp_path, ending, column), "y").task == "regression"


def test_one_class_so_far_can_be_selected_from_but_not_trained_on():
    column = np.where(np.arange(N) < 3, 5.0, NAN)
    table = encode_table({"x": X, "y": column}, "y")
    assert (table.task, table.classes, table.is_labelled.sum()) == ("classification", ("5",), 3)
    with pytest.raises(DataError, match="two classes must be labelled, .*: all 3 are of class 5"):
        split_table(table, "user")


@pytest.mark.parametrize("task", ["auto", "classification", "regression"])
def test_a_target_that_nobody_has_filled_in_yet_can_be_selected_for(task):
    table = encode_table({"x": X, "y": np.full(N, NAN)}, "y", task=task)
    assert not table.is_labelled.any() and table.classes == ()
    assert table.task == (None if task == "auto" else task)
    assert table.notes == (f"None of {N} rows of the file has a value in y.",)
    assert table.report().endswith(f"\n{N} rows" + ("" if task == "auto" else f", {task}"))
    with pytest.raises(DataError, match="At least one row must have a target"):
        split_table(table, "user")


@pytest.mark.parametrize(
    "values, names",
    [([0.0, 1.0], ("0", "1")), ([0.5, 2.0], ("0.5", "2")), ([-1.0, 1e6], ("-1", "1000000"))],
)
def test_whole_numbers_are_written_without_a_decimal_point(values, names):
    column = np.tile(values, N // 2)
    assert encode_table({"x": X, "y": column}, "y", task="classification").classes == names


def test_a_row_is_labelled_if_it_has_all_targets(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("x,a,b\n1.5,1.5,2.5\n2.5,,1.5\n0.5,3.5,\n4,,\n1,2.5,3.5\n")
    table = read_table(path, ["a", "b"])
    assert table.is_labelled.tolist() == [True, False, False, False, True]
    assert table.notes[0].startswith("2 of 5 rows have a value in a and b and count as labelled;")


def test_without_a_target_no_task_is_claimed(tmp_path, capsys):
    path = write(tmp_path, "csv", STARS)
    table = read_table(path)
    assert table.task is None and table.report().endswith(f"\n{N} rows")
    assert read_table(path, "y").report().endswith(f"\n{N} rows, classification")
    assert main.main(["select", str(path), "--n-points", "2", "--method", "random"]) == 0
    _, words = capsys.readouterr()
    assert "regression" not in words and f"{N} rows" in words


SIZES = [f"{12 + number}x7" for number in range(N)]
CONSTANT = "The target y must have at least two classes: all 60 rows are '3'."


@pytest.mark.parametrize(
    "column, options, message",
    [
        (np.full(N, 3), [], CONSTANT),
        (np.full(N, 3.0), [], CONSTANT),
        (SIZES, ["--task", "regression"], "it was read as texts, such as '12x7' in row 0."),
        (
            SIZES,
            [],
            "The target y has 60 classes in 60 rows: it was read as texts, such as '12x7' in row "
            "0. Choose the task regression for numbers, or another target.",
        ),
    ],
)
def test_a_target_that_cannot_be_one_is_shown_with_a_cell(
    column, options, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "parquet", column)
    arguments = ["select", "data.parquet", "--target", "y", "--n-points", "3", *options]
    assert main.main(arguments) == 2
    output, words = capsys.readouterr()
    assert output == "" and message in words and len(words.strip().splitlines()) == 1


def test_the_cell_that_is_shown_is_one_that_is_no_number():
    column = texts(*map(str, range(20)), "5 km", "21")
    with pytest.raises(DataError, match="it was read as texts, such as '5 km' in row 20"):
        encode_table({"x": X[:22], "y": column}, "y", task="regression")


def test_a_table_of_numbers_has_no_classes():
    with pytest.raises(DataError, match="a single 1 in each row: received 2 columns of other"):
        encode_table({"x": X, "y": np.stack([X, X], axis=1)}, "y", task="classification")


def test_many_classes_are_one_short_note():
    column = np.array([f"class {number % 30}" for number in range(N)], dtype=object)
    (note,) = encode_table({"x": X, "y": column}, "y").notes
    assert note.startswith("Rows of each class: class 0 2, class 1 2") and "and 20 others" in note


def test_labels_of_one_class_among_empty_cells_are_said():
    column = texts(*(None if row % 3 else "x" for row in range(N)))
    notes = encode_table({"x": X, "y": column}, "y").notes
    assert notes[-1] == (
        "All 20 labels of y are 'x', and 40 are missing: if an empty cell means another class, "
        "write that class in."
    )
