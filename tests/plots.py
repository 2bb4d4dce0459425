"""What `dvc plots show` draws of a table, as SVG."""

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import vl_convert
from dvc_render import VegaRenderer

TEMPLATES = Path(__file__).parents[1] / ".dvc" / "plots"
SVG = "{http://www.w3.org/2000/svg}"


def draw(template, tables, x, y, y_label="label of y"):
    """The SVG that `dvc plots` draws of a table per revision: DVC reads csv files and leaves every
    value a text.
    """
    rows = [row | {"rev": rev} for rev, table in tables.items() for row in read(table)]
    labels = {"title": "title", "x_label": "label of x", "y_label": y_label}
    renderer = VegaRenderer(
        rows, "plot", template=template, template_dir=TEMPLATES, x=x, y=y, **labels
    )
    return ElementTree.fromstring(vl_convert.vegalite_to_svg(renderer.get_filled_template()))


def read(table):
    return list(csv.DictReader(io.StringIO(table.to_csv(index=False))))


def having(element, name):
    """What the marks or groups of this class inside `element` consist of: for "cell" the panels,
    row by row.
    """
    return [
        part for mark in element.iter() if name in mark.get("class", "").split() for part in mark
    ]


def words(elements):
    return [text.text for element in elements for text in element.iter(f"{SVG}text")]
