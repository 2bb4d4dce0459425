"""The command line as a person types it: what is printed where, files, and the help."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparisons import compared

from collective_variables.cli import commands, dry_run, main
from collective_variables.cli.results import files, page
from collective_variables.data import encoding, reading, scaling
from collective_variables.data._errors import DataError
from collective_variables.networks import imported

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def houses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(30, 2)), columns=["area", "age"])
    table["town"] = ["Ulm", "Bonn", None] * 10
    table["price"] = table["area"] * 2
    table["empty"] = np.nan
    table.to_csv("houses.csv", index=False)
    return table


def run(capsys, *arguments):
    """Exit code, and what was printed on standard output and standard error."""
    code = main.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_rows_are_on_standard_output_alone_and_can_be_read_back(houses, capsys, tmp_path):
    code, rows, words = run(capsys, "select", "houses.csv", "--target", "price", "--n-points", 4)
    assert code == 0 and re.fullmatch(r"(\d+\n){4}", rows)
    assert "30 rows, regression" in words and re.search(
        r"town +input +texts +10 +2 +an input for each text, and one for missing", words
    )
    (tmp_path / "rows.txt").write_text(rows)
    arguments = (
        "select",
        "houses.csv",
        "--target",
        "price",
        "--n-points",
        3,
        "--labelled",
        "rows.txt",
        "--quiet",
    )
    code, more, words = run(capsys, *arguments, "--output", "chosen.csv")
    assert code == 0 and words == "" and not set(more.split()) & set(rows.split())
    written = pd.read_csv("chosen.csv")
    assert written["row"].astype(str).tolist() == more.split()
    assert list(written) == ["order", "row", "distance", "area", "age", "town", "empty", "price"]


def test_json_is_one_object_with_all_that_is_known(houses, capsys):
    code, text, _ = run(
        capsys,
        "select",
        "houses.csv",
        "--target",
        "price",
        "--n-points",
        4,
        "--method",
        "random",
        "--json",
    )
    values = json.loads(text)
    assert code == 0 and len(values["chosen"]) == 4 and values["task"] == "regression"
    assert values["chosen"][0]["order"] == 1 and values["chosen"][0]["distance"] is None
    assert [column["column"] for column in values["columns"]] == list(houses)


def test_options_are_read_as_yaml(houses, capsys, monkeypatch):
    received = {}
    monkeypatch.setattr(
        commands,
        "select",
        lambda table, **options: received.update(options) or pd.DataFrame({"row": [1]}),
    )
    run(
        capsys,
        "select",
        "houses.csv",
        "--n-points",
        1,
        "--option",
        "depth=2",
        "--option",
        "first=random",
        "--option",
        "per_class=true",
    )
    assert received["options"] == {"depth": 2, "first": "random", "per_class": True}


def test_how_a_file_is_read_is_handed_on_where_it_was_asked_for(houses, capsys, monkeypatch):
    received = []

    def read_table(path, targets, **options):
        received.append(options)
        raise DataError("enough")

    monkeypatch.setattr(encoding, "read_table", read_table)
    start = ("select", "houses.csv", "--n-points", 1)
    run(capsys, *start)
    options = (
        *("--ignore", "a", "b", "--ignore", "c", "--use", "d", "--id", "e", "--missing", "-", "x"),
        *("--encoding", "cp1252", "--decimal", ",", "--no-day-first", "--header", "--texts", "f"),
        *("--task", "regression", "--image-size", "8X9"),
    )
    run(capsys, *start, *options)
    assert received == [
        {"task": "auto"},
        {
            "ignored": ["a", "b", "c"],
            "used": ["d"],
            "identity": "e",
            "task": "regression",
            "image_size": (8, 9),
            "encoding": "cp1252",
            "decimal": ",",
            "day_first": False,
            "header": True,
            "missing": ["-", "x"],
            "texts": ["f"],
        },
    ]


def test_cautions_on_the_chosen_rows_are_said_in_quiet_too(houses, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(scaling, "notes", lambda _, rows: seen.extend(rows) or ["Mind the gap."])
    code, text, words = run(capsys, "select", "houses.csv", "--n-points", 3, "--quiet")
    assert (code, words) == (0, "Mind the gap.\n") and text.split() == [str(row) for row in seen]


def test_what_a_result_depends_on_is_said_in_quiet_too(tmp_path, capsys):
    file = tmp_path / "plots.csv"
    lines = [f"P{row},{row % 7 if row else 'n/a'},{row * row % 11}" for row in range(30)]
    file.write_text("\n".join(["plot,area,height", *lines]))
    code, _, words = run(capsys, "select", file, "--n-points", 3, "--quiet")
    assert code == 0 and "\nLeft out: plot (" in words
    taken = "Cells taken for missing values: 1 of 'n/a', the first in line 2, in column area."
    assert taken in words
    # An error stands alone.
    code, _, words = run(capsys, "select", file, "--n-points", 31, "--quiet")
    assert code == 2 and words.count("\n") == 1


@pytest.mark.parametrize("command", ["select", "compare", "measure"])
def test_the_scaling_is_that_which_was_asked_for(command, houses, capsys, monkeypatch):
    received = []
    scale_table = scaling.scale_table

    def noted(*arguments, **options):
        received.append(options["scaling"])
        return scale_table(*arguments, **options)

    monkeypatch.setattr(scaling, "scale_table", noted)
    monkeypatch.setattr(commands, "compare", lambda *_, **__: compared(lambda *_: 1.0))
    small = () if command == "select" else ("--members", 1, "--layers", "dense 2")
    arguments = (command, "houses.csv", "--target", "price", "--n-points", 3, *small)
    for options, name in (((), scaling.DEFAULT), (("--scaling", "standard"), "standard")):
        assert run(capsys, *arguments, *options)[0] == 0
        assert set(received) == {name}
        received.clear()


def test_measure_prints_means_and_writes_the_spectrum(houses, capsys):
    arguments = (
        "measure",
        "houses.csv",
        "--target",
        "price",
        "--members",
        2,
        "--layers",
        "dense 4",
        "--spectrum",
        "s.csv",
    )
    code, text, _ = run(capsys, *arguments, "--n-points", 5, 9)
    assert code == 0 and "entropy" in text and "means over 2 networks" in text
    assert len(pd.read_csv("s.csv")) == 2 * (5 + 9)


LCMD = ("select", "houses.csv", "--n-points", 2, "--method", "lcmd")
MODEL = (
    "--model",
    "notebooks.models.Residual",
    "--model-option",
    "width=4",
    "--model-option",
    "depth=1",
)


def test_a_users_network_is_measured(houses, capsys, standard_promotion):
    arguments = (
        "measure",
        "houses.csv",
        "--target",
        "price",
        "--members",
        2,
        "--n-points",
        9,
        "--json",
        *MODEL,
    )
    code, text, _ = run(capsys, *arguments, "--model-option", "n_outputs=1")
    values = json.loads(text)["variables"]
    table = encoding.encode_table(reading.read_file("houses.csv"), ["price"])
    model = imported.load_model(
        "notebooks.models.Residual", {"width": 4, "depth": 1, "n_outputs": 1}
    )
    expected = (
        commands.measure(table, n_points=[9], n_members=2, network=model)
        .variables["trace"]
        .tolist()
    )
    assert code == 0 and [row["trace"] for row in values] == pytest.approx(expected)
    default = commands.measure(table, n_points=[9], n_members=2).variables["trace"].tolist()
    assert default != pytest.approx(expected, rel=0.01)
    code, text, words = run(capsys, *arguments, "--model-option", "n_outputs=2", "--quiet")
    assert code == 2 and text == "" and "2 != 1" in words


@pytest.mark.usefixtures("quick_float64")
def test_compare_prints_means_and_differences_and_writes_runs_and_a_page(houses, capsys):
    arguments = (
        "compare",
        "houses.csv",
        "--target",
        "price",
        "--members",
        3,
        "--layers",
        "dense 4",
        "--epochs",
        3,
        "--n-points",
        4,
        8,
    )
    code, text, words = run(
        capsys,
        *arguments,
        "--methods",
        "k-center",
        "random",
        "--runs",
        "r.csv",
        "--page",
        "p.html",
        "--quiet",
    )
    assert code == 0 and words == "" and "smallest test loss minus that of random selection" in text
    assert "8 rows chosen by k-center are worth" in text and "6 test points say little" in text
    assert len(pd.read_csv("r.csv")) == 2 * 3 * 2
    page = Path("p.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "houses.csv" in page
    code, text, _ = run(capsys, *arguments, "--json")
    methods = {row["method"] for row in json.loads(text)["summary"]}
    assert methods == {"random", "rnd-linearised"}


@pytest.mark.parametrize("command", ["select", "compare", "measure"])
def test_a_dry_run_only_says_what_it_would_take(command, houses, capsys, monkeypatch):
    monkeypatch.setattr(
        dry_run,
        f"forecast_{command}",
        lambda *_, **__: dry_run.Forecast((2.0, 30.0), 2**30, 2**31),
    )
    arguments = (command, "houses.csv", "--target", "price", "--n-points", 4, "--dry-run")
    assert run(capsys, *arguments)[:2] == (
        0,
        "It would take 2 to 30 s and about 1.0 GiB of memory.\n",
    )
    values = json.loads(run(capsys, *arguments, "--json")[1])
    assert values["seconds"] == [2.0, 30.0] and values["bytes"] == 2**30


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("select", "no.csv", "--n-points", 2), "There is no file or folder no.csv"),
        (("select", "houses.csv", "--n-points", 2, "--target", "cost"), "There is no column cost"),
        (
            ("select", "houses.csv", "--n-points", 31),
            "--n-points must not exceed the 30 rows: received 31.",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--option", "deep=3"),
            "Options of rnd-linearised are",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--option", "deep"),
            "An option must be NAME=VALUE, each once: received 'deep'",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--labelled", "rows.txt"),
            "Line 2 of rows.txt must be a row, 0 to 29: received '30'",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--labelled", "other.txt"),
            "There is no file other.txt",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--labelled", "."),
            ". cannot be read: Is a directory",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--option", "depth=[1"),
            "The value of an option must be YAML: received 'depth=[1'",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--output", "no/rows.csv"),
            "no/rows.csv cannot be written: there is no folder",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--output", "a" * 300),
            "cannot be written: File name too long",
        ),
        (("select", "a" * 300, "--n-points", 2), "There is no file or folder aaa"),
        (
            ("select", "houses.csv", "--n-points", 2, "--option", "labelled=[1]"),
            "Labelled rows are read from a file: use --labelled",
        ),
        (
            ("compare", "houses.csv", "--n-points", 2, "--methods", "ensemble-variance"),
            "ensemble-variance needs predictions of trained networks",
        ),
        (
            (*LCMD, "--option", "params=3"),
            "The option params holds arrays, which cannot be typed: call select in Python.",
        ),
        (
            (*LCMD, "--option", "kernel=rbf"),
            "kernel must be one of infinite-width, linear, ntk, sketch: received 'rbf'.",
        ),
        (
            ("compare", "houses.csv", "--n-points", 2, "--runs", "."),
            "The file to write must not be a folder: received .",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--layers", "dense 4"),
            "--layers and --model are for methods that use a network, rnd, ",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--method", "rnd", "--layers", "dense x"),
            "dense x",
        ),
        (
            ("measure", "houses.csv", "--target", "empty"),
            "at least two rows with a target: 0 of 30 have one",
        ),
        (
            ("measure", "houses.csv", *MODEL),
            "options of the model notebooks.models.Residual do not fit",
        ),
        (("measure", "houses.csv", "--model", "no.model"), "there is no no.model"),
        (
            ("measure", "houses.csv", *MODEL[2:]),
            "--model-option is for the network of --model: received width, depth",
        ),
        (
            ("compare", "houses.csv", "--n-points", 2),
            "A problem must have a target: received none. Name its column with --target.",
        ),
        (
            ("compare", "houses.csv", "--target", "price", "--n-points", 100),
            "--n-points must not exceed the pool of 24 rows, which 6 test points leave of 30",
        ),
        (
            ("measure", "houses.csv", "--n-points", 31),
            "--n-points must not exceed the 30 rows: received 31.",
        ),
    ],
)
def test_wrong_input_is_one_line_and_2(arguments, message, houses, capsys, tmp_path):
    (tmp_path / "rows.txt").write_text("3\n30\n")
    code, text, words = run(capsys, *arguments, "--quiet")
    assert (code, text) == (2, "")
    assert words.startswith("error: ") and message in words and words.count("\n") == 1


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "error, words",
    [
        (MemoryError("too large"), "error: MemoryError: too large (--debug shows where)\n"),
        (MemoryError(), "error: MemoryError (--debug shows where)\n"),
        (FloatingPointError("a\n b"), "error: FloatingPointError: a b (--debug shows where)\n"),
        (ValueError("a bug"), "error: ValueError: a bug (--debug shows where)\n"),
        (TypeError("a bug"), "error: TypeError: a bug (--debug shows where)\n"),
        (KeyError("a bug"), "error: KeyError: 'a bug' (--debug shows where)\n"),
        (RuntimeError("INTERNAL"), "error: RuntimeError: INTERNAL (--debug shows where)\n"),
        (AssertionError(), "error: AssertionError (--debug shows where)\n"),
    ],
)
def test_whatever_else_fails_is_one_line_and_1(error, words, houses, capsys, monkeypatch):
    monkeypatch.setattr(commands, "select", failing(error))
    assert run(capsys, "select", "houses.csv", "--n-points", 2, "--quiet") == (1, "", words)


def test_an_interruption_is_one_line_and_130(houses, capsys, monkeypatch):
    monkeypatch.setattr(commands, "select", failing(KeyboardInterrupt()))
    expected = (130, "", "interrupted\n")
    assert run(capsys, "select", "houses.csv", "--n-points", 2, "--quiet") == expected


def test_debug_shows_the_traceback_and_changes_no_exit_code(houses, capsys, monkeypatch):
    command = ("select", "houses.csv", "--n-points", 31, "--quiet")
    code, text, words = run(capsys, *command, "--debug")
    assert (code, text) == (2, "")
    assert words.startswith("Traceback") and words.splitlines()[-1].startswith("error: ")
    monkeypatch.setenv(main.DEBUG, "1")
    assert run(capsys, *command) == (code, text, words)


def test_the_tables_are_printed_even_if_a_file_cannot_be_written(houses, capsys, monkeypatch):
    monkeypatch.setattr(files, "write", failing(OSError(28, "No space left on device")))
    arguments = ("select", "houses.csv", "--n-points", 4, "--quiet", "--output", "rows.csv")
    code, text, words = run(capsys, *arguments)
    assert code == 1 and len(text.split()) == 4 and "No space left on device" in words


def test_a_seed_that_changes_nothing_is_noted(houses, capsys):
    arguments = ("select", "houses.csv", "--n-points", 2, "--seed", 1)
    note = "--seed changes nothing: rnd-linearised draws no random numbers here.\n"
    assert note in run(capsys, *arguments)[2]
    assert note not in run(capsys, *arguments, "--option", "first=random")[2]
    assert note not in run(capsys, *arguments[:-2])[2]


@pytest.mark.parametrize("size", ["8", "8x", "0x8", "axb", "8x8x8"])
def test_a_size_of_images_is_two_numbers(size, houses, capsys):
    with pytest.raises(SystemExit) as caught:
        run(capsys, "select", "houses.csv", "--n-points", 2, "--image-size", size)
    assert caught.value.code == 2 and "must be HEIGHTxWIDTH" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "say what to do: select, compare or measure (see "),
        (("--json",), "say what to do: select, compare or measure (see "),
        (
            ("slect", "a.csv"),
            "invalid choice: 'slect' (choose from 'select', 'compare', 'measure')",
        ),
        (("select",), "the following arguments are required: FILE, --n-points (see "),
        (("select", "a.csv"), "the following arguments are required: --n-points (see "),
        (("select", "a.csv", "--n-points"), "argument --n-points: expected one argument"),
        (
            ("select", "a.csv", "--n-points", "ten"),
            "argument --n-points: must be a whole number: received 'ten'",
        ),
        (
            ("compare", "a.csv", "--n-points", 5, "--learning-rate", "fast"),
            "argument --learning-rate: must be a number: received 'fast'",
        ),
        (
            ("select", "a.csv", "--n-points", 5, "--lebelled", "b"),
            "unknown argument --lebelled b, did you mean --labelled? (see ",
        ),
        (("measure", "a.csv", "b.csv"), "unknown argument b.csv (see "),
        (("select", "a.csv", "--n-points", 5, "--method", "best"), "invalid choice: 'best'"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(capsys, *arguments)
    text, words = capsys.readouterr()
    assert (caught.value.code, text) == (2, "")
    assert words.startswith("error: ") and message in words and words.count("\n") == 1
    assert words.endswith(" --help)\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("select", "--n-points", 0), "--n-points must be at least 1: received 0."),
        (("measure", "--n-points", 0), "--n-points must be at least 2: received 0."),
        (("measure", "--n-points", 5, "--members", 0), "--members must be at least 1: received 0."),
        (
            ("measure", "--n-points", 5, 5),
            "--n-points must not repeat an entry: received [5, 5].",
        ),
        (("compare", "--n-points", 5, "--epochs", 0), "--epochs must be at least 1: received 0."),
        (
            ("compare", "--n-points", 5, "--learning-rate", 0),
            "--learning-rate must be greater than 0.0: received 0.0.",
        ),
        (
            ("compare", "--n-points", 5, "--n-test", 30),
            "--n-test must be from 1 to 29, for 30 rows with a target: received 30.",
        ),
        (
            ("compare", "--n-points", 5, "--n-test", 0),
            "--n-test must be from 1 to 29, for 30 rows with a target: received 0.",
        ),
        (
            ("compare", "--n-points", 5, "--seed", -1),
            "--seed must be at least 0: received -1.",
        ),
    ],
)
def test_wrong_numbers_are_named_as_they_were_typed(arguments, message, houses, capsys):
    command, *others = arguments
    options = ("houses.csv", "--target", "price", *others, "--quiet")
    code, text, words = run(capsys, command, *options)
    assert (code, text) == (2, "") and message in words and words.count("\n") == 1


@pytest.mark.parametrize("option", ["--runs", "--page"])
@pytest.mark.parametrize("path", ["houses.csv", "./houses.csv", "link.csv"])
def test_the_file_is_never_overwritten(option, path, houses, capsys):
    Path("link.csv").symlink_to("houses.csv")
    before = Path("houses.csv").read_bytes()
    arguments = ("compare", "houses.csv", "--target", "price", "--n-points", 5, option, path)
    code, text, words = run(capsys, *arguments)
    assert (code, text) == (2, "")
    assert words == (
        f"error: {option} would overwrite the file that is read, {Path(path)}: "
        "choose another file.\n"
    )
    assert Path("houses.csv").read_bytes() == before


@pytest.mark.parametrize("option", ["--labelled", "--exclude"])
def test_a_list_of_rows_is_never_overwritten(option, houses, capsys):
    Path("rows.csv").write_text("order,row\n1,3\n")
    arguments = ("select", "houses.csv", "--n-points", 2, option, "rows.csv")
    code, _, words = run(capsys, *arguments, "--output", "rows.csv")
    assert code == 2 and f"--output would overwrite the file of {option}, rows.csv" in words
    assert Path("rows.csv").read_text() == "order,row\n1,3\n"


COMPARE = ("compare", "houses.csv", "--target", "price", "--n-points", 10, "--quiet")


def test_a_page_that_cannot_be_made_takes_nothing_else(houses, capsys, monkeypatch):
    monkeypatch.setattr(commands, "compare", lambda *_, **__: compared(lambda *_: 1.0))
    monkeypatch.setattr(page, "page", failing(RuntimeError("no page")))
    code, text, words = run(capsys, *COMPARE, "--page", "p.html", "--runs", "r.csv")
    assert code == 1 and "min_test_loss" in text and len(pd.read_csv("r.csv")) == 24
    assert words == "error: RuntimeError: no page (--debug shows where)\n"


def test_trainings_that_diverge_are_a_failure_and_are_printed_all_the_same(
    houses, capsys, monkeypatch
):
    monkeypatch.setattr(commands, "compare", lambda *_, **__: compared(lambda *_: np.nan))
    options = ("--learning-rate", "1e9", "--runs", "r.csv")
    code, text, words = run(capsys, *COMPARE, *options)
    assert code == 1 and words == (
        "error: All 24 trainings diverged: lower --learning-rate, now 1e+09.\n"
    )
    assert "24 of 24 trainings diverged and are left out" in text and "nan" not in text.lower()
    assert pd.read_csv("r.csv")["diverged"].all()
    values = json.loads(run(capsys, *COMPARE, "--json")[1])
    assert values["summary"][0]["min_test_loss"] is None and values["sentences"]


def test_500_like_columns_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("many.npy", np.random.default_rng(0).normal(size=(12, 500)))
    code, _, words = run(capsys, "select", "many.npy", "--n-points", 2, "--method", "random")
    assert code == 0 and len(words.splitlines()) < 6 and "500" in words
