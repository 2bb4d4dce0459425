"""Write into params.yaml what the graph adds to it, and leave the rest as a person wrote it.

The order of sections and parameters, comments, quotation marks and blank lines stay. A missing
default is added at the end of its section, and a new section behind the last one of its group. Two
things are rewritten in place. An alias becomes its value, so that no two stages share one. A number
such as 1e-3, which some readers of YAML take for a text, becomes 0.001.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import yaml

from nodes import _values

BLOCK_INDENT = 2


class Edit(NamedTuple):
    """Hold a part of a text, from `start` to before `end`, and its replacement."""

    start: int
    end: int
    replacement: str


class PlainDumper(yaml.SafeDumper):
    """Write a value that occurs twice in full both times, and not as an alias.

    An alias would tie two stages together: editing one value would change both.
    """

    def ignore_aliases(self, data: object) -> bool:
        """Return True, whatever the data."""
        return True


def to_yaml(content: object, **options: object) -> str:
    """Write YAML without anchors and aliases."""
    return yaml.dump(content, Dumper=PlainDumper, **options)


def complete(text: str, name: str, sections: Mapping[str, dict]) -> str:
    """Return the text of params.yaml completed by all of `sections`, some of which it may have."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    text = _apply(text, _without_aliases(text))
    text = _apply(text, _plain_numbers(text))
    text = text if text.endswith("\n") else f"{text}\n"
    text = _apply(text, _additions(text, _values.parse(text, name), sections))
    # If the edits failed on an unusual form of YAML, plain YAML with all values replaces it.
    text = text if _reads_as(text, sections) else to_yaml(dict(sections))
    return text.replace("\n", line_end)


def _reads_as(text: str, sections: Mapping[str, dict]) -> bool:
    try:
        return yaml.safe_load(text) == dict(sections)
    except yaml.YAMLError:
        return False


def _apply(text: str, edits: Iterator[Edit]) -> str:
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


def _without_aliases(text: str) -> Iterator[Edit]:
    """Yield the edits that replace aliases by their values, and remove anchors."""
    anchored = _anchored(text)
    for event in yaml.parse(text, yaml.SafeLoader):
        anchor = getattr(event, "anchor", None)
        if anchor is None:
            continue
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.AliasEvent):
            yield Edit(start, end, _in_flow(anchored[anchor]))
        else:
            length = len(f"&{anchor}")
            while text[start + length : start + length + 1] == " ":
                length += 1
            # If an anchor ends its line, the blank in front of it is removed too.
            ends_line = text[start + length : start + length + 1] == "\n"
            yield Edit(start - (ends_line and text[start - 1] == " "), start + length, "")


def _anchored(text: str) -> dict[str, object]:
    """Return the value of each anchor."""
    values = {}

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
            anchor = None if self.check_event(yaml.AliasEvent) else self.peek_event().anchor
            node = super().compose_node(parent, index)
            if anchor is not None:
                values[anchor] = node
            return node

    loader = Loader(text)
    try:
        loader.get_single_data()
        return {anchor: loader.construct_object(node, deep=True) for anchor, node in values.items()}
    finally:
        loader.dispose()


def _plain_numbers(text: str) -> Iterator[Edit]:
    """Yield the edits that rewrite numbers which some readers take for texts."""
    for event in yaml.parse(text, yaml.SafeLoader):
        if not isinstance(event, yaml.ScalarEvent) or not event.implicit[0]:
            continue
        if _values.EXPONENTIAL.match(event.value) and isinstance(yaml.safe_load(event.value), str):
            number = _values.parse_scalar(event.value)
            yield Edit(event.start_mark.index, event.end_mark.index, _in_flow(number))


def _additions(
    text: str, written: Mapping[str, dict], sections: Mapping[str, dict]
) -> Iterator[Edit]:
    """Yield the parameters that a section lacks, and the sections that the text lacks."""
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return
    nodes = {str(key.value): (key, value) for key, value in root.value}
    for name, values in sections.items():
        if name in nodes:
            missing = {key: values[key] for key in sorted(values) if key not in written[name]}
            if missing:
                yield _add_parameters(text, *nodes[name], missing)
    ends = {name: _line_end(text, node) for name, (_, node) in nodes.items()}
    for group, names in _new_sections(sections, nodes).items():
        relatives = [end for name, end in ends.items() if name.rpartition("_")[0] == group]
        place = max(relatives, default=len(text))
        yield Edit(place, place, to_yaml({name: sections[name] for name in names}))


def _new_sections(
    sections: Mapping[str, dict], nodes: Mapping[str, object]
) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sections:
        if name not in nodes:
            groups.setdefault(name.rpartition("_")[0], []).append(name)
    return groups


def _add_parameters(
    text: str, key: yaml.Node, node: yaml.Node, missing: Mapping[str, object]
) -> Edit:
    """Return the edit that adds parameters at the end of a section."""
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        place = node.end_mark.index - 1
        inside = _in_flow(dict(missing))[1:-1]
        return Edit(place, place, f", {inside}" if node.value else inside)
    indent = BLOCK_INDENT
    if isinstance(node, yaml.MappingNode) and node.value:
        indent = node.value[0][0].start_mark.column
    lines = to_yaml(dict(missing)).splitlines()
    block = "".join(f"{' ' * indent}{line}\n" for line in lines)
    if isinstance(node, yaml.ScalarNode):  # null
        end = _line_end(text, key)
        rest = text[node.end_mark.index : end] if node.value else text[key.end_mark.index + 1 : end]
        return Edit(key.end_mark.index, end, f":{rest}{block}")
    end = _line_end(text, node)
    return Edit(end, end, block)


def _line_end(text: str, node: yaml.Node) -> int:
    """Return the end of the line in which the last value of a node ends.

    A collection on separate lines ends where the next entry begins, with comments between.
    """
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end = node.end_mark.index
    if end and text[end - 1] == "\n":  # a text of several lines
        return end
    return text.index("\n", end) + 1


def _in_flow(value: object) -> str:
    return _values.in_yaml(value) if not isinstance(value, str) else _quoted(value)


def _quoted(value: str) -> str:
    return to_yaml(value, width=10**6).removesuffix("\n").removesuffix("\n...")
