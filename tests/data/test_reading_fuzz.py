"""Randomly damaged or random files: each is read, or refused with a one-line error."""

import csv
import io
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from collective_variables.data._errors import DataError
from collective_variables.data.reading import read_file
from collective_variables.networks import sequential

TABLE = pd.DataFrame(
    {
        "a": [1.5, None, 3.0],
        "b": ["x", "y,z", None],
        "c": [1, 2, 3],
        "d": pd.to_datetime(["2020-01-01"] * 3),
    }
)
MANY = settings(max_examples=150, derandomize=True, deadline=None)
SOME = settings(MANY, max_examples=50)


def whole(ending):
    """The bytes of a file that can be read."""
    buffer = io.BytesIO()
    if ending == "csv":
        buffer.write(TABLE.to_csv(index=False).encode())
    elif ending == "parquet":
        TABLE.to_parquet(buffer)
    elif ending == "npz":
        np.savez_compressed(buffer, x=np.arange(6.0).reshape(3, 2), y=np.array(["u", "v", "w"]))
    elif ending == "npy":
        np.save(buffer, np.arange(6.0).reshape(3, 2))
    else:
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(buffer, "png")
    return buffer.getvalue()


WHOLE = {ending: whole(ending) for ending in ("csv", "parquet", "npz", "npy", "png")}


