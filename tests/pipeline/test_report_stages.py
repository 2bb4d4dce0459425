"""What the report says of the stages that lead to it, from the graphs of this repository."""

from pathlib import Path
from types import MappingProxyType

import pytest
import yaml

from nodes import report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def inside(monkeypatch):
    monkeypatch.chdir(ROOT)


def stages(last, seconds=MappingProxyType({})):
    params = yaml.safe_load(Path("params.yaml").read_text())
    return {stage.name: stage for stage in report._stages(last, params, seconds)}


def test_a_stage_has_its_code_its_parameters_its_time_and_what_it_takes():
    found = stages("all_Report", {("fuel", "TrainModel"): 3.5})
    stage = found["fuel_TrainModel"]
    assert (stage.label, stage.group, stage.seconds) == ("TrainModel", "fuel", 3.5)
    assert stage.code == "nodes/train_model.py" and (ROOT / stage.code).is_file()
    assert stage.parameters["optimiser"] == "adam"
    assert {"fuel_LoadDataset", "fuel_Network", "fuel_RNDSelect"} <= set(stage.after)
    assert found["fuel_SelectSubset-k-center"].label == "k-center"


def test_the_report_of_one_paper_has_its_stages_and_the_other_those_of_both():
    first, both = stages("all_Report"), stages("dynamics_Report")
    assert not any(name.startswith("dynamics") for name in first) and "all_Report" in first
    assert {"dynamics_Findings", "dynamics-fuel_ScalingStudy", "fuel_ComputeNTK"} <= set(both)
    assert "Sources" not in both and "all_Report" not in both
    assert all((ROOT / stage.code).is_file() for stage in both.values())


def test_a_folder_without_a_graph_has_no_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report._stages("all_Report", {}, {}) == [] and report._target("a_Report") == "a_Report"


def test_the_command_of_a_figure_is_a_stage_of_its_graph():
    assert report._target("all_Report") == "all_Report"
    assert report._target("dynamics_Report") == "dynamics/dvc.yaml:dynamics_Report"


def test_all_files_of_the_page_are_followed():
    templates = ROOT / "collective_variables" / "papers" / "templates"
    names = {path.name for path in templates.iterdir()} - {"compare.html"}
    assert names == {Path(file).name for file in report.FOLLOWED_FILES} - {"decisions.yaml"}
