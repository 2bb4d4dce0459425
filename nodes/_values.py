"""Read params.yaml, and reject a name or a value that no stage can use, before anything runs.

main.py checks all sections before it writes the graph. A stage checks its section and, once for
each params.yaml, all others: the first stage that a `dvc repro` starts rejects what a later one
could not use. An error is one line with the section, what is expected, what was received and what
to write.

No stage imports this, so that a change of messages here makes no result stale.
"""

import dataclasses
import difflib
import importlib
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from types import SimpleNamespace

import yaml
import zntrack
from zntrack.config import FIELD_TYPE, FieldTypes

MODULES = {
    "LoadDataset": "load_dataset",
    "LoadFile": "load_file",
    "Network": "network",
    "Ensemble": "ensemble",
    "RNDSelect": "rnd_select",
    "ComputeNTK": "compute_ntk",
    "TrainModel": "train_model",
    "CorrelationAnalysis": "correlation_analysis",
    "ActiveLearning": "active_learning",
    "ScalingStudy": "scaling_study",
    "TrainAutoencoder": "train_autoencoder",
    "TrainAgent": "train_agent",
}  # in the order in which they are listed
SELECT_SUBSET = "SelectSubset"
SUMMARIES = {
    "all_Report": "Report",
    "dynamics_Report": "Report",
    "dynamics_Findings": "Findings",
}
_ALL_MODULES = MODULES | {
    SELECT_SUBSET: "select_subset",
    "Report": "report",
    "Findings": "findings",
}
RESERVED_GROUPS = ("", *(name.partition("_")[0] for name in SUMMARIES))
# 1e-3 and 1.5e5 are numbers in YAML 1.2. DVC reads and writes them as such; PyYAML takes them for
# texts.
EXPONENTIAL = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "names with values",
    type(None): "null",
}
Sections = dict[str, dict]


class ParameterError(Exception):
    """Report a section, a name or a value of params.yaml that cannot be used, in one line."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Read YAML with the numbers that DVC reads, and reject a name that occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Return the mapping of a node, or raise ConstructorError for a name that occurs twice."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is written twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENTIAL, list("-+0123456789"))


def parse(text: str | bytes, name: str) -> Sections:
    """Return the sections of params.yaml from its text; `name` is for the error."""
    try:
        params = yaml.load(text, _Loader) or {}
    except yaml.YAMLError as error:
        raise ParameterError(f"{name} must be YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(params, dict) or not params:
        raise ParameterError(
            f"{name} must have sections <group>_<Stage>: received {params or 'none'}."
        )
    # Sorted, so that the graph does not depend on the order in the file.
    return {
        str(section): {} if params[section] is None else params[section]
        for section in sorted(params, key=str)
    }


def stage_class(section: str) -> type[zntrack.Node] | None:
    """Return the class of the stage that a section belongs to; None if no stage has its name."""
    if (name := _class_name(section)) is None:
        return None
    return getattr(importlib.import_module(f"nodes.{_ALL_MODULES[name]}"), name)


def _class_name(section: str) -> str | None:
    group, _, stage = section.rpartition("_")
    if section in SUMMARIES:
        return SUMMARIES[section]
    if group in RESERVED_GROUPS or not (stage in MODULES or is_selection(stage)):
        return None
    return SELECT_SUBSET if is_selection(stage) else stage


def is_selection(stage: str) -> bool:
    """Return whether a stage is SelectSubset, with or without a name behind it."""
    return stage == SELECT_SUBSET or stage.startswith(f"{SELECT_SUBSET}-")


def parse_scalar(text: str) -> object:
    """Return a single value as it would be read without quotation marks."""
    return yaml.load(text, _Loader)


def check(sections: Mapping[str, object]) -> None:
    """Raise ParameterError for the first section, name or value that no stage can use."""
    for section, kind in check_kinds(sections).items():
        check_section(section, sections[section], kind)
    # In the order in which stages run: what Network cannot use, others cannot use either.
    order = [*_ALL_MODULES]
    for section in sorted(sections, key=lambda section: order.index(_class_name(section))):
        check_values(section, sections)


def check_kinds(sections: Mapping[str, object]) -> dict[str, type[zntrack.Node]]:
    """Return the class of each section's stage; ParameterError for one that is not a mapping."""
    for section, values in sections.items():
        _check_name(section)
        _check_mapping(section, values)
    return {section: stage_class(section) for section in sections}


def _check_mapping(section: str, values: object) -> None:
    if not isinstance(values, dict):
        raise ParameterError(
            f"{section} must have parameters with values: received {in_yaml(values)}."
        )


def _check_name(section: str) -> None:
    """Raise ParameterError for a section whose name belongs to no stage."""
    if _class_name(section) is not None:
        return
    stages = [*MODULES, SELECT_SUBSET, f"{SELECT_SUBSET}-NAME"]
    group, _, stage = section.rpartition("_")
    whole = suggestion(section, SUMMARIES)
    meant = whole or (f" Write {group}_{near}." if (near := nearest(stage, stages)) else "")
    raise ParameterError(
        f"A section of params.yaml must be {', '.join(SUMMARIES)} or <group>_<Stage>, "
        f"Stage one of {', '.join(stages)}: received {section}."
        f"{meant if whole or group not in RESERVED_GROUPS else ''}"
    )


