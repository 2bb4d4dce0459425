"""Experiments, new problems and wrong values: real `dvc` commands on one group at tiny
parameters.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from documents import EVERYTHING, README
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from project import ROOT, TINY_OF_GROUP, Project, read, stages_run
from project import environment as project_environment

import main
from collective_variables.selection import registry
from scripts import params_to_options

DOWNSTREAM = ("ComputeNTK", "TrainModel", "CorrelationAnalysis")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The group `fuel` at tiny parameters, its kernels not recorded, reproduced once and
    committed.
    """
    project = Project.copy_to(tmp_path_factory.mktemp("project"))
    project.shrink(("fuel",))
    record(project, None)
    assert stages_run(project.run("dvc", "repro")) == everything(project)
    project.commit()
    return project


def test_the_committed_graph_is_the_one_that_main_writes(tmp_path):
    copy = Project.copy_to(tmp_path)
    copy.run("python", "main.py")
    changed = copy.run("git", "status", "--porcelain")
    assert changed == "", (
        f"{changed}The graph is not main.py's: run `python main.py` and commit it."
    )


def test_the_committed_lock_belongs_to_the_committed_code_and_parameters(tmp_path):
    copy = Project.copy_to(tmp_path)
    described, stale = copy.run("python", "-m", "scripts.stale"), stale_in_locks(copy)
    assert stale == set() and "No stage reruns" in described, (
        f"{described}{stale}\n"
        "dvc.lock is stale: run `dvc repro Sources` if that stage is the only one, else "
        "`make report`; then commit dvc.lock and dynamics/dvc.lock."
    )


def stale_in_locks(project):
    """The stages that DVC would run if it had all results of the lock files."""
    stale = set()
    for folder in (project.folder, project.folder / "dynamics"):
        target = f"{folder.relative_to(project.folder)}/dvc.yaml"
        process = project.start("dvc", "repro", "--allow-missing", "--dry", target)
        # Of a stale lock DVC may say no more than which result it misses.
        stale |= stages_run(process.stdout) | ({process.stdout} if process.returncode else set())
        graph, lock = (read(folder / name)["stages"] for name in ("dvc.yaml", "dvc.lock"))
        stale |= set(lock) ^ set(graph)
    return stale


def test_a_second_main_changes_nothing_in_whatever_order_sections_are_written(copy):
    with (copy.folder / "params.yaml").open("a") as text:
        text.write("fuel_SelectSubset-mine: {method: random}\n")
        text.write("a-first_LoadDataset: {problem: fuel}\na-first_Network: {layers: [dense 1]}\n")
        text.write("a-first_Ensemble: {n_points: [3]}\na-first_SelectSubset: {method: random}\n")
    copy.run("python", "main.py")
    copy.commit()
    copy.run("python", "main.py")
    assert copy.run("git", "status", "--porcelain") == ""


def test_without_one_of_its_methods_a_group_measures_and_trains_again_and_nothing_else(copy):
    """DVC keeps the entry of a stage that is gone, and does not miss what others read of it."""
    lock = copy.folder / "dvc.lock"
    before = read(lock)["stages"]
    copy.write_params(
        {name: values for name, values in copy.params().items() if "rnd-linearised" not in name}
    )
    copy.run("python", "main.py")
    after = read(lock)["stages"]
    readers = {"fuel_ComputeNTK", "fuel_TrainModel", "all_Report"}
    assert before.keys() - after.keys() == {"fuel_SelectSubset-rnd-linearised", *readers}
    assert after == {name: before[name] for name in after}
    assert stages_run(copy.run("dvc", "repro")) == readers | {"fuel_CorrelationAnalysis"}
    runs = pd.read_csv(copy.folder / "nodes/fuel/CorrelationAnalysis/runs.csv")
    assert set(runs["method"]) == {"random", "rnd"}


