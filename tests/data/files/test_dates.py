"""Dates in the common forms are read, and those that may be two dates are refused by name."""

import numpy as np
import pandas as pd
import pytest

from collective_variables.data.reading import read_file


def read(tmp_path, *columns, names="defg", **options):
    """Read a file with the columns of cells, each in quotes."""
    rows = [",".join(f'"{cell}"' for cell in row) for row in zip(*columns)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([",".join(names[: len(columns)]), *rows, ""]))
    return read_file(path, **options)


def moments(*texts, unit="s"):
    return np.array(texts, dtype=f"datetime64[{unit}]")


@pytest.mark.parametrize(
    "cells, expected",
    [
        (["2020-01-01T10:00:00Z", "2020-06-01T10:00:00Z"], ["2020-01-01T10", "2020-06-01T10"]),
        (
            ["2020-01-01 10:00:00+00:00", "2020-01-02 10:00:00+00:00"],
            ["2020-01-01T10", "2020-01-02T10"],
        ),
        # Winter and summer of one place have different offsets.
        (
            ["2020-01-01T10:00:00+01:00", "2020-06-01T10:00:00+02:00"],
            ["2020-01-01T09", "2020-06-01T08"],
        ),
        (["2020-01-01T10:00-0530", "2020-01-01T10:00-05"], ["2020-01-01T15:30", "2020-01-01T15"]),
        (["2020-01-01 10:00:00 UTC", "2020-01-02 00:00:00 UTC"], ["2020-01-01T10", "2020-01-02"]),
        (["2020-01-01", "2020-01-02 10:30"], ["2020-01-01", "2020-01-02T10:30"]),
        (["2020-01-01T10", "2020-01-02T11"], ["2020-01-01T10", "2020-01-02T11"]),
        (["20200131T101500", "20200201T000000"], ["2020-01-31T10:15", "2020-02-01"]),
        (["2020-W05-3", "2020-W05-4"], ["2020-01-29", "2020-01-30"]),
        (["2020-05", "2020-06"], ["2020-05-01", "2020-06-01"]),
        (["2020-1-5", "2020-11-25"], ["2020-01-05", "2020-11-25"]),
        (["2015/12/31", "2016/1/2 08:05"], ["2015-12-31", "2016-01-02T08:05"]),
        (["2015. 12. 31.", "2016. 1. 2."], ["2015-12-31", "2016-01-02"]),
        (["31.12.2015", "1.2.2016"], ["2015-12-31", "2016-02-01"]),
        (["01.02.2016", "03.04.2016"], ["2016-02-01", "2016-04-03"]),  # points: days come first
        (["31.12.2015 23:59", "01.02.2016 0:01:02"], ["2015-12-31T23:59", "2016-02-01T00:01:02"]),
        (["31/12/2015", "01/02/2016"], ["2015-12-31", "2016-02-01"]),
        (["31-12-2015", "01-02-2016"], ["2015-12-31", "2016-02-01"]),
        (["12/31/2015 00:00", "01/02/2016 13:05"], ["2015-12-31", "2016-01-02T13:05"]),
        (
            ["12/31/2015 12:05 AM", "1/2/2016 12:05 pm", "1/2/2016 1:05:09 p.m."],
            ["2015-12-31T00:05", "2016-01-02T12:05", "2016-01-02T13:05:09"],
        ),
        (["31 Dec 2015", "1 January 2016"], ["2015-12-31", "2016-01-01"]),
        (["31-Dec-2015", "01-Feb-2016"], ["2015-12-31", "2016-02-01"]),
        (["December 31, 2015", "Feb 1, 2016"], ["2015-12-31", "2016-02-01"]),
        (["1870-06-05", "2999-01-01"], ["1870-06-05", "2999-01-01"]),
        (["2020-02-29", ""], ["2020-02-29", "NaT"]),
    ],
)
def test_dates_in_the_common_forms_are_read(cells, expected, tmp_path):
    contents = read(tmp_path, cells, range(len(cells)))
    assert not contents.refused
    assert contents["d"].dtype == "datetime64[s]"
    np.testing.assert_array_equal(contents["d"], moments(*expected))