@st.composite
def damaged(draw, content):
    """A file with a few bytes changed, taken out or put in, and perhaps cut short."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["change", "take out", "put in", "cut"]))
        if kind == "change" and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == "take out":
            del content[place : place + draw(st.integers(1, 20))]
        elif kind == "put in":
            content[place:place] = draw(st.binary(min_size=1, max_size=20))
        elif kind == "cut" and draw(st.booleans()):
            del content[place:]
    return bytes(content)


def read_or_refused(path):
    try:
        contents = read_file(path)
    except (DataError, MemoryError) as error:
        assert "\n" not in str(error) and 10 < len(str(error)) < 500
        return
    assert len({len(array) for array in contents.values()}) == 1
    for array in contents.values():
        assert array.dtype.kind in "biufMO"
        if array.dtype == object:
            assert all(value is None or isinstance(value, str) for value in array)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz", "npy", "png"])
def test_a_damaged_file_is_read_or_refused(ending, folder):
    path = folder / ending / f"a.{ending}"
    path.parent.mkdir()

    @MANY
    @given(damaged(WHOLE[ending]))
    def check(content):
        path.write_bytes(content)
        read_or_refused(path.parent if ending == "png" else path)

    check()


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "npz", "npy"])
def test_a_random_file_is_read_or_refused(ending, folder):
    path = folder / f"a.{ending}"

    @MANY
    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def check(content):
        path.write_bytes(content)
        read_or_refused(path)

    check()


CELLS = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="\u2028\u2029"), max_size=8
)


@MANY
@given(
    st.lists(
        st.tuples(
            CELLS,
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(2**63), 2**63 - 1),
        ),
        min_size=1,
    )
)
def test_what_was_written_is_read(folder, rows):
    table = pd.DataFrame(rows, columns=["text", "number", "whole"])
    table.to_csv(folder / "written.csv", index=False)
    contents = read_file(folder / "written.csv")
    np.testing.assert_array_equal(contents["number"].astype(float), table["number"])
    np.testing.assert_array_equal(contents["whole"].astype(np.int64), table["whole"])


def written(number, decimal, thousands, unit):
    """A number with two decimals as a spreadsheet shows it."""
    text = f"{abs(number):,.2f}".replace(",", "@").replace(".", decimal).replace("@", thousands)
    return ("-" if number < 0 else "") + unit.format(text)


@SOME
@given(
    st.lists(st.integers(-(10**12), 10**12).map(lambda cents: cents / 100), min_size=1),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([".", ","]),
    st.sampled_from(["", "other", " ", "\u00a0", "\u202f", "'", "’"]),
    st.sampled_from(["{}", "${}", "{} €", "{}%", "{} kg", "EUR {}", "{}\u00a0m²"]),
)
def test_numbers_in_every_format_are_read(folder, numbers, separator, decimal, thousands, unit):
    thousands = {"other": {".": ",", ",": "."}[decimal]}.get(thousands, thousands)
    cells = [written(number, decimal, thousands, unit) for number in numbers]
    path = folder / "numbers.csv"
    lines = [f'"{cell}"{separator}{row}' for row, cell in enumerate(cells)]
    path.write_text("\n".join([f"x{separator}row", *lines, ""]))
    contents = read_file(path)
    assert not contents.refused
    np.testing.assert_allclose(contents["x"], numbers, rtol=1e-15)


FORMS = ["%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y%m%dT%H%M%S", "%Y/%m/%d", "%d-%m-%Y"]
FORMS += ["%d.%m.%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d %b %Y", "%B %d, %Y"]


@SOME
@given(
    st.lists(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30)), min_size=1),
    st.sampled_from(FORMS),
)
def test_dates_in_every_form_are_read(folder, moments, form):
    moments = [*moments, datetime(2020, 1, 31)]  # which tells days from months
    cells = [moment.strftime(form) for moment in moments]
    path = folder / "dates.csv"
    path.write_text(
        "\n".join(["d,row", *(f'"{cell}",{row}' for row, cell in enumerate(cells)), ""])
    )
    contents = read_file(path)
    assert not contents.refused
    expected = np.array([datetime.strptime(cell, form) for cell in cells], dtype="datetime64[us]")
    np.testing.assert_array_equal(contents["d"], expected)


MESSY = ["", "NA", "n/a", "-", "1", "1.5", "1,5", "1.234", "1,234", "$5", "5 kg", "5%", "(5)", "<5"]
MESSY += ["1e300", "01/02/2020", "31/12/2020", "2020-01-01", "x", "None", "#DIV/0!", "007", "a,b"]
ROWS = st.lists(st.tuples(*[st.sampled_from(MESSY)] * 3), min_size=1, max_size=12)


@SOME
@given(ROWS, st.sampled_from(",;\t"))
def test_messy_tables_have_the_same_cells_in_every_format(folder, rows, separator):
    table = pd.DataFrame(rows, columns=["p", "q", "r"]).assign(row=[*map(str, range(len(rows)))])
    table.to_csv(folder / "messy.csv", index=False, sep=separator, quoting=csv.QUOTE_ALL)
    table.to_parquet(folder / "messy.parquet")
    np.savez(folder / "messy.npz", **{name: column.to_numpy(str) for name, column in table.items()})
    for ending in ("csv", "parquet", "npz"):
        read_or_refused(folder / f"messy.{ending}")
    by_arrow, by_numpy = (read_file(folder / f"messy.{ending}") for ending in ("parquet", "npz"))
    assert by_arrow.refused == by_numpy.refused and by_arrow.notes == by_numpy.notes
    if separator == ",":
        by_text = read_file(folder / "messy.csv", header=True)
        assert list(by_text.refused) == list(by_arrow.refused)
        for name, values in by_text.items():
            np.testing.assert_array_equal(values, by_arrow[name])


LAYER = st.from_regex(
    r"(dense|conv|avgpool)( [0-9x]{1,4}){0,3}( stride [0-9x]{1,3})?", fullmatch=True
)


@MANY
@given(LAYER | st.text(max_size=20))
def test_a_layer_is_understood_or_quoted(text):
    try:
        layer = sequential.parse(text)
    except (TypeError, ValueError) as error:
        assert repr(text) in str(error)
        return
    assert layer.kind in ("dense", "conv", "avgpool")
    pairs = (layer.window, layer.strides)
    assert all(number >= 1 for pair in pairs if pair is not None for number in pair)
