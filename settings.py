"""Print a set of parameters as options of `dvc exp run`, one for each value: python settings.py
params-paper.yaml
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml


def settings(values: dict[str, Any], prefix: str = "") -> list[str]:
    """name.name=value of every value that is not a dictionary itself, in the syntax of `dvc exp run
    --set-param`.
    """
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += settings(value, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}={json.dumps(value, separators=(',', ':'))}")
    return found


if __name__ == "__main__":
    parameters = yaml.safe_load(Path(sys.argv[1]).read_text())
    print(*(f"--set-param {setting}" for setting in settings(parameters)))
