"""params.yaml after main.py: all that a person wrote, and what was missing."""

import pytest
import yaml
from project import ROOT

from nodes import _params_file, _values

COMMENTED = """\
# Our problems.
houses_LoadFile: {path: a.csv, targets: [price]}   # the file
houses_Network:
    # small
    layers: [dense 1]   # one layer

    activation: 'tanh'
# sizes

houses_Ensemble:
  n_points:
  - 3   # few
  # more of them
  - 5

# b
b_TrainModel:  # nothing
# the end
"""
ADDED = {
    "houses_LoadFile": {"path": "a.csv", "targets": ["price"], "task": "auto"},
    "houses_Network": {"layers": ["dense 1"], "activation": "tanh", "options": {}, "b_std": None},
    "houses_Ensemble": {"n_points": [3, 5], "seed": 0},
    "b_TrainModel": {"loss": "mse"},
    "houses_TrainModel": {"record": {"epochs": [1, 2]}},
    "all_Report": {"seed": 0},
}
COMPLETE = """\
# Our problems.
houses_LoadFile: {path: a.csv, targets: [price], task: auto}   # the file
houses_Network:
    # small
    layers: [dense 1]   # one layer

    activation: 'tanh'
    b_std: null
    options: {}
# sizes

houses_Ensemble:
  n_points:
  - 3   # few
  # more of them
  - 5
  seed: 0
houses_TrainModel:
  record:
    epochs:
    - 1
    - 2

# b
b_TrainModel:  # nothing
  loss: mse
# the end
all_Report:
  seed: 0
"""


def complete(text, sections):
    return _params_file.complete(text, "params.yaml", sections)


def test_comments_order_quotation_marks_and_blank_lines_stay():
    assert complete(COMMENTED, ADDED) == COMPLETE
    assert complete(COMPLETE, ADDED) == COMPLETE


def test_the_ends_of_lines_stay():
    text = complete(COMMENTED.replace("\n", "\r\n"), ADDED)
    assert text == COMPLETE.replace("\n", "\r\n")


def test_the_committed_file_stays_as_it_is_to_the_last_byte():
    text = (ROOT / "params.yaml").read_text()
    assert complete(text, yaml.safe_load(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_B: &x {c: [1]}\nd_B: *x\n", "a_B: {c: [1]}\nd_B: {c: [1]}\n"),
        ("a_B: &x\n  c: [1]  # ours\nd_B: *x\n", "a_B:\n  c: [1]  # ours\nd_B: {c: [1]}\n"),
        ("a_B: {c: &x [1]}\nd_B: {c: *x}\n", "a_B: {c: [1]}\nd_B: {c: [1]}\n"),
        ("a_B: &x {c: [1]}\nd_B:\n  <<: *x\n", "a_B: {c: [1]}\nd_B:\n  <<: {c: [1]}\n"),
        ("a_B:\n  c: 1e-3  # slow\n", "a_B:\n  c: 0.001  # slow\n"),
        ("a_B: {c: 1e-05}\n", "a_B: {c: 1.0e-05}\n"),
        ("a_B: {c: '1e-3', d: 2.5e-4}\n", "a_B: {c: '1e-3', d: 2.5e-4}\n"),
        ("a_B: {c: 1}", "a_B: {c: 1}\n"),
        ("a_B: {c: |\n  two\n  lines\n}\n", None),
        ("{a_B: {c: 1}}\n", "{a_B: {c: 1}}\n"),
    ],
)
def test_values_stay_and_none_is_shared_or_read_in_two_ways(text, expected):
    if expected is None:
        text = text.replace("{c: |\n", "\n  c: |\n").replace(
            "  two\n  lines\n}", "    two\n    lines"
        )
    sections = _values.parse(text, "params.yaml")
    result = complete(text, sections)
    assert result == (text if expected is None else expected)
    assert yaml.safe_load(result) == sections
    more = {name: values | {"new": "x"} for name, values in sections.items()}
    assert yaml.safe_load(complete(text, more)) == more
