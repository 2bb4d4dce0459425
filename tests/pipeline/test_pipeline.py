"""The graph as a person uses it: real `dvc` commands on a copy of the project at tiny
parameters.
"""

import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import vl_convert
import yaml
import zntrack
from documents import EVERYTHING
from pages import Elements, in_browser
from project import ROOT, Project, stages_run

from collective_variables.observables import spectrum

# Both experiments with tables and with images; the other groups differ in their data alone.
GROUPS = ("fuel", "mnist", "fuel-dense", "mnist-conv")
LABELLED = "fuel"  # the one of these groups in which rounds of labelling are played
STAGES = (
    "LoadDataset",
    "Network",
    "Ensemble",
    "RandomSubset",
    "ComputeNTK",
    "TrainModel",
    "CorrelationAnalysis",
)


def stages_of(group):
    return {
        f"{group}_{stage}"
        for stage in (
            *STAGES,
            *(() if "-" in group else ("RNDSelect", "SelectSubset-rnd-linearised")),
            *(("ActiveLearning",) if group == LABELLED else ()),
        )
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A graph at tiny parameters, reproduced once and committed."""
    project = Project.copy_to(tmp_path_factory.mktemp("project"))
    project.shrink(GROUPS)
    output = project.run("dvc", "repro")
    assert stages_run(output) == {"Sources", "all_Report"}.union(*map(stages_of, GROUPS))
    project.commit()
    return project


@pytest.fixture
def inside(project, monkeypatch):
    """Run inside the project, as ZnTrack's loaders expect."""
    monkeypatch.chdir(project.folder)


def load(group, stage):
    return zntrack.from_rev(f"{group}_{stage}")


def test_a_second_repro_has_nothing_to_do(project):
    assert stages_run(project.run("dvc", "repro")) == set()


@pytest.mark.parametrize("group", [group for group in GROUPS if "-" not in group])
def test_subsets_are_nested_rows_of_the_pool_without_repeats(inside, group):
    n_pool = len(load(group, "LoadDataset").dataset.inputs)
    for stage, method in (
        ("RandomSubset", "random"),
        ("RNDSelect", "rnd"),
        ("SelectSubset-rnd-linearised", "rnd-linearised"),
    ):
        subset = load(group, stage).subset
        assert subset.method == method
        chosen = subset.points
        n_selected = 12 if group == "mnist" else 8
        assert chosen.indices.shape == chosen.distances.shape == (3, n_selected)
        for row in chosen.indices.tolist():
            assert len(set(row)) == n_selected and 0 <= min(row) <= max(row) < n_pool
        assert (
            np.isnan(chosen.distances).all()
            if stage == "RandomSubset"
            else (chosen.distances > 0).all()
        )


@pytest.mark.parametrize("group", [group for group in GROUPS if "-" not in group])
def test_history_and_picture_of_a_selection_are_those_of_its_subset(inside, group):
    for stage in ("RNDSelect", "SelectSubset-rnd-linearised"):
        node = load(group, stage)
        points, history = node.subset.points, node.history
        np.testing.assert_allclose(history["distance"], points.distances.ravel(), rtol=1e-6)
        assert (history["max_distance"] >= history["mean_distance"]).all()
        chosen = node.chosen.dropna(subset="order")
        assert chosen["index"].tolist() == points.indices[0].tolist()
        assert set(node.chosen["group"]) == set(history["group"]) == {group}
        assert not list((node.nwd).glob("unfinished"))


def test_rounds_of_labelling_have_the_numbers_of_rows_that_were_asked_for(inside):
    node = load(LABELLED, "ActiveLearning")
    played = node.played
    assert set(played["group"]) == {LABELLED}
    rows = played.groupby(["method", "repeat"], sort=False)["n_labelled"].apply(list).to_dict()
    assert rows == {(name, k): [4, 7, 10] for name in ("random", "lcmd") for k in range(2)}
    assert np.isfinite(played[["error", "entropy", "trace"]]).all(axis=None)
    # All methods start from the same rows and networks.
    first = played[played["round"] == 0].pivot(index="repeat", columns="method", values="error")
    assert (first["random"] == first["lcmd"]).all() and first["random"].nunique() == 2
    last = played[played["round"] == 2].groupby("method")["error"].mean().to_dict()
    assert node.metrics["final_error"] == pytest.approx(last)
    assert node.metrics["n_diverged"] == {"random": 0, "lcmd": 0}


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "mnist"])
def test_the_table_of_runs_agrees_with_spectra_and_curves(inside, group):
    runs = load(group, "CorrelationAnalysis").runs
    spectra, curves = load(group, "ComputeNTK").spectra, load(group, "TrainModel").curves
    assert curves["epochs"].tolist() == [0, 2, 4]
    for (parametrisation, method), part in runs.groupby(["parametrisation", "method"]):
        label = f"{parametrisation}/{method}"
        # Of one kernel each, or one for every output.
        eigenvalues = spectra[label].reshape(len(part), -1, spectra[label].shape[-1])
        assert len(part) == len(curves[f"{label}/test_loss"])
        for i, row in enumerate(part.itertuples()):
            values = [present[~np.isnan(present)] for present in eigenvalues[i]]
            assert {len(present) for present in values} == {row.n_points}
            entropy = np.mean([spectrum.entropy(present) for present in values])
            assert np.isclose(row.entropy, entropy, rtol=1e-12, equal_nan=True)
            assert np.isclose(
                row.trace, np.mean([np.sum(v) for v in values]), rtol=1e-12, equal_nan=True
            )
            assert np.isclose(row.min_test_loss, curves[f"{label}/test_loss"][i].min(), rtol=1e-6)
            assert np.isclose(row.final_train_loss, curves[f"{label}/train_loss"][i][-1], rtol=1e-6)


