"""The command that makes a result again is the one that was typed."""

import shlex

import pytest

from collective_variables.cli import command_line
from collective_variables.cli.results import provenance


def parsed(words):
    return command_line.parse_arguments(words, "collective-variables")


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "a.csv", "--n-points", "10", "30"],
        ["compare", "my houses.csv", "--target", "a b", "--target", "it's", "--n-points", "10"],
        ["compare", "a.csv", "--n-points", "9", "--no-day-first", "--header", "--learning-rate=1"],
        ["compare", "a.csv", "--ignore=-x", "--ignore", "y", "z", "--n-points", "9", "--seed", "3"],
        ["compare", "a.csv", "--target=--price", "--n-points", "9", "--layers", "conv 32 3x3"],
        ["compare", "a", "--image-size", "8x16", "--n-points", "9", "--page", "p.html", "--quiet"],
        ["compare", "a.csv", "--n-points", "9", "--model", "m.N", "--model-option", "n=1"],
        ["select", "a.csv", "--n-points", "9", "--option", "a=[1, 2]", "--labelled", "r.csv"],
        ["measure", "$a.csv", "--n-points", "9", "--members", "2"],
    ],
)
def test_the_command_stands_for_the_same_arguments(words):
    command = provenance.command(parsed(words))
    program, *again = shlex.split(command)
    assert program == "collective-variables" and vars(parsed(again)) == vars(parsed(words))


def test_a_file_that_begins_with_a_hyphen_is_no_option():
    words = ["compare", "--n-points", "9", "--", "-a.csv"]
    again = shlex.split(provenance.command(parsed(words)))[1:]
    assert parsed(again).file == "./-a.csv"


def test_settings_have_defaults_and_not_where_results_go():
    words = ["compare", "a.csv", "--n-points", "9", "--page", "p.html", "--quiet"]
    origin = provenance.origin(parsed(words))
    assert (origin.settings["members"], origin.settings["n-points"]) == ("5", "9")
    assert "page" not in origin.settings and "quiet" not in origin.settings
    assert origin.seconds > 0 and origin.name == "a.csv"
