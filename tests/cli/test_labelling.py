"""The loop from labels to the next batch: files, trained networks, predictions and notes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from collective_variables.active_learning import fitting, learner
from collective_variables.cli import labelling, main
from collective_variables.data import encoding
from collective_variables.data import scaling as scalings

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")

N_ROWS = 60
SMALL = ("--layers", "dense 8")
LINEAR = ("--method", "lcmd", "--option", "kernel=linear")


def made_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"house": [f"H{number}" for number in rng.permutation(N_ROWS) + 100]})
    table["area"] = rng.normal(100.0, 30.0, N_ROWS).round(2)
    table["rooms"] = rng.normal(0.0, 1.0, N_ROWS).round(3)
    table["town"] = rng.choice(["Ulm", "Bonn"], N_ROWS)
    table["price"] = (3 * table["area"] + 20 * table["rooms"]).round(1)
    return table.assign(kind=np.where(table["area"] > 100, "large", "small"))


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch):
    """A single network that learns for a few steps."""
    trained_by(monkeypatch, n_networks=1, n_epochs=20)


def trained_by(monkeypatch, **settings):
    """Let all networks be trained by these settings."""
    monkeypatch.setattr(
        learner.ActiveLearner.__init__,
        "__kwdefaults__",
        {
            **learner.ActiveLearner.__init__.__kwdefaults__,
            "settings": fitting.FitSettings(**settings),
        },
    )


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made_table()


def written(table, n_labelled, target="price", name="houses.csv"):
    """Write a table whose first rows have a target."""
    other = {"price": "kind", "kind": "price"}[target]
    column = table[target].where(table.index < n_labelled)
    table.drop(columns=other).assign(**{target: column}).to_csv(name, index=False)


def select(capsys, *arguments, file="houses.csv", target="price", n=4):
    target = ("--target", target) if target else ()
    command = ["select", file, *target, "--n-points", n, *SMALL, *arguments]
    code = main.main(list(map(str, command)))
    return code, *capsys.readouterr()


def rows_of(capsys, *arguments, **options):
    code, lines, words = select(capsys, *arguments, "--quiet", **options)
    assert code == 0, words
    return [int(line) for line in lines.split()]


def fill(name, table, target="price", **options):
    sheet = pd.read_csv(name, **options)
    labels = dict(zip(table["house"], table[target]))
    sheet.assign(**{target: sheet["house"].map(labels)}).to_csv(name, index=False)


def error(capsys, *arguments, code=2, **options):
    found, lines, words = select(capsys, *arguments, "--quiet", **options)
    assert (found, lines, words.count("\n")) == (code, "", 1), words
    return words


def test_three_rounds_by_files_are_three_rounds_in_the_table(table, capsys):
    """Filling in what `select` wrote, or the table itself, leads to the same rows."""
    written(table, 0)
    files, labelled = [], set()
    for number, n in enumerate((16, 4, 4)):
        output = f"batch{number}.csv"
        listed = [word for name in files for word in ("--labelled", name)]
        rows = rows_of(capsys, *listed, "--output", output, n=n)
        assert len(rows) == n and not labelled & set(rows)
        in_table = table.assign(price=table["price"].where(table.index.isin(labelled)))
        in_table.drop(columns="kind").to_csv("filled.csv", index=False)
        assert rows_of(capsys, n=n, file="filled.csv") == rows
        labelled |= set(rows)
        fill(output, table)
        files.append(output)
    code, _, words = select(capsys, *listed)
    assert code == 0 and "16 rows take their price from batch0.csv." in words
    assert "Method: bait, with networks trained on the 20 labelled rows." in words
    assert "None of 60 rows of the file has a value in price" in words


def test_the_rows_are_those_of_the_learner_for_scaled_inputs(table, capsys, monkeypatch):
    written(table, 20)
    read = encoding.read_table("houses.csv", "price")
    inputs = scalings.scale_table(read, np.arange(N_ROWS)).astype(np.float32)
    trained_by(monkeypatch, n_networks=2, n_epochs=20)
    for method in ("lcmd", "ensemble-variance"):
        rows = rows_of(capsys, "--method", method, "--seed", 3)
        options = {"normalisation": "none", "task": "regression", "seed": 3}
        made = learner.ActiveLearner(["dense 8"], method=method, **options)
        assert rows == made.query(inputs, read.targets, 4).tolist()


def test_rows_that_wait_for_their_label_are_kept_apart_from_the_next_ones(table, capsys):
    twins = pd.concat([table] * 2, ignore_index=True)
    twins["house"] = np.arange(2 * N_ROWS) + 1000
    written(twins, 20)
    first = rows_of(capsys, "--output", "one.csv", "--method", "lcmd")
    second = rows_of(capsys, "--labelled", "one.csv", "--method", "lcmd")
    # A twin of a row that is out for labelling is as near as can be.
    assert not {row % N_ROWS for row in first} & {row % N_ROWS for row in second}
    # Neither is a twin of a labelled row chosen.
    assert not {row for row in first + second if row % N_ROWS < 20}


def test_labels_are_read_as_the_file_writes_them(table, capsys):
    written(table, 0)
    rows = rows_of(capsys, "--output", "one.csv", n=20)
    plain = rows_of(capsys, "--labelled", filled_in("one.csv", table, "{:.1f}".format))
    for name, form in {
        "euro": "{:.1f} €".format,
        "comma": lambda x: f"{x:.1f}".replace(".", ","),
    }.items():
        path = filled_in("one.csv", table, form, sep=";" if name == "comma" else ",")
        assert rows_of(capsys, "--labelled", path) == plain, name
    assert not set(rows) & set(plain)


def filled_in(name, table, form, sep=","):
    sheet = pd.read_csv(name, dtype=str)
    prices = table["price"][sheet["row"].astype(int)].map(form)
    path = f"filled-{sep == ','}-{form(1.5)[-1]}.csv"
    sheet = sheet.assign(price=prices.to_numpy())
    if sep == ";":
        sheet = sheet.apply(lambda column: column.str.replace(".", ","))
    sheet.to_csv(path, index=False, sep=sep)
    return path


@pytest.mark.parametrize(
    "cell, words",
    [
        (
            "7.25",
            "Line 2 of one.csv and the table must agree: row 3 has the price 7.25 there, and ",
        ),
        ("dear", "Line 2 of one.csv must have numbers in price, as the table has: received 'dear'"),
    ],
)
def test_a_label_that_contradicts_the_table_is_one_error(cell, words, table, capsys):
    written(table, 20)
    Path("one.csv").write_text(f"order,row,price\n1,3,{cell}\n")
    assert words in error(capsys, "--labelled", "one.csv")


def test_a_new_class_is_learnt_and_empty_cells_are_labelled_without_one(table, capsys):
    written(table.assign(kind="small"), 20, "kind")
    Path("one.csv").write_text("order,row,kind\n1,30,huge\n2,31,\n")
    options = ("--labelled", "one.csv", "--json", "--quiet", "--predictions", "p.csv")
    code, text, words = select(capsys, *options, target="kind", n=5)
    assert code == 0, words
    values = json.loads(text)
    assert values["classes"] == ["huge", "small"] and values["task"] == "classification"
    assert values["method"] == "lcmd"
    assert values["reason"] == "with networks trained on the 21 labelled rows"
    assert not {row["row"] for row in values["chosen"]} & {*range(20), 30, 31}
    predicted = pd.read_csv("p.csv")
    assert predicted.columns.tolist() == ["row", "house", "prediction", "probability"]
    assert predicted["row"].tolist() == [row for row in range(20, 60) if row != 30]
    assert set(predicted["prediction"]) <= {"huge", "small"}
    assert predicted["probability"].between(0.5, 1).all()
    assert predicted["house"].tolist() == table["house"][predicted["row"]].tolist()


def test_predictions_are_those_of_the_networks_in_the_unit_of_the_target(table, capsys):
    written(table, 30)
    Path("no.txt").write_text("40\n")
    rows_of(capsys, "--predictions", "p.csv", "--method", "random", "--exclude", "no.txt")
    predicted = pd.read_csv("p.csv")
    assert predicted["row"].tolist() == list(range(30, 60))
    read = encoding.read_table("houses.csv", "price")
    kept = np.delete(np.arange(N_ROWS), 40)
    inputs = scalings.scale_table(read, kept).astype(np.float32)
    options = {"normalisation": "none", "task": "regression"}
    made = learner.ActiveLearner(["dense 8"], **options).fit(inputs, read.targets)
    expected = made.predict(inputs[30:])[:, 0]
    np.testing.assert_allclose(predicted["prediction"], expected, rtol=1e-5)


def test_json_and_notes_tell_how_good_the_networks_are(table, capsys):
    written(table, 20)
    code, text, words = select(capsys, "--json", "--seed", 1)
    values = json.loads(text)
    assert code == 0 and values["method"] == "bait"
    outlook, certificate = values["outlook"], values["certificate"]
    assert (outlook["n_labelled"], outlook["n_more"]) == (20, 4)
    assert outlook["now"]["lower"] <= outlook["now"]["value"] <= outlook["now"]["upper"]
    assert (certificate["n_labelled"], certificate["n_chosen"]) == (20, 4)
    assert "With the 20 labels so far, the error of price is about" in words
    assert "With 20 labelled and 4 chosen rows known" in words
    code, lines, words = select(capsys, "--seed", 1, "--quiet")
    assert [row["row"] for row in values["chosen"]] == [int(line) for line in lines.split()]
    assert "labels so far" not in words
    # The caution is said even then.
    is_useless = certificate["gain"] <= 2 * certificate["gain_error"]
    assert ("take random ones (--method random)" in words) == is_useless


@pytest.fixture
def two_files(table):
    """A table without the column of prices, and labelled rows with a further town."""
    table[20:].drop(columns=["price", "kind"]).to_csv("houses.csv", index=False)
    labelled = table[:20].drop(columns="kind")
    labelled.loc[0, "town"] = "Trier"
    labelled.to_csv("labelled.csv", index=False)
    return table, labelled


def test_labelled_rows_may_be_in_a_second_file(two_files, capsys):
    table, labelled = two_files
    options = ("--labelled-table", "labelled.csv")
    code, lines, words = select(capsys, *options, "--output", "one.csv", "--predictions", "p.csv")
    assert code == 0 and "20 labelled rows of labelled.csv are added." in words
    assert "Method: bait, with networks trained on the 20 labelled rows." in words
    rows = [int(line) for line in lines.split()]
    both = pd.concat([table[20:].drop(columns="kind").assign(price=np.nan), labelled])
    both.to_csv("both.csv", index=False)
    assert rows_of(capsys, file="both.csv") == rows
    sheet = pd.read_csv("one.csv")
    assert sheet["house"].tolist() == table["house"][20:].iloc[rows].tolist()
    assert sheet["price"].isna().all() and len(pd.read_csv("p.csv")) == 40
    fill("one.csv", table)
    code, _, words = select(capsys, *options, "--labelled", "one.csv")
    assert code == 0 and "networks trained on the 24 labelled rows." in words


def test_columns_that_decide_together_are_read_from_both_files(two_files, capsys):
    table, labelled = two_files
    first = table[20:].drop(columns=["price", "kind"])
    days = [f"{day:02d}/02/2020" for day in range(1, 21)]
    first.assign(sold=(days + days)[:40]).to_csv("houses.csv", index=False)
    labelled.assign(sold=["03/04/2020", "05/06/2020"] * 10).to_csv("labelled.csv", index=False)
    code, _, words = select(capsys, "--labelled-table", "labelled.csv")
    assert code == 0, words


def test_the_same_house_in_both_files_is_labelled(two_files, capsys):
    table, labelled = two_files
    labelled.loc[0, "house"] = table["house"][25]
    labelled.to_csv("labelled.csv", index=False)
    options = ("--id", "house", "--labelled-table", "labelled.csv", *LINEAR)
    code, lines, words = select(capsys, *options, n=39)
    assert code == 0 and "1 of them is also in houses.csv, and labelled." in words
    assert table["house"][25] not in lines.split()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda table: table.drop(columns="area"), "of houses.csv: it lacks area."),
        (lambda table: table.assign(note=1), "of houses.csv: it also has note."),
        (
            lambda table: table.rename(columns={"area": "size", "price": "cost"}),
            "There is no column price",
        ),
        (
            lambda table: table.assign(price=np.nan),
            "must have a row with a value in price: none has.",
        ),
    ],
)
def test_a_second_file_with_other_columns_is_one_error(change, words, two_files, capsys):
    change(two_files[1]).to_csv("labelled.csv", index=False)
    assert words in error(capsys, "--labelled-table", "labelled.csv")


@pytest.mark.parametrize(
    "n_labelled, price, words",
    [
        (0, None, "rnd-linearised, since no row has a value in price yet"),
        (
            15,
            None,
            "rnd-linearised, since only 15 rows have a value in price, and networks wait for 16",
        ),
        (1, None, "rnd-linearised, since only 1 row has a value in price"),
        (20, 5.5, "rnd-linearised, since all 20 labelled rows have the same price"),
        (60, None, "rnd-linearised, since every row has a value in price"),
    ],
)
def test_without_labels_the_method_needs_none(n_labelled, price, words, table, capsys):
    written(table if price is None else table.assign(price=price), n_labelled)
    code, lines, told = select(capsys)
    assert code == 0 and f"Method: {words}." in told
    assert "labels so far" not in told and "prior variance" not in told
    if n_labelled != 15:
        words = error(capsys, "--predictions", "p.csv")
        assert "--predictions needs networks, and none can be trained, since" in words


def test_a_method_may_be_asked_for_without_labels(table, capsys):
    written(table, 0)
    code, lines, words = select(capsys, "--method", "lcmd")
    assert code == 0 and len(lines.split()) == 4
    assert "Method: lcmd, with untrained networks, since no row has a value in price yet." in words
    words = error(capsys, "--method", "ensemble-variance")
    assert "ensemble-variance chooses by predictions of networks, and none can be trained" in words
    written(table, 20)
    weighed = ("--option", "weights=committee")
    code, _, words = select(capsys, *LINEAR, *weighed)
    networks = "networks trained on the 20 labelled rows"
    assert code == 0 and f"Method: lcmd, with the kernel linear and {networks}." in words
    code, _, words = select(capsys, *LINEAR)
    assert code == 0 and "Method: lcmd, with the kernel linear." in words
    code, _, words = select(capsys, "--method", "max-det", "--option", "n_features=8")
    assert code == 0 and "max-det, with networks trained on the 20 labelled rows." in words


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--method", "margin"), "margin needs probabilities of classes, and the task is a regr"),
        (("--option", "foo=1"), "Options of bait are kernel, n_features, noise: received foo."),
        (("--option", "kernel=rbf"), "kernel must be one of infinite-width, linear, ntk, sketch"),
        (("--option", "params=1"), "The option params holds arrays, which cannot be typed"),
        (("--labelled-table", "none.csv"), "There is no file or folder none.csv."),
        (("--predictions", "houses.csv"), "--predictions would overwrite the file that is read"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, words, table, capsys):
    written(table, 20)
    assert words in error(capsys, *arguments)


def test_a_training_that_diverges_writes_nothing(table, capsys, monkeypatch):
    written(table, 20)
    Path("p.csv").write_text("kept")
    trained_by(monkeypatch, n_networks=1, n_epochs=5, learning_rate=1e30)
    words = error(capsys, "--predictions", "p.csv", "--output", "o.csv", code=1)
    assert "The training on 20 labelled points diverged with the learning rate 1e+30" in words
    assert Path("p.csv").read_text() == "kept" and not Path("o.csv").exists()


def test_the_end_of_the_loop_is_one_clear_error(table, capsys):
    written(table, 50)
    rest = "".join(f"{row - 49},{row},1.5\n" for row in range(50, N_ROWS))
    Path("one.csv").write_text(f"order,row,price\n{rest}")
    words = error(capsys, "--labelled", "one.csv")
    assert "There is nothing to select: all rows are labelled" in words


@pytest.mark.parametrize("arguments", [(), ("--method", "random", "--predictions", "p.csv")])
def test_a_dry_run_counts_networks(arguments, table, capsys):
    written(table, 20)
    code, text, words = select(capsys, *arguments, "--dry-run", "--json", "--quiet")
    assert code == 0, words
    low, high = json.loads(text)["seconds"]
    assert 0 < low <= high and not Path("p.csv").exists()


def test_a_list_of_rows_has_no_targets(table, capsys):
    written(table, 0)
    Path("rows.txt").write_text("1\n2\n")
    code, _, words = select(capsys, "--labelled", "rows.txt")
    assert code == 0 and "since no row has a value in price yet" in words
    assert labelling.FEWEST == 16
