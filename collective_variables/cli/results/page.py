"""Write the HTML page of a comparison: its answer, learning curves and origin."""

import pandas as pd

from collective_variables.cli import commands
from collective_variables.cli.commands import Comparison
from collective_variables.cli.results import comparison
from collective_variables.cli.results.provenance import Origin
from collective_variables.data import encoding
from collective_variables.data.columns import report as columns
from collective_variables.papers import labels

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
    from collective_variables.papers import report
    from collective_variables.papers.pages import rendering

    cautions = comparison.cautions(compared, setting)
    sentences = comparison.sentences(compared, setting)
    differences = comparison.differences(compared)
    if len(differences) > 1:
        sentences.append(
            f"Each interval is that of one comparison, and there are {len(differences)}. About one "
            "in twenty intervals does not contain the true difference."
        )
    frames = {
        "summary": _in_words(comparison.summary(compared, setting)),
        "differences": _in_words(differences),
        "columns": columns.summarise(table.columns),
    }
    return rendering.render(
        "compare.html",
        title=f"{origin.name}: chosen rows or random ones?",
        answer=comparison.answer(compared, setting),
        cautions=cautions,
        sentences=[sentence for sentence in sentences if sentence not in cautions],
        tables={
            name: report.table_cells(report.Table(name, "", "", frame))
            for name, frame in frames.items()
        },
        pictures=_pictures(compared, setting),
        notes=table.notes,
        n_rows=len(table.inputs),
        task=table.task,
        origin=origin._replace(settings=_settings(origin.settings, setting, table)),
    )


def _settings(
    given: dict[str, str], setting: comparison.Setting, table: encoding.Table
) -> dict[str, str]:
    """Add the settings that depend on the file, unless an option gave them."""
    layers = commands.CONVOLUTIONAL if table.inputs.ndim == 4 else commands.DENSE
    found = {"n-test": str(setting.n_test), "seed": "0"}
    if "model" not in given:
        found["layers"] = ", ".join(layers)
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
