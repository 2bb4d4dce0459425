"""Print a set of parameters as options of `dvc exp run`, one for each value.

python scripts/params_to_options.py params-paper.yaml
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml


def list_settings(values: dict[str, Any], prefix: str = "") -> list[str]:
    """List name.name=value of every value that is not a dictionary, as `--set-param` takes it."""
    settings = []
    for name, value in values.items():
        if isinstance(value, dict):
            settings += list_settings(value, f"{prefix}{name}.")
        else:
            settings.append(f"{prefix}{name}={json.dumps(value, separators=(',', ':'))}")
    return settings


if __name__ == "__main__":
    parameters = yaml.safe_load(Path(sys.argv[1]).read_text())
    print(*(f"--set-param {setting}" for setting in list_settings(parameters)))
