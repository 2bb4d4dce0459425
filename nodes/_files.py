"""Read and write the files of the stages: arrays as NPZ, tables as CSV, values as JSON."""

import io
import json
import os
import shutil
from collections.abc import Generator, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import zntrack

from collective_variables import _checks
from collective_variables.selection.base import Selection

Arrays = dict[str, np.ndarray]


class Subset(NamedTuple):
    """Hold the chosen points of every member, and the name of the method that chose them."""

    method: str
    points: Selection


@contextmanager
def whole(path: Path) -> Generator[Path]:
    """Yield a temporary name to write a file under; it is renamed when the file is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    yield unfinished
    os.replace(unfinished, path)


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write named arrays to an uncompressed NPZ file, without any that would need a pickle."""
    with whole(path) as unfinished:
        np.savez(unfinished, allow_pickle=False, **arrays)


def read_arrays(node: zntrack.Node, path: Path) -> Arrays:
    """Read an NPZ file of `node`, at the revision that the node was loaded from."""
    with (
        node.state.fs.open(str(path), "rb") as file,
        np.load(io.BytesIO(file.read()), allow_pickle=False) as arrays,
    ):
        return dict(arrays)


def write_subset(path: Path, method: str, points: Selection) -> None:
    """Write a selection and the name of its method to an NPZ file."""
    write_arrays(path, method=method, **asdict(points))


def read_subset(node: zntrack.Node, path: Path) -> Subset:
    """Read a selection and the name of its method from an NPZ file of `node`."""
    arrays = read_arrays(node, path)
    return Subset(str(arrays.pop("method")), Selection(**arrays))


def read_subsets(nodes: list[zntrack.Node]) -> dict[str, np.ndarray]:
    """Return the indices of each node's subsets by the name of its method.

    Raises ValueError if two nodes have the same method.
    """
    subsets = [node.subset for node in nodes]
    _checks.unique("methods", [subset.method for subset in subsets])
    return {subset.method: subset.points.indices for subset in subsets}


class _Kept(MutableMapping[str, Arrays]):
    """Store named arrays in the NPZ files of a folder; a file is complete or does not exist."""

    def __init__(self, folder: Path):
        self._folder = folder

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def __contains__(self, name: object) -> bool:
        return self._path(str(name)).is_file()

    def __getitem__(self, name: str) -> Arrays:
        with np.load(self._path(name), allow_pickle=False) as arrays:
            return dict(arrays)

    def __setitem__(self, name: str, arrays: Arrays) -> None:
        write_arrays(self._path(name), **arrays)

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (
            path.stem
            for path in self._folder.glob("*.npz")
            if not path.stem.endswith(".unfinished")
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextmanager
def kept(folder: Path, code: Path) -> Generator[MutableMapping[str, Arrays]]:
    """Keep arrays in a folder until the stage that computes them ends without an error.

    Args:
        folder: The folder. Arrays of an interrupted stage are still there when it runs again.
        code: The file with the digest of the stage's code. Arrays of other code are not used.

    Yields:
        The stored arrays by name.
    """
    yield _Kept(folder / Path(code).read_text()[:16])
    shutil.rmtree(folder, ignore_errors=True)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table to CSV with every digit of its numbers; a missing value is an empty cell."""
    with whole(path) as unfinished:
        table.to_csv(unfinished, index=False)


def read_table(node: zntrack.Node, path: Path) -> pd.DataFrame:
    """Read a CSV file of `node`, at the revision that the node was loaded from."""
    with node.state.fs.open(str(path), "r") as file:
        return pd.read_csv(file)


def write_values(path: Path, values: Any) -> None:
    """Write numbers, texts, lists and dictionaries to JSON."""
    with whole(path) as unfinished:
        unfinished.write_text(json.dumps(values, indent=1))


def read_values(path: Path) -> Any:
    """Read a JSON file of the workspace, for stages that run."""
    return json.loads(Path(path).read_text())


def read_node_values(node: zntrack.Node, path: Path) -> Any:
    """Read a JSON file of `node`, at the revision that the node was loaded from."""
    with node.state.fs.open(str(path), "r") as file:
        return json.load(file)
