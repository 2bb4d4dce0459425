"""Write the graph: dvc.yaml, zntrack.json and plots/dvc.yaml from the groups in params.yaml.

Each group is a problem with its stages. Studies of learning dynamics and the page that shows both
papers form a second graph, dynamics/dvc.yaml. `dvc repro` therefore runs only the experiments of
the first paper.

Run `python main.py` after a change of a stage's fields, the modules of nodes/ or the groups in
params.yaml. A changed value needs no run.
"""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
import zntrack

from nodes import _params_file, _sources, _values
from nodes._imports import SourceError, Tree
from nodes._params_file import to_yaml
from nodes.active_learning import ActiveLearning
from nodes.compute_ntk import ComputeNTK
from nodes.correlation_analysis import CorrelationAnalysis
from nodes.ensemble import Ensemble
from nodes.findings import Findings
from nodes.load_dataset import LoadDataset
from nodes.load_file import LoadFile
from nodes.network import Network
from nodes.random_subset import RandomSubset
from nodes.report import Report
from nodes.rnd_select import RNDSelect
from nodes.scaling_study import ScalingStudy
from nodes.select_subset import SelectSubset
from nodes.train_agent import TrainAgent
from nodes.train_autoencoder import TrainAutoencoder
from nodes.train_model import TrainModel

PARAMS, GRAPH, DYNAMICS = Path("params.yaml"), Path("dvc.yaml"), Path("dynamics/dvc.yaml")
FIGURES, PLOTS = Path("plots/figures.yaml"), Path("plots/dvc.yaml")
DATA = (LoadDataset, LoadFile)  # a group has one of them
REQUIRED = (Network, Ensemble)
OPTIONAL = (RNDSelect, ComputeNTK, TrainModel, CorrelationAnalysis)
# Stages that record kernels during a training, and the other sections of a group with such a stage,
# except its data.
RECORDED = {ScalingStudy: (Ensemble,), TrainAutoencoder: (Ensemble,), TrainAgent: ()}
WITHOUT_DATA = (TrainAgent,)
# Stages that a group has only with a section of them, as it has SelectSubset.
CHOSEN = (ActiveLearning,)
ALL_GROUPS, DYNAMICS_GROUP = "all", "dynamics"
REPORT, FULL_REPORT, FINDINGS = "all_Report", "dynamics_Report", "dynamics_Findings"
SUMMARIES = {REPORT: Report, FULL_REPORT: Report, FINDINGS: Findings}
Sections = dict[str, dict]


def read_groups(params: Sections) -> dict[str, Sections]:
    """Return the sections `<group>_<Stage>` of params.yaml by group and stage, and check them."""
    groups: dict[str, Sections] = {}
    for name, values in params.items():
        group, _, stage = name.rpartition("_")
        groups.setdefault(group, {})[stage] = values
    for group, sections in groups.items():
        check_group(group, sections, list(groups))
    return groups


def check_group(group: str, sections: Sections, groups: Sequence[str]) -> None:
    """Exit with a one-line error if a group lacks a section or has a wrong one."""
    recorded = recorded_in(sections)
    data = [] if recorded in WITHOUT_DATA else [kind for kind in DATA if kind.__name__ in sections]
    names = [kind.__name__ for kind in data]
    if len(data) != (recorded not in WITHOUT_DATA):
        allowed = " or ".join(f"{group}_{kind.__name__}" for kind in DATA)
        received = " and ".join(names) or "none"
        raise SystemExit(
            f"params.yaml must have one section {allowed}: received {received}."
            f"{meant_group(group, sections, groups)}"
        )
    required = [kind.__name__ for kind in (RECORDED[recorded] if recorded else REQUIRED)]
    if missing := [name for name in required if name not in sections]:
        raise SystemExit(
            f"params.yaml must have a section {group}_{missing[0]}."
            f"{meant_group(group, sections, groups)}"
        )
    if recorded:
        allowed = [recorded.__name__, *names, *required]
        if others := sorted(set(sections) - set(allowed)):
            raise SystemExit(
                f"A group with {recorded.__name__} has only {', '.join(allowed)}: "
                f"received {group}_{others[0]}."
            )
        return
    selections = [
        stage for stage in sections if stage == "RNDSelect" or _values.is_selection(stage)
    ]
    if selections and not compares_methods(sections):
        raise SystemExit(
            f"{group} draws its sizes from a range, so it compares no methods: "
            f"received {group}_{selections[0]}."
        )


def meant_group(group: str, sections: Sections, groups: Sequence[str]) -> str:
    """Return advice if the name of another group may be meant, else ""."""
    others = [other for other in groups if other != group]
    near = difflib.get_close_matches(group, others, n=1, cutoff=0.7)
    return f" Write {near[0]}_{next(iter(sections))} if {near[0]} is meant." if near else ""


