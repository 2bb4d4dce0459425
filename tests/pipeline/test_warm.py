"""What the programs of the tests do more quickly than DVC they do with the same result."""

import io
import re

import pytest
import warm
from dvc.utils.serialize import _yaml
from project import ROOT

VALUES = {
    "a": [1.0, 1e-05, 1, None, True],
    "b": {"c": ["yes", "1e-3", "0x1", "2.0", "", "a: b", "#"], "d": "word " * 40},
    "e": [],
}
CHANGES = {
    "nothing": lambda stages: None,
    "a stage": lambda stages: next(iter(stages.values())).update(
        cmd="another", params={"params.yaml": VALUES}
    ),
    "a new stage": lambda stages: stages.update(
        {"new_Stage": {"cmd": "new", "params": {"params.yaml": VALUES}}}
    ),
    "a stage less": lambda stages: stages.pop(next(iter(stages))),
    "no stage": lambda stages: stages.clear(),
}


@pytest.fixture
def quickly(monkeypatch):
    for name in ("parse_yaml_for_update", "_dump"):
        monkeypatch.setattr(_yaml, name, getattr(_yaml, name))
    before = (_yaml.parse_yaml_for_update, _yaml._dump)
    warm.read_and_write_quickly()
    return before, (_yaml.parse_yaml_for_update, _yaml._dump)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_lock_is_what_dvc_writes_to_the_byte(change, quickly):
    begin = re.split(r"^(?=  \S)", (ROOT / "dvc.lock").read_text(), flags=re.MULTILINE)[:4]

    def written(parse, dump):
        data, stream = parse("".join(begin), "dvc.lock"), io.StringIO()
        CHANGES[change](data["stages"])
        dump(data, stream)
        return stream.getvalue()

    by_dvc, found = (written(*folder) for folder in quickly)
    assert found == by_dvc and ("".join(begin) == found) == (change == "nothing")
    # What was written itself is read from memory.
    (parse, _), (parse_quickly, _) = quickly
    assert parse_quickly(found, "dvc.lock") == parse(found, "dvc.lock")
