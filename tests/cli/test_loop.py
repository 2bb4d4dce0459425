"""From rows to labels to the next rows: a person selects, labels, and selects again."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from collective_variables.cli import commands, main
from collective_variables.selection import registry

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")

N_ROWS = 24
N_LABELLED = 9
# Those that need neither all targets nor predictions.
METHODS = [
    name
    for name in registry.SELECTION_METHODS
    if name not in ("stratified", *commands.PREDICTION_METHODS)
]


def made_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"house": [f"H{number}" for number in rng.permutation(N_ROWS) + 100]})
    table["area"] = rng.normal(100.0, 30.0, N_ROWS).round(2)
    table["town"] = rng.choice(["Ulm", "Bonn"], N_ROWS)
    return table.assign(price=(3 * table["area"]).round(1))


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A spreadsheet export, houses.csv, in which no row has a price yet."""
    monkeypatch.chdir(tmp_path)
    table = made_table()
    table.assign(price="").to_csv("houses.csv", index=False)
    return table


def select(capsys, *arguments, file="houses.csv", target="price"):
    """Exit code and what was printed, as two texts."""
    target = ("--target", target) if target else ()
    code = main.main(["select", file, *target, *map(str, arguments)])
    return code, *capsys.readouterr()


def chosen(capsys, *arguments, **options):
    """The lines of a selection that succeeds."""
    code, lines, words = select(capsys, *arguments, "--quiet", **options)
    assert code == 0, words
    return lines.split()


def fill(name, table, **options):
    """Fill in the prices of a written file, as a person with a spreadsheet does."""
    sheet = pd.read_csv(name)
    assert sheet["price"].isna().all()
    prices = dict(zip(table["house"], table["price"]))
    sheet.assign(price=sheet["house"].map(prices)).to_csv(name, index=False, **options)


@pytest.mark.parametrize("filled", [True, False])
def test_what_output_wrote_is_a_file_of_labelled_rows(filled, table, capsys):
    first = chosen(capsys, "--n-points", 5, "--output", "one.csv")
    if filled:
        fill("one.csv", table)
    second = chosen(capsys, "--n-points", 4, "--labelled", "one.csv", "--output", "two.csv")
    both = ("--labelled", "one.csv", "--labelled", "two.csv")
    third = chosen(capsys, "--n-points", N_ROWS - 9, *both)
    assert sorted(map(int, first + second + third)) == list(range(N_ROWS))
    # The same as if nobody had asked in between, which the default method guarantees.
    assert first + second == chosen(capsys, "--n-points", 9)


@pytest.mark.parametrize("identity", [(), ("--id", "house")])
def test_a_table_that_was_sorted_and_extended_offers_no_row_twice(identity, table, capsys):
    first = chosen(capsys, "--n-points", 5, *identity, "--output", "one.csv")
    names = pd.read_csv("one.csv")["house"].tolist()
    assert names == (first if identity else table["house"][[int(row) for row in first]].tolist())
    more = pd.DataFrame({"house": ["A1", "Z1"], "area": [70.5, 80.5], "town": "Ulm", "price": ""})
    later = pd.concat([table.assign(price=""), more]).sort_values("house", ignore_index=True)
    later.to_csv("houses.csv", index=False)
    options = ("--n-points", N_ROWS + 2 - 5, "--labelled", "one.csv", "--id", "house")
    second = chosen(capsys, *options)
    assert sorted(second + names) == sorted(later["house"])


def test_rows_with_a_target_are_labelled_and_a_note_says_so(table, capsys):
    table.assign(price=table["price"].where(table.index < N_LABELLED)).to_csv("houses.csv")
    code, lines, words = select(capsys, "--n-points", N_ROWS - N_LABELLED)
    assert code == 0 and sorted(map(int, lines.split())) == list(range(N_LABELLED, N_ROWS))
    assert f"{N_LABELLED} of {N_ROWS} rows have a value in price and count as labelled" in words


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_out_rows_with_a_target(method, table, capsys):
    is_known = np.arange(N_ROWS) % 3 == 0
    table.assign(price=table["price"].where(is_known)).to_csv("houses.csv", index=False)
    options = ("--option", "n_epochs=2") if method == "rnd" else ()
    sets = ("--option", "n_sets=3") if method == "best-entropy" else ()
    rows = chosen(capsys, "--n-points", 6, "--method", method, *options, *sets)
    assert len(set(rows)) == 6 and not is_known[[int(row) for row in rows]].any()


