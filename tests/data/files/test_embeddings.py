"""Embeddings as people save them: lists in Parquet, arrays of NumPy, labels beside them."""

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from collective_variables.cli.main import main
from collective_variables.data import encoding
from collective_variables.data._errors import DataError
from collective_variables.data.reading import read_file

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def written(tmp_path, column, name="a.parquet"):
    parquet.write_table(pyarrow.table({"embedding": column}), tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("kind", ["list", "large", "fixed", "tensor"])
def test_lists_of_numbers_are_the_rows_of_an_array(kind, tmp_path):
    flat = pyarrow.array(X.ravel())
    fixed = pyarrow.FixedSizeListArray.from_arrays(flat, 4)
    column = {
        "list": pyarrow.array(X.tolist()),
        "large": pyarrow.array(X.tolist(), pyarrow.large_list(pyarrow.float32())),
        "fixed": fixed,
        "tensor": pyarrow.ExtensionArray.from_storage(
            pyarrow.fixed_shape_tensor(pyarrow.float32(), [2, 2]), fixed
        ),
    }[kind]
    np.testing.assert_array_equal(read_file(written(tmp_path, column))["embedding"], X)


def test_the_numbers_of_a_missing_list_are_missing(tmp_path):
    lists = [None, *X[1:].tolist()]
    lists[2] = [None, *lists[2][1:]]
    expected = X.astype(float)
    expected[0], expected[2, 0] = np.nan, np.nan
    for column in (
        pyarrow.array(lists),
        pyarrow.array(lists, pyarrow.list_(pyarrow.float64(), 4)),
    ):
        np.testing.assert_array_equal(read_file(written(tmp_path, column))["embedding"], expected)


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        (
            [None, [1.0, 2.0], [1.0], [3.0, 4.0]],
            "one length: that of row 2 has the length 1, others 2",
        ),
        ([["a"], ["b"]], "must hold lists of numbers: it holds list<"),
        ([[[1.0]], [[2.0]]], "must hold lists of numbers: it holds list<"),
        ([[], []], "its lists are empty"),
    ],
)
def test_other_lists_refuse_their_column_alone(lists, reason, tmp_path):
    assert reason in read_file(written(tmp_path, pyarrow.array(lists))).refused["embedding"]


def test_lists_are_selected_from_as_the_same_array_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, pyarrow.array(X.tolist()))
    np.save("a.npy", X)
    chosen = []
    for name in ("a.parquet", "a.npy"):
        assert main(["select", name, "--n-points", "3", "--method", "k-center", "--quiet"]) == 0
        chosen.append(capsys.readouterr().out)
    assert chosen[0] == chosen[1] and len(chosen[0].split()) == 3


@pytest.mark.parametrize("shape", [(6, 2, 2), (6, 2, 2, 1)])
def test_a_lone_array_of_more_dimensions_is_one_column_as_in_an_archive(shape, tmp_path):
    np.save(tmp_path / "a.npy", X.reshape(shape))
    contents = read_file(tmp_path / "a.npy")
    assert list(contents) == ["a"] and contents["a"].dtype == np.float32
    np.testing.assert_array_equal(contents["a"], X.reshape(shape))


def test_a_single_embedding_of_each_row_is_no_image(tmp_path):
    np.save(tmp_path / "a.npy", X[:, None])
    assert read_file(tmp_path / "a.npy")["a"].shape == (6, 4)


@pytest.mark.parametrize(
    ("dtype", "words"), [("c8", "complex64"), ("V2", "V2: save it as float32")]
)
def test_an_array_that_cannot_be_used_is_refused_in_one_sentence(dtype, words, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((6, 4), dtype))
    with pytest.raises(DataError, match="The array of a.npy cannot be used") as error:
        read_file(tmp_path / "a.npy")
    assert words in str(error.value) and len(str(error.value)) < 150


def test_labels_may_be_texts_in_a_column(tmp_path):
    labels = np.array([["a"], ["b"], [""]] * 2)
    np.savez(tmp_path / "a.npz", x=X, y=labels)
    assert read_file(tmp_path / "a.npz")["y"].tolist() == ["a", "b", None] * 2


def test_single_values_beside_an_array_are_refused_alone(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, model="clip", width=4)
    contents = read_file(tmp_path / "a.npz")
    assert contents["x"].shape == (6, 4)
    assert contents.refused == dict.fromkeys(
        ("model", "width"), "it has 0 rows, and other columns have 6"
    )


def test_the_report_says_what_becomes_of_missing_numbers_of_an_array(tmp_path):
    x = X.copy()
    x[1, 2] = np.nan
    np.savez(tmp_path / "a.npz", x=x)
    assert (
        "filled in and marked in further inputs" in encoding.read_table(tmp_path / "a.npz").report()
    )


def test_embeddings_without_a_number_are_noted(tmp_path):
    x = X.copy()
    x[3] = np.nan
    np.savez(tmp_path / "a.npz", x=x)
    assert (
        "1 row has no value in any input, such as row 3"
        in encoding.read_table(tmp_path / "a.npz").report()
    )


def test_an_error_on_hundreds_of_columns_does_not_name_them_all(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 300), np.inf))
    with pytest.raises(DataError, match="Change them in the file.$") as error:
        encoding.read_table(tmp_path / "a.npy")
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("name", "advice"),
    [("a.pt", "Save an array by numpy.save"), ("a.feather", "by DataFrame.to_parquet.$")],
)
def test_files_of_other_programs_are_refused_with_the_way_out(name, advice, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=advice):
        read_file(tmp_path / name)


def test_the_values_of_lists_count_for_the_memory(tmp_path, monkeypatch):
    frame = pd.DataFrame({"embedding": [np.zeros(2**20, np.int8)] * 16})
    frame.to_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr("collective_variables._memory._machine_free", lambda: 2**27)
    with pytest.raises(MemoryError, match="The cells of a.parquet need 0.2 GiB"):
        read_file(tmp_path / "a.parquet")
