"""Compare every file of results with its checksum: python verify.py

DVC does not look into the files of its cache again, so that one which a disk or a crash has damaged
would be taken for a result. This reads all of them, and those in the folders of the stages, removes
the ones that differ, and cuts a lock file that was written in part back to its last whole stage.
`dvc repro` then computes what is missing, and nothing else. It says what it has found, and must not
run beside DVC.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

LOCKS = (Path("dvc.lock"), Path("dynamics/dvc.lock"))
OBJECTS = Path(".dvc/cache/files/md5")
STAGE = re.compile(r"^  \S.*:\s*$", re.MULTILINE)


def md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def stages(text: str) -> dict[str, dict] | None:
    """The stages of a lock file; None for one that was cut off, in a line or so that DVC could not
    read it.
    """
    if text and not text.endswith("\n"):
        return None
    try:
        found = yaml.load(text, yaml.CSafeLoader) or {}
        of_lock = found.get("stages", {})
        outs = [out for stage in of_lock.values() for out in stage["outs"]]
        return (
            of_lock
            if all(out["path"] and out["md5"] and out["size"] is not None for out in outs)
            else None
        )
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return None


def mended(path: Path) -> dict[str, dict]:
    """The stages of a lock file, which is cut back to its last whole stage if it was written in
    part.
    """
    text = path.read_text() if path.is_file() else ""
    if (found := stages(text)) is not None:
        return found
    for start in reversed([match.start() for match in STAGE.finditer(text)]):
        if (found := stages(text[:start])) is not None:
            break
    else:
        start, found = 0, {}
    path.write_text(text[:start] if found else "schema: '2.0'\nstages: {}\n")
    print(f"{path} was written in part: {len(found)} whole stages are left in it.")
    return found


def damaged_objects() -> Iterator[Path]:
    """The files of DVC's cache whose content is not what their name says."""
    for path in sorted(OBJECTS.glob("[0-9a-f][0-9a-f]/*")):
        if md5(path) != path.parent.name + path.name.removesuffix(".dir"):
            yield path


def damaged_results(of_lock: dict[str, dict]) -> Iterator[Path]:
    """The files in the folders of stages that are not those of the lock."""
    for stage in of_lock.values():
        for out in stage["outs"]:
            path = Path(out["path"])
            if path.is_file() and md5(path) != out["md5"]:
                yield path


def main() -> None:
    for path in damaged_objects():
        path.unlink()
        print(f"{path} of the cache was damaged and is removed.")
    for lock in LOCKS:
        for path in damaged_results(mended(lock)):
            path.unlink()
            print(f"{path} is not what {lock} has and is removed.")


if __name__ == "__main__":
    main()
