"""The command line as a person types it: what is printed where, exit codes, files, and the examples
of its help.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from collective_variables.cli import command_line, commands, dry_run, main
from collective_variables.data import encoding, reading
from collective_variables.networks import imported
from collective_variables.selection import registry

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
    code = main.main([str(of) for of in arguments])
    return code, *capsys.readouterr()


def test_rows_are_on_standard_output_alone_and_can_be_read_back(houses, capsys, tmp_path):
    code, rows, words = run(capsys, "select", "houses.csv", "--target", "price", "--n-points", 4)
    assert code == 0 and re.fullmatch(r"(\d+\n){4}", rows)
    assert "30 rows, regression" in words and re.search(
        r"town +input +texts +10 +2 +an input for each text", words
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
    assert (
        written["row"].astype(str).tolist() == more.split()
        and tuple(written.columns) == commands.CHOSEN
    )


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
    found = json.loads(text)
    assert code == 0 and len(found["chosen"]) == 4 and found["task"] == "regression"
    assert found["chosen"][0]["order"] == 1 and found["chosen"][0]["distance"] is None
    assert [of["column"] for of in found["columns"]] == list(houses)


def test_options_are_read_as_yaml(houses, capsys, monkeypatch):
    given = {}
    monkeypatch.setattr(
        commands,
        "select",
        lambda table, **options: given.update(options) or pd.DataFrame({"row": [1]}),
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
    assert given["options"] == {"depth": 2, "first": "random", "per_class": True}


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


MODEL = (
    "--model",
    "notebooks.models.Residual",
    "--model-option",
    "width=4",
    "--model-option",
    "depth=1",
)


def test_a_network_of_ones_own_is_measured(houses, capsys, standard_promotion):
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
    found = json.loads(text)["variables"]
    table = encoding.encode_table(reading.read_file("houses.csv"), ["price"])
    model = imported.load_model(
        "notebooks.models.Residual", {"width": 4, "depth": 1, "n_outputs": 1}
    )
    expected = (
        commands.measure(table, n_points=[9], n_members=2, network=model)
        .variables["trace"]
        .tolist()
    )
    assert code == 0 and [of["trace"] for of in found] == pytest.approx(expected)
    of_layers = commands.measure(table, n_points=[9], n_members=2).variables["trace"].tolist()
    assert of_layers != pytest.approx(expected, rel=0.01)
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
    assert code == 0 and words == "" and "smallest test loss minus that of random choice" in text
    assert len(pd.read_csv("r.csv")) == 2 * 3 * 2
    page = Path("p.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "houses.csv" in page and "Plotly.newPlot" in page
    code, text, _ = run(capsys, *arguments, "--json")
    assert {of["method"] for of in json.loads(text)["summary"]} == {"random", "rnd"}


@pytest.mark.parametrize("command", ["select", "compare", "measure"])
def test_a_dry_run_only_says_what_it_would_take(command, houses, capsys, monkeypatch):
    monkeypatch.setattr(
        dry_run, f"of_{command}", lambda *_, **__: dry_run.Forecast((2.0, 30.0), 2**30)
    )
    arguments = (command, "houses.csv", "--target", "price", "--n-points", 4, "--dry-run")
    assert run(capsys, *arguments)[:2] == (0, "It would take 2 to 30 s, 1.0 GiB.\n")
    found = json.loads(run(capsys, *arguments, "--json")[1])
    assert found["seconds"] == [2.0, 30.0] and found["bytes"] == 2**30


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("select", "no.csv", "--n-points", 2), "There is no file or folder no.csv"),
        (("select", "houses.csv", "--n-points", 2, "--target", "cost"), "There is no column cost"),
        (
            ("select", "houses.csv", "--n-points", 31),
            "n_selected must not exceed the pool: 31 > 30",
        ),
        (("select", "houses.csv", "--n-points", 2, "--option", "deep=3"), "Options of rnd are"),
        (
            ("select", "houses.csv", "--n-points", 2, "--option", "deep"),
            "An option must be NAME=VALUE, each once: received 'deep'",
        ),
        (
            ("select", "houses.csv", "--n-points", 2, "--labelled", "rows.txt"),
            "Line 2 of rows.txt must be a row, 0 to 29: received '30'",
        ),
        (("select", "houses.csv", "--n-points", 2, "--labelled", "other.txt"), "No such file"),
        (("select", "houses.csv", "--n-points", 2, "--layers", "dense x"), "dense x"),
        (
            ("measure", "houses.csv", "--target", "empty"),
            "two rows with a target at least: 0 of 30 have one",
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
        (("compare", "houses.csv", "--n-points", 2), "A problem must have a target"),
        (
            ("compare", "houses.csv", "--target", "price", "--n-points", 100),
            "exceed the pool: 100 > 24",
        ),
        (("measure", "houses.csv", "--n-points", 31), "exceed the pool: 31 > 30"),
    ],
)
def test_what_can_not_be_done_is_one_line_and_2(arguments, message, houses, capsys, tmp_path):
    (tmp_path / "rows.txt").write_text("3\n30\n")
    code, text, words = run(capsys, *arguments, "--quiet")
    assert (
        code == 2
        and text == ""
        and words.startswith("error: ")
        and message in words
        and words.count("\n") == 1
    )


@pytest.mark.parametrize(
    "error, expected", [(MemoryError("too large"), 1), (KeyboardInterrupt(), 130)]
)
def test_memory_and_interruptions_have_exit_codes_of_their_own(
    error, expected, houses, capsys, monkeypatch
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(commands, "select", fail)
    code, text, words = run(
        capsys, "select", "houses.csv", "--n-points", 2, "--quiet", "--output", "chosen.csv"
    )
    assert code == expected and text == "" and words.count("\n") == 1


@pytest.mark.parametrize("size", ["8", "8x", "0x8", "axb", "8x8x8"])
def test_a_size_of_images_is_two_numbers(size, houses, capsys):
    with pytest.raises(SystemExit) as caught:
        run(capsys, "select", "houses.csv", "--n-points", 2, "--image-size", size)
    assert caught.value.code == 2 and "must be HEIGHTxWIDTH" in capsys.readouterr().err


def test_every_example_of_the_help_is_read_and_the_help_names_everything():
    parser = command_line.build_parser()
    for name, text in command_line.EXAMPLES.items():
        examples = re.findall(r"python -m collective_variables ([^>\n]*)", text)
        assert len(examples) >= 2
        for example in examples:
            given = parser.parse_args(shlex.split(example))
            assert name is None or given.command == name
        with pytest.raises(SystemExit) as caught:
            parser.parse_args([name, "--help"] if name else ["--help"])
        assert caught.value.code == 0
    assert set(registry.METHODS) <= set(
        re.findall(r"[\w+-]+", parser._subparsers._group_actions[0].choices["select"].format_help())
    )
