"""Make the figures of the later papers from our recordings."""

from collections.abc import Mapping

from collective_variables.papers import claims_2024, results_2024
from collective_variables.papers.claims_2024 import Group
from collective_variables.papers.position import figures
from collective_variables.papers.report import Picture
from collective_variables.training import study_cases

TITLE = "Spectral position and scaling"
CAPTION = (
    "Spectral position χ_pos of train points over epochs and over compute, and loss of train "
    "points (solid) and test points (dotted) over compute: mean and one standard deviation over "
    "members. Compute is six operations per parameter and point that was seen. Each row is a study."
)
SHOWS = (
    "Along which modes of the kernel the loss falls: near 1 along the leading ones, near 0 along "
    "the tail."
)


def pictures(groups: Mapping[str, Group], /) -> list[Picture]:
    """Draw the positions of each group whose studies have few networks."""
    result = []
    for name, group in groups.items():
        if "chi_pos" not in group.recording:
            continue
        rows = {
            study: dict(claims_2024.split_networks(study_cases.study_rows(group.recording, cases)))
            for study, cases in group.studies.items()
            if 1 < len(cases) <= results_2024.MOST_LINES
        }
        if rows:
            figure = figures.positions(rows)
            title = f"Spectral position: {name}"
            result.append(Picture(f"position-{name}", title, CAPTION, figure, SHOWS))
    return result