def test_the_method_that_needs_all_targets_says_how_many_are_missing(table, capsys):
    table.assign(price=table["price"].where(table.index < N_LABELLED)).to_csv("houses.csv")
    code, _, words = select(capsys, "--n-points", 3, "--method", "stratified", "--quiet")
    assert code == 2 and words.count("\n") == 1
    assert "needs the target of every row, which 15 of 24 do not have: choose another" in words


def test_rows_to_train_on_are_selected_where_every_row_has_a_target(table, capsys):
    table.to_csv("houses.csv", index=False)
    code, lines, words = select(capsys, "--n-points", N_ROWS, "--output", "train.csv")
    assert code == 0 and sorted(map(int, lines.split())) == list(range(N_ROWS))
    assert "All 24 rows have a value of price, so rows to train on are selected" in words
    written = pd.read_csv("train.csv")
    assert written["price"].tolist() == table["price"][written["row"]].tolist()


@pytest.mark.parametrize("target", ["price", None])
def test_the_end_of_the_loop_is_one_clear_error(target, table, capsys):
    Path("rows.txt").write_text("\n".join(map(str, range(N_ROWS))))
    options = ("--n-points", 5, "--labelled", "rows.txt", "--quiet")
    code, _, words = select(capsys, *options, target=target)
    assert code == 2
    assert words == "error: There is nothing to select: all rows are labelled (24 of them).\n"


def test_targets_and_listed_rows_are_labelled_together(table, capsys):
    table.assign(price=table["price"].where(table.index < N_LABELLED)).to_csv("houses.csv")
    Path("rows.txt").write_text("3\n20\n21\n")
    rows = chosen(capsys, "--n-points", 13, "--labelled", "rows.txt")
    assert sorted(map(int, rows)) == [row for row in range(9, 24) if row not in (20, 21)]
    code, _, words = select(capsys, "--n-points", 14, "--labelled", "rows.txt", "--quiet")
    assert code == 2
    assert "must not exceed the 13 of 24 rows that are left, with 11 labelled: received 14" in words


def test_rows_that_are_not_filled_in_yet_are_counted(table, capsys):
    chosen(capsys, "--n-points", 3, "--output", "one.csv")
    sheet = pd.read_csv("one.csv").astype({"price": object})
    sheet.loc[0, "price"] = 5.0
    sheet.to_csv("one.csv", index=False)
    _, _, words = select(capsys, "--n-points", 3, "--labelled", "one.csv")
    note = "2 of 3 rows in one.csv have no price yet: they still count as labelled."
    assert note in words


def test_excluded_rows_are_as_if_they_were_not_in_the_file(table, capsys):
    Path("no.txt").write_text("2\n7\n11\n")
    rows = chosen(capsys, "--n-points", 6, "--exclude", "no.txt")
    kept = table.drop([2, 7, 11])
    kept.assign(price="").to_csv("fewer.csv", index=False)
    others = chosen(capsys, "--n-points", 6, file="fewer.csv")
    assert [int(row) for row in rows] == kept.index[[int(row) for row in others]].tolist()
    # A labelled row stays one, whatever else is said of it.
    Path("rows.txt").write_text("7\n")
    both = ("--exclude", "no.txt", "--labelled", "rows.txt")
    assert len(chosen(capsys, "--n-points", 21, *both)) == 21
    code, _, words = select(capsys, "--n-points", 22, *both, "--quiet")
    assert code == 2 and "21 of 24 rows that are left, with 1 labelled and 2 excluded" in words


def test_json_has_identities_and_is_taken_back(table, capsys):
    text = select(capsys, "--n-points", 5, "--id", "house", "--json", "--quiet")[1]
    rows = json.loads(text)["chosen"]
    assert [row["house"] for row in rows] == [table["house"][row["row"]] for row in rows]
    Path("chosen.json").write_text(text)
    rest = chosen(capsys, "--n-points", 19, "--labelled", "chosen.json")
    assert sorted([*map(int, rest), *(row["row"] for row in rows)]) == list(range(N_ROWS))


