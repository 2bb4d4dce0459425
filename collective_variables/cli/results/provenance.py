"""Record the origin of a result: its command, settings, time and versions."""

import argparse
import datetime
import platform
import shlex
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax

from collective_variables import __version__, _machine
from collective_variables.cli import command_line

PROGRAM = "collective-variables"
PACKAGES = ("jax", "flax", "numpy")
# Options that change the output but no number.
WITHOUT_EFFECT = ("help", "runs", "page", "json", "quiet", "dry_run", "debug")


class Origin(NamedTuple):
    """Hold the origin of a result.

    Attributes:
        name: Name of the user's file.
        command: Shell command that makes the result again.
        settings: Values of the options that affect the result by name, including defaults.
        made: Date and time.
        seconds: Time since the command started.
        versions: Versions of packages, Python and the system, and the kind of device.
    """

    name: str
    command: str
    settings: dict[str, str]
    made: str
    seconds: float
    versions: dict[str, str]


def origin(arguments: argparse.Namespace, /) -> Origin:
    """Return the origin of the result of the running command."""
    return Origin(
        Path(arguments.file).name,
        command(arguments),
        _settings(arguments),
        datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        _machine.CLOCK.seconds(),
        _versions(),
    )


def command(arguments: argparse.Namespace, /) -> str:
    """Return the command line of parsed arguments, quoted for a shell."""
    # A name that begins with a hyphen would be read as an option.
    file = f"./{arguments.file}" if arguments.file.startswith("-") else arguments.file
    words = [PROGRAM, arguments.command, file]
    for action, value in _given(arguments):
        words += _words(action, value)
    return shlex.join(words)


def _actions(arguments: argparse.Namespace) -> Iterator[argparse.Action]:
    for action in command_line.build_parser().command(arguments.command)._actions:
        if action.option_strings:
            yield action


def _given(arguments: argparse.Namespace) -> Iterator[tuple[argparse.Action, object]]:
    """Yield the options whose values are not their defaults."""
    for action in _actions(arguments):
        value = getattr(arguments, action.dest, action.default)
        if value != action.default:
            yield action, value


def _words(action: argparse.Action, value: object) -> list[str]:
    option = action.option_strings[0]
    if isinstance(action, argparse.BooleanOptionalAction):
        return [action.option_strings[0 if value else 1]]
    if action.nargs == 0:
        return [option]
    texts = [_text(item) for item in value] if isinstance(value, list) else [_text(value)]
    # A value that begins with a hyphen needs an equals sign, so each value repeats the option.
    if action.nargs is None or any(text.startswith("-") for text in texts):
        return [word for text in texts for word in _pair(option, text)]
    return [option, *texts]


def _pair(option: str, text: str) -> list[str]:
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _settings(arguments: argparse.Namespace) -> dict[str, str]:
    settings = {}
    for action in _actions(arguments):
        value = getattr(arguments, action.dest, None)
        if action.dest in WITHOUT_EFFECT or value is None or value == []:
            continue
        settings[action.option_strings[0].removeprefix("--")] = (
            ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)
        )
    return settings


def _versions() -> dict[str, str]:
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        PROGRAM: __version__,
        **versions,
        "Python": platform.python_version(),
        "system": platform.platform(),
        "device": jax.devices()[0].device_kind,
    }
