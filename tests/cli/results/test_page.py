"""The page of a comparison: its answer, what it shows, and how it was made."""

import numpy as np
from comparisons import compared, setting
from pages import Elements, in_browser, widths_in_frames

from collective_variables.cli import command_line
from collective_variables.cli.results import comparison, page, provenance
from collective_variables.data import encoding


def table():
    columns = {"size m²": [1.0, 2.5, np.nan, 4.0], "price": [1.0, 2.0, 3.5, 4.5]}
    return encoding.encode_table(
        {name: np.array(cells) for name, cells in columns.items()}, "price"
    )


def origin(name="houses.csv"):
    arguments = ["compare", name, "--target", "price", "--n-points", "10", "20", "40"]
    return provenance.origin(command_line.parse_arguments(arguments, "collective-variables"))


def made(loss=lambda method, size: 1 / size, name="houses.csv", **changes):
    return page.page(compared(loss), setting(**changes), table(), origin(name))


def test_a_page_has_the_name_of_the_file_and_the_answer_before_everything_else():
    text = made(lambda method, size: (0.5 if method == "k-center" else 1.0) / size, "<houses>.csv")
    elements = Elements(text)
    title = "<houses>.csv: chosen rows or random ones?"
    assert elements.texts[0] == title and elements.texts[2] == title
    assert elements.texts[3].startswith("40 rows chosen by k-center give a test loss 50 % lower")
    assert dict(elements.elements)["html"]["lang"] == "en" and text.startswith("<!DOCTYPE html>")
    assert len(text) < 2.5e6


def test_a_page_has_tables_and_sentences_and_methods_as_papers_call_them():
    text = made()
    words = " ".join(Elements(text).texts)
    assert comparison.sentences(compared(lambda method, size: 1 / size), setting())[0] in words
    assert "its bar one standard error" in words and "Each interval is that of one" in words
    assert "Subset size n" in words and "Root-mean-square error" in words
    assert "Mean difference" in words and "min_test_loss" not in words.replace("min-test", "")
    # A head and rows of the means, the differences and the columns of the file.
    assert text.count("<tr") == (1 + 6) + (1 + 3) + (1 + 2)


def test_a_page_says_what_was_done_to_every_column_and_how_it_was_made():
    texts = Elements(made(name="my houses.csv")).texts
    place = texts.index("size m²")
    assert texts[place : place + 4] == ["size m²", "input", "numbers", "1"]
    command = "collective-variables compare 'my houses.csv' --target price --n-points 10 20 40"
    assert command in texts
    for name, value in {"seed": "0", "n-test": "50", "layers": "dense 128, dense 128"}.items():
        assert texts[texts.index(name) + 1] == value
    assert {"collective-variables", "jax", "flax", "numpy", "Python", "system"} <= set(texts)


def test_cautions_are_in_front_of_the_results_and_only_there():
    texts = Elements(made(n_test=5)).texts
    (place,) = [k for k, text in enumerate(texts) if text.startswith("Caution: 5 test points say")]
    assert place < texts.index("Results")


def test_nothing_comes_from_elsewhere_and_all_is_reached_by_keyboard():
    elements = Elements(made())
    assert elements.attributes("src") == [] and elements.attributes("href") == ["#curves"]
    wide = [attributes for _, attributes in elements.elements if attributes.get("class") == "wide"]
    assert wide
    for attributes in wide:
        assert attributes["tabindex"] == "0" and attributes["aria-label"]


def test_a_browser_draws_the_figures_as_wide_as_the_page(tmp_path):
    document, messages = in_browser(made(name="</script><b>.csv"), tmp_path)
    assert messages == []
    drawn = Elements(document)
    assert sum("js-plotly-plot" in names for names in drawn.attributes("class", "div")) == 3
    # The window of the browser is 1600 pixels wide, of which the page takes 1472.
    widths = {
        element["width"] for _, element in drawn.elements if element.get("class") == "main-svg"
    }
    assert widths == {"1440"}
    assert {"Random", "k-center", "Subset size n"} <= set(drawn.texts)
    assert "Minimum test loss (variances of the target)" in drawn.texts


def test_a_page_fits_a_phone_and_a_screen(tmp_path):
    widths = widths_in_frames(made(), tmp_path, [390, 1400])
    assert widths == ["1400 of 1400 drawn", "390 of 390 drawn"]


def test_a_page_of_trainings_that_all_diverged_says_so():
    text = made(lambda *_: np.inf)
    words = Elements(text).texts
    assert words[3].startswith("There is no answer: all 24 trainings diverged")
