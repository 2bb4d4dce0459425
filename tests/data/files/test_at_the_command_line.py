"""Files as people have them, given to the command line: rows, notes and exit codes."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from collective_variables.cli.main import main

GERMAN = """sep=;
fläche ;preis;datum;lage
1.234;10,5;31.12.2015;Köln
987;11,5;01.02.2016;Ulm
2.050;n/a;03.04.2016;Ulm
850;13,5 ;05.06.2016;Bonn
1.100;12,5;07.08.2016;Köln
1.200;#NV;07.08.2016;Köln
"""


@pytest.fixture
def select(tmp_path, monkeypatch, capsys):
    """Run `select` on a file; return its exit code, the rows, and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(content, *arguments, name="a.csv"):
        if content is not None:
            (tmp_path / name).write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
        code = main(["select", name, "--n-points", "1", "--method", "random", *arguments])
        output = capsys.readouterr()
        return code, output.out.split(), output.err

    return run


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_german_spreadsheet_is_read_and_what_was_done_is_said(encoding, select):
    code, rows, said = select(GERMAN.encode(encoding), "--target", "preis")
    assert code == 0 and len(rows) == 1
    assert rows[0] in ("2", "5")  # the rows without a price
    for note in (
        "Separators between thousands are left out: '1.234' is 1234 in column fläche.",
        "Decimal commas are read as such: '10,5' is 10.5 in column preis.",
        "Cells taken for missing values: 1 of 'n/a', the first in line 5, in column preis.",
        "Cells taken for missing values: 1 of '#NV', the first in line 8, in column preis.",
    ):
        assert note in said
    assert ("read as Windows-1252, such as 'fläche'" in said) == (encoding == "cp1252")


def test_all_columns_that_cannot_be_used_are_listed_at_once(select):
    rows = [f"{row},{row}.5,{row},01/02/20{10 + row}" for row in range(10)]
    rows[3] = "3,<5,3 kg,01/02/2013"
    text = "\n".join(["n,x,y,d", *rows, ""])
    code, output, said = select(text)
    assert code == 2 and output == []
    error = said[said.index("error: ") :]
    assert error.count("\n") == 1
    for words in (
        "9 of 10 cells are numbers, but line 5 is '<5'",
        "9 of 10 cells are numbers, but line 5 is '3 kg'",
        "'01/02/2010' in line 2 may have the day or the month first",
    ):
        assert words in error
    code, output, _ = select(text, "--missing", "<5", "3 kg", "--day-first")
    assert code == 0 and len(output) == 1
    code, output, _ = select(text, "--texts", "x", "y", "--no-day-first")
    assert code == 0 and len(output) == 1
    code, output, _ = select(text, "--ignore", "x", "y", "d")
    assert code == 0 and len(output) == 1


def test_a_file_without_names_is_counted_whole(select):
    text = "".join(f"{row}.5,{row % 3},{row % 2}.25\n" for row in range(10))
    code, _, said = select(text)
    assert code == 0
    assert "10 rows" in said and "a.csv has no line of names" in said
    code, _, said = select(text, "--header")
    assert code == 0 and "9 rows" in said


def test_what_is_wrong_with_an_ignored_column_does_not_matter(select, tmp_path):
    frame = pd.DataFrame({"x": np.arange(10) / 4, "y": [1e300, *range(9)], "l": [["a"]] * 10})
    frame.to_parquet(tmp_path / "a.parquet")
    code, _, said = select(None, name="a.parquet")
    assert code == 2
    assert "row 0 is 1e+300, and numbers must be at most 1e+150 in size" in said
    assert "it holds list<element: string>" in said
    code, rows, _ = select(None, "--ignore", "y", "l", name="a.parquet")
    assert code == 0 and len(rows) == 1


def test_a_folder_of_photos_is_read_as_a_viewer_shows_it(select, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6), 90, np.uint8)).save(tmp_path / "pets" / name, exif=exif)
    Image.fromarray(np.full((6, 4), 90, np.uint8)).save(tmp_path / "pets" / "dog" / "1.jpg")
    for name in ("@eaDir/0.jpg", ".thumbnails/0.jpg", "cat/.1.jpg", "cat/notes.txt"):
        (tmp_path / "pets" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(b"x")
    code, rows, said = select(None, name="pets")
    assert code == 0 and len(rows) == 1
    assert "1 file is left out of the images of pets" in said and "cat/notes.txt" in said
    (tmp_path / "pets" / "dog" / "0.jpg").write_bytes(b"x")
    code, rows, said = select(None, name="pets")
    assert code == 2 and rows == [] and "dog/0.jpg is broken" in said


def test_an_empty_row_is_not_selected_and_a_row_of_sums_is_refused(select):
    rows = [f"{row},{row * row},{row % 5}.5" for row in range(20)]
    text = "\n".join(["load,speed,life", *rows[:7], ",,", *rows[7:]])
    code, chosen, said = select(text + "\n", "--target", "life", "--method", "k-center")
    assert code == 0 and len(chosen) == 1 and "20 rows, regression" in said
    assert "Rows of a.csv without a cell are not counted: 1, the first in line 9." in said
    code, chosen, said = select(text + "\n190,2470,50\n", "--target", "life")
    assert code == 2 and chosen == []
    assert "The last row of a.csv, line 23, holds sums of the rows above it, such as 190" in said
