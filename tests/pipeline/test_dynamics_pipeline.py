"""The graph of learning dynamics as a person uses it: real `dvc` commands on a copy of the project
at tiny parameters.
"""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from pages import Elements, in_browser
from project import Project, stages_run

from collective_variables.papers import claims_2024
from collective_variables.papers.position import claims as position_claims
from collective_variables.training import study_cases
from nodes.findings import Findings
from nodes.report import Report
from nodes.scaling_study import ScalingStudy
from nodes.train_agent import TrainAgent
from nodes.train_autoencoder import TrainAutoencoder

STUDIES = ("dynamics-fuel", "dynamics-graph")
OF_DATA = ("LoadDataset", "Ensemble", "RandomSubset")
RECORDED = {
    **{f"{group}_ScalingStudy": ScalingStudy for group in STUDIES},
    "dynamics-agent_TrainAgent": TrainAgent,
    "dynamics-autoencoder_TrainAutoencoder": TrainAutoencoder,
}
STAGES = {
    *RECORDED,
    *(f"{group}_{stage}" for group in (*STUDIES, "dynamics-autoencoder") for stage in OF_DATA),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two studies, the autoencoder, the agent and a group of the first paper at tiny parameters,
    reproduced once and committed.
    """
    project = Project.copy_to(tmp_path_factory.mktemp("project"))
    project.shrink(("fuel-dense", *(name.partition("_")[0] for name in RECORDED)))
    output = project.run("dvc", "repro", "dynamics/dvc.yaml:dynamics_Findings")
    assert names(output) == STAGES | {"Sources", "dynamics_Findings"}
    output = project.run("dvc", "repro", "dynamics/dvc.yaml")
    assert {name.partition("_")[0] for name in names(output)} == {"fuel-dense", "dynamics"}
    # What the graph of the second paper does not need.
    assert names(project.run("dvc", "repro")) == {"all_Report"}
    project.commit()
    return project


@pytest.fixture
def inside(project, monkeypatch):
    """Run inside the project, as ZnTrack's loaders expect."""
    monkeypatch.chdir(project.folder)


def names(output):
    """The stages that ran, without the file that they are in."""
    return {name.split(":")[-1] for name in stages_run(output)}


def load(group, stage):
    """By its class: `zntrack.from_rev` looks for its name in dvc.yaml alone."""
    name = f"{group}_{stage}"
    return (RECORDED | {"dynamics_Findings": Findings, "dynamics_Report": Report})[name].from_rev(
        name
    )


def test_the_first_papers_graph_has_no_stage_of_the_second(project):
    graph = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    assert {name.partition("_")[0] for name in graph} == {"Sources", "fuel-dense", "all"}
    for file in ("dvc.yaml", "dynamics/dvc.yaml"):
        assert names(project.run("dvc", "repro", file)) == set()


@pytest.mark.parametrize("group", STUDIES)
def test_every_network_of_every_study_is_recorded(inside, group):
    node = load(group, "ScalingStudy")
    recording, cases = node.recording, node.cases
    every = {case for listed in cases.values() for case in listed}
    assert set(
        map(tuple, recording[list(study_cases.AXES)].drop_duplicates().to_numpy(object))
    ) == {tuple(getattr(case, axis) for axis in study_cases.AXES) for case in every}
    assert len(recording) == len(every) * 3 * 2 * 3  # members, kinds of points, epochs
    assert node.metrics == {"diverged": 0, "networks": len(every)}
    assert (len(node.modes) > 0) == (group == "dynamics-fuel")
    assert (
        np.isfinite(recording[["loss", "entropy", "trace"]]).all(axis=None)
        and recording["accuracy"].isna().all()
    )
    for study, listed in cases.items():
        assert len(study_cases.study_rows(recording, listed)) == len(listed) * 18, study


def test_the_library_alone_makes_the_recordings_of_the_graph_at_the_papers_scale(
    project, inside, tmp_path
):
    """Of all networks of all studies; fewer members than the graph's are its first ones."""
    kept, about = project.at_scale(
        "dynamics-fuel", {"dynamics-fuel_Ensemble": {"n_members": 2}}, tmp_path
    )
    recording = load("dynamics-fuel", "ScalingStudy").recording
    from_stage = recording[recording["member"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, from_stage, check_dtype=False, rtol=1e-5)
    assert set(kept["member"]) == {0, 1} and about["params"]["Ensemble"]["n_members"] == 2


def test_encoder_actor_and_critic_are_recorded(inside):
    encoder = load("dynamics-autoencoder", "TrainAutoencoder").recording
    assert len(encoder) == 3 * 2 * 2  # members, kinds of points, epochs
    agent = load("dynamics-agent", "TrainAgent")
    assert agent.recording.groupby("network").size().to_dict() == {"actor": 3 * 2, "critic": 3 * 2}
    for recording in (encoder, agent.recording):
        assert sorted(set(recording["epoch"])) == [0, 2] and sorted(set(recording["member"])) == [
            0,
            1,
            2,
        ]
        assert np.isfinite(recording[["entropy", "trace", "drift"]]).all(axis=None)
    assert len(agent.returns) == 3 * 3  # members, updates from 0 to 2


def test_findings_are_of_all_studies(inside):
    node = load("dynamics", "Findings")
    written = json.loads(node.findings_path.read_text())
    claims = [*claims_2024.FINDINGS, *position_claims.FINDINGS]
    assert [judgement["claim"] for judgement in written] == claims
    verdicts = {judgement["claim"]: judgement["verdict"] for judgement in written}
    assert node.verdicts == verdicts
    evidence, later_evidence = (part.evidence for part in node.parts)
    for table in (evidence, later_evidence):
        assert set(table["group"]) == {name.partition("_")[0] for name in RECORDED}
    n_rows = sum(len(judgement["evidence"]) for judgement in written)
    assert len(evidence) + len(later_evidence) == n_rows
    # As in the tables themselves.
    table = load("dynamics-graph", "ScalingStudy").recording.query("points == 'train'")
    curves = table.pivot(index="member", columns="epoch", values="entropy")
    graph_rows = evidence.query("claim == 'F2' and group == 'dynamics-graph'")
    assert graph_rows["effect"].tolist() == pytest.approx([(curves[2] - curves[0]).mean()])
    assert {table.name for table in node.tables} == {"networks", "phases", "laws"}
    assert {picture.name for picture in node.pictures} >= {
        "evolution-dynamics-fuel",
        "evolution-dynamics-graph",
        "position-dynamics-fuel",
        "joint",
    }


def test_the_pictures_of_a_revision_are_read_from_that_revision(copy, monkeypatch):
    monkeypatch.chdir(copy.folder)
    before = [picture.name for picture in load("dynamics", "Findings").pictures]
    path = copy.folder / load("dynamics", "Findings").pictures_path
    path.write_text("[]")
    assert load("dynamics", "Findings").pictures == []
    node = Findings.from_rev("dynamics_Findings", rev="HEAD")
    assert [picture.name for picture in node.pictures] == before and len(before) > 2


def test_the_report_has_both_papers_and_a_browser_draws_it(inside, tmp_path):
    node = load("dynamics", "Report")
    document, messages = in_browser(node.page_path.read_text(), tmp_path)
    page = Elements(document)
    assert messages == []
    judged = {judgement["claim"] for judgement in json.loads(node.claims_path.read_text())}
    assert {"C1", "C11", "F1", "F6", "G1", "H2"} <= judged
    assert judged <= set(page.attributes("id", "tr"))
    assert {"claims", "findings", "position", "joint", "networks", "phases"} <= set(
        page.attributes("id", "section")
    )
    plots = [name for name in page.attributes("class", "div") if "js-plotly-plot" in name]
    assert len(plots) == len(page.attributes("data-figure"))
    assert "ScalingStudy" in page.texts


FINDINGS, REPORTS = {"dynamics_Findings"}, {"all_Report", "dynamics_Report"}
STUDY = {f"{group}_ScalingStudy" for group in STUDIES}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("collective_variables/training/recording.py", {*RECORDED, "fuel-dense_TrainModel"}),
        ("collective_variables/training/study_cases.py", STUDY | FINDINGS),
        ("collective_variables/training/scaling_study.py", STUDY),
        ("collective_variables/networks/architectures.py", STUDY),
        ("collective_variables/training/autoencoder.py", {"dynamics-autoencoder_TrainAutoencoder"}),
        ("collective_variables/training/policy_optimisation.py", {"dynamics-agent_TrainAgent"}),
        ("collective_variables/analysis/entropy_phases.py", FINDINGS),
        ("collective_variables/papers/results_2024.py", FINDINGS),
        ("nodes/train_agent.py", {"dynamics-agent_TrainAgent"} | FINDINGS),
        ("nodes/findings.py", FINDINGS | REPORTS),
    ],
)
def test_changed_code_makes_the_stages_stale_that_run_it(copy, file, stages):
    path = copy.folder / file
    path.write_text(path.read_text() + "# changed\n")
    copy.run("dvc", "repro", "Sources")
    assert copy.stale() == stages


def test_a_changed_value_makes_its_study_stale_and_what_reads_it(project):
    setting = "dynamics-graph_ScalingStudy.learning_rate=0.01"
    output = project.run(
        "dvc", "exp", "run", "--set-param", setting, "dynamics/dvc.yaml:dynamics_Findings"
    )
    assert names(output) == {"dynamics-graph_ScalingStudy", "dynamics_Findings"}


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (
            "dynamics-fuel_ComputeNTK",
            {},
            "A group with ScalingStudy has only ScalingStudy, LoadDataset, Ensemble: "
            "received dynamics-fuel_ComputeNTK",
        ),
        (
            "dynamics_Network",
            {},
            "must be all_Report, dynamics_Report, dynamics_Findings or <group>_<Stage>",
        ),
    ],
)
def test_sections_that_no_stage_reads_are_refused(copy, section, change, message):
    copy.write_params(copy.params() | {section: change})
    assert message in copy.run("python", "main.py", fails=True)
