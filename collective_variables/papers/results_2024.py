"""Figures and tables of Tovey et al. 2024 (P2) from our recordings, and tables that P2 lacks."""

from collections.abc import Mapping

from collective_variables.papers import _tables_2024, claims_2024, figures_2024
from collective_variables.papers.claims_2024 import Group
from collective_variables.papers.report import Picture, Table
from collective_variables.training import study_cases

MOST_LINES = 4  # of a study that can be told apart in a panel
EVOLUTION_CAPTION = (
    "Loss, entropy and trace of the kernel of train points (solid) and test points (dotted) during "
    "training: mean and one standard deviation over members. A row is a study."
)
MAP_CAPTION = (
    "Entropy and trace of the train points' kernel, and test loss, over width and depth, before "
    "and after training, means over members."
)
JOINT_CAPTION = (
    "The same quantities in networks of other architectures, each with its own data. The agent "
    "learns from rewards; its actor and critic have a kernel each, of the same observations "
    "throughout."
)
EVOLUTION_SHOWS = "How loss, entropy and trace change while each network trains."
MAP_SHOWS = (
    "Which widths and depths have a large entropy, a large trace and a small test loss. Yellow is "
    "large."
)
JOINT_SHOWS = "Whether entropy and trace change alike in networks of different architectures."
# Titles and captions.
TABLES = {
    "networks": (
        "Networks through training",
        "Means over members before and after training. The regime lists the phases in which the "
        "entropy falls (information compression) or rises (structure formation), but only those in "
        "which the members agree.",
    ),
    "phases": (
        "Phases of the entropy",
        "Every swing of the entropy that is larger than the resolution: its onset and end "
        "(epochs), change (nats) and test.",
    ),
    "laws": (
        "Power laws in the width",
        "Exponents of the width, by least squares of logarithms over widths and members, for each "
        "depth, before and after training.",
    ),
}


def pictures(groups: Mapping[str, Group], /) -> list[Picture]:
    """Draw each group of studies, each study over width and depth, and the other architectures."""
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
        if group.kind not in ("dense", "conv")
        for network, table in claims_2024.named_networks(group, group.recording)
    }
    if others:
        figure = figures_2024.joint(others)
        words = "Architectures together", JOINT_CAPTION
        result.append(Picture("joint", *words, figure, JOINT_SHOWS))
    return result


def tables(groups: Mapping[str, Group], /, *, resolution: float, confidence: float) -> list[Table]:
    """Tabulate every network, every phase of its entropy, and the power laws in the width."""
    phases = _tables_2024.phases(groups, resolution=resolution, confidence=confidence)
    frames = {
        "networks": _tables_2024.summary(groups, phases),
        "phases": phases,
        "laws": _tables_2024.power_laws(groups),
    }
    return [Table(name, *TABLES[name], frame) for name, frame in frames.items()]
