"""Numbers as people and spreadsheets write them are read, or refused with their cell."""

import numpy as np
import pandas as pd
import pytest

from collective_variables.data._errors import DataError
from collective_variables.data.reading import read_file

NUMBERS = [60 + 0.5 * row for row in range(36)]


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path, text, **options):
    return read_file(write(tmp_path / "a.csv", text), **options)


def table(cells, separator=","):
    """A file with a column of quoted cells, next to one of whole numbers."""
    lines = [f'"{cell}"{separator}{row}' for row, cell in enumerate(cells)]
    return "\n".join([f"weight{separator}k", *lines, ""])


def with_cell(cell):
    return [cell if row == 3 else str(number) for row, number in enumerate(NUMBERS)]


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
@pytest.mark.parametrize(
    "cell", ["#N/A", "<NA>", "n/a", " n/a ", ".", "#DIV/0!", "-", "none", "NaN", "?", "None", "—"]
)
def test_a_marker_among_numbers_is_missing_and_said(cell, ending, tmp_path):
    cells = with_cell(cell)
    path, place = tmp_path / f"a.{ending}", "row 3"
    if ending == "csv":
        write(path, table(cells))
        place = "line 5"
    elif ending == "parquet":
        pd.DataFrame({"weight": cells}).to_parquet(path)
    else:
        np.savez(path, weight=np.array(cells))
    contents = read_file(path)
    np.testing.assert_array_equal(contents["weight"], [*NUMBERS[:3], np.nan, *NUMBERS[4:]])
    assert not contents.refused
    assert contents.notes == (
        f"Cells taken for missing values: 1 of {cell.strip()!r}, the first in {place}, in column "
        "weight.",
    )


@pytest.mark.parametrize("cell", ["<5", "x1", "missing", "1,5,5", "60 or 61", "12 kg", "--5"])
def test_one_bad_cell_refuses_a_column_and_does_not_turn_it_into_texts(cell, tmp_path):
    contents = read(tmp_path, table(with_cell(cell)))
    assert contents.refused == {
        "weight": f"35 of 36 cells are numbers, but line 5 is {cell!r}: correct them, name them "
        "with the option missing, or name the column with the option texts"
    }
    assert contents["k"].tolist() == list(range(36))  # the other column is not concerned
    assert read(tmp_path, table(with_cell(cell)), missing=cell).refused == {}
    np.testing.assert_array_equal(
        read(tmp_path, table(with_cell(cell)), missing=[cell])["weight"],
        [*NUMBERS[:3], np.nan, *NUMBERS[4:]],
    )
    kept = read(tmp_path, table(with_cell(cell)), texts="weight")
    assert kept["weight"].tolist() == with_cell(cell) and not kept.refused


def test_a_refusal_counts_the_cells_that_it_does_not_show(tmp_path):
    cells = [*map(str, range(30)), "a", "b", "c", "c"]
    reason = read(tmp_path, table(cells)).refused["weight"]
    shown = "line 32 is 'a', line 33 is 'b', and so on:"
    assert reason.startswith(f"30 of 34 cells are numbers, but {shown}")


def test_a_column_with_fewer_numbers_holds_texts_and_it_is_said(tmp_path):
    contents = read(tmp_path, table(["1", "2", "A", "4", "B"]))
    assert contents["weight"].tolist() == ["1", "2", "A", "4", "B"]
    assert contents.notes == (
        "Most cells are numbers, but not all, such as 'A' in line 4: column weight holds texts.",
    )
    assert read(tmp_path, table(["1", "A", "C", "4", "B"])).notes == ()


@pytest.mark.parametrize(
    "form, sign, note",
    [
        ("{}%", 1, "The unit '%' is left out: '1200%' is 1200 in column weight."),
        ("${}", 1, "The unit '$' is left out: '$1200' is 1200 in column weight."),
        ("-${}", -1, "The unit '$' is left out: '-$1200' is -1200 in column weight."),
        ("{} €", 1, "The unit '€' is left out: '1200 €' is 1200 in column weight."),
        ("EUR {}", 1, "The unit 'EUR' is left out: 'EUR 1200' is 1200 in column weight."),
        ("{} kg", 1, "The unit 'kg' is left out: '1200 kg' is 1200 in column weight."),
        ("{}kg", 1, "The unit 'kg' is left out: '1200kg' is 1200 in column weight."),
        ("{}\u00a0m²", 1, "The unit 'm²' is left out: '1200\\xa0m²' is 1200 in column weight."),
        ("{} km/h", 1, "The unit 'km/h' is left out: '1200 km/h' is 1200 in column weight."),
        ("\u2212{}", -1, None),
        ("+{}", 1, None),
        ("\u00a0{} ", 1, None),
        (
            "({})",
            -1,
            "Parentheses and a minus at the end are read as negative: '(1200)' is -1200 in column "
            "weight.",
        ),
        (
            "{}-",
            -1,
            "Parentheses and a minus at the end are read as negative: '1200-' is -1200 in column "
            "weight.",
        ),
    ],
)
def test_signs_units_and_currencies_are_understood(form, sign, note, tmp_path):
    contents = read(tmp_path, table([form.format(1200 + row) for row in range(20)]))
    assert contents["weight"].tolist() == [sign * (1200 + row) for row in range(20)]
    assert contents["weight"].dtype.kind in "if"
    assert contents.notes == ((note,) if note else ())


