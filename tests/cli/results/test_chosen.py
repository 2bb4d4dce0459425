"""Chosen rows as a table for a spreadsheet."""

import io

import numpy as np
import pandas as pd
import pytest

from collective_variables.cli.results import chosen
from collective_variables.data import encoding

SELECTION = pd.DataFrame({"order": [1, 2], "row": [2, 0], "distance": [0.5, np.nan]})


OURS = ["order", "row", "house", "distance"]


def sheet(contents, targets=(), **options):
    table = encoding.encode_table(contents, list(targets), **options)
    text = chosen.to_csv(chosen.sheet(table, SELECTION, list(targets)))
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def test_it_has_order_row_identity_distance_all_columns_and_the_target_at_the_end():
    written = sheet(
        {
            "price": np.array([np.nan, 5.0, np.nan]),
            "house": np.array(["A", "B", "C"], dtype=object),
            "area": np.array([1.5, 2.5, 3.25]),
            "rooms": np.array([1.0, np.nan, 3.0]),
            "sold": np.array(["2020-01-01", "NaT", "2021-12-31"], "datetime64[s]"),
            "remark": np.array(["x", None, "y, z"], dtype=object),
        },
        ["price"],
        identity="house",
        ignored=["remark"],
    )
    assert list(written) == [
        "order",
        "row",
        "house",
        "distance",
        "area",
        "rooms",
        "sold",
        "remark",
        "price",
    ]
    assert written.values.tolist() == [
        ["1", "2", "C", "0.5", "3.25", "3", "2021-12-31", "y, z", ""],
        ["2", "0", "A", "", "1.5", "1", "2020-01-01", "x", ""],
    ]


def test_columns_with_the_names_of_ours_are_told_apart():
    contents = {name: np.array([1.5, 2.5, 3.5]) for name in ("row", "distance", "area")}
    written = sheet(contents | {"order": np.array([np.nan, 1.0, np.nan])}, ["order"])
    assert list(written) == [
        "order", "row", "distance", "row (table)", "distance (table)", "area", "order (table)",
    ]  # fmt: skip
    assert written["row"].tolist() == ["2", "0"]
    assert written["row (table)"].tolist() == ["3.5", "1.5"]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\n=1",
        " =1",
        "-ve",
        "＝1",
        "=",
        "--",
    ],
)
def test_what_a_spreadsheet_would_run_is_written_as_a_text_and_read_back(text):
    assert chosen.escaped(text) == f"'{text}"
    assert chosen.unescaped(chosen.escaped(text)) == text
    contents = {
        "house": np.array([text, "B", "C"], dtype=object),
        text: np.array([1.0, 2.0, 3.0]),
    }
    written = sheet(contents, identity="house")
    assert written["house"].tolist() == ["C", f"'{text}"]
    assert chosen.escaped(text) in written.columns


@pytest.mark.parametrize(
    "cell", ["-5", "+1.5", "-1,5", "-1.5e3", " -7 ", "a=b", "x@y.de", "", "'quoted'", "'", 5, None]
)
def test_other_cells_stay_as_they_are(cell):
    assert chosen.escaped(cell) == cell
    if isinstance(cell, str):
        assert chosen.unescaped(cell) == cell


def test_a_cell_of_several_lines_stays_one_cell():
    remarks = np.array(["one\r\ntwo", "", "three\rfour, five"], dtype=object)
    written = sheet({"area": np.arange(3.0), "remark": remarks}, ignored=["remark"])
    assert written["remark"].tolist() == ["three\nfour, five", "one\ntwo"]


def test_arrays_of_several_dimensions_are_left_out():
    contents = {"image": np.zeros((3, 4, 4, 1), np.uint8), "house": np.array(["A", "B", "C"], "O")}
    table = encoding.encode_table(contents, [], ignored=["house"])
    assert list(chosen.sheet(table, SELECTION, [])) == ["order", "row", "distance", "house"]
