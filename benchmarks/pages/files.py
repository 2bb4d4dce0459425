"""Locate reference files, fragments and pictures, and describe the origin of a fragment."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "reference"
PAPER = REFERENCE / "paper"
DYNAMICS = REFERENCE / "dynamics"
GENERATED = ROOT / "docs" / "results" / "generated"
PICTURES = ROOT / "docs" / "results" / "pictures"


class Fragment(NamedTuple):
    """A part of a page that is made from reference files.

    Attributes:
        write: Returns the text.
        commands: The commands that printed the numbers.
        sources: The files that hold the numbers, below the root.
    """

    write: Callable[[], str]
    commands: tuple[str, ...]
    sources: tuple[str, ...]


def read(name: str) -> pd.DataFrame:
    """Return a table of reference/."""
    return pd.read_csv(REFERENCE / name)


def describe_origin(fragment: Fragment) -> str:
    """Return the last line of a fragment: commands, date and commit of its sources."""
    printed = "Printed by " + " and ".join(f"`{name}`" for name in fragment.commands)
    command = ["git", "log", "-1", "--format=%cs %h", "--", *fragment.sources]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if not shown.strip():
        return f"*{printed}, not committed yet.*"
    date, commit = shown.split()
    return f"*{printed}, {date}, commit `{commit}`.*"
