"""Write a digest of the code of every kind of stage.

The stage `Sources` runs this, as `python -m nodes._sources`. Every other stage depends only on the
digest of its kind, so that an edit reruns the stages that run the edited file, and no other.

A kind is the class in a module of nodes/ that has the module's name. It runs this module, those of
the stages that it is derived from, and all that these import from the project. For any other module
in nodes/ only the file itself counts: it has the loader of that stage's results, and its imports
rerun that stage, which this one follows if the results change. Files that a stage reads, and does
not import, are in its module's FOLLOWED_FILES.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from nodes._imports import FOLLOWED, SourceError, Tree

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, STAGES, FOLDER = "collective_variables", "nodes", "nodes/Sources"
Hashes = dict[str, str]  # the SHA-256 of each file


def kinds(tree: Tree) -> dict[str, list[str]]:
    """Return the files that every kind of stage runs or reads, in the order of their imports."""
    modules = sorted(tree.root.joinpath(STAGES).glob("[!_]*.py"))
    return dict(_kind(tree, f"{STAGES}/{path.name}") for path in modules)


def model_files(path: str) -> list[str]:
    """Return the files of this project that a model at an import path runs, in that order."""
    return Tree(ROOT).follow_path(path)


def hashes(files: Iterable[str], tree: Tree | None = None) -> Hashes:
    """Return the SHA-256 of the relevant content of each file."""
    tree = tree or Tree(ROOT)
    return {file: hashlib.sha256(tree.content(file)).hexdigest() for file in files}


def digest(hashes: Hashes) -> str:
    """Return one SHA-256 of the contents of files in the order in which they are imported.

    The names of the files do not enter, so that a mere renaming reruns nothing.
    """
    return hashlib.sha256("\n".join(hashes.values()).encode()).hexdigest()


def dependencies(tree: Tree) -> list[str]:
    """Return what the stage `Sources` depends on: the whole library, and single other files."""
    files = set(tree.follow(f"{STAGES}/{Path(__file__).name}")).union(*kinds(tree).values())
    return sorted({LIBRARY, *(file for file in files if not file.startswith(f"{LIBRARY}/"))})


def contents(tree: Tree) -> dict[str, str]:
    """Return the content of each output of the stage `Sources`."""
    by_kind = {kind: hashes(files, tree) for kind, files in kinds(tree).items()}
    texts = {f"{kind}.txt": digest(files) + "\n" for kind, files in by_kind.items()}
    texts["files.json"] = json.dumps(by_kind, indent=1) + "\n"
    return {f"{FOLDER}/{name}": texts[name] for name in sorted(texts)}


def main() -> None:
    """Write the outputs, or raise SourceError if dvc.yaml lacks one of their dependencies."""
    tree = Tree(ROOT)
    texts, graph = contents(tree), (ROOT / "dvc.yaml").read_text()
    for path in (*dependencies(tree), *texts):
        if f"\n    - {path}\n" not in graph:
            raise SourceError(
                f"dvc.yaml must have {path} in the stage Sources: run python main.py."
            )
    (ROOT / FOLDER).mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        (ROOT / path).write_text(text)


def _kind(tree: Tree, file: str) -> tuple[str, list[str]]:
    name = Path(file).stem.replace("_", "")
    classes = [node.name for node in tree.parse(file).body if isinstance(node, ast.ClassDef)]
    kind = next((kind for kind in classes if kind.lower() == name), None)
    if kind is None:
        raise SourceError(f"{file} must have a class {name} for a stage, in any case of letters.")
    modules = _with_bases(tree, file)
    files = tree.follow(*modules, ends=lambda other: other.startswith(f"{STAGES}/"))
    for module in modules:
        files += _followed_files(tree, module)
    return kind, list(dict.fromkeys(files))


def _with_bases(tree: Tree, file: str) -> list[str]:
    """Return a module of nodes/ and those of the stages which its classes are derived from."""
    modules = [file]
    for module in modules:
        classes = [node for node in tree.parse(module).body if isinstance(node, ast.ClassDef)]
        bases = [
            node for definition in classes for base in definition.bases for node in ast.walk(base)
        ]
        names = {node.id for node in bases if isinstance(node, ast.Name)}
        for item in tree.imports(module):
            if item.bound in names:
                others = tree.imported_by(module, item)
                modules += [other for other in others if _is_new_stage(other, modules)]
    return modules


def _is_new_stage(file: str, modules: list[str]) -> bool:
    return file.startswith(f"{STAGES}/") and file not in modules


def _followed_files(tree: Tree, module: str) -> list[str]:
    files = list(tree.literal(module, FOLLOWED) or ())
    for file in files:
        if not (tree.root / file).is_file():
            raise SourceError(f"{module}: {FOLLOWED} must be files: received {file}.")
    return files


if __name__ == "__main__":
    try:
        main()
    except SourceError as error:
        sys.exit(str(error))
