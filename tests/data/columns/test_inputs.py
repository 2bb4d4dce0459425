"""Columns as inputs: missing texts, and all columns that need a decision in one message."""

import shlex

import numpy as np
import pandas as pd
import pytest

from collective_variables.cli import main
from collective_variables.data._errors import DataError
from collective_variables.data.encoding import encode_table, read_table
from collective_variables.data.files.contents import Contents

N = 70
RNG = np.random.default_rng(0)
AREA = RNG.normal(size=N)
MANY = np.array([f"name {number % 60}" for number in range(N)], dtype=object)  # 60 of 70 differ


def texts(*values):
    return np.array(values, dtype=object)


def test_a_category_called_missing_is_not_a_missing_one():
    towns = texts("missing", None, "Ulm", "missing", None, "Ulm")
    table = encode_table({"town": towns, "y": np.arange(6.0)}, "y")
    assert table.features == ("town=Ulm", "town=missing", "town missing")
    assert table.kinds == ("category", "category", "missing") and table.sources == ("town",) * 3
    np.testing.assert_array_equal(table.inputs, [[0, 1, 0], [0, 0, 1], [1, 0, 0]] * 2)
    assert table.columns.set_index("column").loc["town", ["missing", "distinct"]].tolist() == [2, 2]


def test_a_category_called_missing_is_read_from_a_file_with_empty_cells(tmp_path):
    path = tmp_path / "towns.csv"
    path.write_text("town,x\nmissing,1.5\n,2.5\nUlm,0.5\nmissing,4.5\n,3\nUlm,1\n")
    table = read_table(path)
    assert table.features == ("town=Ulm", "town=missing", "town missing", "x")


def test_nothing_but_missing_texts_or_numbers_is_no_input():
    columns = {"a": texts(*[None] * 6), "b": np.full(6, np.nan), "c": np.full(6, 2), "x": AREA[:6]}
    table = encode_table(columns)
    treatments = table.columns.set_index("column")["treatment"]
    assert table.features == ("x",)
    assert treatments[["a", "b", "c"]].tolist() == [
        "left out: no value",
        "left out: no value",
        "left out: a single value",
    ]


def test_parts_of_seconds_count():
    times = np.array(["1970-01-02T00:00:00.5", "1970-01-03T00:00:00"], "datetime64[us]")
    table = encode_table({"t": times})
    assert table.inputs[:, 0].tolist() == [1 + 0.5 / 86_400, 2.0] and table.kinds == ("date",)


UNUSABLE = {
    "name": MANY,
    "my text": MANY,
    "ratio": np.where(np.arange(N) == 3, np.inf, AREA),
    "blob": texts(*[None] * N),
}
REFUSED = {"blob": "it holds list<int64>"}
REASONS = [
    "Column name holds 60 different texts, such as 'name 0' and 'name 1', of which at most 50 can "
    "be inputs",
    "Column my text holds 60 different texts",
    "Column ratio must hold finite numbers: it has 1 infinite one, the first in row 3",
    "Column blob cannot be used: it holds list<int64>",
]


@pytest.mark.parametrize("names", [list(UNUSABLE), ["name"], ["blob"], ["ratio", "my text"]])
def test_all_columns_that_need_a_decision_are_in_one_message(names):
    columns = {name: UNUSABLE[name] for name in names} | {"x": AREA}
    contents = Contents(columns, {name: REFUSED[name] for name in names if name in REFUSED})
    with pytest.raises(DataError) as caught:
        encode_table(contents)
    message = str(caught.value)
    for name, reason in zip(UNUSABLE, REASONS):
        assert (reason in message) == (name in names)
    told, _, arguments = message.partition("--ignore ")
    assert told.endswith((" leave it out: ", " leave them out: ")) and "\n" not in message
    # What the message says to type is enough.
    assert encode_table(contents, ignored=shlex.split(arguments)).features == ("x",)


def test_what_is_not_used_is_not_looked_at():
    contents = Contents(UNUSABLE | {"x": AREA}, REFUSED, ("A note.",))
    table = encode_table(contents, ignored="name,my text,ratio,blob")
    rows = table.columns.set_index("column")
    assert rows.loc["blob", ["role", "holds"]].tolist() == ["ignored", "not read"]
    assert table.notes == ("A note.",)
    for options, role in (({"targets": "blob"}, "target"), ({"identity": "blob"}, "identity")):
        with pytest.raises(DataError, match=f"The {role} blob cannot be used: it holds list"):
            encode_table(contents, **options)


def test_a_hundred_such_columns_are_one_message_that_can_be_pasted():
    columns = {f"name {number}": MANY for number in range(100)} | {"x": AREA}
    with pytest.raises(
        DataError, match="; and 90 other columns. Change them in the file, or leave"
    ) as caught:
        encode_table(columns)
    arguments = str(caught.value).partition("--ignore ")[2]
    assert len(shlex.split(arguments)) == 100 and len(str(caught.value)) < 3000


def test_the_command_line_names_all_columns_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"name": MANY, "my text": MANY, "x": AREA}).to_parquet("a.parquet")
    assert main.main(["select", "a.parquet", "--n-points", "2"]) == 2
    output, words = capsys.readouterr()
    assert output == "" and words.strip().endswith("--ignore name 'my text'")


def test_infinite_numbers_of_an_ignored_column_or_of_labels():
    columns = {"x": AREA, "y": UNUSABLE["ratio"]}
    assert encode_table(columns, ignored="y").features == ("x",)
    with pytest.raises(DataError, match="Column y must hold finite numbers: it has 1 infinite"):
        encode_table(columns, "y")


def test_rows_without_a_value_in_any_input_are_said(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"K{row},{row % 7}.5,2,1{row}" if row % 6 else f"K{row},,,2" for row in range(24)]
    path.write_text("\n".join(["id,a,b,y", *rows, ""]))
    note = (
        "4 rows have no value in any input, such as row 0, and may be selected first: fill them "
        "in, delete them, or name them with --exclude."
    )
    assert note in read_table(path, "y").notes and note in read_table(path, "y").warnings
    path.write_text("\n".join(["id,a,b,y", *rows, ""]).replace(",,,", ",1,,"))
    assert note not in read_table(path, "y").notes