# The tables that a group switches on; a range gives 9 members a size each, of lists the largest of
# 3 members counts.
OPTIONAL = {
    "classes": {"mnist"},
    "limits": {"fuel", "fuel-dense"},
    "per_output": {"mnist-conv"},
    "required": set(),
    "samples": {"mnist"},
}


@pytest.mark.parametrize("group", GROUPS)
def test_kernels_are_recorded_where_that_is_asked_for(inside, group):
    networks, keys = load(group, "TrainModel"), ["parametrisation", "method", "member", "n_points"]
    recorded = {name: getattr(networks, name) for name in ("recording", "classes", "modes")}
    expected = {"fuel": {"recording", "modes"}, "mnist": {"recording", "classes"}}.get(group, set())
    assert {name for name, table in recorded.items() if len(table)} == expected
    assert all(
        set(keys) < set(table.columns) or not expected for table in recorded.values() if len(table)
    )
    if not expected:
        return
    # Before training the kernel of the train points is the one that ComputeNTK measures.
    at_start = recorded["recording"].query("epoch == 0 and points == 'train'").set_index(keys)
    measured = load(group, "ComputeNTK").collective_variables.set_index(keys).loc[at_start.index]
    if group == "fuel":
        np.testing.assert_allclose(
            at_start[["entropy", "trace"]], measured[["entropy", "trace"]], rtol=1e-4
        )
    losses = networks.losses.set_index(keys)["final_train_loss"]
    at_end = recorded["recording"].query("epoch == 4 and points == 'train'").set_index(keys)["loss"]
    np.testing.assert_allclose(at_end, losses.loc[at_end.index], rtol=1e-6)