def check_known(sections: Iterable[str], stages: Collection[str]) -> None:
    """Raise ParameterError for a section that is not a stage of the written graph."""
    for section in sections:
        _check_name(section)
        if section not in stages:
            group, _, stage = section.rpartition("_")
            others = [name.rpartition("_")[0] for name in stages if name.endswith(f"_{stage}")]
            near = nearest(group, others)
            meant = f"Write {near}_{stage}, or run" if near else "Run"
            raise ParameterError(
                f"{section} of params.yaml is no stage of the graph. "
                f"{meant} `python main.py` if it is new."
            )


def check_section(section: str, values: object, kind: type[zntrack.Node]) -> None:
    """Raise ParameterError for an unknown or missing name, and for a wrong type."""
    fields = parameters(kind)
    _check_mapping(section, values)
    if unknown := [name for name in values if name not in fields]:
        raise ParameterError(
            f"Parameters of {section} must be among {_listed(fields)}: received "
            f"{_listed(unknown)}.{suggestion(str(unknown[0]), fields)}"
        )
    if missing := [name for name in fields if name not in {**defaults(kind), **values}]:
        raise ParameterError(f"{section} must have a value of {_listed(missing)}.")
    annotations = typing.get_type_hints(kind)
    for name, value in values.items():
        allowed = _types(annotations[name])
        if not any(_is_a(value, one) for one in allowed):
            raise ParameterError(
                f"{section}.{name} must be {' or '.join(_WORDS[one] for one in allowed)}: "
                f"received {in_yaml(value)}.{_correction(value, allowed, fields[name])}"
            )


def check_values(section: str, sections: Mapping[str, object]) -> None:
    """Raise ParameterError for a value that the library rejects, with the library's message."""
    # Imported here, because it brings most of the library.
    from nodes import _value_checks

    kind, group = stage_class(section), section.rpartition("_")[0]
    if kind is None:
        return  # a stage without parameters
    own = {
        name.rpartition("_")[2]: SimpleNamespace(**defaults(stage_class(name)) | values)
        for name, values in ({section: {}} | dict(sections)).items()
        if name.rpartition("_")[0] == group
    }
    try:
        _value_checks.check(kind.__name__, own[section.rpartition("_")[2]], own, sections)
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        is_parameter = text.split(" ")[0].split(".")[0] in parameters(kind)
        raise ParameterError(f"{section}{'.' if is_parameter else ': '}{text}") from None


def parameters(kind: type[zntrack.Node]) -> dict[str, dataclasses.Field]:
    """Return the parameters of a stage by their names."""
    fields = dataclasses.fields(kind)
    return {
        field.name: field for field in fields if field.metadata.get(FIELD_TYPE) == FieldTypes.PARAMS
    }


def defaults(kind: type[zntrack.Node]) -> dict[str, object]:
    """Return the defaults of a stage's parameters, without those that must be given."""
    values = {}
    for name, field in parameters(kind).items():
        if field.default is not dataclasses.MISSING:
            values[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[name] = field.default_factory()
    return values


def in_yaml(value: object) -> str:
    """Return a value as in params.yaml, in one line; a text has its quotation marks."""
    if isinstance(value, str):
        return repr(value)
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _types(annotation: object) -> list[type]:
    """Return the types that an annotation such as `int | None` allows, without their contents."""
    options = (
        typing.get_args(annotation)
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
        else (annotation,)
    )
    return [typing.get_origin(option) or option for option in options]


def _is_a(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _correction(value: object, allowed: list[type], field: dataclasses.Field) -> str:
    """Return what to write instead of a value of the wrong type, if that can be known."""
    if value is None:
        has_default = field.default is not dataclasses.MISSING
        return f" Write {in_yaml(field.default)}, the default, or another." if has_default else ""
    if isinstance(value, str):
        as_number = parse_scalar(value) if _is_plain(value) else None
        if any(_is_a(as_number, one) for one in allowed if one is not type(None)):
            return f" Write {in_yaml(as_number)} without quotation marks."
        if list in allowed:
            return f" Write [{value}]."
    if isinstance(value, list) and len(value) == 1 and any(_is_a(value[0], one) for one in allowed):
        return f" Write {in_yaml(value[0])}."
    if isinstance(value, float) and value.is_integer() and int in allowed:
        return f" Write {int(value)}."
    if str in allowed and isinstance(value, int | float) and not isinstance(value, bool):
        return f" Write '{value}'."
    if list in allowed and not isinstance(value, dict):
        return f" Write [{in_yaml(value)}]."
    return ""


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"[-+.\w]+", text) is not None


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """Return what to write instead of a wrong name, or nothing."""
    near = nearest(name, allowed)
    return f" Write {near}." if near else ""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the name that was probably meant, ignoring case; None if no name is near."""
    by_case = {one.lower(): one for one in allowed}
    near = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.7)
    return by_case[near[0]] if near else None


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
