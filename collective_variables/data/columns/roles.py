"""Assign a role to each column of a table: target, input, identity of the rows, or none."""

import difflib
import shlex
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from collective_variables._errors import InvalidTypeError
from collective_variables.data._errors import DataError
from collective_variables.data.columns import identities, targets, values
from collective_variables.data.files.contents import Contents

IMAGES = {"image", "file"}  # columns of a folder of images without subfolders
Names = str | int | Sequence[str | int] | None


class Roles(NamedTuple):
    """The roles of the columns.

    Attributes:
        targets: Columns to predict.
        inputs: Columns that are inputs.
        ignored: Why each of the other columns is not an input.
        identity: The column that tells rows apart.
        identities: (n_rows,) values of that column as texts.
        warnings: Sentences on columns left out unasked and on inputs that may be row numbers.
        notes: Sentences on the use of the identities.
    """

    targets: list[str]
    inputs: list[str]
    ignored: dict[str, str]
    identity: str | None
    identities: np.ndarray | None
    warnings: list[str]
    notes: list[str]


def assign_roles(
    contents: Contents,
    /,
    *,
    predicted: Names,
    ignored: Names,
    used: Names,
    identity: str | int | None,
) -> Roles:
    """Return the role of each column; ids and row numbers are inputs only if `used` names them.

    Also raises the errors of `resolve_names`, and DataError for a column with two roles.

    Args:
        contents: The columns of the file.
        predicted: Names of the targets.
        ignored: Names of columns that are neither target nor input.
        used: Names of columns that are inputs in any case.
        identity: Name of the column that tells rows apart.

    Returns:
        The roles.

    Raises:
        DataError: The identity cannot be read.
    """
    available = list(contents)
    target_names, ignored_names, used_names = (
        resolve_names(names, available) for names in (predicted, ignored, used)
    )
    given = find_identity(identity, contents)
    if given in contents.refused:
        raise DataError(f"The identity {given} cannot be used: {contents.refused[given]}.")
    _check_roles(target_names, ignored_names, used_names, given)
    assigned = {*target_names, *ignored_names, *used_names, given}
    free = [name for name in available if name not in assigned]
    left_out = _find_left_out(contents, free, used_names, target_names)
    chosen = given or _choose_identity(contents, left_out)
    reasons = dict.fromkeys(ignored_names, "left out")
    reasons |= {name: f"left out: {reason}" for name, reason in left_out.items()}
    if chosen is not None and chosen not in used_names:
        reasons[chosen] = "tells rows apart"
    others = {*free, *used_names} - reasons.keys()
    told = {name: why for name, why in left_out.items() if why != identities.FILE}
    return Roles(
        target_names,
        [name for name in available if name in others],
        reasons,
        chosen,
        None if chosen is None else identities.read_identities(chosen, contents[chosen]),
        [
            *_warn_of_left_out(told),
            *_warn_of_suspicious(contents, [name for name in free if name in others]),
        ],
        [] if given else _note_identity(told, chosen),
    )


def resolve_names(names: Names, available: Sequence[str]) -> list[str]:
    """Return names of columns as a list; `names` may also be one name or "id,sold".

    Blanks around a name do not count, and composed and decomposed letters such as ü are equal. Also
    raises DataError for a name that is not a column.

    Raises:
        InvalidTypeError: A name is neither a text nor an integer; it is a TypeError.
    """
    given = [names] if not isinstance(names, Sequence) or isinstance(names, str) else names
    known = {_compose(name): name for name in available}
    known |= {name: name for name in available}
    resolved = []
    for name in given:
        if name is None:
            continue
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise InvalidTypeError(f"The name of a column must be a text: received {name!r}.")
        resolved += _resolve_name(str(name), known)
    return resolved


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _resolve_name(text: str, known: Mapping[str, str]) -> list[str]:
    """Return the column of a name, or the columns of names separated by commas."""
    parts, names, unknown = text.split(","), [], []
    start = 0
    while start < len(parts):
        # The longest name first, because names may have commas, too.
        for end in range(len(parts), start, -1):
            part = ",".join(parts[start:end])
            if name := known.get(part, known.get(_compose(part))):
                names.append(name)
                start = end
                break
        else:
            unknown.append(parts[start])
            start += 1
    if unknown:
        # A list with one wrong name is still meant as a list.
        raise _unknown_name(_compose(unknown[0] if names else text), list(known.values()))
    return names


def _unknown_name(name: str, available: Sequence[str]) -> DataError:
    """Return the error for a name that is not a column, with the column that may be meant."""
    error = f"There is no column {values.shorten(name)}:"
    columns = values.join_names(dict.fromkeys(available))
    in_lower_case = {column.lower(): column for column in available}
    if close := difflib.get_close_matches(name.lower(), in_lower_case, n=1):
        return DataError(f"{error} did you mean {in_lower_case[close[0]]}? The file has {columns}.")
    advice = " Put images into a folder for each class." if set(available) == IMAGES else ""
    return DataError(f"{error} the file has {columns}.{advice}")


