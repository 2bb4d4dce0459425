"""Compare every file of results with its checksum.

    python scripts/verify_cache.py

DVC does not check the files of its cache again. It would take a file that a disk or a crash has
damaged for a result. This program reads all files of the cache and of the folders of the stages,
and removes those that differ. A lock file that was written in part is cut back to its last whole
stage, and its old content is kept as dvc.lock.broken. `dvc repro` then computes only what is
missing. The program must not run at the same time as DVC.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

LOCKS = (Path("dvc.lock"), Path("dynamics/dvc.lock"))
# PyYAML has its fast reader only if it was built with libyaml.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
STAGE = re.compile(r"^  \S.*:\s*$", re.MULTILINE)
Stages = dict[str, dict]


def find_objects() -> Path:
    """Return the folder of the cache, which DVC's configuration may put anywhere."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    process = subprocess.run(command, text=True, stdout=subprocess.PIPE)
    if process.returncode:
        raise SystemExit("DVC does not say where its cache is: is this folder a project of DVC?")
    return Path(process.stdout.splitlines()[-1]) / "files" / "md5"


def compute_md5(path: Path) -> str:
    """Return the MD5 of a file's content, by which DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def read_stages(text: str) -> Stages | None:
    """Return the stages of a lock file; None if it is cut off within a line or between two."""
    if not text.endswith("\n"):
        return None
    try:
        content = yaml.load(text, LOADER)
    except yaml.YAMLError:
        return None
    if not isinstance(content, dict):
        return None
    stages = content.get("stages", {})
    is_whole = isinstance(stages, dict) and all(map(_is_stage, list(stages.values())[-1:]))
    return stages if is_whole else None


def mend_lock(path: Path) -> Stages:
    """Return the stages of a lock file, cut back to the last whole one if it is cut off."""
    if not path.is_file():
        return {}
    text = path.read_text(errors="surrogateescape")
    if (stages := read_stages(text)) is not None:
        return stages
    for start in reversed([match.start() for match in STAGE.finditer(text)]):
        if stages := read_stages(text[:start]):
            break
    else:
        raise SystemExit(
            f"{path} has no whole stage left, and is not changed. Get it back with "
            f"`git checkout {path}`, or remove it to run its stages again."
        )
    broken = path.with_name(f"{path.name}.broken")
    broken.write_bytes(path.read_bytes())
    path.write_text(text[:start])
    print(
        f"{path} was written in part: {len(stages)} whole stages are left in it. It was {broken}."
    )
    return stages


def find_damaged_objects(objects: Path) -> Iterator[Path]:
    """Return the files of DVC's cache whose content does not match their name."""
    for path in sorted(objects.glob("[0-9a-f][0-9a-f]/*")):
        if compute_md5(path) != path.parent.name + path.name.removesuffix(".dir"):
            yield path


def find_damaged_results(stages: Stages, objects: Path) -> Iterator[Path]:
    """Return the files in the folders of stages that do not match the lock."""
    for stage in stages.values():
        for out in stage.get("outs", ()):
            for path, md5 in _files(Path(out["path"]), out.get("md5") or "", objects):
                if path.is_file() and compute_md5(path) != md5:
                    yield path


def _files(path: Path, md5: str, objects: Path) -> Iterator[tuple[Path, str]]:
    """Return the files of an output with their MD5; the cache lists the files of a folder."""
    listed = objects / md5[:2] / md5[2:]
    if not md5.endswith(".dir"):
        yield from ([(path, md5)] if md5 else [])
    elif listed.is_file():
        yield from (
            (path / entry["relpath"], entry["md5"]) for entry in json.loads(listed.read_text())
        )


def _is_stage(stage: object) -> bool:
    """Return whether DVC can read a stage of a lock, whose end may be missing."""
    if not isinstance(stage, dict) or "cmd" not in stage:
        return False
    entries = [stage.get(name, []) for name in ("deps", "outs")]
    files = stage.get("params", {})
    return (
        all(isinstance(entry, list) for entry in entries)
        and all(isinstance(item, dict) and "path" in item for entry in entries for item in entry)
        and isinstance(files, dict)
        and all(isinstance(values, dict) for values in files.values())
    )


def main() -> None:
    """Remove damaged files, and report them."""
    objects = find_objects()
    for path in find_damaged_objects(objects):
        path.unlink()
        print(f"{path} of the cache was damaged and is removed.")
    for lock in LOCKS:
        for path in find_damaged_results(mend_lock(lock), objects):
            path.unlink()
            print(f"{path} is not what {lock} has and is removed.")


if __name__ == "__main__":
    main()
