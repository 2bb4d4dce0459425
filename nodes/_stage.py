"""Run a stage as `zntrack run` does, one process at a time, and check params.yaml before it.

Errors that a person can fix are one line: a wrong name or value in params.yaml, data that do not
fit, a training that diverges, an interruption. Only bugs show a traceback.
"""

import datetime
import hashlib
import importlib
import json
import sys
from contextlib import suppress
from pathlib import Path

import zntrack
from zntrack.config import PARAMS_FILE_PATH, ZNTRACK_FILE_PATH
from zntrack.utils.misc import load_env_vars

from collective_variables import _errors, _extras
from nodes import _interruption, _values
from nodes._imports import SourceError
from nodes._lock import alone

# Digest of the last params.yaml whose sections have all been checked, with the graph and the code.
CHECKED = Path(".dvc/tmp/params.checked")
DECISIVE = (PARAMS_FILE_PATH, ZNTRACK_FILE_PATH, Path("nodes/Sources/files.json"))
# In addition to the library's errors about arguments: numbers that overflow, and missing resources.
EXPLAINED = (
    *(_values.ParameterError, SourceError, _extras.MissingPackageError),
    *(FloatingPointError, MemoryError, OSError),
)


def run_stage(path: str, name: str) -> None:
    """Run the stage called `name`, whose class is at an import path, and write its outputs.

    The time in its node-meta.json is that of its `run`, without imports and waiting.
    """
    load_env_vars(name)
    module, _, kind = path.rpartition(".")
    node = getattr(importlib.import_module(module), kind).from_rev(name=name, running=True)
    with alone(node), _interruption.at_once(name, node.nwd / "unfinished"):
        try:
            read_parameters(node)
            node.state.increment_run_count()
            node.state.save_node_meta()
            start = datetime.datetime.now()
            node.run()
        except Exception as error:
            if is_explained(error):
                sys.exit(in_one_line(name, error))
            raise
        node.save()
        node.state.add_run_time(datetime.datetime.now() - start)
        node.state.save_node_meta()


def read_parameters(node: zntrack.Node) -> None:
    """Read all parameters of a node at once; a missing one has its default.

    ZnTrack 0.8 parses the file again for each parameter, with a reader that is ten times slower.
    """
    sections = _values.parse(PARAMS_FILE_PATH.read_bytes(), PARAMS_FILE_PATH.name)
    values = sections.get(node.name, {})
    _values.check_section(node.name, values, type(node))
    check_once(sections, node.name)
    node.__dict__.update(_values.defaults(type(node)) | values)


def check_once(sections: _values.Sections, section: str) -> None:
    """Check the values of a section, and all sections unless an earlier stage has done so."""
    digest = hashlib.sha256(b"\0".join(map(_content, DECISIVE))).hexdigest()
    with suppress(OSError):
        if CHECKED.read_text() == digest:
            _values.check_values(section, sections)
            return
    with suppress(OSError):  # a stage that runs without a graph has no such file
        _values.check_known(sections, json.loads(ZNTRACK_FILE_PATH.read_bytes()))
    _values.check(sections)
    if CHECKED.parent.is_dir():
        with suppress(OSError):
            CHECKED.write_text(digest)


def is_explained(error: Exception) -> bool:
    """Return whether the message of an error says what to do, so that no traceback is needed."""
    return isinstance(error, EXPLAINED) or _errors.is_user_error(error)


def in_one_line(name: str, error: Exception) -> str:
    """Return the message of an error in one line, which begins with the section or the stage."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, _values.ParameterError) else f"{name}: {text}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