def test_params_have_no_aliases_whatever_was_written_and_stages_share_no_value(copy):
    path, record = copy.folder / "params.yaml", "{epochs: [2], observables: [drift]}"
    params = copy.params()
    params["fuel_TrainModel"]["record"] = "SHARED"
    text = yaml.safe_dump(params).replace("SHARED", f"&shared {record}")
    data = "b_LoadDataset: {problem: fuel}\nb_Network: {layers: [dense 1]}\n"
    others = "b_Ensemble: {n_points: [3]}\nb_TrainModel: {record: *shared}\n"
    path.write_text(f"{text}{data}{others}")
    copy.run("python", "main.py")
    assert "&" not in path.read_text() and "*" not in path.read_text()
    records = [copy.params()[f"{group}_TrainModel"]["record"] for group in ("fuel", "b")]
    assert records == 2 * [yaml.safe_load(record)]
    for file in ("params.yaml", "dvc.yaml", "plots/dvc.yaml"):
        assert not re.search(r"(^|[ \[])[&*]\w+", (ROOT / file).read_text(), re.MULTILINE), file


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
    losses = copy.folder / "nodes/fuel/TrainModel/results/losses.csv"
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
PARAMS = read(ROOT / "params.yaml")
SETTINGS = [
    *dict.fromkeys(re.findall(r"-S ('[^']+'|\w\S+)", EVERYTHING)),
    *(decision["change"] for decision in DECISIONS),
]


def test_the_documents_have_settings_of_networks_sizes_training_and_methods():
    changed = {setting.strip("'+").partition("=")[0] for setting in SETTINGS}
    assert {
        "fuel_Network.layers",
        "fuel_Ensemble.n_points",
        "fuel_TrainModel.n_epochs",
        "fuel_RNDSelect.options",
        "fuel_ComputeNTK.subsample",
    } <= changed
    assert len(re.findall("dvc exp run -S ", README)) >= 3


def test_the_page_of_decisions_has_every_decision():
    page = (ROOT / "docs/results/generated/decisions.md").read_text()
    assert all(
        f"| {decision['question']} | {decision['ours']} | `{decision['where']}` |" in page
        for decision in DECISIONS
    )


@pytest.mark.parametrize("quoted", SETTINGS)
def test_settings_of_the_documents_and_the_report_are_such_that_dvc_takes_and_that_change_a_value(
    quoted, tmp_path
):
    path, setting = tmp_path / "params.yaml", quoted.strip("'")
    for overrides in get_hydra_sweeps({"params.yaml": [setting]}):
        shutil.copy(ROOT / "params.yaml", path)
        apply_overrides(path, overrides["params.yaml"])
        after = read(path)
        assert {name for name in PARAMS if PARAMS[name] != after[name]} == {
            setting.strip("+").split(".")[0]
        }


def test_the_papers_parameters_are_values_of_params_and_as_settings_reach_dvc_as_they_are(tmp_path):
    path, values = (
        tmp_path / "params.yaml",
        yaml.safe_load((ROOT / "params-paper.yaml").read_text()),
    )
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, params_to_options.list_settings(values))
    changed = yaml.safe_load(path.read_text())
    assert changed != yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(params_to_options.list_settings(values)) <= set(
        params_to_options.list_settings(changed)
    )


def test_experiments_in_temporary_folders_and_queues_run_their_own_code_and_values(copy):
    losses = "nodes/fuel/TrainModel/results/losses.csv"
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
    hashes = {experiment["outs"][str(Path(losses).parent)]["hash"] for experiment in experiments}
    assert len(hashes) == 3


def test_an_experiment_is_applied_though_other_stages_have_no_results_here(copy):
    """`dvc exp apply` changes the same, and ends like a failure."""
    others = {
        "other_LoadDataset": {"problem": "fuel"},
        "other_Network": {"layers": ["dense 1"]},
        "other_Ensemble": {"n_points": [3]},
    }
    copy.write_params(copy.params() | others)
    copy.run("python", "main.py")
    copy.commit()
    losses = copy.folder / "nodes/fuel/TrainModel/results/losses.csv"
    before = losses.read_text()
    setting = "fuel_TrainModel.n_epochs=6"
    copy.run("dvc", "exp", "run", "--name", "more", "--set-param", setting, "fuel_TrainModel")
    expected = losses.read_text()
    copy.run("git", "checkout", "--quiet", ".")
    copy.run("dvc", "checkout", "--allow-missing")
    assert losses.read_text() == before != expected
    assert "Checkout failed" in copy.run("dvc", "exp", "apply", "more", fails=True)
    copy.run("git", "checkout", "--quiet", ".")
    output = copy.run("python", "scripts/apply_experiment.py", "more")
    assert output.splitlines()[-1].endswith("the parameters and results of the experiment more.")
    assert "WARNING" not in output and losses.read_text() == expected
    assert copy.params()["fuel_TrainModel"]["n_epochs"] == 6
    assert stages_run(copy.run("dvc", "repro", "fuel_TrainModel")) == set()
    output = copy.run("python", "scripts/apply_experiment.py", "none", fails=True)
    assert output.startswith("The experiment none cannot be applied: ")