@pytest.mark.parametrize("group", GROUPS)
def test_optional_tables_have_rows_where_they_are_switched_on_and_a_header_everywhere(
    inside, group
):
    kernels = load(group, "ComputeNTK")
    tables = {name: getattr(kernels, name) for name in OPTIONAL}
    switched_on = {name for name, groups in OPTIONAL.items() if group in groups}
    assert {name for name, table in tables.items() if len(table)} == switched_on
    assert all(
        {"parametrisation", "method", "member", "n_points"} < set(table.columns)
        for table in tables.values()
    )
    runs = kernels.collective_variables
    largest = runs.groupby(["parametrisation", "method", "member"])["n_points"].max()
    if group in OPTIONAL["limits"]:
        limits = tables["limits"].set_index(["parametrisation", "method", "member"])
        assert limits["n_points"].to_dict() == largest.loc[["ntk"]].to_dict()
        assert limits["alignment"].between(0.3, 1).all()
    if group in OPTIONAL["classes"]:
        counted = (
            tables["classes"]
            .groupby(["parametrisation", "method", "member", "n_points"])["n_in_class"]
            .sum()
        )
        assert (counted == counted.index.get_level_values("n_points")).all() and len(
            counted
        ) == len(runs)
    if group in OPTIONAL["per_output"]:
        assert len(tables["per_output"]) == 10 * len(runs)
    if group in OPTIONAL["samples"]:
        assert set(
            tables["samples"].groupby(["method", "member", "n_points"]).size().to_dict().values()
        ) == {4}
        assert (
            runs["entropy_standard_error"].notna() & (runs["entropy_standard_error"] > 0)
        ).sum() == 9


def test_metrics_say_how_kernels_were_computed_and_the_documents_hide_them(inside, project):
    measured = {group: load(group, "ComputeNTK").metrics for group in GROUPS}
    assert {
        group: metrics["dtype"]
        for group, metrics in measured.items()
        if metrics["dtype"] != "float32"
    } == {"mnist-conv": "float64"}
    assert (
        measured["fuel"]["implementation"] == "structured"
        and measured["fuel"]["blocks"] == "one block"
    )
    assert (
        measured["mnist"]["eigenvalues"]
        == "stochastic Lanczos quadrature, 1 leading vectors, 3 probes, 1 steps"
    )
    assert 0 < measured["fuel-dense"]["kernels random ntk"]["infinite_width_relative_distance"] < 3
    shown = project.run(
        "dvc", "metrics", "show", *(f"nodes/{group}/ComputeNTK/metrics.json" for group in GROUPS)
    )
    assert "negative ones from round-off set to 0" in shown
    pattern = re.search(r"dvc exp show --drop '(.*?)'", EVERYTHING)[1]
    show = ("dvc", "exp", "show", "--csv")
    everything, hidden = (
        project.run(*show, *drop).splitlines()[0] for drop in ((), ("--drop", pattern))
    )
    assert "ComputeNTK/metrics.json" in everything and "fuel_ComputeNTK.dtype" in hidden
    assert not re.search(
        r"matmul_precision|n_negative|diverged\.json|infinite_width_|run_time", hidden
    )


@pytest.mark.parametrize("group", GROUPS)
def test_every_analysis_offers_its_figures_in_plotly_too(inside, group):
    figures = load(group, "CorrelationAnalysis").figures
    assert len(figures) in ((5, 6) if "-" in group else (4,))
    assert all(any(len(trace.x) for trace in figure.data) for figure in figures.values())


def test_plots_show_draws_every_figure_of_the_paper(project):
    project.run("dvc", "plots", "show", "--out", "page")
    page = (project.folder / "page" / "index.html").read_text()
    titles = [
        title
        for entry in yaml.safe_load((ROOT / "plots" / "dvc.yaml").read_text())["plots"]
        for title in entry
    ]
    assert len(titles) == 15 and all(title in page for title in titles)
    # Of all figures at once what `--show-vega` writes of one.
    shown = json.loads(project.run("dvc", "plots", "show", "--json").splitlines()[-1])
    specs = {name.rpartition("::")[2]: plot["content"] for name, (plot,) in shown["data"].items()}
    assert "errors" not in shown and specs.keys() == set(titles)
    for title, spec in specs.items():
        expected = {
            group
            for group in GROUPS
            if ("-" in group) == ("2 and 6" in title or "3 and 7" in title)
        }
        if title.startswith("Rounds of labelling"):
            expected = {LABELLED}
        assert {row["group"] for row in spec["data"]["values"]} == expected
        drawn = vl_convert.vegalite_to_svg(spec, vl_version="5.20")
        assert all(group in drawn for group in {row["group"] for row in spec["data"]["values"]})


