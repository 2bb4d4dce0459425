"""Text files as spreadsheets and programs write them: encodings, separators, names, lines."""

import numpy as np
import pytest

from collective_variables.data._errors import DataError
from collective_variables.data.reading import read_file

TEXT = "größe;stadt\n1,5;Köln\n2,5;Ulm\n"


def read(tmp_path, text, name="a.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(path, **options)


def columns(contents):
    return {name: array.tolist() for name, array in contents.items()}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_encodings_with_and_without_marks_are_found(encoding, ends, tmp_path):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    contents = read(tmp_path, (mark + TEXT.replace("\n", ends)).encode(encoding))
    assert columns(contents) == {"größe": [1.5, 2.5], "stadt": ["Köln", "Ulm"]}
    assert contents.notes == ("Decimal commas are read as such: '1,5' is 1.5 in column größe.",)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_found(encoding, tmp_path):
    assert list(read(tmp_path, TEXT.encode(encoding))) == ["größe", "stadt"]


def test_windows_1252_is_read_and_said_with_a_word(tmp_path):
    text = TEXT + '3,5;"Rue de l’Été – 5 € · São"\n'
    contents = read(tmp_path, text.encode("cp1252"))
    assert columns(contents) == {
        "größe": [1.5, 2.5, 3.5],
        "stadt": ["Köln", "Ulm", "Rue de l’Été – 5 € · São"],
    }
    assert contents.notes[0] == (
        "a.csv is not UTF-8 and was read as Windows-1252, such as 'größe': if that is wrong, name "
        "its encoding with the option encoding."
    )
    asked = read(tmp_path, text.encode("cp1252"), encoding="cp1252")
    assert columns(asked) == columns(contents) and len(asked.notes) == 1


@pytest.mark.parametrize(
    "encoding, text",
    [
        ("cp1251", "имя,город\nпривет,x\n"),
        ("shift_jis", "名前,都市\n東京都,x\n"),
        ("cp850", TEXT),
        ("iso8859-7", "όνομα,y\nΑθήνα,x\n"),
    ],
)
def test_another_encoding_is_asked_for_and_then_read(encoding, text, tmp_path):
    with pytest.raises(
        DataError, match=r"a.csv is not UTF-8 \(line 1\), UTF-16 or Windows-1252: name its encoding"
    ):
        read(tmp_path, text.encode(encoding))
    contents = read(tmp_path, text.encode(encoding), encoding=encoding)
    assert columns(contents) == columns(read(tmp_path, text))


def test_a_damaged_byte_of_utf_8_is_named_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"a.csv is not UTF-8 \(line 4\)"):
        read(tmp_path, TEXT.encode() + b"3;\xff\n")
    with pytest.raises(DataError, match="a.csv cannot be decoded as ascii"):
        read(tmp_path, TEXT, encoding="ascii")
    for name in ("latin-99", "zip"):
        with pytest.raises(DataError, match=f"must be the name of an encoding.*received '{name}'"):
            read(tmp_path, TEXT, encoding=name)


@pytest.mark.parametrize(
    "text, names",
    [
        ('"price, EUR";"area, m2";y\n1,5;2;3\n2,5;3;4\n', ["price, EUR", "area, m2", "y"]),
        ("price, EUR;area, m2;y\n1,5;2;3\n2,5;3;4\n", ["price, EUR", "area, m2", "y"]),
        ("a, b\tc, d\n1\t2\n3\t4\n", ["a, b", "c, d"]),
        ('"a;b","c;d"\n1,2\n3,4\n', ["a;b", "c;d"]),
        ("a;b,c\n1,2\n3,4\n", ["a;b", "c"]),
        ("a|b\n1|2\n3|4\n", ["a", "b"]),
        ("sep=;\na;b\n1;2\n3;4\n", ["a", "b"]),
        ('"sep=|"\r\na|b\r\n1|2\r\n3|4\r\n', ["a", "b"]),
        ("SEP=\t\na\tb\n1\t2\n3\t4\n", ["a", "b"]),
        ("sep=^\na^b\n1^2\n3^4\n", ["a", "b"]),
        ("\n \na,b\n1,2\n3,4\n", ["a", "b"]),
        ("a ,  b\tc \n1,2\n3,4\n", ["a", "b c"]),
        ("a,b,\n1,2,\n3,4,\n", ["a", "b"]),  # separators at the ends of lines
        ("a,b,,\n1,2,,\n3,4,,\n", ["a", "b"]),
        ("a,b\n1,2,\n3,4,\n", ["a", "b"]),
        ("a,b,\n1,2\n3,4\n", ["a", "b"]),
        ("a,,b\n1,,2\n3,,4\n", ["a", "b"]),
        ("a\n1\n3\n", ["a"]),
        ('"a\nb",c\n1,2\n3,4\n', ["a b", "c"]),
    ],
)
def test_names_and_separators_are_found(text, names, tmp_path):
    contents = read(tmp_path, text)
    assert list(contents) == names and not contents.refused
    assert all(len(array) == 2 and array.dtype.kind in "if" for array in contents.values())