def recorded_in(sections: Sections) -> type[zntrack.Node] | None:
    """Return the stage that records kernels during a training; None in an experiment of P1."""
    return next((kind for kind in RECORDED if kind.__name__ in sections), None)


def compares_methods(sections: Sections) -> bool:
    """Return whether a group lists its subset sizes (Experiment 2); a range is Experiment 1."""
    return not isinstance(sections["Ensemble"].get("n_points"), dict)


def make_data(group: str, sections: Sections) -> LoadDataset | LoadFile:
    """Return the stage with a group's data: a named problem, or a file that DVC tracks."""
    if LoadDataset.__name__ in sections:
        return LoadDataset(**sections[LoadDataset.__name__])
    values = sections[LoadFile.__name__]
    file = Path(str(values.get("path")))
    if not file.exists() or PARAMS.resolve().parent not in file.resolve().parents:
        raise SystemExit(
            f"{group}_LoadFile must have the path of a file or folder inside the project: "
            f"received {file}."
        )
    return LoadFile(file=file, **values)


def make_network(values: dict) -> Network:
    """Return the stage with a group's network; DVC tracks the files of a custom one."""
    files = _sources.model_files(values["model"]) if values.get("model") else []
    return Network(model_files=[Path(file) for file in sorted(files)], **values)


def add_group(group: str, sections: Sections) -> dict[str, list]:
    """Wire the stages of one group, and return what the report takes from it."""
    values = {kind: sections.get(kind.__name__, {}) for kind in REQUIRED + OPTIONAL}
    data = make_data(group, sections)
    network = make_network(values[Network])
    ensemble = Ensemble(**values[Ensemble])
    shared = {
        "data": data,
        "members_path": ensemble.members_path,
        "architecture_path": network.architecture_path,
    }
    chosen = [kind for kind in CHOSEN if kind.__name__ in sections]
    labelling = [kind(**shared, **sections[kind.__name__]) for kind in chosen]
    subsets = [RandomSubset(data=data, members_path=ensemble.members_path)]
    if compares_methods(sections):
        subsets.append(RNDSelect(**shared, **values[RNDSelect]))
        selections = {name: sections[name] for name in sections if _values.is_selection(name)}
        subsets += [SelectSubset(name=name, **shared, **own) for name, own in selections.items()]
    shared |= {"subsets": subsets, "n_points_path": ensemble.n_points_path}
    kernels = ComputeNTK(**shared, **values[ComputeNTK])
    networks = TrainModel(**shared, **values[TrainModel])
    analysis = CorrelationAnalysis(
        kernels=kernels, networks=networks, **values[CorrelationAnalysis]
    )
    timed = [*subsets, kernels, networks, analysis, *labelling]
    return {
        "analyses": [analysis],
        "data": [data],
        "architecture_paths": [network.architecture_path],
        "rounds_paths": [node.rounds_path for node in labelling],
        "time_paths": [node.nwd / "node-meta.json" for node in timed],
    }


def add_recorded(group: str, sections: Sections) -> zntrack.Node:
    """Wire the stages of one group of learning dynamics, and return the recording stage."""
    kind = recorded_in(sections)
    if kind in WITHOUT_DATA:
        return kind(**sections[kind.__name__])
    data = make_data(group, sections)
    ensemble = Ensemble(**sections["Ensemble"])
    subset = RandomSubset(data=data, members_path=ensemble.members_path)
    shared = {"data": data, "subset": subset, "members_path": ensemble.members_path}
    # pyrefly: ignore[unexpected-keyword]
    return kind(**shared, **sections[kind.__name__])


def add_report(values: dict, parts: list[dict[str, list]], findings: list[Findings]) -> None:
    """Wire a stage that reads the runs of all groups, and the findings on learning dynamics."""
    inputs = {name: [item for part in parts for item in part.get(name, [])] for name in parts[0]}
    Report(**inputs, findings=findings, **values)


def list_plots(groups: dict[str, Sections], figures: dict[int, Sections]) -> dict:
    """Return every figure, with the table of each group as a source, for plots/dvc.yaml."""
    entries = []
    for number, titles in figures.items():
        members = [group for group in groups if number in drawn_experiments(groups[group])]
        for title, figure in titles.items():
            path = f"{figure['stage']}/{figure['table']}"
            tables = {f"../nodes/{group}/{path}": figure["y"] for group in members}
            settings = {key: figure[key] for key in figure if key not in ("stage", "table")}
            entries.append({title: settings | {"y": tables}})
    return {"plots": entries}


def drawn_experiments(sections: Sections) -> set[int]:
    """Return the numbers in plots/figures.yaml of the experiments that a group is part of."""
    if recorded_in(sections):
        return set()
    experiment = 2 if compares_methods(sections) else 1
    return {experiment, 3} if ActiveLearning.__name__ in sections else {experiment}


