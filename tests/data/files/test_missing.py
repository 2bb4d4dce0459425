"""Which cells are taken for missing values is said, and texts that mean something can be kept."""

import pandas as pd
import pytest

from collective_variables.data._errors import DataError
from collective_variables.data.reading import read_file


def read(tmp_path, cells, **options):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["s,k", *(f'"{cell}",{row}' for row, cell in enumerate(cells)), ""]))
    return read_file(path, **options)


@pytest.mark.parametrize("word", ["None", "NA", "N/A", "?", "null", "n/a"])
def test_a_class_that_is_called_none_is_said_and_can_be_kept(word, tmp_path):
    cells = ["mild", word, "severe"] * 20
    contents = read(tmp_path, cells)
    assert contents["s"].tolist() == ["mild", None, "severe"] * 20
    assert contents.notes == (
        f"Cells taken for missing values: 20 of {word!r}, the first in line 3, in column s. The "
        "option texts keeps them as texts.",
    )
    kept = read(tmp_path, cells, texts=["s"])
    assert kept["s"].tolist() == cells and kept.notes == ()


def test_words_and_empty_cells_are_not_merged(tmp_path):
    contents = read(tmp_path, ["NA", "DE", "", "missing", "None", "DE"])
    assert contents["s"].tolist() == ["NA", "DE", None, "missing", "None", "DE"]
    assert contents.notes == tuple(
        f"Cells kept as texts, since empty cells are missing: 1 of {word!r}, the first in "
        f"line {line}, in column s. The option missing makes them missing."
        for word, line in (("NA", 2), ("None", 6))
    )
    asked = read(tmp_path, ["NA", "DE", "", "missing", "None"], missing=["NA", "None"])
    assert asked["s"].tolist() == [None, "DE", None, "missing", None] and asked.notes == ()


@pytest.mark.parametrize("error", ["#N/A", "#DIV/0!", "<NA>", "NaN", "NaT"])
def test_what_only_a_program_writes_is_missing_among_texts_with_empty_cells_too(error, tmp_path):
    assert read(tmp_path, ["a", "", error, "b"])["s"].tolist() == ["a", None, None, "b"]


@pytest.mark.parametrize("word", ["-", ".", "none", "missing", "--", "*"])
def test_signs_among_texts_are_texts(word, tmp_path):
    contents = read(tmp_path, ["a", word, "b"])
    assert contents["s"].tolist() == ["a", word, "b"] and contents.notes == ()


def test_cells_are_trimmed_and_markers_of_several_columns_are_one_note(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1, n/a ,x\nn/a,2, y \n3,n/a,z\n")
    contents = read_file(path)
    assert contents["c"].tolist() == ["x", "y", "z"]
    assert contents.notes == (
        "Cells taken for missing values: 3 of 'n/a', the first in line 3, in columns a and b.",
    )


def test_categories_of_parquet_are_texts_whatever_they_say(tmp_path):
    frame = pd.DataFrame({"c": pd.Categorical(["NA", "b", None]), "n": pd.Categorical(["1"] * 3)})
    frame.to_parquet(tmp_path / "a.parquet")
    contents = read_file(tmp_path / "a.parquet")
    assert contents["c"].tolist() == ["NA", "b", None] and contents["n"].tolist() == ["1"] * 3


def test_columns_of_texts_are_kept_as_they_are_written(tmp_path):
    cells = ["01067", "00501", "99999"]
    numbers = read(tmp_path, cells)
    assert numbers["s"].tolist() == [1067, 501, 99999]
    assert numbers.notes == (
        "Zeros in front are left out: '01067' is 1067 in column s. The option texts keeps them.",
    )
    assert read(tmp_path, cells, texts="s")["s"].tolist() == cells
    frame = pd.DataFrame({"n": [1, 2], "b": [True, False], "f": [1.5, None]})
    frame.to_parquet(tmp_path / "a.parquet")
    contents = read_file(tmp_path / "a.parquet", texts=["n", "b", "f"])
    assert contents["n"].tolist() == ["1", "2"] and contents["b"].tolist() == ["True", "False"]
    assert contents["f"].tolist() == ["1.5", None]
    with pytest.raises(DataError, match="The option texts names 'x', and a.csv has no such column"):
        read(tmp_path, cells, texts="x")


def test_no_cell_is_a_formula(tmp_path):
    cells = ["+/+", "-ve", "@home", "=1+1", "-- none --", "+(49) 30", "=", "+cmd|' /C calc'!A0"]
    contents = read(tmp_path, cells)
    assert contents["s"].tolist() == cells and not contents.refused


def test_notes_can_be_had_for_some_columns_alone(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,n/a\nn/a,2\n\n3,4 \n")
    contents = read_file(path)
    on_file = "Blank lines of a.csv are not counted as rows: 4."
    marker = "Cells taken for missing values: {} of 'n/a', the first in line {}, in column{}."
    assert contents.notes == (on_file, marker.format(2, 3, "s a and b"))
    assert contents.notes_on(["b"]) == (on_file, marker.format(1, 2, " b"))
    assert contents.notes_on([]) == (on_file,)