def test_two_units_in_a_column_are_not_mixed(tmp_path):
    contents = read(tmp_path, table(["80 kg", "75 kg", "1.2 t", "70 kg", "64 kg"]))
    assert (
        "4 of 5 cells are numbers with the unit 'kg', but line 4 is '1.2 t'"
        in contents.refused["weight"]
    )
    # Names of classes are no numbers with units.
    assert read(tmp_path, table(["1a", "2a", "2b"]))["weight"].tolist() == ["1a", "2a", "2b"]


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\n1,5\t2,5\n-2\t0,25\n",  # what spreadsheets save as text
        'a,b\n"1,5","2,5"\n"-2","0,25"\n',
        "a;b\n1,5;2,5\n-2;,25\n",
        "a|b\n1,5|2,5\n-2|25e-2\n",
        "a\tb\n1,5 €\t2,5\n-2 €\t0,25\n",
    ],
)
def test_decimal_commas_are_read_whatever_the_separator(text, tmp_path):
    contents = read(tmp_path, text)
    assert contents["a"].tolist() == [1.5, -2] and contents["b"].tolist() == [2.5, 0.25]
    assert contents.notes[0].startswith("Decimal commas are read as such: '1,5")


def test_points_are_between_thousands_where_another_column_has_decimal_commas(tmp_path):
    text = "flaeche;preis\n1.234;10,5\n987;11,5\n2.050;12,5\n850;13,5\n"
    contents = read(tmp_path, text)
    assert contents["flaeche"].tolist() == [1234, 987, 2050, 850]
    assert contents["flaeche"].dtype == np.int64
    assert contents["preis"].tolist() == [10.5, 11.5, 12.5, 13.5]
    assert contents.notes == (
        "Separators between thousands are left out: '1.234' is 1234 in column flaeche.",
        "Decimal commas are read as such: '10,5' is 10.5 in column preis.",
    )


@pytest.mark.parametrize(
    "cells, separator, expected",
    [
        (["1,234", "10"], "\t", None),
        (["1,234", "10.5"], "\t", [1234, 10.5]),
        (["1.234.567", "1,5"], ";", [1234567, 1.5]),
        (["1.234,5", "987"], ";", [1234.5, 987]),
        (["1,234.5", "987"], ",", [1234.5, 987]),
        (["1 234 567", "1,5"], ";", [1234567, 1.5]),
        (["1\u202f234,5", "1\u00a0234"], ";", [1234.5, 1234]),
        (["1'234.5", "2’234"], ",", [1234.5, 2234]),
        (["12,34,567", "0.5"], ",", [1234567, 0.5]),
        (["1.234", "0.5"], ";", [1.234, 0.5]),
        (["1.234", "2.345"], ",", [1.234, 2.345]),
        (["1.234", "2.345"], ";", None),
        (["1.234", "2345"], ";", [1.234, 2345]),  # no sign between the thousands of 2345
        (["2.050", "987"], ";", [2050, 987]),  # a decimal would have no 0 at its end
        (["2.050", "987", "0"], ";", [2050, 987, 0]),
        (["1.234", "987"], ";", None),
        (["1,234", "2,345"], ",", None),
        (["1,234", "2,345"], ";", [1.234, 2.345]),  # between semicolons commas are decimal
        (["1.234", "2.345"], "\t", None),
        (["$1,234", "$2,345"], ",", [1234, 2345]),  # money has no thousandths
        (["1.234 €", "2.345 €"], ";", [1234, 2345]),
        (["1.5", "1.25"], ";", [1.5, 1.25]),
    ],
)
def test_what_cells_prove_of_their_column(cells, separator, expected, tmp_path):
    contents = read(tmp_path, table(cells, separator))
    if expected is None:
        values = {"1.234": "1.234 or 1234", "1,234": "1234 or 1.234"}[cells[0]]
        assert contents.refused["weight"] == (
            f"{cells[0]!r} in line 2 may be {values}, and no other cell decides: name the decimal "
            "sign with the option decimal"
        )
        by_point = read(tmp_path, table(cells, separator), decimal=".")
        by_comma = read(tmp_path, table(cells, separator), decimal=",")
        factor = 1000 if "." in cells[0] else 0.001
        assert by_comma["weight"][0] == pytest.approx(factor * by_point["weight"][0], rel=1e-15)
        assert not by_point.refused and not by_comma.refused
    else:
        assert not contents.refused
        assert contents["weight"].tolist() == expected