def test_metrics_are_a_short_table(project):
    shown = json.loads(
        project.run(
            "dvc",
            "metrics",
            "show",
            "--json",
            *(f"nodes/{g}/CorrelationAnalysis/metrics.json" for g in GROUPS),
        )
    )
    values = shown[""]["data"] if "" in shown else next(iter(shown.values()))["data"]
    assert len(values) == len(GROUPS)
    assert values["nodes/fuel/CorrelationAnalysis/metrics.json"]["data"]["rnd"].keys() == {
        "min_test_loss_vs_random",
        "final_test_loss_vs_random",
        "entropy_vs_random",
        "trace_vs_random",
        "win_rate",
    }


def test_the_report_is_of_all_groups_and_a_browser_draws_it(inside, tmp_path):
    node = load("all", "Report")
    written = json.loads(node.claims_path.read_text())
    assert [claim["claim"] for claim in written] == [f"C{number}" for number in range(1, 12)]
    assert node.verdicts == {claim["claim"]: claim["verdict"] for claim in written}
    assert {row["group"] for claim in written for row in claim["evidence"]} == set(GROUPS)
    entropy = {
        row["group"]
        for claim in written
        if claim["claim"] in ("C2", "C3")
        for row in claim["evidence"]
    }
    in_c3 = {row["group"] for row in written[2]["evidence"]}
    assert (entropy, in_c3) == ({"fuel-dense", "mnist-conv"}, {"mnist-conv"})
    assert len(pd.read_csv(node.evidence_path)) == sum(len(claim["evidence"]) for claim in written)
    document, messages = in_browser(node.page_path.read_text(), tmp_path)
    page = Elements(document)
    assert (
        messages == []
        and len([name for name in page.attributes("class", "div") if "js-plotly-plot" in name]) >= 9
    )
    sections = page.attributes("id", "section")
    assert {
        "table-1",
        "table-2",
        "table-3",
        "curves",
        "equivalents",
        "beyond-size",
        "decisions",
        "time",
    } <= set(sections)
    assert (
        "fuel_TrainModel" in page.texts
        and "dvc exp run -S 'mnist_TrainModel.loss=cross-entropy'" in page.texts
    )
    assert page.texts.count("ComputeNTK") == len(GROUPS)


def changed(value):
    """Another value of the same kind."""
    others = {
        "train": "all",
        "relu": "tanh",
        "SAME": "VALID",
        "mse": "cross-entropy",
        "adam": "sgd",
        "fuel": "gait",
    }
    others |= {"rnd": "rnd-linearised", "rnd-linearised": "rnd"}
    if isinstance(value, dict):
        first = next(iter(value), "emphasis")
        return value | {first: changed(value.get(first))}
    if isinstance(value, list):
        return [*value, value[0]]
    if isinstance(value, str):
        return others.get(value, "fuel")
    return 1 if value is None else value + 1


