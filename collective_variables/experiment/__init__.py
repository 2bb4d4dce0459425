"""Compare subsets in an experiment: select, measure, train and join, each in its own module.

A stage imports the module of its part, so that an edit of another part does not concern it.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Load `run_experiment` when it is first used; its module imports those of all parts."""
    if name != "run_experiment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.composition").run_experiment
