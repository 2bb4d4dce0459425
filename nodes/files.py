"""Reading and writing what the stages hand to each other: arrays as NPZ, tables as CSV, values as JSON."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zntrack

Arrays = dict[str, np.ndarray]


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write named arrays to an uncompressed NPZ file; nothing that would need a pickle is accepted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)


def read_arrays(node: zntrack.Node, path: Path) -> Arrays:
    """The arrays of an NPZ file of `node`, at the revision that the node was loaded from."""
    with node.state.fs.open(str(path), "rb") as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as arrays:
        return dict(arrays)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table to CSV with every digit of its numbers; a missing value is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def read_table(node: zntrack.Node, path: Path) -> pd.DataFrame:
    """The table of a CSV file of `node`, at the revision that the node was loaded from."""
    with node.state.fs.open(str(path), "r") as file:
        return pd.read_csv(file)


def write_values(path: Path, values: Any) -> None:
    """Write numbers, texts, lists and dictionaries to JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1))


def read_values(path: Path) -> Any:
    """The content of a JSON file in the workspace."""
    return json.loads(Path(path).read_text())


def labelled(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One table out of those of each "parametrisation/method", with these two as its first columns."""
    parts = []
    for label, table in tables.items():
        parametrisation, method = label.split("/")
        parts.append(table.assign(parametrisation=parametrisation, method=method))
    joined = pd.concat(parts, ignore_index=True)
    return joined[["parametrisation", "method", *joined.columns.drop(["parametrisation", "method"])]]
