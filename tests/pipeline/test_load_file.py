"""The stage that reads a user's file, run without DVC."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zntrack

from collective_variables.data import encoding, scaling
from nodes.load_file import LoadFile

N = 30
RNG = np.random.default_rng(0)
AREA = RNG.normal(size=N)


@pytest.fixture
def houses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    columns = {"id": 1000 + RNG.permutation(N), "area": AREA, "town": ["Ulm", "Bonn"] * (N // 2)}
    table = pd.DataFrame(columns | {"price": 2 * AREA, "rent": AREA + 1})
    table.to_csv("houses.csv", index=False)
    return Path("houses.csv")


def load(path, **options):
    """The stage after it ran, and the roles of the file's columns."""
    with zntrack.Project():
        node = LoadFile(file=path, path=str(path), **options)
    node.nwd.mkdir(parents=True)
    node.run()
    return node, node.columns.set_index("column")["role"].to_dict()


@pytest.mark.parametrize(
    "targets, ignored",
    [("price", "rent"), (["price"], ["rent"]), ("price", "id,rent"), (["price"], ["id", "rent"])],
)
def test_a_name_needs_no_list(houses, targets, ignored, capsys):
    node, roles = load(houses, targets=targets, ignored=ignored)
    identity = "ignored" if "id" in str(ignored) else "identity"
    assert roles == {
        "id": identity,
        "area": "input",
        "town": "input",
        "price": "target",
        "rent": "ignored",
    }
    assert node.dataset.inputs.shape == (N - N // 5, 3) and node.dataset.task == "regression"
    words = capsys.readouterr().out
    assert f"{N} rows, regression" in words
    assert ("Left out: id (an id)." in words) == (identity == "identity")


def test_an_id_is_an_input_if_it_is_named(houses):
    _, roles = load(houses, targets=["price", "rent"], used="id")
    assert roles == {
        "id": "input",
        "area": "input",
        "town": "input",
        "price": "target",
        "rent": "target",
    }


def test_a_file_is_read_as_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"a{number};{number},500;{number % 2}" for number in range(N)]
    lines += ["b;-;0", "c;17,500;x"]
    Path("a.csv").write_text("\n".join(lines), "utf-16")
    options = {"encoding": "utf-16", "header": False, "decimal": ",", "missing": ["-", "x"]}
    node, roles = load(Path("a.csv"), targets=2, task="classification", **options)
    assert list(roles.values()) == ["identity", "input", "target"]
    assert node.columns["holds"].tolist() == ["texts", "numbers", "numbers"]
    assert node.columns["missing"].tolist() == [0, 1, 1]
    assert len(node.dataset.inputs) + len(node.dataset.test_inputs) == N + 1


@pytest.mark.parametrize("name", ["bounded", "standard"])
def test_inputs_are_scaled_as_it_is_said(name, houses):
    options = {} if name == scaling.DEFAULT else {"input_scaling": name}
    node, _ = load(houses, targets="price", ignored="rent", **options)
    table = encoding.read_table(houses, "price", ignored="rent")
    expected = scaling.scale_table(table, node.dataset.index, scaling=name)[node.dataset.index]
    np.testing.assert_array_equal(node.dataset.inputs, expected.astype(np.float32))