def find_identity(identity: str | int | None, contents: Contents) -> str | None:
    """Return the column that the user names as the identity; None without one.

    Also raises the errors of `resolve_names`.

    Raises:
        DataError: There is more than one name.
    """
    names = resolve_names(identity, list(contents))
    if len(names) > 1:
        raise DataError(f"The identity must be one column: received {', '.join(names)}.")
    return names[0] if names else None


def _check_roles(
    predicted: list[str], ignored: list[str], used: list[str], identity: str | None
) -> None:
    """Raise DataError unless each column has only one role."""
    if len(set(predicted)) < len(predicted):
        raise DataError(f"A target must be named once: received {', '.join(predicted)}.")
    for name in predicted:
        for role, names in (("ignored", ignored), ("an input", used), ("the identity", [identity])):
            if name in names:
                raise DataError(f"A column cannot be a target and {role}: {name}.")
    for name in ignored:
        if name in used:
            raise DataError(f"A column cannot be ignored and an input: {name}.")


def _find_left_out(
    contents: Contents, free: Sequence[str], used: Sequence[str], predicted: Sequence[str]
) -> dict[str, str]:
    """Return which columns without a role are not inputs unless the user says so, and why."""
    columns = {name: contents[name] for name in free if name not in contents.refused}
    reasons = {name: identities.find_reason(name, array) for name, array in columns.items()}
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    # An id that cannot be read as numbers, such as A1 among 2 and 3, is not an error.
    unreadable = [name for name in free if name in contents.refused]
    left_out |= {name: identities.ID for name in unreadable if identities.is_named_as_one(name)}
    has_other_inputs = len(free) > len(left_out) + 1 or len(used) > 0
    if (name := _find_row_numbers(columns, left_out)) and has_other_inputs:
        left_out[name] = identities.NUMBERS
    if any(contents[name].ndim > 2 for name in (*free, *used)):
        left_out |= _find_left_out_of_images(columns, left_out, predicted)
    return left_out


def _find_left_out_of_images(
    columns: Mapping[str, np.ndarray], left_out: Collection[str], predicted: Sequence[str]
) -> dict[str, str]:
    """Return the paths and classes next to images, which must be the only input, with the reason.

    With targets classes stay: the user may have forgotten them.
    """
    paths = {"file": identities.FILE} if "file" in columns else {}
    others = () if predicted else (name for name in columns if name not in left_out)
    classes = [name for name in others if columns[name].ndim <= 2 and _are_classes(columns[name])]
    return dict.fromkeys(classes, "no target was asked for") | paths


def _are_classes(array: np.ndarray) -> bool:
    return targets.choose_task([array]) == "classification"


def _find_row_numbers(columns: Mapping[str, np.ndarray], left_out: Collection[str]) -> str | None:
    """Return the first column that numbers the rows by its values alone; None without one.

    A table numbers its rows once. Further columns of this kind, such as ranks, are inputs.
    """
    for place, (name, array) in enumerate(columns.items()):
        if name in left_out:
            continue
        if identities.looks_like_row_numbers(name, array):
            return name
        if place == 0 and identities.has_gaps(name, array):
            return name
    return None


def _choose_identity(contents: Contents, left_out: Mapping[str, str]) -> str | None:
    """Return the column left out that tells rows apart best; None if none does."""
    readable = {name: why for name, why in left_out.items() if name not in contents.refused}
    for reason in identities.REASONS:
        for name, why in readable.items():
            if why == reason and identities.are_different(contents[name]):
                return name
    return None


def _warn_of_left_out(left_out: Mapping[str, str]) -> list[str]:
    """Return a warning on columns that were left out unasked."""
    if not left_out:
        return []
    each = values.join_names(f"{name} ({why})" for name, why in left_out.items())
    return [f"Left out: {each}. --use NAME makes a column an input."]


def _note_identity(left_out: Mapping[str, str], identity: str | None) -> list[str]:
    if identity not in left_out:
        return []
    return [f"{identity} tells rows apart: --id {shlex.quote(identity)} gives rows by it."]


def _warn_of_suspicious(contents: Contents, inputs: Sequence[str]) -> list[str]:
    """Return a warning on inputs that may be row numbers."""
    names = [name for name in inputs if identities.may_number_rows(name, contents[name])]
    if not names:
        return []
    if len(names) == 1:
        return [
            f'Column "{names[0]}" looks like a row number but is used as an input: '
            "ignore it unless the order of the rows matters."
        ]
    return [
        f"Columns {values.join_names(names)} look like row numbers but are used as inputs: "
        "ignore them unless the order of the rows matters."
    ]
