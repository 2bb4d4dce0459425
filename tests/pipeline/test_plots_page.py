"""The page of `dvc plots show`: it draws without a network, and says what each figure shows."""

import configparser
import csv
import io
import json

import pandas as pd
import pytest
import vl_convert
import yaml
from compiled import ROOT
from dvc_render import VegaRenderer, render_html
from pages import Elements, in_browser

TEMPLATES = ROOT / ".dvc" / "plots"
FIGURES = [
    (title, figure)
    for figures in yaml.safe_load((ROOT / "plots" / "figures.yaml").read_text()).values()
    for title, figure in figures.items()
]


def html_template():
    """The page that DVC's configuration names."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    return (ROOT / ".dvc" / config["plots"]["html_template"]).resolve()


def page(folder):
    """The page of one figure, in a folder of the project, as `dvc plots show` writes it."""
    table = pd.read_csv(ROOT / "reference" / "summary.csv")
    rows = list(csv.DictReader(io.StringIO(table[table["group"] == "fuel"].to_csv(index=False))))
    title, figure = next(entry for entry in FIGURES if entry[1]["template"] == "comparison")
    labels = {name: figure[name] for name in ("x", "y", "x_label", "y_label", "template")}
    rows = [row | {"rev": "workspace"} for row in rows]
    renderer = VegaRenderer(rows, "figure", title=title, template_dir=TEMPLATES, **labels)
    file = folder / "dvc_plots" / "index.html"
    render_html([renderer], file, html_template())
    return title, file


def test_the_page_draws_its_figures_without_a_network(tmp_path):
    title, file = page(tmp_path)
    program = tmp_path / ".venv" / "vega.js"
    program.parent.mkdir()
    program.write_text(vl_convert.javascript_bundle())
    drawn, messages = in_browser(file.read_text(), file.parent)
    assert messages == []
    elements = Elements(drawn)
    assert elements.attributes("lang", "html") == ["en"]
    assert {"Subset size n", "Random", "RND, linearised"} <= set(elements.texts)
    description = json.loads((TEMPLATES / "comparison.json").read_text())["description"]
    place = elements.texts.index(title)
    assert elements.texts[place + 1] == description


def test_the_page_says_what_to_do_where_its_library_is_missing(tmp_path):
    _, file = page(tmp_path)
    drawn, _ = in_browser(file.read_text(), file.parent)
    assert any("run `make setup`" in text for text in Elements(drawn).texts)


@pytest.mark.parametrize("template", sorted({figure["template"] for _, figure in FIGURES}))
def test_every_template_says_in_a_sentence_what_it_shows(template):
    description = json.loads((TEMPLATES / f"{template}.json").read_text())["description"]
    assert description.endswith(".") and "columns" not in description