@pytest.mark.parametrize(
    "group, paper, n_members",
    [("fuel", {}, 3), ("fuel-dense", {"fuel-dense_Ensemble": {"n_members": 4}}, 4)],
)
def test_the_library_alone_computes_the_runs_of_the_graph_at_the_papers_scale(
    group, paper, n_members, project, tmp_path
):
    """Of more methods than one, and of two parametrisations; fewer members than the graph's are its
    first ones.
    """
    kept, about = project.at_scale(group, paper, tmp_path)
    keys = ["parametrisation", "method", "member", "n_points"]
    from_stages = pd.read_csv(project.folder / f"nodes/{group}/CorrelationAnalysis/runs.csv")
    from_stages = from_stages.loc[from_stages["member"] < n_members, kept.columns]
    tables = [table.sort_values(keys, ignore_index=True) for table in (kept, from_stages)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, rtol=1e-5)
    assert set(kept["member"]) == set(range(n_members))
    assert len(kept[["parametrisation", "method"]].drop_duplicates()) == (
        3 if group == "fuel" else 2
    )
    # The run changes params-paper.yaml, which git follows.
    assert about["commit"] == f"{project.run('git', 'log', '-1', '--format=%h').strip()}-dirty"
    assert about["params"]["Ensemble"]["n_members"] == n_members


def test_a_changed_parameter_makes_its_own_stage_stale_and_no_other(copy):
    params, graph = copy.params(), yaml.safe_load((copy.folder / "dvc.yaml").read_text())["stages"]
    # A stage follows the whole of its own section, so that one value of each kind of stage stands
    # for all.
    assert {name: graph[name]["params"] for name in params} == {name: [name] for name in params}
    with copy.watched() as stale:
        for stage, key in {
            name.rpartition("_")[2]: list(values)[-1] for name, values in params.items() if values
        }.items():
            owners = {name for name in params if name.rpartition("_")[2] == stage}
            perturbed = {name: params[name] | {key: changed(params[name][key])} for name in owners}
            copy.write_params(params | perturbed)
            # The report shows the whole of params.yaml.
            assert stale() == {"all_Report", *owners}, stage


def test_a_parameter_of_one_group_touches_no_other_group(copy):
    params = copy.params()
    with copy.watched() as stale:
        for group in GROUPS:
            perturbed = {
                name: {key: changed(value) for key, value in values.items()}
                for name, values in params.items()
                if name.rpartition("_")[0] == group
            }
            copy.write_params(params | perturbed)
            assert stale() == {"all_Report", *perturbed}


def test_every_stage_depends_on_the_digest_of_its_kind_and_on_no_code(project):
    graph = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    digests = set(graph["Sources"]["outs"])
    for name in graph.keys() - {"Sources"}:
        kind = name.rpartition("_")[2].partition("-")[0]
        deps = set(graph[name]["deps"])
        assert deps & digests == {f"nodes/Sources/{kind}.txt"}, name
        assert not [path for path in deps if path.endswith((".py", "decisions.yaml"))], name


KERNELS, SELECTIONS = {"ComputeNTK", "TrainModel"}, {"RNDSelect", "SelectSubset-rnd-linearised"}


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("collective_variables/kernels/empirical.py", KERNELS | SELECTIONS | {"ActiveLearning"}),
        ("collective_variables/selection/coverage.py", SELECTIONS | {"ActiveLearning"}),
        ("collective_variables/active_learning/rounds.py", {"ActiveLearning"}),
        ("collective_variables/papers/templates/style.css", {"Report"}),
        ("nodes/random_subset.py", KERNELS | {"RandomSubset"}),
        ("data/words.csv", {"LoadDataset"}),
        ("nodes/_start.py", set()),
    ],
)
def test_changed_code_makes_stale_what_runs_it_once_sources_has_run(copy, file, kinds):
    with (copy.folder / file).open("a") as text:
        text.write("# changed\n" if file.endswith(".py") else "\n")
    everything = {"all_Report"}.union(*map(stages_of, GROUPS))
    stale = {name for name in everything if name.rpartition("_")[2] in kinds}
    described = copy.run("python", "-m", "scripts.stale")
    assert stages_described(described) == stale
    assert (f"Changed in {file}:\n" in described) == bool(kinds)
    # Before Sources has run DVC knows nothing of it.
    assert copy.stale() == ({"Sources"} if kinds else set())
    copy.run("dvc", "repro", "Sources")
    assert copy.stale() == stale


