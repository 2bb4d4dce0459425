"""Bring an experiment of `dvc exp run` into the workspace.

    python scripts/apply_experiment.py NAME

`dvc exp apply` does this, too, but then fails if any stage has no result here, such as those of the
second paper after `make all`. This program leaves such stages as they are, as does
`dvc checkout --allow-missing`.
"""

import logging
import sys

from dvc.exceptions import DvcException
from dvc.repo import Repo


def main(name: str) -> None:
    """Change parameters, lock files and results to those of an experiment."""
    for package in ("dvc", "dvc_data"):  # they warn about every result that is not here
        logging.getLogger(package).setLevel(logging.ERROR)
    try:
        with Repo() as repo:
            repo.experiments.apply(name, allow_missing=True)
    except DvcException as error:
        sys.exit(f"The experiment {name} cannot be applied: {error}")
    print(f"The workspace has the parameters and results of the experiment {name}.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("NAME must be one experiment, as `dvc exp show` lists them.")
    main(sys.argv[1])
