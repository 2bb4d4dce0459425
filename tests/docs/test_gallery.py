"""The gallery has every method of selection, and shows what the methods choose."""

from xml.etree import ElementTree

import jax
import numpy as np
import pandas as pd
import pytest

import collective_variables as cv
from benchmarks.pages.files import GENERATED
from collective_variables.selection import registry
from scripts import draw_gallery, gallery_tables

PAGE = (draw_gallery.ROOT / "docs" / "gallery.md").read_text()
CIRCLES = ".//{http://www.w3.org/2000/svg}circle"


def circles(name):
    return ElementTree.parse(draw_gallery.PICTURES / name).findall(CIRCLES)


def select(method, seed, **options):
    key = jax.random.key(seed)
    pool, classes = draw_gallery.pool(), draw_gallery.classes()
    return cv.select(pool, 20, method=method, key=key, targets=classes, **options).indices[0]


def test_every_method_has_a_section_with_its_picture_and_its_measurements():
    sections = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
    assert [name for name in sections if name in registry.SELECTION_METHODS] == list(
        registry.SELECTION_METHODS
    )
    for method in registry.SELECTION_METHODS:
        assert f"](gallery/{method}.svg)" in sections[method]
        measured = f'"results/generated/gallery-methods.md:{gallery_tables.anchor(method)}"'
        assert measured in sections[method]
        assert "- **Take it**" in sections[method] and "- **Not**" in sections[method]


@pytest.mark.parametrize("method", registry.SELECTION_METHODS)
def test_a_picture_is_small_and_has_as_many_points_as_were_chosen(method):
    path = draw_gallery.PICTURES / f"{method}.svg"
    assert path.stat().st_size < 60_000
    rows = {circle.get("data-row") for circle in circles(path.name)}
    assert len(rows) == draw_gallery.N_CHOSEN


def test_the_overview_has_all_methods():
    assert (draw_gallery.PICTURES / "overview.svg").stat().st_size < 150_000
    n_methods = len(registry.SELECTION_METHODS)
    assert len(circles("overview.svg")) == n_methods * draw_gallery.N_CHOSEN


@pytest.mark.parametrize("method", ["k-center", "facility-location", "stratified"])
def test_a_picture_shows_what_the_method_chooses_where_it_is(method):
    drawn = circles(f"{method}.svg")[::-1]  # the first is on top, so it comes last
    chosen = select(method, draw_gallery.SEED)
    assert [int(circle.get("data-row")) for circle in drawn] == chosen.tolist()
    places = [(float(circle.get("cx")), float(circle.get("cy"))) for circle in drawn]
    np.testing.assert_allclose(places, draw_gallery.place(draw_gallery.pool()[chosen]))


def test_the_key_decides_what_the_table_says():
    options = draw_gallery.OPTIONS["rnd-linearised"]
    first, second = (select("rnd-linearised", seed, **options) for seed in (0, 1))
    assert first.tolist() == second.tolist()
    assert gallery_tables.FACTS["rnd-linearised"].key.startswith("nothing")
    first, second = (select("k-center", seed) for seed in (0, 1))
    assert first[0] != second[0]
    assert gallery_tables.FACTS["k-center"].key == "the first point"


def test_labels_are_needed_where_the_table_says():
    for method in registry.SELECTION_METHODS:
        assert gallery_tables.needs_labels(method) == (method == "stratified")


def test_the_tables_have_the_numbers_of_the_reference_files():
    seconds = pd.read_csv(draw_gallery.SECONDS)
    for name, fragment in gallery_tables.fragments(seconds).items():
        assert (GENERATED / f"{name}.md").read_text().startswith(fragment.write()), name
