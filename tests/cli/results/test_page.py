"""The page of a comparison: what it is titled, shows and says."""

import re

from comparisons import compared, setting
from pages import Elements, in_browser

from collective_variables.cli.results import comparison, page


def test_a_page_has_the_name_of_the_file_a_table_words_and_methods_as_papers_call_them():
    made = compared(lambda method, size: 1 / size)
    summary = comparison.summary(made, setting())
    sentences = comparison.sentences(made, setting())
    text = page.page(made, summary, "<houses>.csv", sentences)
    elements = Elements(text)
    assert text.startswith('<!DOCTYPE html><html lang="en">')
    assert elements.texts[:2] == ["<houses>.csv", "<houses>.csv"]
    words = " ".join(elements.texts)
    assert "Test loss, entropy and trace of the rows that each method chooses" in words
    assert "its bar one standard error" in words and sentences[0] in words
    assert "Subset size n" in words and "Root-mean-square error" in words
    rows = text.count("<tr")
    assert rows == 1 + len(summary) and "min_test_loss" not in words
    assert "houses, LeCun" not in text and len(text) < 2.5e6


def test_a_browser_draws_the_figures_as_wide_as_the_window(tmp_path):
    made = compared(lambda method, size: 1 / size)
    text = page.page(made, comparison.summary(made, setting()), "houses.csv", ["</script><b>"])
    document, messages = in_browser(text, tmp_path)
    assert messages == []
    drawn = Elements(document.partition("<style>")[2])
    # The window of the browser is 800 pixels wide, or 756 with its bar.
    widths = re.findall(r'class="main-svg"[^>]* width="([\d.]+)"', document)
    assert widths and all(float(width) > 600 for width in widths)
    assert {"Random", "k-center", "Subset size n"} <= set(drawn.texts)
