"""The figures and tables of Tovey et al. 2024 (P2) from our recordings, and beside them what P2
does not have.
"""

from collections.abc import Mapping

from collective_variables.papers import claims_2024, figures_2024
from collective_variables.papers.claims_2024 import Group
from collective_variables.papers.report import Picture, Table
from collective_variables.training import study_cases

MOST_LINES = 4  # of a study that can be told apart in a panel
OF_EVOLUTION = (
    "Loss, entropy and trace of the kernel of train points (solid) and test points (dotted) while the networks train: mean "
    "and one standard deviation over members. A row is a study."
)
OF_MAPS = (
    "Entropy and trace of the train points' kernel and test loss over width and depth, before and after training, means over "
    "members."
)
OF_JOINT = (
    "The same quantities in networks of other architectures, each with its own data; of the agent, which learns from rewards, "
    "actor and critic have a kernel each, of the same observations throughout."
)
# Titles and captions.
TABLES = {
    "networks": (
        "Networks through training",
        "Means over members before and after training. The regime is what the entropy does: phases in which it falls "
        "(information compression) or rises (structure formation), those alone in which its members agree.",
    ),
    "phases": (
        "Phases of the entropy",
        "Every swing of the entropy that is larger than the resolution: its onset and end (epochs), change (nats) and test.",
    ),
    "laws": (
        "Power laws in the width",
        "Exponents of the width, by least squares of logarithms over widths and members, for each depth, before and after "
        "training.",
    ),
}


def pictures(groups: Mapping[str, Group], /) -> list[Picture]:
    """Evolution of each group of studies, a map of each study over width and depth, and all other
    architectures together.
    """
    drawn = []
    for name, group in groups.items():
        recorded = {
            study: study_cases.study_rows(group.recording, cases)
            for study, cases in group.studies.items()
        }
        rows = {study: dict(claims_2024.split_networks(table)) for study, table in recorded.items()}
        few = {study: lines for study, lines in rows.items() if len(lines) <= MOST_LINES}
        if few:
            drawn.append(
                Picture(
                    f"evolution-{name}",
                    f"Evolution: {name}",
                    OF_EVOLUTION,
                    figures_2024.evolution(few),
                )
            )
        for study, table in recorded.items():
            if min(table["width"].nunique(), table["depth"].nunique()) > 1:
                figure = figures_2024.maps(table, (table["epoch"].min(), table["epoch"].max()))
                drawn.append(
                    Picture(
                        f"map-{name}-{study}", f"Width and depth: {name}, {study}", OF_MAPS, figure
                    )
                )
    others = {
        words or group.kind: table
        for group in groups.values()
        if group.kind not in ("dense", "conv")
        for words, table in claims_2024.split_networks(group.recording)
    }
    if others:
        drawn.append(
            Picture("joint", "Architectures together", OF_JOINT, figures_2024.joint(others))
        )
    return drawn


def tables(groups: Mapping[str, Group], /, *, resolution: float, confidence: float) -> list[Table]:
    """Every network, every phase of its entropy, and the power laws in the width."""
    phases = claims_2024.phases(groups, resolution=resolution, confidence=confidence)
    frames = {
        "networks": claims_2024.summary(groups, phases),
        "phases": phases,
        "laws": claims_2024.power_laws(groups),
    }
    return [Table(name, *TABLES[name], frame) for name, frame in frames.items()]
