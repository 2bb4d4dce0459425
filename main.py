"""The graph: reads params.yaml, wires one group of stages per problem, writes dvc.yaml, zntrack.json and plots/dvc.yaml.

Run `python main.py` after a stage's fields or the groups in params.yaml have changed. Changing a value needs no run.
"""

from pathlib import Path

import yaml
import zntrack

from nodes.compute_ntk import ComputeNTK
from nodes.correlation_analysis import CorrelationAnalysis
from nodes.ensemble import Ensemble
from nodes.load_dataset import LoadDataset
from nodes.network import Network
from nodes.random_subset import RandomSubset
from nodes.report import Report
from nodes.rnd_select import RNDSelect
from nodes.scaling_study import ScalingStudy
from nodes.select_subset import SelectSubset
from nodes.train_model import TrainModel

PARAMS, GRAPH = Path("params.yaml"), Path("dvc.yaml")
FIGURES, PLOTS = Path("plots/figures.yaml"), Path("plots/dvc.yaml")
REQUIRED = (LoadDataset, Network, Ensemble)
OPTIONAL = (RNDSelect, ComputeNTK, TrainModel, CorrelationAnalysis)
OF_STUDY = (LoadDataset, Ensemble, ScalingStudy)
OF_ALL, REPORT = "all", "all_Report"
Sections = dict[str, dict]


def read_groups(params: Sections) -> dict[str, Sections]:
    """The sections `<group>_<Stage>` of params.yaml, by group and stage; of SelectSubset there may be several."""
    groups: dict[str, Sections] = {}
    for name, values in params.items():
        group, _, stage = name.rpartition("_")
        known = [node.__name__ for node in (*REQUIRED, *OPTIONAL, ScalingStudy)]
        if group in ("", OF_ALL) or not (stage in known or is_selection(stage)):
            listed = ", ".join([*known, "SelectSubset", "SelectSubset-NAME"])
            raise SystemExit(
                f"A section of params.yaml must be {REPORT} or <group>_<Stage>, Stage one of {listed}: received {name}."
            )
        groups.setdefault(group, {})[stage] = values or {}
    for group, sections in groups.items():
        for node in OF_STUDY if is_study(sections) else REQUIRED:
            if node.__name__ not in sections:
                raise SystemExit(f"params.yaml must have a section {group}_{node.__name__}.")
        if is_study(sections):
            if others := sorted(set(sections) - {node.__name__ for node in OF_STUDY}):
                raise SystemExit(f"{group} is a scaling study, with stages of its own: received {group}_{others[0]}.")
            continue
        selections = [stage for stage in sections if stage == "RNDSelect" or is_selection(stage)]
        if selections and not compares_methods(sections):
            raise SystemExit(f"{group} draws its sizes from a range, so it compares no methods: received {group}_{selections[0]}.")
    return groups


def is_selection(stage: str) -> bool:
    """Whether a stage is SelectSubset, by itself or under a name of its own."""
    return stage == "SelectSubset" or stage.startswith("SelectSubset-")


def is_study(sections: Sections) -> bool:
    """Whether a group follows networks of many shapes through their training, in place of an experiment of P1."""
    return "ScalingStudy" in sections


def compares_methods(sections: Sections) -> bool:
    """Whether a group is an Experiment 2 (a list of subset sizes) and not an Experiment 1 (a range to draw from)."""
    return not isinstance(sections["Ensemble"].get("n_points"), dict)


def add_group(sections: Sections) -> dict[str, list]:
    """Wire the stages of one group; what the report takes of it."""
    values = {node: sections.get(node.__name__, {}) for node in REQUIRED + OPTIONAL}
    data = LoadDataset(**values[LoadDataset])
    network = Network(**values[Network])
    ensemble = Ensemble(**values[Ensemble])
    shared = {
        "data": data,
        "members_path": ensemble.members_path,
        "architecture_path": network.architecture_path,
    }
    subsets = [RandomSubset(data=data, members_path=ensemble.members_path)]
    if compares_methods(sections):
        subsets.append(RNDSelect(**shared, **values[RNDSelect]))
        subsets += [SelectSubset(name=name, **shared, **of) for name, of in sections.items() if is_selection(name)]
    shared |= {"subsets": subsets, "n_points_path": ensemble.n_points_path}
    kernels = ComputeNTK(**shared, **values[ComputeNTK])
    networks = TrainModel(**shared, **values[TrainModel])
    analysis = CorrelationAnalysis(kernels=kernels, networks=networks, **values[CorrelationAnalysis])
    timed = [*subsets, kernels, networks, analysis]
    return {
        "analyses": [analysis],
        "data": [data],
        "architecture_paths": [network.architecture_path],
        "time_paths": [node.nwd / "node-meta.json" for node in timed],
    }


def add_study(sections: Sections) -> None:
    """Wire the stages of one scaling study."""
    values = {node: sections[node.__name__] for node in OF_STUDY}
    data = LoadDataset(**values[LoadDataset])
    ensemble = Ensemble(**values[Ensemble])
    subset = RandomSubset(data=data, members_path=ensemble.members_path)
    ScalingStudy(data=data, subset=subset, members_path=ensemble.members_path, **values[ScalingStudy])


def add_report(values: dict, of_groups: list[dict[str, list]]) -> None:
    """Wire the stage that reads the runs of all groups."""
    inputs = {name: [item for of in of_groups for item in of[name]] for name in of_groups[0]}
    Report(**inputs, **values)


def plots(groups: dict[str, Sections], figures: dict[int, dict[str, dict]]) -> dict:
    """The content of plots/dvc.yaml: every figure of an experiment with the table of each of its groups as a source."""
    entries = []
    for experiment, of_experiment in figures.items():
        of_paper = {group: sections for group, sections in groups.items() if not is_study(sections)}
        members = [group for group, sections in of_paper.items() if compares_methods(sections) == (experiment == 2)]
        for title, figure in of_experiment.items():
            stage, table, y = figure["stage"], figure["table"], figure["y"]
            sources = {f"../nodes/{group}/{stage}/{table}": y for group in members}
            settings = {key: value for key, value in figure.items() if key not in ("stage", "table")}
            entries.append({title: settings | {"y": sources}})
    return {"plots": entries}


def without_lockfiles(graph: dict) -> dict:
    """The content of dvc.yaml with stages that don't copy their part of dvc.lock into their metrics.

    ZnTrack's copy is a process more a stage and fills the tables of `dvc exp show`; `dvc status` knows the same.
    """
    stages = {name: stage | {"cmd": f"{stage['cmd']} --no-save-lockfile"} for name, stage in graph["stages"].items()}
    return graph | {"stages": stages}


def main() -> None:
    params = yaml.safe_load(PARAMS.read_text())
    of_report = params.pop(REPORT, None) or {}
    groups, of_groups = read_groups(params), []
    project = zntrack.Project()
    for group, sections in groups.items():
        with project.group(group):
            if is_study(sections):
                add_study(sections)
            else:
                of_groups.append(add_group(sections))
    with project.group(OF_ALL):
        add_report(of_report, of_groups)
    project.build()
    GRAPH.write_text(yaml.safe_dump(without_lockfiles(yaml.safe_load(GRAPH.read_text()))))
    written = yaml.safe_dump(plots(groups, yaml.safe_load(FIGURES.read_text())), sort_keys=False, width=120)
    PLOTS.write_text(f"# Written by main.py from plots/figures.yaml and the groups of params.yaml.\n{written}")


if __name__ == "__main__":
    main()