def test_a_new_problem_is_a_section_of_params_and_no_code(copy):
    params = copy.params()
    params |= {
        "fuel-tanh_LoadDataset": {"problem": "fuel"},
        "fuel-tanh_Network": {"layers": ["dense 3", "dense 1"], "activation": "tanh"},
        "fuel-tanh_Ensemble": {"n_members": 2, "n_points": [3, 5]},
        "fuel-tanh_RNDSelect": {"options": {"n_epochs": 2}},
        "fuel-tanh_SelectSubset-rnd-linearised": {"method": "rnd-linearised"},
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
        "houses_RNDSelect": {"options": {"n_epochs": 2}},
        "houses_SelectSubset-rnd-linearised": {"method": "rnd-linearised"},
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
        f"houses_{stage}" for stage in ("RNDSelect", "ComputeNTK", "TrainModel")
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


MODEL = {
    "mine/__init__.py": "from .models import Wide\n",
    "mine/models.py": "from flax import linen as nn\nfrom .parts.layers import Block\n\n\n"
    "class Wide(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n"
    "        return nn.Dense(1)(Block()(x))\n",
    "mine/parts/__init__.py": "from .. import sizes as width\n",
    "mine/parts/layers.py": "from flax import linen as nn\nfrom . import width\n\n\n"
    "class Block(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n"
    "        return nn.relu(nn.Dense(width.WIDTH)(x))\n",
    "mine/sizes.py": "WIDTH = 3\n",
    "mine/unused.py": "",
}


def test_every_file_of_a_model_that_is_a_package_is_followed(copy):
    for name, text in MODEL.items():
        (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.folder / name).write_text(text)
    sections = {
        "mine_LoadDataset": {"problem": "fuel"},
        "mine_Network": {"model": "mine.Wide"},
        "mine_Ensemble": {"n_members": 2, "n_points": [3]},
    }
    copy.write_params(copy.params() | sections)
    copy.run("python", "main.py")
    graph = read(copy.folder / "dvc.yaml")["stages"]
    files = {path for path in graph["mine_Network"]["deps"] if path.startswith("mine/")}
    assert files == MODEL.keys() - {"mine/unused.py"}
    copy.run("dvc", "repro", "mine_Network")
    architecture = copy.folder / "nodes/mine/Network/architecture.json"
    versions = {architecture.read_text()}
    for name in ("mine/sizes.py", "mine/parts/layers.py", "mine/__init__.py"):
        with (copy.folder / name).open("a") as text:
            text.write("# changed\n")
        assert stages_run(copy.run("dvc", "repro", "mine_Network")) == {"mine_Network"}, name
        versions.add(architecture.read_text())
    # Stages that train it read the architecture, and so run again each time.
    assert len(versions) == 4
    (copy.folder / "mine" / "sizes.py").write_text("from .none import WIDTH\n")
    output = copy.run("python", "main.py", fails=True)
    assert output == "mine/sizes.py:1: no file of the project is the module mine.none.\n"


@pytest.mark.parametrize(
    "path", ["data/none.csv", "..", ".", "/etc/passwd", "data/../../x.csv", None]
)
def test_a_file_of_ones_own_is_inside_the_project(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        SystemExit,
        match=f"new_LoadFile must have the path of .* inside the project: received {path}",
    ):
        main.make_data("new", {"LoadFile": {"path": path, "targets": ["y"]}})


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
        ("fuel_RNDSelect.options.n_epochs=-1", "n_epochs must be at least 0: received -1"),
        (
            "fuel_RNDSelect.method=best",
            f"method must be one of {', '.join(sorted(registry.SELECTION_METHODS))}: "
            "received 'best'",
        ),
        (
            "fuel_SelectSubset-rnd-linearised.options={depht: 2}",
            "Options of rnd-linearised are criterion, emphasis",
        ),
        (
            "fuel_RNDSelect={method: random}",
            "methods must not repeat an entry: received ['random', 'random', 'rnd-linearised'].",
        ),
        ("fuel_RNDSelect.options={threshold: 1.0}", "Lower the threshold or the subset sizes"),
        ("fuel_TrainModel.optimiser=sgdd", "such as 'adam': received 'sgdd'."),
    ],
)
def test_a_wrong_value_is_one_clear_error_and_loses_nothing(copy, setting, message):
    section, _, value = setting.partition("=")
    *path, name = section.split(".")
    params = copy.params()
    functools.reduce(dict.__getitem__, path, params)[name] = yaml.safe_load(value)
    copy.write_params(params)
    kept = "nodes/fuel/CorrelationAnalysis/runs.csv"
    before = (copy.folder / kept).read_text()
    output = copy.run("dvc", "repro", fails=True)
    (line,) = [line for line in output.splitlines() if message in line]
    assert line.startswith("fuel_")  # the stage
    assert "Traceback" not in output and "Error:" not in output
    copy.run("git", "checkout", "--quiet", "params.yaml")
    assert stages_run(copy.run("dvc", "repro")) == set()
    assert (copy.folder / kept).read_text() == before