def test_columns_without_a_name_are_called_as_in_pandas(tmp_path):
    contents = read(tmp_path, "a,,b,\n1,2,3,4\n5,6,7,8\n")
    assert list(contents) == ["a", "Unnamed: 1", "b", "Unnamed: 3"]
    assert contents.notes == ("Columns of a.csv without a name are called Unnamed: 1, Unnamed: 3.",)


@pytest.mark.parametrize("rows", [["1", "2"], ["Mazda", "Fiat"]])
def test_names_of_rows_as_r_writes_them_are_a_column(rows, tmp_path):
    contents = read(tmp_path, f'"a","b"\n"{rows[0]}",1,2\n"{rows[1]}",3,4\n')
    assert list(contents) == ["Unnamed: 0", "a", "b"]
    assert contents["a"].tolist() == [1, 3] and list(map(str, contents["Unnamed: 0"])) == rows
    assert 'and is called "Unnamed: 0"' in contents.notes[0]


def test_columns_between_spaces_are_named_as_such(tmp_path):
    with pytest.raises(DataError, match="The columns of a.csv seem to be separated by spaces"):
        read(tmp_path, "a b c\n1 2  3\n4 5  6\n")
    assert list(read(tmp_path, "my column\n1\n2\n")) == ["my column"]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"PK\x03\x04\x14\0\x06", "but a spreadsheet or an archive: save the sheet as a text file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "but an old spreadsheet: save the sheet"),
        (b"\x1f\x8b\x08\0", "but compressed: unpack it"),
        (b"PAR1\x15\x04", "but a Parquet file: end its name in .parquet"),
    ],
)
def test_what_is_no_text_file_is_named(content, words, tmp_path):
    with pytest.raises(DataError, match=f"^a.csv is not a text file {words}"):
        read(tmp_path, content)
    with pytest.raises(DataError, match="received .xlsx. Save the sheet as a text file.$"):
        read(tmp_path, content, name="a.xlsx")


def test_a_title_above_the_names_is_named_as_such(tmp_path):
    rows = "".join(f"S{row},{row},{row}.5\n" for row in range(9))
    for text in (
        "Report 2020\na;b\n1;2\n",
        "# exported\na,b,c\n1,2,3\n",
        f"# XRD-7\n# Jane; 2020-01-02\na,b,c\n{rows}",
    ):
        with pytest.raises(DataError, match="must begin with the names of its columns: its first"):
            read(tmp_path, text)


@pytest.mark.parametrize(
    "title",
    [
        "Results of 2020,,\n",
        "Results,2020,\n\n",
        "Results, of 2020\n",
        "Results,,\nExported on,01/02/2020,\n",
    ],
)
def test_names_below_a_title_with_separators_are_shown(title, tmp_path):
    rows = "".join(f"S{row},{row},{row}.5\n" for row in range(9))
    with pytest.raises(DataError) as caught:
        read(tmp_path, f"{title}sample,load,life\n{rows}")
    assert str(caught.value) == (
        "a.csv must begin with the names of its columns: they seem to be 'sample', 'load', 'life' "
        "below 'Results'. Remove the lines before the names."
    ).replace("'Results'", repr(title.split(",")[0]))


def test_columns_without_a_name_are_no_title(tmp_path):
    rows = "".join(f"S{row},{row},{row}.5\n" for row in range(9))
    assert list(read(tmp_path, f"sample,load,\nS,NA,?\n{rows}"))[:2] == ["sample", "load"]


def test_units_below_the_names_are_named_as_such(tmp_path):
    rows = "".join(f"S{row},{row},{row}.5\n" for row in range(9))
    text = f"sample,temperature,pressure\n-,°C,bar\n{rows}"
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == (
        "The line below the names of a.csv seems to hold units or further names, such as '°C' in "
        "column temperature: remove it if so, or else name its cells with the option missing."
    )
    contents = read(tmp_path, text, missing=["°C", "bar"])
    np.testing.assert_array_equal(contents["temperature"], [np.nan, *range(9)])
    alone = read(tmp_path, text.replace("bar", "1"))  # one word is an error of its column
    assert (
        "line 2 is '°C': delete that line if it is not a row of data"
        in alone.refused["temperature"]
    )


