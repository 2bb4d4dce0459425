"""The pages of the site print what they say: their blocks of code run here, in order.

What a ```python block prints must be the ```text block behind it; what `$ collective-variables …`
shows, the lines behind it in its ```console block. A line … stands for lines left out.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator

import jax
import pytest
import yaml
from compiled import ROOT

import main as graph
from collective_variables.cli.main import main
from nodes import _values

DOCS = ROOT / "docs"
README = ROOT / "README.md"  # whose block of Python runs from an installed wheel
PAGES = [README, DOCS / "quickstart.md", *sorted((DOCS / "tutorials").glob("*.md"))]
BLOCK = re.compile(r"^```(python|text|console|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d+|\d{4,})(?![\w.])")
BAR = re.compile(r"[^\n]*left\]")  # a progress bar, which a terminal draws again and again
OTHERS = ("pip install", "python main.py", "dvc ")  # are run by other tests


def blocks(page) -> Iterator[tuple[str, str]]:
    found = BLOCK.findall(page.read_text())
    return (block for block in found if page != README or block[0] == "console")


def commands(console: str) -> Iterator[tuple[str, str]]:
    """Each command of a console, and the lines that it shows."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        yield part.partition("\n")[::2]


def shown_by(run) -> str:
    """What a function prints, notes and results, as a terminal keeps it."""
    with io.StringIO() as terminal:
        with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
            run()
        return BAR.sub("", terminal.getvalue().replace("\r", "\n"))


def line_agrees(said: str, shown: str) -> bool:
    """Equal words and counts; decimals and long numbers to one unit in the page's last digit."""
    if NUMBER.sub("0", said).split() != NUMBER.sub("0", shown).split():
        return False
    pairs = zip(NUMBER.findall(said), NUMBER.findall(shown), strict=True)
    unit = lambda number: 1.01 * 10.0 ** -len(number.partition(".")[2])
    return all(abs(float(number) - float(value)) <= unit(number) for number, value in pairs)


def agrees(said: list[str], shown: list[str]) -> bool:
    if not said:
        return not shown
    if said[0] == "…":
        return any(agrees(said[1:], shown[k:]) for k in range(len(shown) + 1))
    return bool(shown) and line_agrees(said[0], shown[0]) and agrees(said[1:], shown[1:])


def check(said: str, shown: str, where: str) -> None:
    said, shown = ([line for line in text.splitlines() if line.strip()] for text in (said, shown))
    assert agrees(said, shown), "\n".join([where, "says:", *said, "It is:", *shown])


@pytest.fixture
def as_a_user(tmp_path, monkeypatch, standard_promotion):
    """An empty folder with the data of a clone, and JAX as it is after an import."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "notebooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_prints_what_the_page_says(page, as_a_user, quickly_compiled):
    scope, printed = {"__name__": "__main__"}, ""
    for language, text in blocks(page):
        if language == "text":
            check(text, printed, page.name)
            printed = ""
        assert not printed.strip(), f"{page.name} does not show what was printed:\n{printed}"
        if language == "python":
            printed = shown_by(lambda: exec(compile(text, page.name, "exec"), scope))
        for command, said in commands(text) if language == "console" else ():
            if command.startswith("collective-variables "):
                shown = shown_by(lambda: scope.update(code=main(shlex.split(command)[1:])))
                assert scope["code"] == 0, shown
                check(said, shown, f"{page.name}: {command}")
            else:
                assert command.startswith(OTHERS) and not said, command
    assert not printed.strip()


def test_numbers_agree_to_one_unit_in_the_last_digit_and_words_and_counts_exactly():
    said = ["5 rows", "…", "loss 0.25"]
    for shown in (["5 rows", "loss  0.25"], ["5 rows", "a note", "loss 0.259"]):
        assert agrees(said, shown)
    for shown in (["6 rows", "loss 0.25"], ["5 rows", "loss 0.262"], [*said, "more"], []):
        assert not agrees(said, shown)


def test_the_sections_of_the_new_problems_are_those_that_the_graph_takes(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = list(blocks(DOCS / "tutorials" / "add-a-problem.md"))
    problems = [yaml.safe_load(text) for language, text in page if language == "yaml"]
    sections = {name: values for problem in problems for name, values in problem.items()}
    _values.check(_values.parse((ROOT / "params.yaml").read_text(), "params.yaml") | sections)
    assert len(graph.read_groups(sections)) == len(problems) == 3
    run = (ROOT / "tests" / "pipeline" / "test_experiments.py").read_text()
    assert all(f'"{section}"' in run for section in problems[0])
    console = next(text for language, text in page if language == "console")
    for command, _ in commands(console):
        assert ", ".join(f'"{word}"' for word in shlex.split(command)) in run


def test_every_test_that_the_page_of_defects_names_exists():
    rows = re.findall(r"^\|.*\|$", (DOCS / "develop" / "defects.md").read_text(), re.MULTILINE)
    named = {
        name for row in rows for name in re.findall(r"`([\w/]*test_\w+)`", row.split(" | ")[-1])
    }
    assert len(named) > 40
    assert [name for name in named if not (ROOT / "tests" / f"{name}.py").is_file()] == []
