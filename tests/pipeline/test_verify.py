"""Damaged files of the cache, of stages' folders and of lock files are found, and nothing else is
touched.
"""

import hashlib
import json
import os
import random
import subprocess
import sys

import pytest
import yaml
from project import ROOT

from scripts import verify_cache

CONTENTS = {
    "fuel/A/a.csv": b"n,loss\n1,0.5\n",
    "fuel/A/b.npz": b"\x00\x01\x02",
    "mnist/B/c.json": b"{}",
    "mnist/B/empty.csv": b"",
    "mnist/B/results/d.csv": b"d\n1\n",
}
OBJECTS = ".dvc/cache/files/md5"


def md5(content):
    return hashlib.md5(content).hexdigest()


def store(folder, content, ending="", objects=OBJECTS):
    """Put a file into the cache; its MD5."""
    digest = md5(content) + ending
    path = folder / objects / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def make_project(folder, objects=OBJECTS):
    """A project of two stages with results, each in the cache too, and a stage without any."""
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    stages = {"fuel_None": {"cmd": "run"}}
    for name, content in CONTENTS.items():
        path = folder / "nodes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        group, stage, inner = name.split("/", 2)
        digest, path = store(folder, content, objects=objects), f"nodes/{name}"
        if "/" in inner:
            listed = [{"md5": digest, "relpath": inner.split("/")[1]}]
            digest = store(folder, json.dumps(listed).encode(), ".dir", objects)
            path = path.rpartition("/")[0]
        entry = {"path": path, "hash": "md5", "md5": digest, "size": len(content)}
        lock = stages.setdefault(f"{group}_{stage}", {"cmd": "run", "deps": [], "outs": []})
        lock["outs"].append(entry)
    lock = {"schema": "2.0", "stages": stages}
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def run(folder, *options, status=0, code=None):
    """Run the program as `make verify` does; what it says."""
    program = ["-c", code] if code else [str(ROOT / "scripts" / "verify_cache.py")]
    process = subprocess.run(
        [sys.executable, *options, *program],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
    )
    assert process.returncode == status, process.stdout
    return process.stdout


@pytest.fixture
def results(tmp_path):
    make_project(tmp_path)
    return tmp_path


def files(folder):
    """The content of every file, but for what DVC writes for itself."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder): path.read_bytes() for path in paths}
    return {name: content for name, content in names.items() if name.parts[:2] != (".dvc", "tmp")}


def test_whole_files_are_left_alone_and_nothing_is_said(results):
    before = files(results)
    assert run(results) == ""
    assert files(results) == before


DAMAGES = {
    "shorter": lambda content: content[:-1],
    "a bit": lambda content: bytes([content[0] ^ 4]) + content[1:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["fuel/A/a.csv", "mnist/B/results/d.csv"])
@pytest.mark.parametrize("cache", [None, "../elsewhere", "ABSOLUTE"])
def test_a_damaged_file_of_the_cache_is_removed_and_named_wherever_the_cache_is(
    cache, name, damage, tmp_path
):
    folder = tmp_path / "project"
    folder.mkdir()
    inside = {None: OBJECTS, "ABSOLUTE": "../absolute/files/md5"}
    objects = inside.get(cache, f"{cache}/files/md5")
    make_project(folder, objects)
    if cache:
        # As `dvc config` would write it: from the folder of its configuration.
        place = tmp_path / "absolute" if cache == "ABSOLUTE" else f"../{cache}"
        (folder / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {place}\n")
    digest = md5(CONTENTS[name])
    path = (folder / objects / digest[:2] / digest[2:]).resolve()
    path.write_bytes(DAMAGES[damage](CONTENTS[name]))
    path.chmod(0o444)  # DVC does not look again into a file of its cache that nobody may write
    before = files(tmp_path)
    assert run(folder) == f"{path} of the cache was damaged and is removed.\n"
    assert before.keys() - files(tmp_path).keys() == {path.relative_to(tmp_path)}


@pytest.mark.parametrize("name", ["fuel/A/a.csv", "mnist/B/results/d.csv"])
def test_a_result_that_is_not_that_of_the_lock_is_removed_and_named(name, results):
    before = files(results)
    (results / "nodes" / name).write_bytes(b"n,loss\n1,0.4\n")
    assert run(results) == f"nodes/{name} is not what dvc.lock has and is removed.\n"
    assert {str(path) for path in before.keys() - files(results).keys()} == {f"nodes/{name}"}


def test_a_missing_result_is_no_damage(results):
    (results / "nodes/mnist/B/c.json").unlink()
    assert run(results) == ""


# A PyYAML that was built without libyaml has no quick reader.
WITHOUT_LIBYAML = f"""
import runpy, sys, yaml
del yaml.CSafeLoader
sys.argv = [{str(ROOT / "scripts" / "verify_cache.py")!r}]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_without_the_quick_reader_of_yaml_a_lock_is_read_and_not_cut(results):
    (results / "dvc.lock").write_bytes((ROOT / "dvc.lock").read_bytes())
    before = files(results)
    assert run(results, code=WITHOUT_LIBYAML) == ""
    assert files(results) == before


def test_of_a_lock_that_is_cut_off_the_whole_stages_stay_and_all_of_it_is_kept(results):
    path = results / "dvc.lock"
    before = path.read_text()
    cut = before[: before.index("mnist_B") + 20]
    path.write_text(cut)
    said = run(results)
    assert (
        said
        == "dvc.lock was written in part: 2 whole stages are left in it. It was dvc.lock.broken.\n"
    )
    assert path.read_text() == before[: before.index("  mnist_B")]
    assert (results / "dvc.lock.broken").read_text() == cut
    assert run(results) == ""


@pytest.mark.parametrize(
    "text", ["", "schema: '2.0'\nstages:\n  fuel_A:\n    cm", "\x00\x00\x00\n", "[1]\n"]
)
def test_a_lock_without_a_whole_stage_is_refused_and_not_changed(text, results):
    (results / "dvc.lock").write_text(text)
    before = files(results)
    assert "dvc.lock has no whole stage left, and is not changed." in run(results, status=1)
    assert files(results) == before


@pytest.mark.parametrize("lock", ["dvc.lock", "dynamics/dvc.lock"])
def test_a_lock_that_was_written_in_part_keeps_its_whole_stages_wherever_it_ends(lock, tmp_path):
    text, generator = (ROOT / lock).read_text(), random.Random(0)
    whole = yaml.load(text, yaml.CSafeLoader)["stages"]
    path, n_cut = tmp_path / "dvc.lock", 0
    for _ in range(30):
        end = generator.randrange(len(text) // 50, len(text))
        path.write_text(text[:end])
        stages = verify_cache.mend_lock(path)
        assert (
            verify_cache.read_stages(path.read_text()) == stages and stages.keys() <= whole.keys()
        )
        # Of the last stage outputs may be missing, which DVC sees; what is there is as it was.
        names = list(stages)
        assert all(stages[name] == whole[name] for name in names[:-1])
        assert names == list(whole)[: len(names)]
        assert len(names) >= text[:end].count("\n    cmd:") - 1
        for name in names[-1:]:
            outs = whole[name]["outs"]
            assert all(
                out.items() <= outs[i].items() for i, out in enumerate(stages[name].get("outs", []))
            )
        n_cut += path.read_text() != text[:end]
    assert n_cut > 5