@pytest.mark.parametrize(
    "line, place", [("Source: laboratory,", "line 12"), ("load,life", "line 12")]
)
def test_a_footnote_and_names_that_are_repeated_are_no_rows(line, place, tmp_path):
    rows = [f"{row},{row}.5" for row in range(10)]
    text = "\n".join(["load,life", *rows, line, *(rows if "load" in line else []), ""])
    reason = read(tmp_path, text).refused["load"]
    assert (
        f"{place} is {line.split(',')[0]!r}: delete that line if it is not a row of data" in reason
    )
    with pytest.raises(DataError, match="received 1. Delete it if it is not a row of data.$"):
        read(tmp_path, "\n".join(["load,life", *rows, "Source: laboratory", ""]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_may_have_line_breaks(encoding, tmp_path):
    rows = "".join(f"{row},x,{row}.5\n" for row in range(9))
    text = f'"Temp\n(°C)","Sort\nof sample",y\n{rows}nine,x,9.5\n'
    contents = read(tmp_path, text.encode(encoding))
    assert list(contents) == ["Temp (°C)", "Sort of sample", "y"]
    assert "line 13 is 'nine'" in contents.refused["Temp (°C)"]


SALES = [f"Shop {row},{row + 1},{10 * row}.1,{row * row}" for row in range(12)]


@pytest.mark.parametrize("name", ["Total", "Alles", ""])
def test_a_row_of_sums_is_an_error_whatever_it_is_called(name, tmp_path):
    text = "\n".join(["shop,staff,area,sales", *SALES, f"{name},78,661.2,506", ""])
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == (
        "The last row of a.csv, line 14, holds sums of the rows above it, such as 78 in column "
        "staff: delete it."
    )
    assert len(read(tmp_path, text.replace("78,661.2,506", "7,8.5,9"))["staff"]) == 13


def test_numbers_that_add_up_by_chance_are_data(tmp_path):
    rows = [f"{row % 6 // 5},{(-1) ** row}" for row in range(21)]
    text = "\n".join(["defects,sign", *rows, "3,1", ""])
    assert len(read(tmp_path, text)["defects"]) == 22  # of few that are not 0, and of signs


def test_a_row_that_a_word_calls_a_total_is_noted(tmp_path):
    text = "\n".join(["shop,staff,area,sales", *SALES, "Mean:,6.5,55.1,42", ""])
    assert read(tmp_path, text).notes == (
        "Line 14 of a.csv seems to hold totals of the rows above it, by 'Mean:' in column shop: if "
        "so, delete it.",
    )
    assert len(read(tmp_path, text + "Maximum,12,110.1,121\n").notes) == 1
    assert len(read(tmp_path, text + "Sum,6,110.1,121\n").notes) == 2
    assert read(tmp_path, text.replace("Shop 3", "Mean:")).notes == ()  # a name like others


ROWS = [
    "1000,2015-04-08,108.5,3,2010,Mitte,no,250000",
    "1001,2015-05-08,98.5,4,2011,Nord,yes,260000",
    "1002,2016-05-08,88.5,,1999,Nord,yes,261000",
]


@pytest.mark.parametrize(
    "lines, shown",
    [
        (ROWS, "1000"),
        (["5.1,3.5,setosa", "4.9,3.0,setosa"], "5.1"),
        (["Ulm,5", "Bonn,7"], "5"),
        (["5", "7", "6"], "5"),
        (["31.12.2015;1,5", "01.01.2016;2,5"], "31.12.2015"),
        (["$1.50\t2", "$2.50\t3"], "$1.50"),
        (["1,1,2", "3,4,5"], "1"),  # names would differ
        (["2010,5.5", "2011,6.5"], "2010"),
        (["1;2", "3;4"], "1"),
    ],
)
def test_a_file_without_names_keeps_its_first_row(lines, shown, tmp_path):
    contents = read(tmp_path, "\n".join(lines))
    assert len(contents["0"]) == len(lines)
    assert list(contents) == [str(number) for number in range(len(contents))]
    assert contents.notes[0].startswith(
        f"a.csv has no line of names: its first line holds {shown!r}, as the lines after it do."
    )
    asked = read(tmp_path, "\n".join(lines), header=False)
    assert columns(asked).keys() == columns(contents).keys()
    assert len(asked["0"]) == len(lines) and len(asked.notes) == len(contents.notes) - 1


@pytest.mark.parametrize(
    "text, doubt",
    [
        ("country,2010,2011\nDE,5,6\nFR,7,8\n", None),
        ("id,2020-01-01,2020-02-01\n1,5,6\n2,7,8\n", None),
        (",0,1\n0,1.5,2.5\n1,3.5,4.5\n", None),  # of pandas, without names
        ("area,108.5\n5,6\n7,8\n", "108.5"),
        ("1,2,3\n4,5,6\n7,8,9\n", "1"),
        ("400,405,410,415\n0.1,0.2,0.3,0.1\n0.1,0.2,0.3,0.2\n", "400"),  # wavelengths
        ("1950,Ulm\n1700,Bonn\n2300,Ulm\n", "1950"),
        ("a,b\nx,y\nz,u\n", None),
        ("a,NA\n1,2\n3,4\n", None),
    ],
)
def test_names_that_are_numbers_are_names_and_said_where_it_is_doubtful(text, doubt, tmp_path):
    contents = read(tmp_path, text)
    assert len(contents[next(iter(contents))]) == len(text.splitlines()) - 1
    expected = f"The first line of a.csv was taken for names, though it holds {doubt!r}: "
    assert [note.startswith(expected) for note in contents.notes] == ([True] if doubt else [])
    assert len(next(iter(read(tmp_path, text, header=False).values()))) == len(text.splitlines())


def test_messages_count_lines_as_an_editor_does(tmp_path):
    text = 'sep=;\n\na;b\n1;"x\ny"\n\n2;x\n3;x\n4;x\n5;x\n6;x\nseven;x\n\n\n'
    contents = read(tmp_path, text)
    assert contents["a"].tolist() == ["1", "2", "3", "4", "5", "6", "seven"]
    assert "6 of 7 cells are numbers, but line 12 is 'seven'" in contents.refused["a"]
    assert contents.notes == ("Blank lines of a.csv are not counted as rows: 6.",)
    plain = read(tmp_path, "a\n1\n2\n3\n4\nfive\n")
    assert "line 6 is 'five'" in plain.refused["a"] and plain.notes == ()


def test_empty_rows_are_no_rows(tmp_path):
    contents = read(tmp_path, "a;b\n1,5;x\n2,5;y\n;\n;\n")
    assert columns(contents) == {"a": [1.5, 2.5], "b": ["x", "y"]}
    assert contents.notes[0] == "Rows without a cell at the end of a.csv are left out: 2."
    rows = "".join(f"{row};x\n" for row in range(3, 9))
    contents = read(tmp_path, f"a;b\n1;x\n;\n2;y\n{rows}nine;y\n;\n")
    assert contents["a"].tolist() == [*"12345678", "nine"]
    assert (
        contents.notes[0] == "Rows of a.csv without a cell are not counted: 2, the first in line 3."
    )
    assert "line 11 is 'nine'" in contents.refused["a"]  # the empty row counts as a line
    with pytest.raises(DataError, match="must hold at least one row"):
        read(tmp_path, "a;b\n;\n;\n")
    with pytest.raises(DataError, match="must hold at least one column"):
        read(tmp_path, ";\n;\n;\n")


@pytest.mark.parametrize(
    "text, message",
    [
        ("a,b\n1,2\n\n3\n", "Line 4 of a.csv must have 2 cells, as the first one has: received 1"),
        ('a,b\n"1\n2",2\n3,4,5\n', "Line 4 of a.csv must have 2 cells.*: received 3"),
        ("a;b\n1,5;2\n3;4;5\n".encode("utf-16"), "Line 3 of a.csv must have 2 cells"),
        ('a,b\n1,"x\n2,3\n', "Line 2 of a.csv opens quotes that no line closes"),
        ('"a";"b"'.encode("utf-16"), "a.csv must hold at least one row: it holds none"),
        ("a, a\n1,2\n", "name that no other column has: columns 1 and 2 are 'a'"),
        (",Unnamed: 0\n1,2\n", "columns 1 and 2 are 'Unnamed: 0'"),
    ],
)
def test_a_broken_line_is_named_by_its_number(text, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_long_files_are_read_as_short_ones(tmp_path):
    """The separator and the names come from the first lines, all else from the whole file."""
    n_rows = 30_000
    lines = [f"{row};{row % 7};x{row % 5}" for row in range(n_rows)] + ["1,5;3;x"]
    contents = read(tmp_path, "\n".join(["a;b;c", *lines]))
    np.testing.assert_array_equal(contents["a"], [*range(n_rows), 1.5])
    assert contents["c"][-2:].tolist() == ["x4", "x"]
    assert contents.notes == ("Decimal commas are read as such: '1,5' is 1.5 in column a.",)
