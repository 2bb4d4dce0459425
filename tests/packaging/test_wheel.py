"""What a stranger meets: the wheel in an environment of its own, used from an empty folder."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from wheels import build_wheel, environment, run

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ("auto-mpg.csv", "mnist_10k.npz", "molecules.npz", "words.csv")
MODEL = """
import flax.linen as nn


class Residual(nn.Module):
    n_outputs: int

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(8)(x)
        return nn.Dense(self.n_outputs)(y + nn.Dense(8)(nn.relu(y)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what git tracks."""
    return build_wheel(tmp_path_factory)


@pytest.fixture(scope="module")
def programs(wheel):
    """The programs of an environment with the wheel, the core and the command line's extra."""
    options = ("--no-index", "--constraint", ROOT / "requirements.txt")
    with environment(sys.executable, wheel, "cli", options) as programs:
        yield programs


@pytest.fixture
def empty(tmp_path):
    """A folder with a table alone."""
    generator = np.random.default_rng(0)
    area, year = generator.uniform(50, 200, 60), generator.integers(1900, 2020, 60)
    rows = [f"{a:.1f},{y},{a * 3 + y / 10:.2f}" for a, y in zip(area, year)]
    (tmp_path / "houses.csv").write_text("\n".join(["area,year,price", *rows]))
    return tmp_path


def test_the_wheel_holds_the_library_its_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.partition("/")[0] for name in names} == {
        "collective_variables",
        f"{'-'.join(wheel.name.split('-')[:2])}.dist-info",
    }
    for name in (*EMBEDDED, "README.md"):
        assert f"collective_variables/data/embedded/{name}" in names
    assert "collective_variables/py.typed" in names
    assert "collective_variables/papers/templates/report.html" in names
    header = metadata.partition("\n\n")[0]
    assert "neural-tangents" not in "".join(
        line for line in header.splitlines() if "Requires-Dist" in line and "extra ==" not in line
    )
    assert not re.search(r"https?://", header)


def test_select_prints_rows_from_an_empty_folder(programs, empty):
    command = (programs / "collective-variables", "select", "houses.csv")
    printed = run(*command, "--target", "price", "--n-points", "5", "--quiet", folder=empty)
    rows = [int(line) for line in printed.split()]
    assert len(set(rows)) == 5
    assert set(rows) <= set(range(60))


def test_compare_runs_as_a_module_from_an_empty_folder(programs, empty):
    command = (programs / "python", "-m", "collective_variables", "compare", "houses.csv")
    options = ("--target", "price", "--n-points", "8", "--members", "2", "--epochs", "5", "--json")
    printed = json.loads(run(*command, *options, "--layers", "dense 4", "--quiet", folder=empty))
    assert [row["method"] for row in printed["summary"]] == ["random", "rnd-linearised"]


def test_measure_takes_a_network_beside_the_data(programs, empty):
    (empty / "models.py").write_text(MODEL)
    command = (programs / "collective-variables", "measure", "houses.csv", "--target", "price")
    network = ("--model", "models.Residual", "--model-option", "n_outputs=1")
    printed = json.loads(
        run(*command, *network, "--n-points", "10", "--members", "1", "--json", folder=empty)
    )
    assert 0 < printed["variables"][0]["entropy"] < np.log(10)


def test_the_python_block_of_the_readme_prints_what_it_says(programs, tmp_path):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    expected = [line.partition("# -> ")[2] for line in block.splitlines() if "# -> " in line]
    printed = run(programs / "python", "-c", block, folder=tmp_path)
    assert printed.split("\n")[:-1] == expected
    assert expected


def test_a_missing_extra_is_one_sentence(programs, tmp_path):
    program = "import collective_variables as cv; cv.RNDSelector"
    process = subprocess.run(
        [programs / "python", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 1
    assert 'pip install "collective-variables[sklearn]"' in process.stderr.splitlines()[-1]
