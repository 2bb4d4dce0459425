from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from collective_variables.selection import base
from nodes import _files


def test_what_a_stage_keeps_stays_when_it_is_interrupted_and_goes_when_it_is_done(tmp_path):
    folder, code = tmp_path / "unfinished", Path(__file__)
    with pytest.raises(KeyboardInterrupt), _files.kept(folder, code) as store:
        store["part"] = {"a": np.arange(3)}
        raise KeyboardInterrupt
    with _files.kept(folder, code) as store:
        assert list(store) == ["part"] and "part" in store and len(store) == 1
        assert store["part"]["a"].tolist() == [0, 1, 2]
        store["part"] = {"a": np.arange(4)}
        assert store["part"]["a"].tolist() == [0, 1, 2, 3]
        store["other"] = {}
        del store["part"]
        assert list(store) == ["other"]
    assert not folder.exists()


def test_what_other_code_has_kept_is_not_gone_on_with_and_goes_too(tmp_path):
    code = tmp_path / "digest.txt"
    for text in ("0a1", "0b2"):
        code.write_text(text)
        with pytest.raises(KeyboardInterrupt), _files.kept(tmp_path / "unfinished", code) as store:
            assert list(store) == []
            store["part"] = {"a": np.arange(3)}
            raise KeyboardInterrupt
    with _files.kept(tmp_path / "unfinished", code) as store:
        assert list(store) == ["part"]
    assert not (tmp_path / "unfinished").exists()


def test_a_file_that_was_not_written_to_its_end_is_not_there(tmp_path, monkeypatch):
    def killed(path, **arrays):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.np, "savez", killed)
    with (
        pytest.raises(KeyboardInterrupt),
        _files.kept(tmp_path / "unfinished", Path(__file__)) as store,
    ):
        store["part"] = {"a": np.arange(3)}
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    with _files.kept(tmp_path / "unfinished", Path(__file__)) as store:
        assert "part" not in store and list(store) == []


def test_methods_of_one_name_are_an_error_and_others_are_read_by_their_names():
    points = base.without_distances(np.array([[1, 2], [0, 3]]))
    nodes = [SimpleNamespace(subset=_files.Subset(name, points)) for name in ("random", "rnd")]
    assert {name: indices.tolist() for name, indices in _files.read_subsets(nodes).items()} == {
        "random": [[1, 2], [0, 3]],
        "rnd": [[1, 2], [0, 3]],
    }
    with pytest.raises(
        ValueError,
        match=r"methods must not repeat an entry: received \['random', 'rnd', 'random'\].",
    ):
        _files.read_subsets([*nodes, nodes[0]])
