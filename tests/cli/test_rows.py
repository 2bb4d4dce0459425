"""Files that list rows, in every form in which people have them."""

import codecs
from pathlib import Path

import numpy as np
import pytest

from collective_variables.cli import _rows
from collective_variables.data import encoding
from collective_variables.data._errors import DataError

AREA = np.array([50.25, 80.5, 65.0, 91.125, 1234.5])
CONTENTS = {
    "house": np.array(["H1", "007", "=A1", "Ulm, Hof 3", "Köln"], dtype=object),
    "area": AREA,
    "price": np.full(5, np.nan),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(identity="house"):
    return encoding.encode_table(CONTENTS, ["price"], identity=identity)


def plain_table():
    contents = {name: CONTENTS[name] for name in ("area", "price")}
    return encoding.encode_table(contents, ["price"])


def rows(text, *, by_identity=False, within=None):
    Path("rows.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    within = table() if within is None else within
    return _rows.read_rows([Path("rows.txt")], within, ["price"], by_identity=by_identity)


@pytest.mark.parametrize(
    "code, mark",
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),  # PowerShell's >
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("cp1252", b""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_read_in_every_encoding_and_with_every_end_of_line(code, mark, end, folder):
    assert rows(mark + f"3{end}0{end}{end} 4 {end}".encode(code)).rows == [3, 0, 4]
    assert rows(mark + f"Köln{end}H1{end}".encode(code), by_identity=True).rows == [4, 0]


@pytest.mark.parametrize(
    "text",
    [
        "row\n3\n0\n",
        "order,row,distance\n1,3,0.5\n2,0,0.25\n",
        "order;row;area;price\n1;3;91,13;7,5\n2;0;50,25;\n",
        "order\trow\tarea\tprice\n1\t3\t91.1\t\n2\t0\t50.3\t\n",
        'sep=;\r\n"order";"row";"area"\r\n1;3;91,125\r\n2;0;50,25\r\n',
        "order,row,price,,\n1,3.0,,,\n2,0.0,,,\n,,,,\n",
        '"order","row","remark"\n1,3,"two\nlines, and a comma"\n2,0,""\n',
        '{"chosen": [{"order": 1, "row": 3}, {"order": 2, "row": 0}]}',
        "3\n0\n3\n",
    ],
)
def test_a_file_is_rows_or_a_table_with_a_column_of_rows(text, folder):
    assert rows(text, within=plain_table()).rows == [3, 0]


def test_rows_that_await_their_label_count_only_in_what_select_wrote(folder):
    listed = rows("order,row,house,price\n1,0,H1,5\n2,1,007,\n")
    note = "1 of 2 rows in rows.txt have no price yet: they still count as labelled."
    assert listed[:2] == ([0, 1], [note])
    listed = rows("house,price\nH1,5\n007,\n")
    assert listed[:2] == (
        [0],
        ["1 of 2 rows in rows.txt have no price: they do not count as labelled."],
    )
    with pytest.raises(DataError, match="must list labelled rows: no row there has a price."):
        rows("house,price\nH1,\n007,\n")


@pytest.mark.parametrize(
    "text",
    [
        "Ulm, Hof 3\nH1\n",
        "house\nUlm, Hof 3\nH1\n",
        'house,price\n"Ulm, Hof 3",5\nH1,0\n007,\n',  # a table of labelled rows
        "price;house\n5;Ulm, Hof 3\n;007\n1,5;H1\n",
        'order,row,house\n1,0,"Ulm, Hof 3"\n2,3,H1\n',  # the table was sorted meanwhile
        '{"chosen": [{"row": 0, "house": "Ulm, Hof 3"}, {"row": 1, "house": "H1"}]}',
    ],
)
def test_identities_are_found_wherever_the_rows_are_now(text, folder):
    assert rows(text, by_identity=True).rows == [3, 0]


def test_identities_are_texts(folder):
    assert rows("007\n=A1\n'=A1\n", by_identity=True).rows == [1, 2]
    numbers = encoding.encode_table(
        {"house": np.array([1001, 1002, 1003]), "area": AREA[:3]}, [], identity="house"
    )
    assert rows("1002.0\n1001\n", by_identity=True, within=numbers).rows == [1, 0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "rows.txt lists no rows: leave the argument out until there are some."),
        (" \n\r\n", "rows.txt lists no rows"),
        ("order,row,area,price\n", "rows.txt lists no rows"),
        ("row\n", "rows.txt lists no rows"),
        ("3\n5\n", "Line 2 of rows.txt must be a row, 0 to 4: received '5'."),
        ("3\n-1\n", "Line 2 of rows.txt must be a row, 0 to 4: received '-1'."),
        ("3\n1.5\n", "Line 2 of rows.txt must be a row, 0 to 4: received '1.5'."),
        ("3\n²\n", "Line 2 of rows.txt must be a row, 0 to 4: received '²'."),
        ("H1\n", "received 'H1'. Identities need --id COLUMN."),
        ("order,row\n\n1,9\n", "Line 3 of rows.txt must be a row, 0 to 4: received '9'"),
        ("order,row\n1,\n", "Line 2 of rows.txt must be a row, 0 to 4: received ''"),
        ("a,b\n1,2\n", "must have a row on each line or a column row: received a, b."),
        ('{"chosen": 3}', "rows.txt must be the whole output of `select --json`."),
        ('{"chosen": [{"row"', "rows.txt must be the whole output of `select --json`."),
        (b"3\n\x81\n", "rows.txt must be a text in UTF-8 or UTF-16"),
        (codecs.BOM_UTF16_LE + b"3", "rows.txt must be a text in UTF-8 or UTF-16"),
    ],
)
def test_what_lists_no_rows_is_named_with_its_line(text, message, folder):
    with pytest.raises(DataError) as caught:
        rows(text, within=plain_table())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_column_of_identities_that_is_not_there_is_named(folder):
    with pytest.raises(DataError, match="or a column house: received order, row, area."):
        rows("order,row,area\n1,3,91.1\n", by_identity=True)


def test_a_table_that_moved_is_noticed_by_its_numbers(folder):
    sheet = "order,row,area,price\n1,3,{},\n2,0,50.25,\n"
    for same in ("91.125", "91.13", "91.1", "91", "", "n/a"):
        assert rows(sheet.format(same), within=plain_table()).rows == [3, 0]
    for other in ("91.11", "80.5", "92"):
        with pytest.raises(DataError) as caught:
            rows(sheet.format(other), within=plain_table())
        assert str(caught.value) == (
            f"Line 2 of rows.txt is no longer row 3 of the table: area is {other} there and "
            "91.125 here. Name rows by a column that stays with them: --id COLUMN."
        )


def test_rows_of_several_files_count_once(folder):
    Path("one.txt").write_text("3\n1\n")
    Path("two.csv").write_text("order,row\n1,1\n2,4\n")
    paths = [Path("one.txt"), Path("two.csv")]
    assert _rows.read_rows(paths, plain_table(), by_identity=False).rows == [3, 1, 4]
    assert _rows.read_rows([], plain_table(), by_identity=False).rows == []


def test_a_file_that_cannot_be_read_is_named(folder):
    for name, message in (("no.txt", "There is no file no.txt."), (".", ". cannot be read: Is a")):
        with pytest.raises(DataError, match=message):
            _rows.read_rows([Path(name)], plain_table(), by_identity=False)


def test_a_spreadsheet_in_the_place_of_a_list_is_named_as_such(folder):
    with pytest.raises(
        DataError, match="^rows.txt is not a text file but a spreadsheet or an arch"
    ):
        rows(b"PK\x03\x04\x14\0\6\0" + bytes(30))


@pytest.mark.parametrize(
    "listed", [np.array([3, 0]), np.array([[3], [0]]), np.array([3.0, 0.0]), np.array(["3", "0"])]
)
def test_rows_may_be_listed_by_an_array(listed, folder):
    np.save("rows.npy", listed)
    assert _rows.read_rows([Path("rows.npy")], table(), by_identity=False).rows == [3, 0]


def test_identities_may_be_listed_by_an_array(folder):
    np.save("rows.npy", np.array(["Köln", "H1"]))
    assert _rows.read_rows([Path("rows.npy")], table(), by_identity=True).rows == [4, 0]


def test_a_mask_does_not_list_rows(folder):
    np.save("rows.npy", np.arange(5) < 2)
    with pytest.raises(DataError, match=r"array \(5,\) of bool. numpy.flatnonzero gives the numb"):
        _rows.read_rows([Path("rows.npy")], table(), by_identity=False)


def test_rows_may_be_a_list_in_json(folder):
    assert rows("[3, 0]").rows == [3, 0]
    assert rows('["Köln", "H1"]', by_identity=True).rows == [4, 0]
    with pytest.raises(DataError, match="Entry 1 of rows.txt must be a row, 0 to 4: received '7'"):
        rows("[3, 7]")
    with pytest.raises(DataError, match="must list row numbers or identities"):
        rows("[true]")


def test_rows_may_be_written_by_savetxt(folder):
    np.savetxt("rows.txt", [3, 0])
    assert _rows.read_rows([Path("rows.txt")], table(), by_identity=False).rows == [3, 0]
    with pytest.raises(DataError, match="must be a row, 0 to 4"):
        rows("3.5e+00\n")
