"""Experiments, new problems and wrong values: real `dvc` commands on one group at tiny
parameters.
"""

import functools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from project import ROOT, TINY_OF_GROUP, Project, stages_run

import main
import settings
from collective_variables.selection import registry

DOWNSTREAM = ("ComputeNTK", "TrainModel", "CorrelationAnalysis")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The group `fuel` at tiny parameters, its kernels not recorded, reproduced once and
    committed.
    """
    project = Project.copy_to(tmp_path_factory.mktemp("project"))
    project.shrink(("fuel",))
    record(project, None)
    assert stages_run(project.run("dvc", "repro")) == project.stages("fuel") | {"all_Report"}
    project.commit()
    return project


def test_the_committed_graph_is_the_one_that_main_writes(tmp_path):
    copy = Project.copy_to(tmp_path)
    copy.run("python", "main.py")
    assert copy.run("git", "status", "--porcelain") == ""


def test_the_committed_lock_belongs_to_the_committed_code_and_parameters(tmp_path):
    copy = Project.copy_to(tmp_path)
    for folder in (".", "dynamics"):
        output = copy.run("dvc", "repro", "--allow-missing", "--dry", f"{folder}/dvc.yaml")
        assert stages_run(output) == set()
        graph, lock = (
            yaml.safe_load((ROOT / folder / name).read_text())["stages"]
            for name in ("dvc.yaml", "dvc.lock")
        )
        assert set(lock) == set(graph)


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("fuel_Ensemble.n_points=[4,6,8]", ("Ensemble", *DOWNSTREAM)),
        ("fuel_TrainModel.learning_rate=0.02", ("TrainModel", "CorrelationAnalysis")),
    ],
)
def test_exp_run_reruns_exactly_the_stages_that_depend_on_a_value(copy, setting, stages):
    output = copy.run("dvc", "exp", "run", "--set-param", setting, "fuel_CorrelationAnalysis")
    assert stages_run(output) == {f"fuel_{stage}" for stage in stages}


def test_from_one_set_of_values_to_another_and_back_no_result_is_lost(copy):
    losses = copy.folder / "nodes/fuel/TrainModel/losses.csv"
    there = ("dvc", "exp", "run", "--set-param", "fuel_TrainModel.n_epochs=6", "fuel_TrainModel")
    here = losses.read_text()
    assert stages_run(copy.run(*there)) == {"fuel_TrainModel"}
    with_more_epochs = losses.read_text()
    copy.run("git", "checkout", "--quiet", "params.yaml")
    assert stages_run(copy.run("dvc", "repro")) == set()
    assert losses.read_text() == here != with_more_epochs
    assert stages_run(copy.run(*there)) == set()
    assert losses.read_text() == with_more_epochs


DECISIONS = yaml.safe_load((ROOT / "nodes" / "decisions.yaml").read_text())
SETTINGS = [
    *re.findall(r"-S ('[^']+'|\S+)", (ROOT / "README.md").read_text()),
    *(of["change"] for of in DECISIONS),
]


def test_the_readme_has_every_decision():
    readme = (ROOT / "README.md").read_text()
    assert all(
        f"| {of['question']} | {of['ours']} | `{of['where']}` |" in readme for of in DECISIONS
    )


@pytest.mark.parametrize("quoted", SETTINGS)
def test_settings_of_the_readme_and_the_report_are_such_that_dvc_takes_and_that_change_a_value(
    quoted, tmp_path
):
    path, setting = tmp_path / "params.yaml", quoted.strip("'")
    for overrides in get_hydra_sweeps({"params.yaml": [setting]}):
        shutil.copy(ROOT / "params.yaml", path)
        apply_overrides(path, overrides["params.yaml"])
        before, after = (yaml.safe_load(of.read_text()) for of in (ROOT / "params.yaml", path))
        assert {name for name in before if before[name] != after[name]} == {
            setting.strip("+").split(".")[0]
        }


def test_the_papers_parameters_are_values_of_params_and_as_settings_reach_dvc_as_they_are(tmp_path):
    path, values = (
        tmp_path / "params.yaml",
        yaml.safe_load((ROOT / "params-paper.yaml").read_text()),
    )
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, settings.settings(values))
    changed = yaml.safe_load(path.read_text())
    assert changed != yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(settings.settings(values)) <= set(settings.settings(changed))


def test_experiments_in_temporary_folders_and_queues_run_their_own_code_and_values(copy):
    losses = "nodes/fuel/TrainModel/losses.csv"
    before = (copy.folder / losses).read_text()
    copy.run(
        "dvc",
        "exp",
        "run",
        "--temp",
        "--name",
        "one",
        "--set-param",
        "fuel_TrainModel.n_epochs=6",
        "fuel_TrainModel",
    )
    queued = "fuel_TrainModel.learning_rate=0.01,0.02"
    copy.run("dvc", "exp", "run", "--queue", "--set-param", queued, "fuel_TrainModel")
    (copy.folder / "nodes" / "train_model.py").write_text(
        "raise SystemExit('the code of the workspace ran')\n"
    )
    copy.run("dvc", "exp", "run", "--run-all")
    assert (copy.folder / losses).read_text() == before
    listed = json.loads(copy.run("dvc", "exp", "show", "--json"))
    experiments = [e["revs"][0]["data"] for rev in listed for e in rev["experiments"] or []]
    params = [experiment["params"]["params.yaml"]["data"] for experiment in experiments]
    found = {
        (values["fuel_TrainModel"]["n_epochs"], values["fuel_TrainModel"]["learning_rate"])
        for values in params
    }
    assert found == {(6, 0.005), (4, 0.01), (4, 0.02)}
    hashes = {experiment["outs"][losses]["hash"] for experiment in experiments}
    assert len(hashes) == 3


def test_a_new_problem_is_a_section_of_params_and_no_code(copy):
    params = copy.params()
    params |= {
        "fuel-tanh_LoadDataset": {"problem": "fuel"},
        "fuel-tanh_Network": {"layers": ["dense 3", "dense 1"], "activation": "tanh"},
        "fuel-tanh_Ensemble": {"n_members": 2, "n_points": [3, 5]},
        "fuel-tanh_SelectSubset-paper": {"method": "paper", "options": {"n_epochs": 2}},
        "fuel-tanh_TrainModel": {"n_epochs": 2},
    }
    copy.write_params(params)
    copy.run("python", "main.py")
    assert stages_run(copy.run("dvc", "repro", "--glob", "fuel-tanh_*")) == copy.stages("fuel-tanh")
    runs = pd.read_csv(copy.folder / "nodes/fuel-tanh/CorrelationAnalysis/runs.csv")
    assert len(runs) == 3 * 2 * 2
    assert "fuel-tanh" in (copy.folder / "plots" / "dvc.yaml").read_text()


def test_a_file_and_a_network_of_ones_own_are_sections_of_params_and_no_code_of_this_project(copy):
    area = np.random.default_rng(0).normal(size=40)
    houses = pd.DataFrame({"area": area, "town": ["Ulm", "Bonn"] * 20, "price": 2 * area})
    file = copy.folder / "data" / "houses.csv"
    houses.to_csv(file, index=False)
    data = {"path": "data/houses.csv", "targets": ["price"], "n_test": 8}
    others = {
        "houses_Network": {
            "model": "notebooks.models.Residual",
            "options": {"n_outputs": 1, "width": 3, "depth": 1},
        },
        "houses_SelectSubset-paper": {"method": "paper", "options": {"n_epochs": 2}},
        "houses_Ensemble": {"n_members": 2, "n_points": [3, 5]},
        "houses_TrainModel": {"n_epochs": 2},
    }
    copy.write_params(copy.params() | others | {"houses_LoadFile": data})
    copy.run("python", "main.py")
    output = copy.run("dvc", "repro", "--glob", "houses_*")
    assert stages_run(output) == copy.stages(
        "houses"
    ) and "32 points in the pool, 8 test points" in " ".join(output.split())
    runs = pd.read_csv(copy.folder / "nodes/houses/CorrelationAnalysis/runs.csv")
    assert len(runs) == 3 * 2 * 2 and set(runs["parametrisation"]) == {"own"}
    columns = pd.read_csv(copy.folder / "nodes/houses/LoadFile/columns.csv")
    assert columns["column"].tolist() == list(houses) and columns["role"].tolist() == [
        "input",
        "input",
        "target",
    ]
    assert stages_run(copy.run("dvc", "repro", "--glob", "houses_*")) == set()
    # An edit of the network's file makes stale what selects by it, measures and trains it.
    models = copy.folder / "notebooks" / "models.py"
    models.write_text(models.read_text().replace("nn.gelu(", "nn.relu("))
    architecture = copy.folder / "nodes/houses/Network/architecture.json"
    before = architecture.read_text()
    assert (
        stages_run(copy.run("dvc", "repro", "houses_Network")) == {"houses_Network"}
        and architecture.read_text() != before
    )
    assert {
        f"houses_{stage}" for stage in ("SelectSubset-paper", "ComputeNTK", "TrainModel")
    } <= copy.stale()
    houses.assign(price=area).to_csv(file, index=False)
    assert "houses_LoadFile" in stages_run(copy.run("dvc", "repro", "houses_LoadFile"))
    # The graph follows the file that it was made for.
    houses.to_csv(copy.folder / "data" / "other.csv", index=False)
    copy.write_params(
        copy.params()
        | {"houses_LoadFile": copy.params()["houses_LoadFile"] | {"path": "data/other.csv"}}
    )
    output = copy.run("dvc", "repro", "houses_LoadFile", fails=True)
    assert (
        "path must be the file that the graph follows, data/houses.csv: received data/other.csv"
        in " ".join(output.split())
    )
    copy.run("python", "main.py")
    assert "houses_LoadFile" in stages_run(copy.run("dvc", "repro", "houses_LoadFile"))


@pytest.mark.parametrize(
    "path", ["data/none.csv", "..", ".", "/etc/passwd", "data/../../x.csv", None]
)
def test_a_file_of_ones_own_is_inside_the_project(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        SystemExit,
        match=f"new_LoadFile must have the path of .* inside the project: received {path}",
    ):
        main.data_of("new", {"LoadFile": {"path": path, "targets": ["y"]}})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fuel_Network.layers=[dense 3,dense 2]", "as many outputs as the targets: 2 != 1"),
        (
            "fuel_Network.model=notebooks.models.fourier",
            "A network must have layers or a model: received ['dense 8', 'dense 1']",
        ),
        ("fuel_Ensemble.n_points=[4,500]", "n_selected must not exceed the pool: 500 > 272"),
        ("fuel_Ensemble.n_members=many", "n_members must be an integer: received 'many'"),
        ("fuel_ComputeNTK.per_class=true", "per_class needs a problem of classification"),
        ("fuel_SelectSubset-paper.options.n_epochs=-1", "n_epochs must be at least 0: received -1"),
        (
            "fuel_RNDSelect.method=best",
            f"method must be one of {', '.join(sorted(registry.SELECTION_METHODS))}: received 'best'",
        ),
        ("fuel_RNDSelect.options={depht: 2}", "Options of rnd are criterion, emphasis"),
        (
            "fuel_RNDSelect.method=paper",
            "methods must not repeat an entry: received ['random', 'paper', 'paper'].",
        ),
        ("fuel_RNDSelect.options={threshold: 1.0}", "Lower the threshold or the subset sizes"),
    ],
)
def test_a_wrong_value_is_one_clear_error_and_loses_nothing(copy, setting, message):
    section, _, value = setting.partition("=")
    stage, *path, name = section.split(".")
    params = copy.params()
    functools.reduce(dict.__getitem__, path, params[stage])[name] = yaml.safe_load(value)
    copy.write_params(params)
    kept = "nodes/fuel/CorrelationAnalysis/runs.csv"
    before = (copy.folder / kept).read_text()
    assert message in " ".join(
        copy.run("dvc", "repro", fails=True).split()
    )  # ZnTrack breaks lines at 80 characters
    copy.run("git", "checkout", "--quiet", "params.yaml")
    assert stages_run(copy.run("dvc", "repro")) == set()
    assert (copy.folder / kept).read_text() == before


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("fuel_RNDSelct", "received fuel_RNDSelct"),
        (
            "new_Network",
            "params.yaml must have one section new_LoadDataset or new_LoadFile: received none",
        ),
        ("fuel-range_RNDSelect", "received fuel-range_RNDSelect"),
        ("fuel-range_SelectSubset-trace", "received fuel-range_SelectSubset-trace"),
        ("fuel_SelectSubsetTrace", "received fuel_SelectSubsetTrace"),
        ("all_Network", "received all_Network"),
    ],
)
def test_a_section_that_fits_no_graph_is_refused(copy, section, message):
    of_range = {
        "fuel-range_LoadDataset": {"problem": "fuel"},
        "fuel-range_Network": {"layers": ["dense 1"]},
        "fuel-range_Ensemble": {"n_points": {"low": 4, "high": 9, "distribution": "uniform"}},
    }
    copy.write_params(copy.params() | of_range | {section: {}})
    assert message in copy.run("python", "main.py", fails=True)


def record(project, settings):
    """Follow the kernels of the networks through their training, or do not."""
    params = project.params()
    project.write_params(
        params | {"fuel_TrainModel": params["fuel_TrainModel"] | {"record": settings}}
    )


def results(project):
    """What the stages wrote, but for the times that they took."""
    paths = [
        path
        for path in (project.folder / "nodes" / "fuel").rglob("*")
        if path.is_file() and path.name[0] != "."
    ]
    return {
        path.relative_to(project.folder): path.read_bytes()
        for path in paths
        if path.name != "node-meta.json"
    }


def test_a_forced_repro_gives_the_same_files_to_the_last_byte(copy):
    record(copy, TINY_OF_GROUP["fuel_TrainModel"]["record"])
    copy.run("dvc", "repro")
    before = results(copy)
    assert stages_run(copy.run("dvc", "repro", "--force")) == copy.stages("fuel") | {"all_Report"}
    assert results(copy) == before and len(before) > 20


def test_results_on_a_remote_are_pulled_elsewhere_where_nothing_is_left_to_do(copy, tmp_path):
    copy.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    copy.commit()
    copy.run("dvc", "push")
    copy.run("git", "clone", "--quiet", str(copy.folder), str(tmp_path / "elsewhere"))
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.run("dvc", "pull")
    assert stages_run(elsewhere.run("dvc", "repro")) == set()
    assert results(elsewhere) == results(copy)


def test_a_damaged_file_of_the_cache_is_found_and_its_stage_run_again(copy):
    before, path = results(copy), Path("nodes/fuel/TrainModel/losses.csv")
    stage = yaml.safe_load((copy.folder / "dvc.lock").read_text())["stages"]["fuel_TrainModel"]
    (digest,) = (out["md5"] for out in stage["outs"] if out["path"] == str(path))
    cached = copy.folder / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    damaged = before[path].replace(b"0.", b"1.", 1)
    assert damaged != before[path]
    for place in (cached, copy.folder / path):
        place.chmod(0o644)
        place.write_bytes(damaged)
        place.chmod(0o444 if place is cached else 0o644)
    said = copy.run("python", "verify.py")
    assert (
        f"{digest[:2]}/{digest[2:]} of the cache was damaged" in said
        and f"{path} is not what dvc.lock has" in said
    )
    # The report shows the times of all stages, too.
    assert stages_run(copy.run("dvc", "repro")) == {"fuel_TrainModel", "all_Report"}
    assert results(copy) == before and copy.run("python", "verify.py") == ""


def test_a_clean_clone_reproduces_the_reference_unless_a_formula_is_altered(copy):
    collect = (
        "import reproduce; reproduce.collect(reproduce.ROOT, ['fuel'], False, reproduce.REFERENCE)"
    )
    copy.run("python", "-c", f"import sys; sys.path.append('benchmarks'); {collect}")
    check = ("python", "benchmarks/reproduce.py", "fuel")
    assert "0 moved" in copy.run(*check, "--here")
    spectrum = copy.folder / "collective_variables" / "spectrum.py"
    altered = spectrum.read_text().replace("np.log(", "np.log2(")
    assert altered != spectrum.read_text()
    spectrum.write_text(altered)
    copy.commit()
    printed = copy.run(*check, fails=True)
    quantities = {
        line.split()[-4] for line in printed.splitlines() if line.lstrip().startswith("summary")
    }
    assert "entropy" in quantities and not quantities & {"trace", "min_test_loss"}
