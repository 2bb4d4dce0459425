"""The README and the pages of docs/ that people type commands from."""

import re

from compiled import ROOT

README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in ("how-to", "results", "develop")
    for path in sorted((ROOT / "docs" / folder).glob("*.md"))
}
# What says the same in several places is read in all of them.
EVERYTHING = "\n".join([README, *PAGES.values()])


def commands(text, program):
    """The lines of fenced blocks that begin with a program."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = (line for block in blocks for line in block.splitlines())
    return [line for line in lines if line.startswith(f"{program} ")]
