"""Write the HTML page of a comparison: its answer, learning curves and origin."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from collective_variables.active_learning import architecture
from collective_variables.cli.commands import Comparison
from collective_variables.cli.results import comparison
from collective_variables.cli.results.provenance import Origin
from collective_variables.data import encoding
from collective_variables.data.columns import report as columns
from collective_variables.papers import labels

COLUMNS = "Columns of the file"
DIFFERENCES = "Smallest test loss minus that of random rows, with a 95 % interval"
HEIGHT = 420  # pixels of a figure
# The sentence above each figure, by its variable.
SHOWS = {
    "min_test_loss": "The smallest test loss on the rows that each method chooses: lower is better",
    "max_test_accuracy": "The largest test accuracy on the rows that each method chooses: higher "
    "is better",
    "entropy": "The entropy of the kernel of the chosen rows before training: how different they "
    "are to the network",
    "trace": "The trace of the kernel of the chosen rows before training",
}
BARS = "Each point is a mean over networks, its bar one standard error."
HEADINGS = labels.VARIABLES | {
    "method": "Method",
    "min_test_loss_standard_error": "Standard error",
    "root_mean_square_error": "Root-mean-square error",
    "n_diverged": "Diverged",
    "mean_difference": "Mean difference",
    "lower": "Lower end",
    "upper": "Upper end",
    "win_rate": "Share of networks with a smaller loss",
}


class Content(NamedTuple):
    """Hold what a page says above the columns of the file.

    Attributes:
        answer: The answer, in front of everything else.
        cautions: Reasons to doubt it.
        sentences: What the tables show.
        frames: Tables by their titles.
        pictures: Figures and their texts, as `parts.html` takes them.
    """

    answer: str
    cautions: Sequence[str]
    sentences: Sequence[str]
    frames: dict[str, pd.DataFrame]
    pictures: Sequence[dict[str, str]]


def page(
    compared: Comparison, setting: comparison.Setting, table: encoding.Table, origin: Origin, /
) -> str:
    """Return a page that needs no other file and no network.

    Also raises MissingPackageError if Plotly or Jinja is missing.

    Args:
        compared: The comparison to show.
        setting: Its task, loss, networks and points.
        table: The user's file, whose columns the page lists.
        origin: The command, time and versions of the comparison.

    Returns:
        The page in HTML.
    """
    cautions = comparison.cautions(compared, setting)
    sentences = comparison.sentences(compared, setting)
    differences = comparison.differences(compared)
    if len(differences) > 1:
        sentences.append(
            f"Each interval is that of one comparison, and there are {len(differences)}. About one "
            "in twenty intervals does not contain the true difference."
        )
    frames = {"Means over networks": _in_words(comparison.summary(compared, setting))}
    if len(differences):
        frames[DIFFERENCES] = _in_words(differences)
    return filled(
        Content(
            comparison.answer(compared, setting),
            cautions,
            [sentence for sentence in sentences if sentence not in cautions],
            frames,
            _pictures(compared, setting),
        ),
        table,
        origin._replace(settings=_settings(origin.settings, compared, setting, table)),
    )


def filled(content: Content, table: encoding.Table, origin: Origin, /) -> str:
    """Return a page with this content, the columns of the user's file, and the origin."""
    from collective_variables.papers import report
    from collective_variables.papers.pages import rendering

    frames = content.frames | {COLUMNS: columns.summarise(table.columns)}
    cells = {
        title: report.table_cells(report.Table(title, "", "", frame))
        for title, frame in frames.items()
    }
    return rendering.render(
        "compare.html",
        title=f"{origin.name}: chosen rows or random ones?",
        answer=content.answer,
        cautions=content.cautions,
        sentences=content.sentences,
        columns=cells.pop(COLUMNS),
        tables=cells,
        pictures=content.pictures,
        notes=table.notes,
        n_rows=len(table.inputs),
        task=table.task,
        origin=origin,
    )


def _settings(
    given: dict[str, str],
    compared: Comparison,
    setting: comparison.Setting,
    table: encoding.Table,
) -> dict[str, str]:
    found = {
        "methods": ", ".join(compared.differences["method"].unique()),
        "n-test": str(setting.n_test),
        "epochs": str(setting.n_epochs),
        "learning-rate": f"{setting.learning_rate:g}",
        "loss": setting.loss,
    }
    return with_defaults(given, found, table)


def with_defaults(
    given: dict[str, str], found: dict[str, str], table: encoding.Table, /
) -> dict[str, str]:
    """Add the settings that depend on the file or the command, unless an option gave them."""
    found = found | {"seed": "0"}
    if "model" not in given:
        found["layers"] = ", ".join(architecture.default_layers(table.inputs))
    return found | given


def _in_words(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(method=frame["method"].map(labels.method_label))
    return frame.astype({"n_points": int}).rename(columns=HEADINGS)


def _pictures(compared: Comparison, setting: comparison.Setting) -> list[dict[str, str]]:
    from collective_variables.papers import figures_2023
    from collective_variables.papers.pages import rendering

    pictures = []
    for variable, shows in SHOWS.items():
        if compared.summary[variable].isna().all():
            continue
        figure = figures_2023.comparison(compared.summary, variable)
        # The single panel needs no title, because the page has one, and is as wide as the page.
        figure.layout.annotations, figure.layout.width = (), None
        figure.update_layout(height=HEIGHT, margin={"t": 50, "b": 60})
        if variable == "min_test_loss":
            unit = comparison.ANSWER_UNITS.get((setting.task, setting.loss), "no unit")
            figure.update_yaxes(title_text=f"{labels.variable_label(variable)} ({unit})")
        pictures.append(
            {
                "name": variable.replace("_", "-"),
                "title": labels.variable_label(variable),
                "shows": f"{shows}.",
                "caption": BARS,
                "command": "",
                "json": rendering.figure_json(figure),
            }
        )
    return pictures