def test_a_value_that_a_later_stage_cannot_use_is_refused_before_the_first_one_runs(copy):
    params = copy.params()
    params["fuel_Ensemble"]["seed"] = 3
    params["fuel_TrainModel"]["optimiser"] = "sgdd"
    copy.write_params(params)
    output = copy.run("dvc", "repro", "fuel_TrainModel", fails=True)
    assert stages_run(output) == {"fuel_Ensemble"}
    (line,) = [line for line in output.splitlines() if "sgdd" in line]
    assert line.startswith("fuel_TrainModel.optimiser must be")


def test_a_section_that_no_stage_reads_is_named_before_and_by_a_repro(copy):
    with (copy.folder / "params.yaml").open("a") as text:
        text.write("fuell_TrainModel: {n_epochs: 3}\n")
    expected = (
        "fuell_TrainModel of params.yaml is no stage of the graph. "
        "Write fuel_TrainModel, or run `python main.py` if it is new.\n"
    )
    assert copy.run("python", "-m", "scripts.check_params", fails=True) == expected
    assert expected in copy.run("dvc", "repro", fails=True)
    assert copy.run("python", "main.py", fails=True) == (
        "params.yaml must have one section fuell_LoadDataset or fuell_LoadFile: received none. "
        "Write fuel_TrainModel if fuel is meant.\n"
    )


def test_a_small_rate_is_a_number_however_dvc_writes_it(copy):
    setting = "fuel_TrainModel.learning_rate=0.00001"  # which DVC writes as 1e-05
    output = copy.run("dvc", "exp", "run", "--set-param", setting, "fuel_TrainModel")
    assert "fuel_TrainModel" in stages_run(output)
    assert "1e-05" in (copy.folder / "params.yaml").read_text()
    copy.run("python", "main.py")
    assert copy.params()["fuel_TrainModel"]["learning_rate"] == 1e-5


def test_main_keeps_comments_and_order_and_a_failing_one_the_whole_file(copy):
    path = copy.folder / "params.yaml"
    text = "# All of it.\n" + path.read_text().replace("fuel_Network:", "# Ours.\nfuel_Network:")
    text += "# One more.\nfuel_SelectSubset-mine: {method: random}  # last\n"
    path.write_text(text)
    copy.run("python", "main.py")
    assert path.read_text() == text.replace("{method: random}", "{method: random, options: {}}")
    wrong = text + "fuel_TrainModl: {}\n"
    path.write_text(wrong)
    copy.run("python", "main.py", fails=True)
    assert path.read_text() == wrong


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("fuel_RNDSelct", "received fuel_RNDSelct. Write fuel_RNDSelect."),
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
    drawn_sizes = {
        "fuel-range_LoadDataset": {"problem": "fuel"},
        "fuel-range_Network": {"layers": ["dense 1"]},
        "fuel-range_Ensemble": {"n_points": {"low": 4, "high": 9, "distribution": "uniform"}},
    }
    copy.write_params(copy.params() | drawn_sizes | {section: {}})
    assert message in copy.run("python", "main.py", fails=True)


