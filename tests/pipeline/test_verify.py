"""Damaged files of the cache, of stages' folders and of lock files are found, and nothing else is
touched.
"""

import hashlib
import random

import pytest
import yaml
from project import ROOT

import verify

CONTENTS = {
    "fuel/A/a.csv": b"n,loss\n1,0.5\n",
    "fuel/A/b.npz": b"\x00\x01\x02",
    "mnist/B/c.json": b"{}",
    "mnist/B/empty.csv": b"",
}


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A project of two stages with three results, each in the cache too."""
    monkeypatch.chdir(tmp_path)
    stages = {}
    for name, content in CONTENTS.items():
        path, digest = tmp_path / "nodes" / name, md5(content)
        for copy in (path, tmp_path / verify.OBJECTS / digest[:2] / digest[2:]):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        stage = stages.setdefault(
            "_".join(name.split("/")[:2]), {"cmd": "run", "deps": [], "outs": []}
        )
        stage["outs"].append(
            {"path": f"nodes/{name}", "hash": "md5", "md5": digest, "size": len(content)}
        )
    (tmp_path / "dvc.lock").write_text(
        yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)
    )
    return tmp_path


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_whole_files_are_left_alone_and_nothing_is_said(results, capsys):
    before = files(results)
    verify.main()
    assert files(results) == before and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: bytes([content[0] ^ 4]) + content[1:]]
)
@pytest.mark.parametrize("name", [name for name, content in CONTENTS.items() if content])
def test_a_damaged_file_of_the_cache_is_removed_and_named(name, damage, results, capsys):
    before, digest = files(results), md5(CONTENTS[name])
    path = results / verify.OBJECTS / digest[:2] / digest[2:]
    path.write_bytes(damage(CONTENTS[name]))
    path.chmod(0o444)  # DVC looks no more into a file of its cache that nobody may write
    verify.main()
    assert before.keys() - files(results).keys() == {path.relative_to(results)}
    assert (
        capsys.readouterr().out
        == f"{path.relative_to(results)} of the cache was damaged and is removed.\n"
    )


def test_a_folder_of_the_cache_is_one_of_its_files(results):
    content = b'[{"md5": "0", "relpath": "a"}]'
    path = results / verify.OBJECTS / md5(content)[:2] / f"{md5(content)[2:]}.dir"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    verify.main()
    assert path.is_file()


def test_a_result_that_is_not_that_of_the_lock_is_removed_and_named(results, capsys):
    (results / "nodes/fuel/A/a.csv").write_bytes(b"n,loss\n1,0.4\n")
    verify.main()
    assert (
        not (results / "nodes/fuel/A/a.csv").exists() and (results / "nodes/fuel/A/b.npz").exists()
    )
    assert (
        capsys.readouterr().out == "nodes/fuel/A/a.csv is not what dvc.lock has and is removed.\n"
    )


def test_a_missing_result_is_no_damage(results, capsys):
    (results / "nodes/mnist/B/c.json").unlink()
    verify.main()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lock", ["dvc.lock", "dynamics/dvc.lock"])
def test_a_lock_that_was_written_in_part_keeps_its_whole_stages_wherever_it_ends(lock, tmp_path):
    text, generator = (ROOT / lock).read_text(), random.Random(0)
    whole = yaml.load(text, yaml.CSafeLoader)["stages"]
    path, n_cut = tmp_path / "dvc.lock", 0
    for _ in range(30):
        end = generator.randrange(len(text))
        path.write_text(text[:end])
        found = verify.mended(path)
        assert verify.stages(path.read_text()) == found and found.keys() <= whole.keys()
        # Of the last stage outputs may be missing, which DVC sees; what is there is as it was.
        names = list(found)
        assert all(found[name] == whole[name] for name in names[:-1])
        assert (
            names == list(whole)[: len(names)] and len(names) >= text[:end].count("\n    cmd:") - 1
        )
        assert all(out in whole[name]["outs"] for name in names[-1:] for out in found[name]["outs"])
        n_cut += path.read_text() != text[:end]
    assert n_cut > 5


def test_a_lock_that_is_none_is_empty_afterwards(tmp_path, capsys):
    path = tmp_path / "dvc.lock"
    path.write_text("schema: '2.0'\nstages:\n  fuel_A:\n    cm")
    assert verify.mended(path) == {} and yaml.safe_load(path.read_text()) == {
        "schema": "2.0",
        "stages": {},
    }
    assert (
        capsys.readouterr().out == f"{path} was written in part: 0 whole stages are left in it.\n"
    )
    assert verify.mended(tmp_path / "none.lock") == {}
