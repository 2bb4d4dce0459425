"""Print which stages an edit of the code reruns, and which files are the reason.

    python -m scripts.stale

The program compares the code with its digests in dvc.lock and dynamics/dvc.lock, so it needs no
results. It ignores changed parameters and data, which `dvc status` names.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import yaml

from nodes import _sources
from nodes._imports import SourceError, Tree

FOLDERS = ("collective_variables", "nodes", "data")
GRAPHS = (Path("dvc.yaml"), Path("dynamics/dvc.yaml"))
N_COMMITS = 20  # of the lock files, searched for the code of a stage's last run
RECORD = f"{_sources.FOLDER}/files.json"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Record = dict[str, _sources.Hashes]  # by kind of stage


class Stage(NamedTuple):
    """A stage, its kind, and the MD5 of the digest of its kind when it last ran; None if never."""

    name: str
    kind: str
    digest: str | None


class Records:
    """The code with which stages ran: the files of each kind, with their SHA-256."""

    def __init__(self, root: Path):
        self.root = root
        self._committed: dict[str, Record] = {}

    def find(self, stage: Stage) -> _sources.Hashes | None:
        """Return the files with which a stage ran; None if they are no longer known."""
        for record in self._all():
            files = record.get(stage.kind)
            if files is not None and _md5(_sources.digest(files) + "\n") == stage.digest:
                return files
        return None

    def _all(self) -> Iterator[Record]:
        yield self._last
        yield from map(self._at, self._commits)

    @cached_property
    def _last(self) -> Record:
        """The record of the last run of the stage Sources in this folder."""
        path = self.root / RECORD
        return json.loads(path.read_text()) if path.is_file() else {}

    @cached_property
    def _commits(self) -> list[str]:
        """The last commits of the lock files, newest first.

        Each holds the code of the stages that ran since the commit before.
        """
        locks = [str(graph.with_suffix(".lock")) for graph in GRAPHS]
        log = _git(self.root, "log", f"-{N_COMMITS}", "--format=%H", "--", *locks)
        return log.decode().split()

    def _at(self, commit: str) -> Record:
        if commit not in self._committed:
            self._committed[commit] = _record_at(self.root, commit)
        return self._committed[commit]


def list_stages(root: Path) -> list[Stage]:
    """List the stages of both graphs that depend on code."""
    stages = []
    for graph in GRAPHS:
        lock = _read(root / graph.with_suffix(".lock"))
        for name, stage in _read(root / graph).items():
            paths = [path for path in stage.get("deps", []) if _is_digest(path)]
            deps = lock.get(name, {}).get("deps", [])
            recorded = {dep["path"]: dep.get("md5") for dep in deps}
            stages += [Stage(name, Path(path).stem, recorded.get(path)) for path in paths]
    return stages


def describe(root: Path) -> Iterator[str]:
    """Yield lines on the stages that the code of a project reruns, and why."""
    tree = Tree(root)
    kinds, texts, records = _sources.kinds(tree), _sources.contents(tree), Records(root)
    reasons: dict[str, dict[str, list[str]]] = {}
    for stage in list_stages(root):
        if stage.digest != _md5(texts.get(f"{_sources.FOLDER}/{stage.kind}.txt", "")):
            reason = _reason(stage, records, _sources.hashes(kinds.get(stage.kind, ()), tree))
            reasons.setdefault(reason, {}).setdefault(stage.kind, []).append(stage.name)
    for reason, by_kind in reasons.items():
        yield f"{reason}:"
        yield from (f"    {kind}: {', '.join(names)}" for kind, names in by_kind.items())
    if reasons:
        yield "Stages that read their results follow where these change."
    else:
        yield "No stage reruns because of the code."


def _reason(stage: Stage, records: Records, now: _sources.Hashes) -> str:
    if stage.digest is None:
        return "Not run yet with a digest of the code"
    before = records.find(stage)
    if before is None:
        return "Changed in files that are not known: the code of the last run is not recorded here"
    files = [file for file in {**before, **now} if before.get(file) != now.get(file)]
    return f"Changed in {', '.join(files) or 'the order of imports'}"


def _is_digest(path: object) -> bool:
    return isinstance(path, str) and path.startswith(f"{_sources.FOLDER}/")


def _read(path: Path) -> dict[str, dict]:
    """Return the stages of a graph or of a lock; none without the file."""
    content = yaml.load(path.read_bytes(), LOADER) if path.is_file() else None
    return (content or {}).get("stages") or {}


def _record_at(root: Path, commit: str) -> Record:
    """Return the record of the code of a commit; empty if its imports cannot be followed."""
    archive = _git(root, "archive", "--format=tar", commit, "--", *FOLDERS)
    if not archive:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            # Python 3.11.2, that of Debian 12, has no filters.
            files.extractall(
                folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
            )
        tree = Tree(Path(folder))
        try:
            return {
                kind: _sources.hashes(files, tree) for kind, files in _sources.kinds(tree).items()
            }
        except SourceError:
            return {}


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    try:
        print("\n".join(describe(_sources.ROOT)), flush=True)
    except SourceError as error:
        sys.exit(str(error))
    except BrokenPipeError:  # after `| head`; Python must not write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
