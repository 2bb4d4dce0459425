"""Make the figures and tables of Tovey et al. 2024 (P2) from our recordings, and further tables."""

from collections.abc import Mapping

from collective_variables.papers import _tables_2024, claims_2024, figures_2024
from collective_variables.papers.claims_2024 import Group
from collective_variables.papers.report import Picture, Table
from collective_variables.training import study_cases

MOST_LINES = 4  # that a reader can distinguish in a panel
EVOLUTION_CAPTION = (
    "Loss, and entropy and trace of the kernel, of train points (solid) and test points (dotted) "
    "during training: mean and one standard deviation over members. Each row is a study."
)
MAP_CAPTION = (
    "Entropy, trace and spectral position of train points, and test loss, against width and depth, "
    "before and after training. Cells are means over members."
)
JOINT_CAPTION = (
    "Entropy, trace, spectral position, and loss or reward of networks of other architectures, "
    "each trained on different data. The agent learns from rewards. Its actor and its critic have "
    "one kernel each, always of the same observations. Their position is that of a new rollout."
)
EVOLUTION_SHOWS = "The change of loss, entropy and trace while each network trains."
MAP_SHOWS = (
    "The widths and depths with a large entropy, a large trace, a low spectral position and a "
    "small test loss. Yellow is large."
)
JOINT_SHOWS = "The change of entropy and trace in networks of different architectures."
# Titles and captions.
TABLES = {
    "networks": (
        "Networks through training",
        "Means over members before and after training. The regime lists the phases in which the "
        "entropy falls (information compression) or rises (structure formation). It includes only "
        "phases on which the members agree.",
    ),
    "phases": (
        "Phases of the entropy",
        "Every change of the entropy that is larger than the resolution, with its onset and end "
        "(epochs), size (nats) and test.",
    ),
    "laws": (
        "Power laws in the width",
        "Exponents of the width for each depth, before and after training. They are fitted by "
        "least squares to the logarithms of all widths and members.",
    ),
}


def pictures(groups: Mapping[str, Group], /) -> list[Picture]:
    """Draw the evolution of each group, maps of its studies, and the other architectures."""
    result = []
    for name, group in groups.items():
        tables = {
            study: study_cases.study_rows(group.recording, cases)
            for study, cases in group.studies.items()
        }
        rows = {study: dict(claims_2024.split_networks(table)) for study, table in tables.items()}
        few = {study: lines for study, lines in rows.items() if len(lines) <= MOST_LINES}
        if few:
            figure = figures_2024.evolution(few)
            words = f"Evolution: {name}", EVOLUTION_CAPTION
            result.append(Picture(f"evolution-{name}", *words, figure, EVOLUTION_SHOWS))
        for study, table in tables.items():
            if min(table["width"].nunique(), table["depth"].nunique()) > 1:
                figure = figures_2024.maps(table, (table["epoch"].min(), table["epoch"].max()))
                title = f"Width and depth: {name}, {study}"
                result.append(Picture(f"map-{name}-{study}", title, MAP_CAPTION, figure, MAP_SHOWS))
    others = {
        network: table
        for group in groups.values()
        if group.kind not in ("dense", "conv") and _is_single(group)
        for network, table in claims_2024.named_networks(group, group.recording)
    }
    if others:
        figure = figures_2024.joint(others)
        words = "Architectures together", JOINT_CAPTION
        result.append(Picture("joint", *words, figure, JOINT_SHOWS))
    return result


def _is_single(group: Group) -> bool:
    """Return whether the studies of a group, if it has any, train one network each."""
    return all(len(cases) == 1 for cases in group.studies.values())


def tables(groups: Mapping[str, Group], /, *, resolution: float, confidence: float) -> list[Table]:
    """Tabulate every network, every phase of its entropy, and the power laws in the width."""
    phases = _tables_2024.phases(groups, resolution=resolution, confidence=confidence)
    frames = {
        "networks": _tables_2024.summary(groups, phases),
        "phases": phases,
        "laws": _tables_2024.power_laws(groups),
    }
    return [Table(name, *TABLES[name], frame) for name, frame in frames.items()]