UNKNOWN = "Parameters of fuel_TrainModel must be among loss, optimiser, learning_rate"


def test_a_parameter_that_a_stage_has_not_is_one_line_with_those_that_it_has(copy):
    params = copy.params()
    misspelt = {"learnig_rate": 0.1, **params["fuel_TrainModel"]}
    copy.write_params(params | {"fuel_TrainModel": misspelt})
    # Typed into a section that is there, without main.py: the stage itself says so.
    output = copy.run("dvc", "repro", "fuel_TrainModel", fails=True)
    (line,) = [line for line in output.splitlines() if line.startswith(UNKNOWN)]
    assert line.endswith("record: received learnig_rate. Write learning_rate.")
    assert "Traceback" not in output
    assert copy.run("python", "main.py", fails=True) == f"{line}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "params.yaml must have sections <group>_<Stage>: received none."),
        ("- 1\n", "params.yaml must have sections <group>_<Stage>: received [1]."),
        ("a: [\n", "params.yaml must be YAML: while parsing a flow node"),
        ("all_Report: 3\n", "all_Report must have parameters with values: received 3."),
        ("all_Report: {}\nall_Report: {}\n", "all_Report is written twice"),
        ("dynamics_Findings: {confidenc: 0.9}\n", "Parameters of dynamics_Findings must be among"),
        ("all_Report: {seeds: 1}\n", "confidence, degree, seed: received seeds."),
        ("a_TrainAgent: {}\n1: {}\n", "received 1."),
        (
            "a_LoadDataset: {}\na_Network: {}\na_Ensemble: {n_points: [1]}\n",
            "a_LoadDataset must have a value of problem.",
        ),
        (
            "a_LoadDataset: {problem: fuel}\na_Network: {layer: 1}\na_Ensemble: {n_points: [1]}\n",
            "Parameters of a_Network must be among layers, model, options",
        ),
    ],
)
def test_params_that_no_graph_can_be_made_of_are_one_line(text, message, copy):
    (copy.folder / "params.yaml").write_text(text)
    before = (copy.folder / "dvc.yaml").read_text()
    output = copy.run("python", "main.py", fails=True)
    assert message in output and output.count("\n") == 1
    assert (copy.folder / "dvc.yaml").read_text() == before


def record(project, settings):
    """Follow the kernels of the networks through their training, or do not."""
    params = project.params()
    project.write_params(
        params | {"fuel_TrainModel": params["fuel_TrainModel"] | {"record": settings}}
    )


def everything(project):
    """All stages of the graph of one group."""
    return project.stages("fuel") | {"Sources", "all_Report"}


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
    assert stages_run(copy.run("dvc", "repro", "--force")) == everything(copy)
    assert results(copy) == before and len(before) > 20


def test_stages_that_are_forks_of_one_process_write_the_same_files(copy):
    before, forked = results(copy), ("Ensemble", "LoadDataset", "Network", "RandomSubset")
    environment = project_environment() | {"COLLECTIVE_VARIABLES_WARM": "1"}
    # Real programs, for those of the tests are no children of each other.
    environment["PATH"] = environment["PATH"].partition(os.pathsep)[2]
    code = copy.folder / "nodes" / "_stage.py"
    said = 'print("child of", open(f"/proc/{os.getppid()}/cmdline").read())'
    code.write_text(f"import os\n\n{said}\n{code.read_text()}")
    command = ["dvc", "repro", "--force", "--single-item", *(f"fuel_{stage}" for stage in forked)]
    process = subprocess.run(
        command, cwd=copy.folder, env=environment, text=True, stdout=subprocess.PIPE, check=True
    )
    parents = [line for line in process.stdout.splitlines() if line.startswith("child of")]
    assert ["nodes/_warm.py" in parent for parent in parents] == [False, True, True, True]
    assert results(copy) == before