def test_columns_that_contradict_each_other_are_read_by_their_own_cells(tmp_path):
    contents = read(tmp_path, "a;b;c\n1,5;1.5;1.234\n2,5;2.5;2.345\n")
    assert contents["a"].tolist() == [1.5, 2.5] == contents["b"].tolist()
    assert "'1.234' in line 2 may be 1.234 or 1234" in contents.refused["c"]


def test_a_decimal_sign_that_is_named_holds_for_all_columns(tmp_path):
    text = "a;b\n" + "\n".join(f"{row}.250;{row}.5" for row in range(1, 11))
    contents = read(tmp_path, text, decimal=",")
    assert contents["a"].tolist() == [1000 * row + 250 for row in range(1, 11)]
    assert contents["b"].dtype == object
    assert read(tmp_path, text)["b"].tolist() == [row + 0.5 for row in range(1, 11)]
    with pytest.raises(DataError, match="The option decimal must be . or ,: received ';'"):
        read(tmp_path, text, decimal=";")


def test_alike_columns_share_a_note(tmp_path):
    names = ",".join(f"c{number}" for number in range(500))
    row = ",".join(['"1,5"'] * 500)
    assert read(tmp_path, f"{names}\n{row}\n{row}\n").notes == (
        "Decimal commas are read as such: '1,5' is 1.5 in columns c0, c1, c2 and 497 others.",
    )


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz", "npy"])
@pytest.mark.parametrize("number", [1e300, -1e300, np.inf, 1e151])
def test_a_number_whose_square_has_no_place_in_float64_is_refused(number, ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    frame = pd.DataFrame({"x": [1.0, number, 2.0], "y": [1.0, 1e150, -1e150]})
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "parquet":
        frame.to_parquet(path)
    elif ending == "npz":
        np.savez(path, **{name: column.to_numpy() for name, column in frame.items()})
    else:
        np.save(path, frame.to_records(index=False))
    place = "line 3" if ending == "csv" else "row 1"
    assert read_file(path).refused == {
        "x": f"{place} is {number:.6g}, and numbers must be at most 1e+150 in size: correct it, or "
        "scale the column"
    }


def test_whole_numbers_with_missing_ones_stay_whole(tmp_path):
    contents = read(tmp_path, "s,t\n0,1\n,n/a\n1,2\n")
    for values in (contents["s"], contents["t"]):
        assert values.dtype == np.float64 and np.isnan(values[1])
        assert (values[[0, 2]] == np.rint(values[[0, 2]])).all()


def test_a_number_that_stands_for_missing_values_is_found_in_all_formats(tmp_path):
    frame = pd.DataFrame({"x": [1.5, -999.0, 2.0], "n": [1, -999, 3]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        contents = read_file(tmp_path / name, missing="-999")
        np.testing.assert_array_equal(contents["x"], [1.5, np.nan, 2])
        np.testing.assert_array_equal(contents["n"], [1, np.nan, 3])


def test_numbers_in_different_units_are_refused_and_not_taken_for_classes(tmp_path):
    cells = [f"{row + 40} kg" if row % 3 else f"{2 * row + 90} lb" for row in range(90)]
    contents = read(tmp_path, table([*cells, "n/a"]))
    assert contents.refused["weight"] == (
        "its numbers have different units (line 2 is '90 lb', line 3 is '41 kg'): write all "
        "in one unit, or name the column with the option texts"
    )
    assert not read(tmp_path, table(cells), texts="weight").refused
    few = read(tmp_path, table(["1 year", "2 years", "3 years", "10 years"] * 30))
    assert few["weight"].tolist()[:2] == ["1 year", "2 years"]  # classes
    addresses = [f"{row} {street}" for row in range(12) for street in "ABCDEFG"]
    assert not read(tmp_path, table(addresses)).refused


def test_texts_that_differ_in_capitals_alone_are_said(tmp_path):
    contents = read(tmp_path, table(["Yes", "yes", "no", "YES"]))
    assert contents["weight"].tolist() == ["Yes", "yes", "no", "YES"]
    assert contents.notes == (
        "Texts that differ only in capitals count as different, such as 'Yes' and 'yes' in column "
        "weight: write them alike if they mean the same.",
    )


def test_many_different_numbers_and_a_limit_of_detection_are_refused_with_the_cell(tmp_path):
    cells = ["<0.5" if row % 3 == 0 else f"{row / 7:.2f}" for row in range(150)]
    assert read(tmp_path, table(cells)).refused["weight"] == (
        "100 of 150 cells are numbers, but line 2 is '<0.5': correct them, name them with the "
        "option missing, or name the column with the option texts"
    )
    codes = [f"A{row}" if row % 3 == 0 else str(row) for row in range(150)]
    assert not read(tmp_path, table(codes)).refused  # they tell rows apart
