"""Custom networks as people write them, on the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from collective_variables.cli import main

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(12, 5))
    pd.DataFrame(rows, columns=["a", "b", "c", "u", "v"]).to_csv("table.csv", index=False)


def run(capsys, command, *arguments):
    """Exit code, and what was printed on standard output and standard error."""
    targets = ("--target", "u", "--target", "v")
    code = main.main([command, "table.csv", *targets, *map(str, arguments), "--quiet"])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    "path", ["Normalised", "OfNNX", "Dropped", "DroppedByField", "masked", "with_key"]
)
def test_networks_with_dropout_and_statistics_are_measured_in_evaluation(path, table, capsys):
    arguments = ("--model", f"own_model.{path}", "--n-points", 6, "--members", 2, "--json")
    code, text, words = run(capsys, "measure", *arguments)
    assert (code, words) == (0, "")
    rows = json.loads(text)["variables"]
    assert len(rows) == 2 and rows[0]["trace"] != rows[1]["trace"]
    assert all(0 < row["entropy"] < np.log(6) and row["trace"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("NormalisedOverPoints", "a batch normalisation needs use_running_average=True"),
        ("AlwaysDropped", "give its __call__ an argument deterministic or train"),
        ("instance", "An NNX module has its parameters"),
        ("called", "which is Callable"),
        ("with_state", r"it takes (params, state, rng, x)"),
        ("classes", "received int32"),
        ("complex_numbers", "received complex64"),
        ("Centred", "must treat every point separately"),
    ],
)
@pytest.mark.parametrize("command", [("measure",), ("select", "--method", "rnd")])
def test_what_cannot_be_computed_is_one_line_and_exit_2(path, message, command, table, capsys):
    arguments = (*command[1:], "--model", f"own_model.{path}", "--n-points", 3)
    code, text, words = run(capsys, command[0], *arguments)
    assert code == 2 and text == ""
    assert words.startswith("error: ") and message in words
    assert words.count("\n") == 1


def test_a_network_is_measured_without_targets_whatever_its_outputs(table, capsys):
    arguments = ("--model", "flax.linen.Dense", "--model-option", "features=3", "--n-points", "6")
    code = main.main(["measure", "table.csv", *arguments, "--members", "1", "--json", "--quiet"])
    (row,) = json.loads(capsys.readouterr().out)["variables"]
    assert code == 0 and 0 < row["entropy"] < np.log(6)
    assert row["target_alignment"] is None


@pytest.mark.parametrize("method", ["greedy", "trace"])
def test_rows_are_selected_without_targets_whatever_the_outputs(method, table, capsys):
    arguments = ("--model", "flax.linen.Dense", "--model-option", "features=3", "--n-points", "2")
    assert main.main(["select", "table.csv", *arguments, "--method", method, "--quiet"]) == 0
    assert len(set(capsys.readouterr().out.split())) == 2
