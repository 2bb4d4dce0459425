"""Reject sections of params.yaml that do not belong to a stage of the graph.

    python -m scripts.check_params

No stage would ever read such a section, so `dvc repro` would report that all is up to date. The
first stage that runs checks all values.
"""

import json
import sys
from pathlib import Path

from nodes import _values

PARAMS, GRAPH = Path("params.yaml"), Path("zntrack.json")


def main() -> None:
    """Exit with a one-line error if a section is misspelt or new."""
    try:
        sections = _values.parse(PARAMS.read_bytes(), PARAMS.name)
        _values.check_known(sections, json.loads(GRAPH.read_bytes()))
    except _values.ParameterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
