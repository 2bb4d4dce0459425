"""Names that the code of a function reads, and the attributes read of their values."""

import dis
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

ATTRIBUTE_OPERATIONS = frozenset({"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"})
# Operations that only pass a variable to a nested function, whose code is inspected separately.
CLOSURES = frozenset({"LOAD_CLOSURE", "MAKE_CELL", "COPY_FREE_VARS"})

# Attributes that are read of each variable; None if it is used in another way.
Uses = Mapping[str, frozenset[str] | None]


class Names(NamedTuple):
    """Names in the code of a function and of all functions defined in it."""

    read: Uses  # globals
    free: Uses  # variables of enclosing functions
    first: frozenset[str] | None  # the same of the first argument, which is `self` in a method
    imported: tuple[str, ...]
    attributes: frozenset[str]  # all names that may be those of an attribute


@lru_cache(maxsize=4096)
def names(code: types.CodeType) -> Names:
    """Return the names in `code`, from its instructions."""
    read, free, local = {}, {}, {}
    attributes, imported = set(code.co_names), set()
    instructions = list(dis.get_instructions(code))
    for instruction, following in zip(instructions, [*instructions[1:], None]):
        if instruction.opname == "IMPORT_NAME":
            imported.add(instruction.argval)
        for kind, name, is_last in _loaded(instruction):
            uses = {"global": read, "free": free, "local": local}[kind]
            is_attribute = (
                is_last and following is not None and following.opname in ATTRIBUTE_OPERATIONS
            )
            _add(uses, name, frozenset({following.argval}) if is_attribute else None)
    _add_nested(code, read, free, imported, attributes)
    if "getattr" in read:
        attributes |= {constant for constant in code.co_consts if isinstance(constant, str)}
    first = None
    if code.co_argcount and "super" not in read:  # `super` uses the first argument implicitly
        name = code.co_varnames[0]
        first = _union(local.get(name, frozenset()), free.get(name, frozenset()))
    return Names(
        dict(sorted(read.items())), free, first, tuple(sorted(imported)), frozenset(attributes)
    )


def _add_nested(
    code: types.CodeType, read: dict, free: dict, imported: set[str], attributes: set[str]
) -> None:
    """Add the names in functions that are defined in `code`."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            nested = names(constant)
            for name, uses in nested.read.items():
                _add(read, name, uses)
            for name, uses in nested.free.items():
                _add(free, name, uses)
            imported |= {*nested.imported}
            attributes |= nested.attributes


def _loaded(instruction: dis.Instruction) -> Iterator[tuple[str, str, bool]]:
    """Yield kind and name of each variable that an instruction reads, and whether it comes last."""
    operation = instruction.opname
    if operation in CLOSURES:
        return
    if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
        yield "global", instruction.argval, True
    elif operation == "LOAD_DEREF":
        yield "free", instruction.argval, True
    elif "DEREF" in operation and operation.startswith("LOAD"):  # in the body of a class
        yield "free", instruction.argval, False
    elif operation.startswith("LOAD_FROM_DICT_OR_GLOBALS"):
        yield "global", instruction.argval, True
    elif "LOAD_FAST" in operation:
        # Since Python 3.13 one instruction may read two variables.
        loaded = (
            instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        )
        for place, name in enumerate(loaded):
            yield "local", name, place == len(loaded) - 1


def _add(uses: dict[str, frozenset[str] | None], name: str, more: frozenset[str] | None) -> None:
    """Add attributes to those read of a name."""
    uses[name] = _union(uses.get(name, frozenset()), more)


def _union(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    """Return the union of two sets of attributes, where None stands for all."""
    return None if first is None or second is None else first | second
