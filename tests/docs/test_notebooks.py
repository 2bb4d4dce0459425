"""The notebook runs from its first cell to its last, in a fresh process, from its own folder."""

import json
import os
import subprocess
import sys

from project import JAX, ROOT

RUN = "import json, sys; scope = {}; [exec(compile(cell, '<cell>', 'exec'), scope) for cell in json.load(sys.stdin)]"


def test_the_notebook_runs_from_its_folder(tmp_path):
    notebook = json.loads((ROOT / "notebooks" / "own_model.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    environment = JAX | {name: os.environ[name] for name in ("XLA_FLAGS",) if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT / "notebooks", input=json.dumps(cells), text=True, capture_output=True,
        env=environment | {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        "regression: 300 points in the pool, 92 test points" in done.stdout
        and "S = " in done.stdout
    )
    # It was run before it was committed, and shows its results.
    assert all(
        cell["outputs"]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "print(" in "".join(cell["source"])
    )
