"""Extend MkDocs: formulas as MathML, the table of public names, and docstrings."""

import ast
import html
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from griffe import Docstring, Extension, Object
from latex2mathml import converter
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "collective_variables"
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\s*\\([(\[])(.*?)\\[)\]]\s*</\1>', flags=re.DOTALL
)
TABLE = re.compile(r"<table>.*?</table>", flags=re.DOTALL)
# Output that latex2mathml leaves incomplete without an error.
N_PARTS = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2}
N_PARTS |= {"msubsup": 3, "munderover": 3}
MATHML = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", MATHML)
NAMES_MARKER = "<!-- public names -->"
CHANGELOG_MARKER = "<!-- changelog -->"
# Google's style allows both words, and griffe reads only the plural as examples to run.
SINGULAR = re.compile(r"^(\s*)Example:$", flags=re.MULTILINE)


def on_page_markdown(markdown: str, page, **_) -> str:
    """Insert parts of other files of the project, and set the theme's options for a page."""
    if page.parent is None:  # a list of one page is useless
        page.meta.setdefault("hide", ["navigation"])
    if page.file.src_uri.startswith("api/"):  # searches then show explanations of a word first
        page.meta.setdefault("search", {"boost": 0.5})
    if NAMES_MARKER in markdown:
        markdown = markdown.replace(NAMES_MARKER, public_names())
    if CHANGELOG_MARKER in markdown:
        markdown = markdown.replace(CHANGELOG_MARKER, changelog())
    return markdown


def on_page_content(content: str, page, **_) -> str:
    """Turn formulas into MathML, which browsers draw without a script."""

    def formula(found: re.Match) -> str:
        display = "inline" if found[2] == "(" else "block"
        try:
            return mathml(html.unescape(found[3]), display)
        except ValueError as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error

    return TABLE.sub(scrollable, FORMULA.sub(formula, content))


def scrollable(table: re.Match) -> str:
    """Return a table that scrolls, also by keys, and keeps numbers and units together."""
    whole = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", table[0])
    return f'<div class="table" tabindex="0" role="region" aria-label="Table">{whole}</div>'


def mathml(formula: str, display: str = "inline") -> str:
    """Return a formula of LaTeX as MathML.

    Raises:
        ValueError: The formula is wrong, or has an unknown command.
    """
    try:
        drawn = ElementTree.fromstring(converter.convert(formula.strip(), display=display))
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"the formula {formula!r} cannot be read: {reason}") from error
    for element in list(drawn.iter()):
        name = element.tag.rpartition("}")[2]
        if "\\" in (element.text or ""):
            raise ValueError(f"the formula {formula!r} has an unknown command: {element.text}")
        if len(element) != N_PARTS.get(name, len(element)):
            raise ValueError(f"the formula {formula!r} lacks an argument ({name})")
        if name not in N_PARTS:
            space_functions(element)
    return ElementTree.tostring(drawn, encoding="unicode")


def space_functions(row: ElementTree.Element) -> None:
    """Put a thin space between functions, such as ln, and the letters next to them."""
    parts = list(row)
    for place, part in reversed(list(enumerate(parts))):
        if len(part.text or "") > 1 and (part.text or "").isalpha() and "mtext" not in part.tag:
            part.tag = f"{{{MATHML}}}mi"
            space = ElementTree.Element(f"{{{MATHML}}}mspace", {"width": "0.167em"})
            after = parts[place + 1] if place + 1 < len(parts) else part
            before = parts[place - 1] if place else part
            if after is not part and not after.tag.endswith("}mo"):
                row.insert(place + 1, space)
            if before is not part and not before.tag.endswith("}mo"):
                row.insert(place, space)


def public_names() -> str:
    """Return tables of all public names, one for each sub-package, in the order of the package."""
    rooms: dict[str, list[str]] = {}
    for name, module in homes().items():
        path = f"{PACKAGE.name}.{module}.{name}"
        row = f"| [`cv.{name}`][{path}] | {summary(module, name)} |"
        rooms.setdefault(module.partition(".")[0], []).append(row)
    return "\n\n".join(
        f"## {room.capitalize()}\n\n| name | what it is |\n| --- | --- |\n" + "\n".join(rows)
        for room, rows in rooms.items()
    )


def homes() -> dict[str, str]:
    """Return the module of each public name, in the order of the package."""
    values = {
        name: node.value
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        for name in assigned(node)
    }
    modules = ast.literal_eval(values["_MODULES"])
    found = {name: module for module, names in modules.items() for name in names}
    return {name: found[name] for name in ast.literal_eval(values["__all__"])}


def summary(module: str, name: str) -> str:
    """Return the first paragraph of the description of a name, without importing its module."""
    source = (PACKAGE / f"{module.replace('.', '/')}.py").read_text()
    body = ast.parse(source).body
    text = ""
    for node, following in zip(body, [*body[1:], None]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            text = ast.get_docstring(node) or ""
        elif name in assigned(node):
            has_docstring = isinstance(following, ast.Expr)
            text = (
                ast.literal_eval(following.value)
                if has_docstring
                else comment(source.splitlines(), node.lineno)
            )
    if not text:
        raise PluginError(f"{module}.{name} is public and has no docstring: write one.")
    return " ".join(text.split("\n\n")[0].split()).replace("|", r"\|")


def assigned(node: ast.stmt) -> list[str]:
    """Return the names that a statement gives a value."""
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return [target.id for target in targets if isinstance(target, ast.Name)]


def comment(lines: list[str], line: int) -> str:
    """Return the comment that ends above a line (from 1)."""
    first = line - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(text.removeprefix("#").strip() for text in lines[first : line - 1])


class Docstrings(Extension):
    """Make griffe show the section "Example:" as code, and public constants with their comments."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the description of an object."""
        if obj.docstring:
            obj.docstring.value = SINGULAR.sub(r"\1Examples:", obj.docstring.value)
        elif obj.is_attribute and homes().get(obj.name) == obj.module.path.partition(".")[2]:
            obj.docstring = Docstring(comment(obj.module.lines, obj.lineno), parent=obj)


def changelog() -> str:
    """Return the changelog without its title; links to the documentation lead to the pages."""
    text = (ROOT / "CHANGELOG.md").read_text().partition("\n")[2]
    return re.sub(r"\]\(docs/(.*?)\)", r"](\1)", text)