@pytest.mark.parametrize(
    "cells",
    [
        ["2020-01-01T10:00:00.25Z", "2020-01-01T12:00:00+02:00"],
        ["2020-01-01 10:00:00.250000", "2020-01-01 10:00:00.000000"],
        ["2020-01-01T10:00:00,25", "2020-01-01T10:00:00"],
    ],
)
def test_parts_of_seconds_are_kept(cells, tmp_path):
    expected = moments("2020-01-01T10:00:00.25", "2020-01-01T10:00:00", unit="us")
    values = read(tmp_path, cells, [1, 2])["d"]
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)


def test_parquet_and_arrays_have_the_same_dates(tmp_path):
    texts = ["31.12.2015", "01.02.2016", None]
    zoned = ["2020-01-01T10:00:00.5+02:00", "2020-01-01T10:00:00+02:00", None]
    times = pd.to_datetime(zoned, format="ISO8601")
    pd.DataFrame({"d": texts, "e": times}).to_parquet(tmp_path / "a.parquet")
    numpy_times = moments("2020-01-01T08:00:00.5", "2020-01-01T08:00:00", "NaT", unit="ns")
    np.savez(tmp_path / "a.npz", d=np.array([text or "" for text in texts]), e=numpy_times)
    for name in ("a.parquet", "a.npz"):
        contents = read_file(tmp_path / name)
        np.testing.assert_array_equal(contents["d"], moments("2015-12-31", "2016-02-01", "NaT"))
        np.testing.assert_array_equal(contents["e"], numpy_times.astype("datetime64[us]"))


def test_whether_the_day_comes_first_is_proven_asked_or_refused(tmp_path):
    cells = ["01/02/2016", "03/04/2016"]
    assert read(tmp_path, cells, [1, 2]).refused == {
        "d": "'01/02/2016' in line 2 may have the day or the month first, and no other cell "
        "decides: say which with the option day-first"
    }
    day_first, month_first = (
        moments("2016-02-01", "2016-04-03"),
        moments("2016-01-02", "2016-03-04"),
    )
    for asked, expected in ((True, day_first), (False, month_first)):
        values = read(tmp_path, cells, [1, 2], day_first=asked)["d"]
        np.testing.assert_array_equal(values, expected)
    for other, expected in (("31/12/2015", day_first), ("12/31/2015", month_first)):
        contents = read(tmp_path, cells, [other, other])
        np.testing.assert_array_equal(contents["d"], expected)
    # Columns that contradict each other prove nothing for a third one.
    refused = read(tmp_path, cells, ["31/12/2015"] * 2, ["12/31/2015"] * 2).refused
    assert list(refused) == ["d"]


def test_equal_days_and_months_need_no_order(tmp_path):
    values = read(tmp_path, ["01/01/2016", "02/02/2016"], [1, 2])["d"]
    np.testing.assert_array_equal(values, moments("2016-01-01", "2016-02-02"))


@pytest.mark.parametrize(
    "cells, message",
    [
        (["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04", "soon"], "line 6 is 'soon'"),
        (
            ["2020-01-01", "2020-02-30", "2020-01-03", "2020-01-04", "2020-01-05"],
            "4 of 5 cells are dates, but line 3 is '2020-02-30'",
        ),
        (
            ["31/12/2015", "12/31/2015", "30/12/2015", "28/12/2015", "20/12/2015"],
            "4 of 5 cells are dates with the day first, but line 3 is '12/31/2015'",
        ),
        (
            ["2020-01-01 10:00", "2020-01-02 10:00", "2020-01-03T10:00Z"] + ["2020-01-04"] * 2,
            "4 of 5 cells are dates without a zone, but line 4 is '2020-01-03T10:00Z'",
        ),
        (
            ["31.12.15", "01.02.16"],
            "'31.12.15' in line 2 seems to be a date whose year has two digits: write four",
        ),
        (["12/31/15 10:00", "1/2/16 11:00"], "'12/31/15 10:00' in line 2 seems to be a date"),
    ],
)
def test_a_column_of_dates_with_others_is_refused_with_the_cell(cells, message, tmp_path):
    contents = read(tmp_path, cells, range(len(cells)))
    assert message in contents.refused["d"]
    assert not read(tmp_path, cells, range(len(cells)), texts="d").refused


@pytest.mark.parametrize(
    "cells", [["2020/21", "2021/22"], ["1.2.3.4", "1.2.3.5"], ["10:30", "11:45"], ["5-10", "10-20"]]
)
def test_what_only_looks_a_little_like_a_date_is_a_text(cells, tmp_path):
    contents = read(tmp_path, cells, range(len(cells)))
    assert contents["d"].tolist() == cells and not contents.refused
