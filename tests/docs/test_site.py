"""The documentation: what mkdocs builds, as a reader without a network opens it."""

import ast
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mkdocs.exceptions import PluginError
from pages import in_browser

import collective_variables as cv
from collective_variables import _HOMES
from scripts import docs_hooks

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "collective_variables"
LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("img", "srcset")}


class Page(HTMLParser):
    """The ids of a page, where it leads to, and what a browser loads with it."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        for name in ("href", "src", "srcset"):
            if values.get(name):
                self.links.append(values[name])
                is_canonical = values.get("rel") in ("canonical", "prev", "next", "alternate")
                if (tag, name) in LOADED and not is_canonical:
                    self.loaded.append(values[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site that `make docs` builds."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """The pages of the site by their paths. The page of an unknown address is never on a disk."""
    files = [path for path in site.rglob("*.html") if path.name != "404.html"]
    return {path: Page(path.read_text()) for path in files}


def test_every_link_leads_to_a_file_and_an_anchor_that_exist(pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            anchor = unquote(address.fragment)
            if not target.is_file() or (
                anchor and target in pages and anchor not in pages[target].ids
            ):
                dead.append(f"{path.name}: {link}")
    assert dead == []


def test_no_page_loads_anything_from_a_network(site, pages):
    loaded = [(path.name, link) for path, page in pages.items() for link in page.loaded]
    assert loaded and [entry for entry in loaded if urlsplit(entry[1]).netloc] == []
    for path in site.rglob("*.css"):
        text = path.read_text()
        imported = re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]*)", text)
        assert imported == [], path.name


@pytest.mark.parametrize("name", cv.__all__)
def test_every_public_name_is_in_the_table_and_on_a_page_of_the_reference(pages, site, name):
    home = _HOMES[name]
    anchor, page = f"collective_variables.{home}.{name}", f"{home.partition('.')[0]}.html"
    assert f"{page}#{anchor}" in pages[site / "api" / "index.html"].links
    assert anchor in pages[site / "api" / page].ids


def test_every_public_module_of_a_sub_package_is_on_its_page(pages, site):
    for folder in LIBRARY.iterdir():
        for path in folder.glob("[!_]*.py"):
            name = f"{LIBRARY.name}.{folder.name}.{path.stem}"
            assert name in pages[site / "api" / f"{folder.name}.html"].ids


def test_examples_are_code(site):
    text = (site / "api" / "selection.html").read_text()
    examples = re.findall(r'<div class="[^"]*highlight">(.*?)</div>', text, flags=re.DOTALL)
    assert any("&gt;&gt;&gt;" in example and "k-center" in example for example in examples)
    assert "Example:" not in text


def test_every_formula_is_drawn_by_the_browser(site):
    texts = [path.read_text() for path in site.rglob("*.html")]
    assert not any("arithmatex" in text for text in texts)
    assert any("<math" in text for text in texts)


def test_a_formula_has_its_letters_operators_and_spaces():
    drawn = docs_hooks.on_page_content(
        '<p><span class="arithmatex">\\(S = -\\sum_i p_i \\ln p_i &lt; 1\\)</span></p>', page=None
    )
    assert drawn.startswith("<p><math") and "arithmatex" not in drawn
    assert "<mi>ln</mi><mspace" in drawn and "&lt;" in drawn


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (r"\unknown{x}", r"unknown command: \\unknown"),
        (r"\frac{a}", r"lacks an argument \(mfrac\)"),
        (r"\left( a", "cannot be read"),
        ("a & b", "cannot be read"),
    ],
)
def test_a_wrong_formula_ends_the_build_and_names_its_page(formula, reason):
    class Page:
        class file:
            src_uri = "concepts/kernel.md"

    content = f'<div class="arithmatex">\\[{formula.replace("&", "&amp;")}\\]</div>'
    with pytest.raises(PluginError, match=rf"concepts/kernel\.md: .*{reason}"):
        docs_hooks.on_page_content(content, page=Page)


def test_search_works_in_pages_that_are_opened_from_a_disk(site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    page = (copy / "changelog.html").read_text()
    search = '<script>addEventListener("load", () => setTimeout(() => {'
    search += ' const field = document.querySelector("[data-md-component=search-query]");'
    search += ' field.focus(); field.value = "RNDSelector";'
    search += ' field.dispatchEvent(new Event("keyup", {bubbles: true})); }, 1000))</script>'
    drawn, messages = in_browser(page.replace("</body>", f"{search}</body>"), copy)
    assert messages == []
    found = re.findall(r'<a href="([^"]*)" class="md-search-result__link"', drawn)
    assert any("api/selection.html" in link for link in found)


def test_the_face_of_the_package_is_read_without_an_import():
    code = "import sys\nfrom scripts import docs_hooks\nprint(docs_hooks.public_names())"
    code += "\nassert 'jax' not in sys.modules and 'collective_variables' not in sys.modules"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    names = re.findall(r"\[`cv\.(\w+)`\]", process.stdout)
    assert sorted(names) == sorted(cv.__all__)


def test_a_constant_without_a_docstring_is_described_by_its_comment():
    source = "A = 1\n# What A\n# means.\nB = 2\n"
    node = ast.parse(source).body[1]
    assert docs_hooks.comment(source.splitlines(), node.lineno) == "What A\nmeans."
    assert docs_hooks.comment(source.splitlines(), 1) == ""


def test_what_is_written_as_a_list_is_drawn_as_one(pages):
    marker = re.compile(r"^(?:\d+\.|[-*]) ", flags=re.MULTILINE)
    broken = []
    for path in pages:
        text = re.sub(r"<pre.*?</pre>", "", path.read_text(), flags=re.DOTALL)
        paragraphs = re.findall(r"<p>(.*?)</p>", text, flags=re.DOTALL)
        broken += [f"{path.name}: {part[:60]}" for part in paragraphs if marker.search(part)]
    assert broken == []


def test_a_table_scrolls_by_keys_and_does_not_part_a_number_from_its_unit():
    drawn = docs_hooks.on_page_content("<table><tr><td>-13 %</td></tr></table>", page=None)
    assert drawn.startswith('<div class="table" tabindex="0"')
    assert "-13\N{NO-BREAK SPACE}%" in drawn


def test_the_site_has_the_colours_of_the_report():
    report, site, plots = (
        re.findall(r"--cv-(ink|soft|line|paper|panel|link): *(#\w+)", (ROOT / path).read_text())
        for path in (
            "collective_variables/papers/templates/style.css",
            "docs/assets/site.css",
            "plots/page.html",
        )
    )
    assert len(report) == 12 and sorted(site) == sorted(report)
    assert plots and set(plots) <= set(report)
