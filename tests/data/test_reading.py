"""A user's files: all formats give the same columns; broken and hostile ones are refused."""

import datetime
import io
import pickle
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from collective_variables import _memory
from collective_variables._extras import MissingPackageError
from collective_variables.data._errors import DataError
from collective_variables.data.files import images as image_files
from collective_variables.data.files.contents import one_line_errors
from collective_variables.data.reading import read_file

COLUMNS = {
    "size": np.array([1.5, -2.0, np.nan, 1e150]),
    "rooms": np.array([3, 4, 5, -6]),
    "garden": np.array([True, False, True, True]),
    "town": np.array(["Bonn", "Köln, Süd", None, "Ulm"], dtype=object),
    "built": np.array(
        ["1999-01-31", "2020-12-01", "1870-06-05", "2001-02-03"], dtype="datetime64[s]"
    ),
}


class Malicious:
    """Says so if it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemError('unpickled')",)


def assert_same(contents, expected):
    assert list(contents) == list(expected)
    for name, array in expected.items():
        assert contents[name].dtype == array.dtype, name
        np.testing.assert_array_equal(contents[name], array)


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_parquet_file_has_its_columns(tmp_path):
    pd.DataFrame(COLUMNS).to_parquet(tmp_path / "a.parquet")
    assert_same(read_file(tmp_path / "a.parquet"), COLUMNS)


@pytest.mark.parametrize("separator, ending", [(",", "csv"), (";", "csv"), ("\t", "tsv")])
def test_a_text_file_has_its_columns_by_what_all_of_their_cells_are(separator, ending, tmp_path):
    lines = [
        "size,rooms,garden,town,built",
        "1.5,3,True,Bonn,1999-01-31",
        '-2,4,False,"Köln, Süd",2020-12-01',
        "?,5,True,NA,1870-06-05",
        "1e150,-6,True, Ulm ,2001-02-03",
    ]
    text = "\n".join(
        line.replace("Köln, Süd", "@@").replace(",", separator).replace("@@", "Köln, Süd")
        for line in lines
    )
    # The word of a truth value is a text.
    expected = COLUMNS | {"garden": np.array(["True", "False", "True", "True"], dtype=object)}
    for encoded in (text.encode(), b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n"):
        assert_same(read_file(write(tmp_path / f"a.{ending}", encoded)), expected)


def test_row_numbers_without_a_name_are_named_as_pandas_names_them(tmp_path):
    pd.DataFrame({"a": [1.5, 2.5]}).to_csv(tmp_path / "a.csv")
    expected = {"Unnamed: 0": np.array([0, 1]), "a": np.array([1.5, 2.5])}
    assert_same(read_file(tmp_path / "a.csv"), expected)
    assert_same(read_file(write(tmp_path / "b.csv", '"","a"\n"0",1.5\n"1",2.5\n')), expected)


def test_an_archive_has_its_arrays(tmp_path):
    images = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    arrays = COLUMNS | {"town": np.array(["Bonn", "Köln, Süd", "", "Ulm"]), "images": images}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        assert_same(read_file(tmp_path / "a.npz"), COLUMNS | {"images": images})


def test_an_array_has_its_fields_or_columns(tmp_path):
    table = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for order in (table, np.asfortranarray(table), table.astype(">f8")):
        np.save(tmp_path / "a.npy", order)
        assert_same(read_file(tmp_path / "a.npy"), {"0": table[:, 0], "1": table[:, 1]})
    fields = np.array(
        [(1, 2.5, "x"), (3, 4.5, "y")], dtype=[("n", np.int16), ("f", np.float32), ("t", "U3")]
    )
    np.save(tmp_path / "a.npy", fields)
    expected = {
        "n": np.array([1, 3]),
        "f": np.array([2.5, 4.5]),
        "t": np.array(["x", "y"], dtype=object),
    }
    assert_same(read_file(tmp_path / "a.npy"), expected)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    pixels = {
        name: rng.integers(0, 256, (5, 4), dtype=np.uint8)
        for name in ("cat/a.png", "cat/b.png", "dog/a.png")
    }
    for name, array in pixels.items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(tmp_path / "pets" / name)
    return tmp_path / "pets", pixels


def test_a_folder_has_its_images_and_the_folders_as_classes(images):
    folder, pixels = images
    expected = {
        "image": np.stack(list(pixels.values()))[..., None],
        "file": np.array(list(pixels), dtype=object),
        "class": np.array(["cat", "cat", "dog"], dtype=object),
    }
    assert_same(read_file(folder), expected)
    # One of colours makes all of them so.
    colours = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "dog" / "b.png")
    contents = read_file(folder)["image"]
    np.testing.assert_array_equal(contents[0], np.repeat(pixels["cat/a.png"][..., None], 3, axis=2))
    np.testing.assert_array_equal(contents[3], colours)


def test_images_of_several_sizes_need_one_to_be_asked_for(images):
    folder, _ = images
    Image.fromarray(np.zeros((7, 8), np.uint8)).save(folder / "dog" / "z.png")
    with pytest.raises(
        DataError, match=r"one must be asked for: cat/a.png has 5 x 4 pixels, dog/z.png 7 x 8"
    ):
        read_file(folder)
    assert read_file(folder, image_size=(6, 3))["image"].shape == (4, 6, 3, 1)


def test_images_in_one_folder_have_no_class(images):
    folder, pixels = images
    assert list(read_file(folder / "cat")) == ["image", "file"]
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(folder / "a.png")
    assert read_file(folder)["class"].tolist() == [None, "cat", "cat", "dog"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a,b\n1,2\n3\n", "Line 3 of a.csv must have 2 cells, as the first one has: received 1"),
        (
            "a,b\n1,2\n3,4,5\n",
            "Line 3 of a.csv must have 2 cells, as the first one has: received 3",
        ),
        (
            "a,a\n1,2\n",
            "Each column of a.csv must have a name that no other column has: columns 1 and 2 are "
            "'a'",
        ),
        (
            ",Unnamed: 0\n1,2\n",
            "must have a name that no other column has: columns 1 and 2 are 'Unnamed: 0'",
        ),
        ("", "a.csv must begin with a line of names: received ''"),
        ("\n\n", "a.csv must begin with a line of names"),
        ("a,b\n", "must hold at least one row: it holds none"),
        (b"a\0b,c\n1,2\n", "a.csv must begin with a line of names"),
        (b"a,b\n1,\x81\xfe\n", r"a.csv is not UTF-8 \(line 2\), UTF-16 or Windows-1252"),
        (b"\xff\xfea\0b", "a.csv is not UTF-8, UTF-16 or Windows-1252"),
        (
            ",".join(f"c{i}" for i in range(10**6)) + "\n",
            "a.csv must have at most 10000 columns: its first line has about",
        ),
        (
            ",".join(f"c{i}" for i in range(10001)) + "\n",
            "a.csv must have at most 10000 columns: it has 10001",
        ),
    ],
)
def test_a_text_file_that_is_broken_or_hostile_is_refused_in_one_sentence(text, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        read_file(write(tmp_path / "a.csv", text))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def npy(array_header, payload=b""):
    header = array_header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload


BROKEN_ARRAYS = [
    (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10, 2)}", b"\0" * 8),
        "must have 288 bytes by its header: received 136",
    ),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 2)}"), "by its header"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", b"\0" * 8), "broken"),
    (npy("__import__('os').system('true')"), "broken"),
    (b"\x93NUMPY\x09\x00" + b"\0" * 200, "must be in version 1.0 or 2.0"),
    (b"", "broken"),
    (b"no array", "broken"),
]


def npy_of(values):
    buffer = io.BytesIO()
    np.save(buffer, np.array(values))
    return buffer.getvalue()


@pytest.mark.parametrize("content, message", BROKEN_ARRAYS)
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_an_array_that_is_broken_or_hostile_is_refused_in_one_sentence(
    content, message, name, tmp_path
):
    if name == "a.npz":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_file(tmp_path / name)
    assert "\n" not in str(caught.value)


OBJECTS = npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", pickle.dumps([Malicious()]))


def test_objects_are_not_unpickled_and_refuse_their_column_alone(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", OBJECTS)
        archive.writestr("y.npy", npy_of([1.5, 2.5]))
    contents = read_file(tmp_path / "a.npz")
    assert list(contents) == ["x", "y"] and contents["y"].tolist() == [1.5, 2.5]
    assert contents.refused == {
        "x": "it holds Python objects, which would have to be unpickled: save numbers (by "
        "numpy.stack, if each object is an array) or texts (with empty ones where one is missing)"
    }
    write(tmp_path / "a.npy", OBJECTS)
    with pytest.raises(DataError, match="The array of a.npy cannot be used: it holds Python obj"):
        read_file(tmp_path / "a.npy")


def test_arrays_that_hold_something_else_refuse_their_column_alone(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        x=[1.5, 2.5],
        y=[1, 2],
        made_by="me",
        z=np.array([1j, 2]),
        t=np.array([["a", "b"], ["c", "d"]]),
        d=np.array([1, 2], dtype="timedelta64[s]"),
        long=[1, 2, 3],
        s=np.array([b"\xff", b"a"]),
    )
    contents = read_file(tmp_path / "a.npz")
    assert all(len(array) == 2 for array in contents.values())
    kinds = "it must hold numbers, truth values, dates or texts: it holds"
    assert contents.refused == {
        "made_by": "it has 0 rows, and other columns have 2",
        "z": f"{kinds} complex128",
        "t": "texts must be a column: it has the shape (2, 2)",
        "d": f"{kinds} timedelta64[s]",
        "long": "it has 3 rows, and other columns have 2",
        "s": "its texts are not UTF-8",
    }


def test_a_lone_array_must_have_columns(tmp_path):
    for shape in ((), (2,)):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        with pytest.raises(DataError, match="must have fields, or rows along the first of at le"):
            read_file(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", "a/b.npy", "a\\b.npy", "x.pkl", ".npy"])
def test_an_archive_holds_arrays_with_plain_names_only(name, tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(name, buffer.getvalue())
    with pytest.raises(
        DataError, match="must hold arrays NAME.npy only|must have a name that no other column has"
    ):
        read_file(tmp_path / "a.npz")


def test_what_would_not_fit_the_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "_machine_free", lambda: 2**27)
    n_bytes = 2**28
    # A bomb: 256 KiB that unpack to 256 MiB.
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as file,
    ):
        file.write(npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({n_bytes},)}}"))
        for _ in range(n_bytes // 2**20):
            file.write(bytes(2**20))
    with pytest.raises(MemoryError, match="The arrays of a.npz need 0.3 GiB, and 0.1 GiB are free"):
        read_file(tmp_path / "a.npz")
    pd.DataFrame({"x": np.zeros(2**24, np.int8)}).to_parquet(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    with pytest.raises(MemoryError, match="The cells of a.parquet need 0.2 GiB"):
        read_file(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "values, kind",
    [
        ([{"a": 1}, {"a": 2}], "struct<a: int64>"),
        ([b"a", b"b"], "binary"),
        (pd.to_timedelta([1, 2], "s"), "duration"),
        ([datetime.time(1), datetime.time(2)], "time64"),
    ],
)
def test_a_column_of_something_else_is_refused_alone(values, kind, tmp_path):
    pd.DataFrame({"x": values, "y": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    contents = read_file(tmp_path / "a.parquet")
    assert contents["y"].tolist() == [1, 2] and list(contents.refused) == ["x"]
    assert contents.refused["x"].startswith(
        f"it must hold numbers, truth values, dates or texts: it holds {kind}"
    )


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_parquet_file_that_is_none_is_refused(content, tmp_path):
    with pytest.raises(DataError, match="a.parquet is broken or not what its ending says"):
        read_file(write(tmp_path / "a.parquet", content))


def test_images_that_are_broken_hostile_or_elsewhere_are_refused(images, tmp_path, monkeypatch):
    folder, _ = images
    bad = folder / "dog" / "b.png"
    bad.write_bytes((folder / "dog" / "a.png").read_bytes()[:60])
    with pytest.raises(DataError, match="b.png is broken or not what its ending says"):
        read_file(folder)
    bad.unlink()
    Image.fromarray(np.zeros((5, 4), np.uint16)).save(bad)
    with pytest.raises(DataError, match="b.png must have 8 bits for each colour"):
        read_file(folder)
    bad.unlink()
    outside = tmp_path / "secret.png"
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(outside)
    bad.symlink_to(outside)
    with pytest.raises(DataError, match="b.png is a link out of"):
        read_file(folder)
    bad.unlink()
    monkeypatch.setattr(image_files, "MAX_PIXELS", 19)
    with pytest.raises(DataError, match="a.png must have at most 19 pixels: it has 4 x 5"):
        read_file(folder)


def test_a_failure_to_read_is_told_from_a_broken_file(tmp_path):
    path = tmp_path / "a.csv"
    denied = PermissionError(13, "Permission denied", str(path))
    for error, kind, message in (
        (denied, DataError, "^a.csv cannot be read: Permission denied.$"),
        (KeyError(), DataError, "^a.csv is broken or not what its ending says: KeyError$"),
        (MemoryError("large"), MemoryError, "^large$"),
        (MissingPackageError("pyarrow"), MissingPackageError, "^pyarrow$"),
    ):
        with pytest.raises(kind, match=message), one_line_errors(path.name):
            raise error


def test_there_must_be_a_file_of_a_known_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file or folder .*a.csv"):
        read_file(tmp_path / "a.csv")
    with pytest.raises(
        DataError,
        match="a.xlsx must end in .csv, .tsv, .* or be a folder of images: received .xlsx",
    ):
        read_file(write(tmp_path / "a.xlsx", "x"))
    with pytest.raises(DataError, match="must hold images"):
        read_file(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.ones(3), y=np.ones(4))
    with pytest.raises(DataError, match="must have equally many rows: x 3, y 4"):
        read_file(tmp_path / "a.npz")
