"""The notebook runs from its first cell to its last, in a fresh process, in its folder."""

import json
import os
import re
import subprocess
import sys

from project import JAX, ROOT

RUN = """
import json, sys
scope = {}
for cell in json.load(sys.stdin):
    exec(compile(cell, "<cell>", "exec"), scope)
"""
NOTEBOOK = json.loads((ROOT / "notebooks" / "own_model.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def test_the_notebook_runs_from_its_folder(tmp_path):
    assert len(CELLS) > 5
    environment = JAX | {name: os.environ[name] for name in ("XLA_FLAGS",) if name in os.environ}
    process = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=ROOT / "notebooks",
        input=json.dumps([source(cell) for cell in CELLS]),
        text=True,
        capture_output=True,
        env=environment | {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert process.returncode == 0, process.stderr
    # Processors differ in the last digits, and may then choose other rows.
    assert without_numbers(process.stdout) == without_numbers("".join(map(kept, CELLS)))


def kept(cell):
    """What the cell printed when the notebook was committed."""
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def without_numbers(text):
    return re.sub(r"[\d.\s]+", " ", text)