def test_in_a_clone_without_results_the_stages_that_an_edit_reruns_are_named(copy, tmp_path):
    copy.run("git", "clone", "--quiet", str(copy.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert clone.run("python", "-m", "scripts.stale") == "No stage reruns because of the code.\n"
    assert stages_run(clone.run("dvc", "repro", "--allow-missing", "--dry")) == set()
    file = "collective_variables/training/schedules.py"
    with (clone.folder / file).open("a") as text:
        text.write("# changed\n")
    described = clone.run("python", "-m", "scripts.stale")
    stages = {f"{group}_{stage}" for group in GROUPS for stage in ("ComputeNTK", "TrainModel")}
    assert stages_described(described) == stages | {f"{LABELLED}_ActiveLearning"}
    assert f"Changed in {file}:\n" in described
    # A lock that was committed with the edit, before the stages ran anew.
    with (clone.folder / "dvc.lock").open("a") as text:
        text.write("\n")
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    clone.run("git", *identity, "commit", "--quiet", "--all", "--message", "Edit")
    assert clone.run("python", "-m", "scripts.stale") == described
    start = f"{sys.executable} -m scripts.stale"  # a process that ends as the interpreter does
    clone.run("bash", "-c", f"{start} | true; exit ${{PIPESTATUS[0]}}")
    # Without the history nobody knows what the code was.
    shutil.rmtree(clone.folder / ".git")
    described = clone.run("python", "-m", "scripts.stale")
    assert "Changed in files that are not known" in described
    assert stages_described(described) == stages | {f"{LABELLED}_ActiveLearning"}


def stages_described(text):
    """The stages that `make stale` names."""
    lines = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("    ")]
    return {name for line in lines for name in line.split(", ")}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("from collective_variables import none", "is the module collective_variables.none."),
        (
            "import collective_variables.kernels.none",
            "is the module collective_variables.kernels.none.",
        ),
        ("def f(:", "invalid syntax"),
    ],
)
def test_code_that_cannot_be_followed_stops_sources_with_one_line(copy, line, message):
    file = "collective_variables/kernels/empirical.py"
    number = len((copy.folder / file).read_text().splitlines()) + 1
    with (copy.folder / file).open("a") as text:
        text.write(f"{line}\n")
    output = copy.run("dvc", "repro", "fuel_Network", fails=True)
    lines = [line for line in output.splitlines() if line.startswith(f"{file}:{number}: ")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in output


def test_a_module_that_main_does_not_know_yet_is_refused_with_what_to_do(copy):
    (copy.folder / "nodes" / "_more.py").write_text("")
    with (copy.folder / "nodes" / "ensemble.py").open("a") as text:
        text.write("from nodes import _more\n")
    output = copy.run("dvc", "repro", "fuel_Ensemble", fails=True)
    assert "dvc.yaml must have nodes/_more.py in the stage Sources: run python main.py." in output
    copy.run("python", "main.py")
    assert "fuel_Ensemble" in stages_run(copy.run("dvc", "repro", "fuel_Ensemble"))


def test_no_parameter_has_a_name_that_the_run_cache_ignores():
    def names(value):
        return (
            set(value) | set().union(*map(names, value.values()))
            if isinstance(value, dict)
            else set()
        )

    assert not names(yaml.safe_load((ROOT / "params.yaml").read_text())) & {"size", "nfiles"}


def test_the_library_imports_without_zntrack_dvc_and_plotting():
    """But for the modules that draw, or that are made for scikit-learn."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "collective_variables").rglob("[a-z]*.py")
    }
    drawing = {name for name in modules if ".papers." in name}
    modules -= {*drawing, "collective_variables.selection.estimator"}
    packages = ["zntrack", "dvc", "plotly", "pooch", "sklearn"]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({packages}))"
    imports = "; ".join(f"import {module}" for module in sorted(modules))
    Project(ROOT).run("python", "-c", f"{blocked}; {imports}")
    assert len(modules) > 50