def test_results_on_a_remote_are_pulled_elsewhere_where_nothing_is_left_to_do(copy, tmp_path):
    copy.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    copy.commit()
    copy.run("dvc", "push")
    copy.run("git", "clone", "--quiet", str(copy.folder), str(tmp_path / "elsewhere"))
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.run("dvc", "pull")
    assert stages_run(elsewhere.run("dvc", "repro")) == set()
    assert results(elsewhere) == results(copy)


def test_a_cache_that_is_shared_serves_another_clone_once_the_lock_is_removed(copy, tmp_path):
    """The lock of a commit has the times of the machine that ran it, and their file is an output.

    DVC looks for exactly that file, and into its cache of runs only for a stage without an entry.
    """
    copy.run("git", "clone", "--quiet", str(copy.folder), str(tmp_path / "elsewhere"))
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.run("dvc", "config", "--local", "cache.dir", str(copy.folder / ".dvc" / "cache"))
    lock = elsewhere.folder / "dvc.lock"
    times = r"(path: nodes/fuel/Ensemble/node-meta.json\n +hash: md5\n +md5: )\w+"
    text, n_changed = re.subn(times, rf"\g<1>{'abc0' * 8}", lock.read_text())
    assert n_changed > 0
    lock.write_text(text)
    assert stages_run(elsewhere.run("dvc", "repro", "fuel_Ensemble")) == {"fuel_Ensemble"}
    shutil.rmtree(elsewhere.folder / "nodes" / "fuel")
    lock.unlink()
    assert stages_run(elsewhere.run("dvc", "repro")) == set()
    assert results(elsewhere) == results(copy)


def test_a_damaged_file_of_the_cache_is_found_and_its_stage_run_again(copy):
    before, path = results(copy), Path("nodes/fuel/TrainModel/results/losses.csv")
    stage = read(copy.folder / "dvc.lock")["stages"]["fuel_TrainModel"]
    (folder,) = (out["md5"] for out in stage["outs"] if out["path"] == str(path.parent))
    cache = copy.folder / ".dvc" / "cache" / "files" / "md5"
    listed = json.loads((cache / folder[:2] / folder[2:]).read_text())
    (digest,) = (file["md5"] for file in listed if file["relpath"] == path.name)
    cached = cache / digest[:2] / digest[2:]
    damaged = before[path].replace(b"0.", b"1.", 1)
    assert damaged != before[path]
    for place in (cached, copy.folder / path):
        place.chmod(0o644)
        place.write_bytes(damaged)
        place.chmod(0o444 if place is cached else 0o644)
    verify = ("python", "scripts/verify_cache.py")
    output = copy.run(*verify)
    assert f"{digest[:2]}/{digest[2:]} of the cache was damaged" in output
    assert f"{path} is not what dvc.lock has" in output
    # The report shows the times of all stages, too.
    assert stages_run(copy.run("dvc", "repro")) == {"fuel_TrainModel", "all_Report"}
    assert results(copy) == before and copy.run(*verify) == ""


def test_a_clean_clone_reproduces_the_reference_unless_a_formula_is_altered(copy):
    collect = "check.collect(check.ROOT, ['fuel'], False, check.REFERENCE)"
    copy.run("python", "-c", f"from benchmarks import check_reproduction as check; {collect}")
    check = ("python", "-m", "benchmarks.check_reproduction", "fuel")
    assert "0 moved" in copy.run(*check, "--here")
    spectrum = copy.folder / "collective_variables" / "observables" / "spectrum.py"
    altered = spectrum.read_text().replace("np.log(", "np.log2(")
    assert altered != spectrum.read_text()
    spectrum.write_text(altered)
    copy.commit()
    printed = copy.run(*check, fails=True)
    quantities = {
        line.split()[-4] for line in printed.splitlines() if line.lstrip().startswith("summary")
    }
    assert "entropy" in quantities and not quantities & {"trace", "min_test_loss"}