def sources_stage() -> dict:
    """Return the stage that tracks the code, which `nodes/_sources.py` explains."""
    tree = Tree(_sources.ROOT)
    return {
        "cmd": "python -m nodes._sources",
        "deps": _sources.dependencies(tree),
        "outs": list(_sources.contents(tree)),
    }


def write_graphs(graph: dict, dynamics: set[str]) -> None:
    """Write dvc.yaml and, with the stages of these groups, dynamics/dvc.yaml.

    Paths are from here in both. Stages start by nodes/_start.py in place of `zntrack run`, which
    takes longer; ZnTrack finds class and name in the same places of the command.
    """
    stages = {
        name: stage | {"cmd": stage["cmd"].replace("zntrack run", "python nodes/_start.py")}
        for name, stage in graph["stages"].items()
    }
    second = {
        name: stage | {"wdir": ".."}
        for name, stage in stages.items()
        if name.rpartition("_")[0] in dynamics
    }
    first = {name: stage for name, stage in stages.items() if name not in second}
    first["Sources"] = sources_stage()
    DYNAMICS.parent.mkdir(exist_ok=True)
    for path, content in ((GRAPH, first), (DYNAMICS, second)):
        path.unlink(missing_ok=True)
        if content:
            path.write_text(to_yaml(graph | {"stages": content}))
        prune_lock(path.with_suffix(".lock"), content)


def prune_lock(path: Path, stages: Sections) -> None:
    """Remove entries from a lock file that do not belong to this graph.

    DVC keeps the entry of a removed stage, and does not notice when a stage no longer reads a file.
    Without its entry the stage runs again.
    """
    text = path.read_text() if path.is_file() else ""
    try:
        lock = (yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {})["stages"]
    except (yaml.YAMLError, KeyError):
        return  # scripts/verify_cache.py mends it
    head, *entries = re.split(r"^(?=  \S)", text, flags=re.MULTILINE)
    current = []
    for (name, entry), lines in zip(lock.items(), entries, strict=True):
        paths = {dependency["path"] for dependency in entry.get("deps", ())}
        if name in stages and paths <= set(stages[name].get("deps", ())):
            current.append(lines)
    if not current:
        path.unlink()
    elif len(current) < len(entries):
        path.write_text("".join([head, *current]))


def build(text: str) -> None:
    """Wire and write both graphs from the text of params.yaml."""
    params = _values.parse(text, PARAMS.name)
    _values.check_kinds(params)
    groups = read_groups({name: params[name] for name in params if name not in SUMMARIES})
    _values.check(params)
    add_stages(groups, {name: params.get(name, {}) for name in SUMMARIES}).build()
    dynamics = {group for group, sections in groups.items() if recorded_in(sections)}
    write_graphs(yaml.safe_load(GRAPH.read_text()), {DYNAMICS_GROUP, *dynamics})
    sections = _values.parse(PARAMS.read_text(), PARAMS.name)
    write_text(_params_file.complete(text, PARAMS.name, sections))
    entries = to_yaml(
        list_plots(groups, yaml.safe_load(FIGURES.read_text())), sort_keys=False, width=120
    )
    PLOTS.write_text(
        f"# Written by main.py from plots/figures.yaml and the groups of params.yaml.\n{entries}"
    )


def add_stages(groups: dict[str, Sections], summaries: Sections) -> zntrack.Project:
    """Wire the stages of all groups, and those that summarise them."""
    parts, recorded = [], []
    project = zntrack.Project()
    for group, sections in groups.items():
        with project.group(group):
            if recorded_in(sections):
                recorded.append(add_recorded(group, sections))
            else:
                parts.append(add_group(group, sections))
    with project.group(ALL_GROUPS):
        add_report(summaries[REPORT], parts, [])
    if recorded:
        times = [node.nwd / "node-meta.json" for node in recorded]
        with project.group(DYNAMICS_GROUP):
            findings = Findings(recorded=recorded, **summaries[FINDINGS])
            add_report(summaries[FULL_REPORT], [*parts, {"time_paths": times}], [findings])
    return project


def write_text(text: str) -> None:
    """Write params.yaml with the line ends of the text."""
    PARAMS.write_bytes(text.encode())


def main() -> None:
    """Write the graph, or leave params.yaml unchanged and report an error in one line."""
    try:
        text = PARAMS.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"{PARAMS} must be a file in UTF-8: {error}.")
    try:
        build(text)
    except BaseException as error:
        write_text(text)  # ZnTrack sorts it and drops its comments
        if isinstance(error, SourceError | _values.ParameterError):
            sys.exit(str(error))
        raise


if __name__ == "__main__":
    main()
