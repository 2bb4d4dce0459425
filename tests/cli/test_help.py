"""Every example of every help text, and of docs/how-to runs, on made files."""

import contextlib
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import PAGES, commands
from model_file import MODELS
from PIL import Image

from collective_variables.active_learning import fitting, learner
from collective_variables.cli import _help, command_line, main
from collective_variables.selection import registry

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")

# As small as an example may be made without changing what it shows.
SMALL = {
    "compare": ["--epochs", "1", "--members", "2"],
    "measure": ["--members", "1"],
    "select": [],
}


def help_commands(name):
    text = _help.epilogue(name, "collective-variables")
    return re.findall(r"^  (collective-variables .*)$", text, re.MULTILINE)


GROUPS = {str(name): help_commands(name) for name in _help.EPILOGUES}
GROUPS |= {
    name: commands(text, "collective-variables")
    for name, text in PAGES.items()
    if "\ncollective-variables " in text
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Tables of 250 rows and fewer, 210 photos in two classes, and a network."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"H{number}" for number in range(250)]})
    table["area"], table["rooms"] = rng.normal(100, 30, 250), rng.integers(1, 6, 250)
    table[40:].to_csv("new.csv", index=False)
    table = table.assign(price=3 * table["area"])
    table.to_csv("houses.csv", index=False)
    table[:40].to_csv("labelled.csv", index=False)
    # The files of the how-to page on labels in batches.
    table[40:].to_csv("open.csv", index=False)
    table[:40].to_csv("measured.csv", index=False)
    Path("sold.txt").write_text("H100\n")
    for number in range(210):
        path = Path("photos") / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    Path("models.py").write_text(MODELS)
    short = fitting.FitSettings(n_networks=1, n_epochs=5)
    defaults = learner.ActiveLearner.__init__.__kwdefaults__ | {"settings": short}
    monkeypatch.setattr(learner.ActiveLearner.__init__, "__kwdefaults__", defaults)
    return tmp_path


def typed(command):
    """The exit code of a command as a shell runs it; > and >> lead into files."""
    words = shlex.split(command)
    assert words[0] == "collective-variables"
    with contextlib.ExitStack() as stack:
        if words[-2] in (">", ">>"):
            mode = {">": "w", ">>": "a"}[words[-2]]
            file = stack.enter_context(open(words[-1], mode))
            stack.enter_context(contextlib.redirect_stdout(file))
            words = words[:-2]
        layers = [] if {"--layers", "--model", "select"} & set(words) else ["--layers", "dense 4"]
        fewer = ["--rounds", "1"] if "--rounds" in words else []
        return main.main([*words[1:], *SMALL[words[1]], *fewer, *layers, "--quiet"])


def test_the_how_to_pages_show_every_command():
    assert {"docs/how-to/your-own-data.md", "docs/how-to/change-the-network.md"} <= set(GROUPS)
    shown = [command.split()[1] for command in GROUPS["docs/how-to/your-own-data.md"]]
    assert set(shown) == set(command_line.COMMANDS)


@pytest.mark.parametrize("group", GROUPS)
def test_every_example_runs(group, folder, capsys):
    assert len(GROUPS[group]) > 1
    if group in ("select", "docs/how-to/label-in-batches.md"):
        table = pd.read_csv("houses.csv")
        table.assign(price=table["price"].where(table.index < 40)).to_csv("houses.csv", index=False)
    for command in GROUPS[group]:
        code = typed(command)
        assert code == 0, f"{command}: {capsys.readouterr().err}"
        if "compare" in command:
            shown = capsys.readouterr().out
            assert "are worth" in shown or any(
                words in command for words in ("50 --methods", "--rounds")
            )


def test_the_help_of_select_names_every_method_and_option():
    text = command_line.build_parser().command("select").format_help()
    paragraphs = re.split(r"^  (?=\S)", text.partition("for --option:\n")[2], flags=re.MULTILINE)[
        1:
    ]
    named = {words.split()[0]: re.findall(r"(\w+)=", words) for words in paragraphs}
    assert list(named) == list(registry.SELECTION_METHODS)
    for method, options in registry.OPTIONS.items():
        hidden = ("labelled", "params", "predictions")
        assert named[method] == [name for name in options if name not in hidden]


@pytest.mark.parametrize("name", [None, *command_line.COMMANDS])
def test_help_ends_with_0_and_fits_a_terminal_of_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main.main([name, "--help"] if name else ["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 or "collective" in line for line in lines)
