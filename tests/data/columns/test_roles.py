"""What columns are for: names as people type them, and ids and row numbers that are no inputs."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from collective_variables.cli import main
from collective_variables.data._errors import DataError
from collective_variables.data.columns import identities
from collective_variables.data.encoding import encode_table, read_table

N = 40
RNG = np.random.default_rng(0)
AREA = RNG.normal(size=N)
SHUFFLED = RNG.permutation(N)
GAPS = np.flatnonzero(RNG.random(2 * N) < 0.7)[:N]  # what a filter leaves of row numbers
HASHES = np.array([f"{number:08x}" for number in RNG.choice(2**32, N, replace=False)], object)


def texts(*values):
    return np.array(values, dtype=object)


def encode(columns, targets="price", **options):
    return encode_table(columns | {"area": AREA, "price": 2 * AREA}, targets, **options)


def role(table, name):
    return table.columns.set_index("column").loc[name, "role"]


@pytest.mark.parametrize(
    "name, values, why",
    [
        ("id", 1001 + np.arange(N), "an id"),
        ("ID", SHUFFLED, "an id"),
        ("house_id", RNG.choice(10**9, N, replace=False), "an id"),
        ("PassengerId", np.arange(1, N + 1), "an id"),
        ("customerid", GAPS, "an id"),
        ("id", GAPS.astype(float), "an id"),
        ("id", texts(*"abcdefghij" * 4), None),
        ("sample id", np.repeat(np.arange(N // 2), 2), "an id"),
        ("uuid", HASHES, "an id"),
        ("Kunden-Nr", GAPS, "an id"),
        ("store_id", np.arange(N) % 5, None),
        ("humid", GAPS * 7, None),
        ("id", AREA, None),
        ("Unnamed: 0", SHUFFLED, "an index"),
        ("Unnamed: 0", GAPS, "an index"),
        ("Unnamed: 0", np.tile(np.arange(N // 2), 2), "an index"),
        ("Unnamed: 0.1", np.arange(N), "an index"),
        ("Unnamed: 0", HASHES, "an index"),
        ("Unnamed: 0", np.arange(N) % 3, None),
        ("__index_level_0__", GAPS, "an index"),
        ("level_0", SHUFFLED, "an index"),
        ("index", GAPS, "row numbers"),
        ("Row Number", SHUFFLED, "row numbers"),
        ("No", np.arange(1, N + 1), "row numbers"),
        ("a", np.arange(N), "row numbers"),
        ("a", np.arange(1, N + 1), "row numbers"),
        ("a", np.arange(7, N + 7), "row numbers"),
        ("a", SHUFFLED, "row numbers"),
        ("a", SHUFFLED + 1.0, "row numbers"),
        ("a", GAPS, "row numbers"),
        ("a", RNG.permutation(GAPS), "row numbers"),
        ("a", 10 * np.arange(N), None),
        ("a", RNG.integers(0, 50, N), None),
        ("a", RNG.choice(10**6, N, replace=False), None),
        ("year", 1980 + np.arange(N), None),
        ("time", np.arange(N), None),
        ("a", np.arange(N) / 2, None),
        ("name", HASHES, "nearly every text is different"),
        ("name", texts(*HASHES[:-3], *HASHES[:3]), "nearly every text is different"),
        ("name", texts(*HASHES[:-9], *([None] * 9)), "nearly every text is different"),
        ("town", texts(*(["Ulm", "Bonn", "Köln", "Kiel"] * 10)), None),
        ("town", texts(*HASHES[:8], *HASHES[:32]), None),
        ("garden", np.arange(N) % 2 == 0, None),
    ],
)
def test_columns_that_only_tell_rows_apart_are_no_inputs(name, values, why):
    table = encode({name: values})
    note = [note for note in table.notes if note.startswith("Left out:")]
    if why is None:
        assert role(table, name) == "input" and name in table.sources and not note
    else:
        assert table.features == ("area",)
        assert note == [f"Left out: {name} ({why}). --use NAME makes a column an input."]
        assert "tells rows apart: --id" not in " ".join(table.notes) or table.identity == name
    used = encode({name: values}, used=name) if len(set(values)) <= 50 else None
    assert used is None or (role(used, name) == "input" and name in used.sources)


ORDERS = {"all": np.arange(N), "shuffled": SHUFFLED, "gaps": GAPS, "float": GAPS + 0.0}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "reset.csv", "reset.parquet", "named.csv"])
def test_what_pandas_saves_has_no_row_numbers_among_its_inputs(name, order, tmp_path):
    frame = pd.DataFrame({"x": AREA, "y": 2 * AREA}, index=order)
    frame = frame.reset_index() if "reset" in name else frame
    frame.index.name = "row" if "named" in name else None
    (frame.to_csv if name.endswith("csv") else frame.to_parquet)(tmp_path / name)
    table = read_table(tmp_path / name, "y")
    assert table.features == ("x",)
    expected = np.arange(N) if name == "reset.csv" else order
    assert table.identities.tolist() == [str(int(number)) for number in expected]


def test_a_file_as_r_writes_it_has_no_row_names_among_its_inputs(tmp_path):
    path = tmp_path / "cars.csv"
    rows = [f'"{name}",{area},{2 * area}' for name, area in zip(HASHES, AREA)]
    path.write_text('"","mpg","price"\n' + "\n".join(rows) + "\n")
    table = read_table(path, "price")
    assert table.features == ("mpg",) and table.identities.tolist() == HASHES.tolist()


@pytest.mark.parametrize("scale", [2.0**1018, 2**58])
def test_numbers_too_large_to_count_rows_are_no_row_numbers(scale):
    charges = np.array([scale * (number - N // 2) for number in range(N)])
    assert not identities.may_number_rows("charge", charges)


def test_what_may_number_rows_is_pointed_out_if_it_is_used():
    note = (
        'Column "year" looks like a row number but is used as an input: '
        "ignore it unless the order of the rows matters."
    )
    years = 1980 + np.arange(N)
    assert encode({"year": years}).notes == (note,)
    assert encode({"year": years}, ignored="year").notes == ()
    assert encode({"id": GAPS}, used="id").notes == ()
    # A table numbers its rows once; ranks are inputs.
    ranks = {name: RNG.permutation(N) for name in "abcde"}
    assert encode(ranks).notes == (
        "Left out: a (row numbers). --use NAME makes a column an input.",
        "Columns b, c, d, e look like row numbers but are used as inputs: "
        "ignore them unless the order of the rows matters.",
        "a tells rows apart: --id a gives rows by it.",
    )


def test_row_numbers_that_only_their_values_give_away_are_inputs_if_nothing_else_is_left():
    table = encode_table({"x": np.arange(N), "y": AREA}, "y")
    assert table.features == ("x",) and "looks like a row number" in table.notes[0]
    columns = {"x": np.arange(N), "key": HASHES, "y": AREA}
    assert encode_table(columns, "y", identity="key").features == ("x",)
    assert encode_table(columns | {"z": AREA}, "y", used="z").features == ("z",)
    with pytest.raises(DataError, match="must be a column besides .*received id, y only. --use"):
        encode_table({"id": np.arange(N), "y": AREA}, "y")


def test_the_identity_is_the_column_that_is_asked_for_and_its_values_are_texts():
    days = np.datetime64("2020-01-01", "s") + np.arange(N).astype("timedelta64[D]")
    columns = {"number": GAPS.astype(float), "day": days, "key": HASHES}
    for name, expected in [
        ("number", list(map(str, GAPS))),
        ("day", [str(day)[:10] for day in days]),
        ("key", HASHES.tolist()),
    ]:
        table = encode(columns, identity=name)
        assert table.identity == name and table.identities.tolist() == expected
        assert role(table, name) == "identity" and name not in table.sources
    table = encode(columns, identity="number", used="number")
    assert "number" in table.sources and table.identities[0] == str(GAPS[0])
    table = encode(columns, identity="number", ignored="number")
    assert "number" not in table.sources and table.identities[0] == str(GAPS[0])
    hours = days + np.timedelta64(3600, "s")
    assert encode({"t": hours}, identity="t").identities[0] == "2020-01-01T01:00:00"


def test_without_being_asked_the_first_id_with_a_value_of_its_own_in_each_row_is_the_identity():
    repeated = texts(*HASHES[:-1], HASHES[0])
    columns = {"Unnamed: 0": GAPS, "name": repeated, "house_id": 7 * SHUFFLED, "key": HASHES}
    table = encode(columns)
    assert table.identity == "house_id" and table.identities[3] == str(7 * SHUFFLED[3])
    assert table.notes == (
        "Left out: Unnamed: 0 (an index), name (nearly every text is different), "
        "house_id (an id), key (an id). --use NAME makes a column an input.",
        "house_id tells rows apart: --id house_id gives rows by it.",
    )
    assert encode({"name": repeated}).identity is None
    assert encode({}).identities is None


CODES = [f"{number:04d}" for number in SHUFFLED]
MIXED = [*map(str, range(100, 100 + N - 2)), "A1", "A2"]


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("codes", [CODES, MIXED, [f" {code} " for code in MIXED]])
def test_identities_are_as_they_are_written(ending, codes, tmp_path):
    path = tmp_path / f"houses.{ending}"
    columns = {"key": codes, "x": AREA, "y": 2 * AREA}
    if ending == "npz":
        np.savez(path, **columns)
    else:
        getattr(pd.DataFrame(columns), f"to_{ending}")(path, index=False)
    table = read_table(path, "y", identity="key")
    assert table.identities.tolist() == [code.strip() for code in codes]
    assert table.features == ("x",)


def test_ids_that_cannot_be_read_as_numbers_are_left_out_all_the_same(tmp_path):
    path = tmp_path / "houses.csv"
    pd.DataFrame({"house_id": MIXED, "x": AREA, "y": 2 * AREA}).to_csv(path, index=False)
    table = read_table(path, "y")
    assert table.features == ("x",) and table.identities is None
    assert table.notes == ("Left out: house_id (an id). --use NAME makes a column an input.",)
    with pytest.raises(DataError, match="house_id cannot be used: 38 of 40 cells are numbers"):
        read_table(path, "y", used="house_id")
    pd.DataFrame({"price": MIXED, "x": AREA, "y": 2 * AREA}).to_csv(path, index=False)
    with pytest.raises(DataError, match="Column price cannot be used: 38 of 40.* --ignore price$"):
        read_table(path, "y")


@pytest.mark.parametrize(
    "values, message",
    [
        (np.where(np.arange(N) == 5, np.nan, GAPS), "1 rows have none, the first is row 5"),
        (texts(*HASHES[:-2], None, None), "2 rows have none, the first is row 38"),
        (np.where(np.arange(N) == 9, 3, 100 + GAPS), None),
        (np.where(np.arange(N) % 20 == 9, 3, 100 + GAPS), "rows 9 and 29 have '3'"),
        (np.zeros((N, 2)), "The identity key must be a column"),
    ],
)
def test_an_identity_must_be_different_in_each_row(values, message):
    if message is None:
        assert encode({"key": values}, identity="key").identities[9] == "3"
        return
    with pytest.raises(DataError, match=message):
        encode({"key": values}, identity="key")


@pytest.fixture
def photos(tmp_path):
    for number in range(6):
        folder = tmp_path / "photos" / ["cat", "dog"][number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = np.full((4, 5), 40 * number, np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_images_in_folders_are_identified_by_their_paths_and_need_no_target(photos):
    table = read_table(photos)
    names = [f"cat/{number}.png" for number in (0, 2, 4)] + [f"dog/{n}.png" for n in (1, 3, 5)]
    assert table.identities.tolist() == names and table.identity == "file"
    assert (role(table, "file"), role(table, "class")) == ("identity", "ignored")
    assert table.notes == (
        "Left out: class (no target was asked for). --use NAME makes a column an input.",
    )
    table = read_table(photos, "class")
    assert table.classes == ("cat", "dog") and table.identities.tolist() == names
    assert read_table(photos, ignored="class").inputs.shape == (6, 4, 5, 1)


LABELS = {
    "numbers": np.arange(N) % 4,
    "some": np.where(np.arange(N) % 3 == 0, np.arange(N) % 4, np.nan),
    "one-hot": np.eye(4)[np.arange(N) % 4],
    "texts": np.array([f"class {number % 4}" for number in range(N)]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_images_in_an_archive_are_left_out_without_a_target(labels, tmp_path):
    images = RNG.integers(0, 256, (N, 4, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", image=images, label=labels, name=HASHES.astype(str))
    table = read_table(tmp_path / "a.npz")
    assert table.inputs.shape == (N, 4, 5, 1) and table.identities.tolist() == HASHES.tolist()
    assert "label (no target was asked for)" in table.notes[0]
    assert read_table(tmp_path / "a.npz", "label").classes[1][-1] == "1"


def test_the_example_of_the_help_for_images_prints_rows(photos, capsys):
    assert main.main(["select", str(photos), "--n-points", "2", "--method", "k-center"]) == 0
    assert len(capsys.readouterr().out.split()) == 2


NAMES = ["id", "sold", "area", "price", "a,b", "Price per area", "Gro\u0308\u00dfe"]


@pytest.mark.parametrize(
    "given, expected",
    [
        ("id,sold", ["id", "sold"]),
        ("id, sold", ["id", "sold"]),
        (["id,sold", "area"], ["id", "sold", "area"]),
        ("a,b", ["a,b"]),
        ("area,a,b,id", ["area", "a,b", "id"]),
        (" id ", ["id"]),
        ("Gr\u00f6\u00dfe", ["Gro\u0308\u00dfe"]),
        ([None, "id"], ["id"]),
        ("Price per area", ["Price per area"]),
        ((), []),
        (None, []),
    ],
)
def test_names_are_taken_as_people_type_them(given, expected):
    columns = {name: RNG.normal(size=N) for name in [*NAMES, "x"]}
    table = encode_table(columns, ignored=given)
    is_ignored = table.columns["role"] == "ignored"
    assert set(table.columns.loc[is_ignored, "column"]) == set(expected)
    if expected:
        table = encode_table(columns, given)
        assert table.targets.shape == (N, len(expected))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"targets": "Price"}, "no column Price: did you mean price[?] The file has id, sold"),
        ({"ignored": "id,solt"}, "There is no column solt: did you mean sold[?]"),
        ({"ignored": "whatever,nothing"}, "There is no column whatever,nothing: the file has id"),
        ({"targets": "p"}, "There is no column p: the file has id, sold, area, price"),
        ({"used": "ids"}, "There is no column ids: did you mean id[?]"),
        ({"identity": "ids"}, "There is no column ids: did you mean id[?]"),
        ({"identity": "id,sold"}, "The identity must be one column: received id, sold"),
        ({"targets": "id", "used": "id"}, "cannot be a target and an input: id"),
        ({"targets": "id", "identity": "id"}, "cannot be a target and the identity: id"),
        ({"targets": "id,sold", "ignored": "sold"}, "cannot be a target and ignored: sold"),
        ({"used": "id", "ignored": "id"}, "cannot be ignored and an input: id"),
        ({"targets": 1.5}, "The name of a column must be a text: received 1.5"),
        ({"targets": [1.5]}, "The name of a column must be a text: received 1.5"),
        ({"ignored": True}, "The name of a column must be a text: received True"),
    ],
)
def test_a_wrong_name_is_one_error(options, message):
    columns = {name: RNG.normal(size=N) for name in NAMES}
    with pytest.raises((DataError, TypeError), match=message):
        encode_table(columns, **options)


def test_columns_of_an_array_are_named_by_whole_numbers(tmp_path):
    np.save(tmp_path / "data.npy", RNG.normal(size=(N, 4)))
    table = read_table(tmp_path / "data.npy", 3, ignored=[0, "2"])
    assert table.features == ("1",) and role(table, "3") == "target"


def test_a_column_of_a_large_table_is_ignored_by_a_list_with_commas(tmp_path, capsys):
    path = tmp_path / "houses.csv"
    pd.DataFrame({"id": HASHES, "sold": HASHES, "a": AREA, "b": AREA**2}).to_csv(path)
    arguments = ["select", str(path), "--n-points", "2", "--method", "random"]
    assert main.main([*arguments, "--ignore", "id,sold"]) == 0
    words = capsys.readouterr().err
    assert "Left out: Unnamed: 0 (an index)." in words
