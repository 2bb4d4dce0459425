"""The graph: reads params.yaml, wires one group of stages per problem, writes dvc.yaml,
zntrack.json and plots/dvc.yaml.

Studies of learning dynamics and the page that shows both papers are a graph of their own,
dynamics/dvc.yaml, so that `dvc repro` runs the experiments of the first paper alone.

Run `python main.py` after a stage's fields or the groups in params.yaml have changed. Changing a
value needs no run.
"""

from pathlib import Path

import yaml
import zntrack

from nodes import sources
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
DATA = (LoadDataset, LoadFile)  # of which a group has one
REQUIRED = (Network, Ensemble)
OPTIONAL = (RNDSelect, ComputeNTK, TrainModel, CorrelationAnalysis)
# Stages that record kernels through a training, and what else a group has that has one of them,
# beside its data.
RECORDED = {ScalingStudy: (Ensemble,), TrainAutoencoder: (Ensemble,), TrainAgent: ()}
WITHOUT_DATA = (TrainAgent,)
OF_ALL, OF_DYNAMICS = "all", "dynamics"
REPORT, FULL_REPORT, FINDINGS = "all_Report", "dynamics_Report", "dynamics_Findings"
Sections = dict[str, dict]


def read_groups(params: Sections) -> dict[str, Sections]:
    """The sections `<group>_<Stage>` of params.yaml, by group and stage; of SelectSubset there may
    be several.
    """
    groups: dict[str, Sections] = {}
    for name, values in params.items():
        group, _, stage = name.rpartition("_")
        known = [node.__name__ for node in (*DATA, *REQUIRED, *OPTIONAL, *RECORDED)]
        if group in ("", OF_ALL, OF_DYNAMICS) or not (stage in known or is_selection(stage)):
            listed = ", ".join([*known, "SelectSubset", "SelectSubset-NAME"])
            raise SystemExit(
                f"A section of params.yaml must be {REPORT}, {FULL_REPORT}, {FINDINGS} or <group>_<Stage>, Stage one of "
                f"{listed}: received {name}."
            )
        groups.setdefault(group, {})[stage] = values or {}
    for group, sections in groups.items():
        recorded = recorded_in(sections)
        data = (
            []
            if recorded in WITHOUT_DATA
            else [node.__name__ for node in DATA if node.__name__ in sections]
        )
        if len(data) != (recorded not in WITHOUT_DATA):
            names = " or ".join(f"{group}_{node.__name__}" for node in DATA)
            raise SystemExit(
                f"params.yaml must have one section {names}: received {' and '.join(data) or 'none'}."
            )
        required = RECORDED[recorded] if recorded else REQUIRED
        for node in required:
            if node.__name__ not in sections:
                raise SystemExit(f"params.yaml must have a section {group}_{node.__name__}.")
        if recorded:
            allowed = [recorded.__name__, *data, *(node.__name__ for node in required)]
            if others := sorted(set(sections) - set(allowed)):
                listed = ", ".join(allowed)
                raise SystemExit(
                    f"A group with {recorded.__name__} has {listed} alone: received {group}_{others[0]}."
                )
            continue
        selections = [stage for stage in sections if stage == "RNDSelect" or is_selection(stage)]
        if selections and not compares_methods(sections):
            raise SystemExit(
                f"{group} draws its sizes from a range, so it compares no methods: received {group}_{selections[0]}."
            )
    return groups


def is_selection(stage: str) -> bool:
    """Whether a stage is SelectSubset, by itself or under a name of its own."""
    return stage == "SelectSubset" or stage.startswith("SelectSubset-")


def recorded_in(sections: Sections) -> type[zntrack.Node] | None:
    """The stage in which a group records kernels through a training, in place of an experiment of
    P1; None without one.
    """
    return next((node for node in RECORDED if node.__name__ in sections), None)


def compares_methods(sections: Sections) -> bool:
    """Whether a group is an Experiment 2 (a list of subset sizes) and not an Experiment 1 (a range
    to draw from).
    """
    return not isinstance(sections["Ensemble"].get("n_points"), dict)


def data_of(group: str, sections: Sections) -> LoadDataset | LoadFile:
    """The stage that has a group's data: a problem by its name, or a file of one's own, which DVC
    follows.
    """
    if LoadDataset.__name__ in sections:
        return LoadDataset(**sections[LoadDataset.__name__])
    values = sections[LoadFile.__name__]
    file = Path(str(values.get("path")))
    if not file.exists() or PARAMS.resolve().parent not in file.resolve().parents:
        raise SystemExit(
            f"{group}_LoadFile must have the path of a file or folder inside the project: received {file}."
        )
    return LoadFile(file=file, **values)


def network_of(values: dict) -> Network:
    """The stage that has a group's network, of layers or of one's own, whose files DVC then
    follows.
    """
    return Network(
        model_files=list(map(Path, sources.of_module(values["model"])))
        if values.get("model")
        else [],
        **values,
    )


