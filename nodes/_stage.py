"""Run a stage as `zntrack run` does, one process at a time, and check its parameters."""

import dataclasses
import datetime
import importlib
import sys
from collections.abc import Iterable

import yaml
import zntrack
from zntrack.config import FIELD_TYPE, PARAMS_FILE_PATH, FieldTypes
from zntrack.utils.misc import load_env_vars

from nodes._lock import alone


def run_stage(path: str, name: str) -> None:
    """Run the stage of a name, whose class is at an import path, and write what it has.

    The time in its node-meta.json is that of its `run`, without imports and waiting.
    """
    load_env_vars(name)
    module, _, kind = path.rpartition(".")
    node = getattr(importlib.import_module(module), kind).from_rev(name=name, running=True)
    with alone(node):
        read_parameters(node)
        node.state.increment_run_count()
        node.state.save_node_meta()
        start = datetime.datetime.now()
        node.run()
        node.save()
        node.state.add_run_time(datetime.datetime.now() - start)
        node.state.save_node_meta()


def read_parameters(node: zntrack.Node) -> None:
    """Read all parameters of a node at once; one that is not written has its default.

    ZnTrack 0.8 parses the file anew for each, with a reader ten times as slow.
    """
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    values = yaml.load(PARAMS_FILE_PATH.read_bytes(), reader).get(node.name) or {}
    check_names(node.name, values, type(node))
    node.__dict__.update(_defaults(type(node)) | values)


def check_names(section: str, values: object, kind: type[zntrack.Node]) -> None:
    """End the program with one line if a section of params.yaml has a name that its stage has not.

    Also if it lacks one without a default.
    """
    fields = _parameters(kind)
    if not isinstance(values, dict):
        sys.exit(f"{section} must have parameters with values: received {values}.")
    if unknown := [name for name in values if name not in fields]:
        sys.exit(
            f"Parameters of {section} must be among {_listed(fields)}: received {_listed(unknown)}."
        )
    if missing := [name for name in fields if name not in {**_defaults(kind), **values}]:
        sys.exit(f"{section} must have a value of {_listed(missing)}.")


def _parameters(kind: type[zntrack.Node]) -> dict[str, dataclasses.Field]:
    fields = dataclasses.fields(kind)
    return {
        field.name: field for field in fields if field.metadata.get(FIELD_TYPE) == FieldTypes.PARAMS
    }


def _defaults(kind: type[zntrack.Node]) -> dict[str, object]:
    defaults = {}
    for name, field in _parameters(kind).items():
        if field.default is not dataclasses.MISSING:
            defaults[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[name] = field.default_factory()
    return defaults


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