def test_a_labelled_table_of_its_own_names_rows_by_identity(table, capsys):
    """People keep labelled rows in a second file, with the columns that they like."""
    table.iloc[[3, 1, 20]][["price", "house"]].to_csv("labelled.csv", index=False, sep=";")
    options = ("--n-points", 21, "--id", "house", "--labelled", "labelled.csv")
    assert set(chosen(capsys, *options)) == set(table["house"].drop([3, 1, 20]))


def test_an_identity_that_is_not_in_the_table_is_named(table, capsys):
    Path("ids.txt").write_text(f"{table['house'][0]}\nH7\nH8\n")
    options = ("--n-points", 2, "--id", "house", "--labelled", "ids.txt", "--quiet")
    code, lines, words = select(capsys, *options)
    assert (code, lines) == (2, "")
    assert words == (
        "error: ids.txt must list rows of the table by its column house: 2 of 3 are not there, "
        "'H7', 'H8'.\n"
    )
    Path("ids.txt").write_text("\n".join(f"X{number}" for number in range(9)))
    words = select(capsys, *options)[2]
    assert "'X0', 'X1', 'X2', 'X3', 'X4' and 4 more." in words and words.count("\n") == 1


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = [f"{folder}/{number}.png" for folder in ("cat", "dog") for number in range(5)]
    for name in names:
        path = Path("photos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (6, 6), dtype=np.uint8)).save(path)
    return names


def test_images_come_out_with_their_files_and_go_back_in(photos, capsys):
    first = chosen(capsys, "--n-points", 3, "--output", "one.csv", file="photos", target=None)
    sheet = pd.read_csv("one.csv")
    assert sheet["file"].tolist() == first and set(first) < set(photos)
    assert [photos[row] for row in sheet["row"]] == first
    for name, text in {
        "rows.txt": "\n".join(first),
        "windows.txt": "\r\n".join(first).replace("/", "\\"),
        "numbers.txt": "\n".join(map(str, sheet["row"])),
        "sheet.csv": Path("one.csv").read_text(),
    }.items():
        Path(name).write_text(text)
        options = ("--n-points", 7, "--labelled", name)
        rest = chosen(capsys, *options, file="photos", target=None)
        assert sorted(rest + first) == sorted(photos), name
    text = select(capsys, "--n-points", 3, "--json", "--quiet", file="photos", target=None)[1]
    assert [row["file"] for row in json.loads(text)["chosen"]] == first


def test_images_outside_the_folders_of_classes_are_those_to_label(photos, capsys):
    for name in photos[1:5] + photos[6:]:
        Path("photos", name).rename(Path("photos", name.replace("/", "-")))
    first = chosen(capsys, "--n-points", 3, file="photos", target="class")
    assert len(first) == 3 and not any("/" in name for name in first)
    # A person puts them into folders.
    for name in first:
        Path("photos", name).rename(Path("photos", name.replace("-", "/")))
    rest = chosen(capsys, "--n-points", 5, file="photos", target="class")
    assert sorted(rest + first) == sorted(
        name.replace("/", "-") for name in photos[1:5] + photos[6:]
    )


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_of_images_may_be_spelt_as_other_systems_do(forms, photos, capsys):
    in_table, in_list = (
        unicodedata.normalize(form, "photos/cat/Käfer, groß.png") for form in forms
    )
    Path("photos/cat/0.png").rename(in_table)
    Path("rows.txt").write_text(in_list.removeprefix("photos/"), encoding="utf-8")
    options = ("--n-points", 9, "--exclude", "rows.txt")
    assert sorted(chosen(capsys, *options, file="photos", target=None)) == sorted(photos[1:])


def test_a_list_of_other_paths_comes_with_a_path_as_it_should_be(photos, capsys):
    Path("rows.txt").write_text("photos/cat/0.png\n")
    options = ("--n-points", 3, "--exclude", "rows.txt")
    code, _, words = select(capsys, *options, file="photos", target=None)
    assert code == 2
    assert (
        "rows.txt must list rows of the table by its column file (such as 'cat/0.png'): 1 of 1 "
        "are not there, 'photos/cat/0.png'."
    ) in words


def test_a_class_that_images_do_not_have_comes_with_advice(photos, capsys):
    code, _, words = select(capsys, "--n-points", 3, file="photos/cat", target="class")
    assert code == 2
    assert "There is no column class: the file has image, file. Put images into a folder" in words