def add_group(group: str, sections: Sections) -> dict[str, list]:
    """Wire the stages of one group; what the report takes of it."""
    values = {node: sections.get(node.__name__, {}) for node in REQUIRED + OPTIONAL}
    data = data_of(group, sections)
    network = network_of(values[Network])
    ensemble = Ensemble(**values[Ensemble])
    shared = {
        "data": data,
        "members_path": ensemble.members_path,
        "architecture_path": network.architecture_path,
    }
    subsets = [RandomSubset(data=data, members_path=ensemble.members_path)]
    if compares_methods(sections):
        subsets.append(RNDSelect(**shared, **values[RNDSelect]))
        subsets += [
            SelectSubset(name=name, **shared, **of)
            for name, of in sections.items()
            if is_selection(name)
        ]
    shared |= {"subsets": subsets, "n_points_path": ensemble.n_points_path}
    kernels = ComputeNTK(**shared, **values[ComputeNTK])
    networks = TrainModel(**shared, **values[TrainModel])
    analysis = CorrelationAnalysis(
        kernels=kernels, networks=networks, **values[CorrelationAnalysis]
    )
    timed = [*subsets, kernels, networks, analysis]
    return {
        "analyses": [analysis],
        "data": [data],
        "architecture_paths": [network.architecture_path],
        "time_paths": [node.nwd / "node-meta.json" for node in timed],
    }


def add_recorded(group: str, sections: Sections) -> zntrack.Node:
    """Wire the stages of one group of learning dynamics; the one that records."""
    node = recorded_in(sections)
    if node in WITHOUT_DATA:
        return node(**sections[node.__name__])
    data = data_of(group, sections)
    ensemble = Ensemble(**sections["Ensemble"])
    subset = RandomSubset(data=data, members_path=ensemble.members_path)
    # pyrefly: ignore[unexpected-keyword]
    return node(
        data=data, subset=subset, members_path=ensemble.members_path, **sections[node.__name__]
    )


def add_report(values: dict, of_groups: list[dict[str, list]], findings: list[Findings]) -> None:
    """Wire a stage that reads the runs of all groups, and what is found of learning dynamics."""
    inputs = {
        name: [item for of in of_groups for item in of.get(name, [])] for name in of_groups[0]
    }
    Report(**inputs, findings=findings, **values)


def plots(groups: dict[str, Sections], figures: dict[int, dict[str, dict]]) -> dict:
    """The content of plots/dvc.yaml: every figure of an experiment with the table of each of its
    groups as a source.
    """
    entries = []
    for experiment, of_experiment in figures.items():
        of_paper = {
            group: sections for group, sections in groups.items() if not recorded_in(sections)
        }
        members = [
            group
            for group, sections in of_paper.items()
            if compares_methods(sections) == (experiment == 2)
        ]
        for title, figure in of_experiment.items():
            stage, table, y = figure["stage"], figure["table"], figure["y"]
            sources = {f"../nodes/{group}/{stage}/{table}": y for group in members}
            settings = {
                key: value for key, value in figure.items() if key not in ("stage", "table")
            }
            entries.append({title: settings | {"y": sources}})
    return {"plots": entries}


def write_graphs(graph: dict, of_dynamics: set[str]) -> None:
    """Write dvc.yaml and, of the stages of these groups, dynamics/dvc.yaml, whose paths are from
    here too.

    No stage copies its part of dvc.lock into its metrics: ZnTrack's copy is a process more a stage
    and fills the tables of `dvc exp show`; `dvc status` knows the same.
    """
    stages = {
        name: stage | {"cmd": f"{stage['cmd']} --no-save-lockfile"}
        for name, stage in graph["stages"].items()
    }
    second = {
        name: stage | {"wdir": ".."}
        for name, stage in stages.items()
        if name.rpartition("_")[0] in of_dynamics
    }
    first = {name: stage for name, stage in stages.items() if name not in second}
    DYNAMICS.parent.mkdir(exist_ok=True)
    for path, of_path in ((GRAPH, first), (DYNAMICS, second)):
        path.unlink(missing_ok=True)
        if of_path:
            path.write_text(yaml.safe_dump(graph | {"stages": of_path}))


def main() -> None:
    params = yaml.safe_load(PARAMS.read_text())
    of_report, of_full_report, of_findings = (
        params.pop(name, None) or {} for name in (REPORT, FULL_REPORT, FINDINGS)
    )
    groups, of_groups, recorded = read_groups(params), [], []
    project = zntrack.Project()
    for group, sections in groups.items():
        with project.group(group):
            if recorded_in(sections):
                recorded.append(add_recorded(group, sections))
            else:
                of_groups.append(add_group(group, sections))
    with project.group(OF_ALL):
        add_report(of_report, of_groups, [])
    if recorded:
        times = [node.nwd / "node-meta.json" for node in recorded]
        with project.group(OF_DYNAMICS):
            findings = Findings(recorded=recorded, **of_findings)
            add_report(of_full_report, [*of_groups, {"time_paths": times}], [findings])
    project.build()
    of_dynamics = {group for group, sections in groups.items() if recorded_in(sections)}
    write_graphs(yaml.safe_load(GRAPH.read_text()), {OF_DYNAMICS, *of_dynamics})
    written = yaml.safe_dump(
        plots(groups, yaml.safe_load(FIGURES.read_text())), sort_keys=False, width=120
    )
    PLOTS.write_text(
        f"# Written by main.py from plots/figures.yaml and the groups of params.yaml.\n{written}"
    )


if __name__ == "__main__":
    main()
