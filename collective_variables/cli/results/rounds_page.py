"""Write the HTML page of rounds of labelling: its answer, learning curves and origin."""

import pandas as pd

from collective_variables.cli.commands import REFERENCE
from collective_variables.cli.results import page, rounds
from collective_variables.cli.results.provenance import Origin
from collective_variables.data import encoding
from collective_variables.papers import labels

LABELS = "Number of labels"
# The sentence above each figure, by its variable.
SHOWS = {
    "error": "The error on test points of networks trained on the labelled rows: lower is better.",
    "accuracy": "The accuracy on test points of networks trained on the labelled rows: higher is "
    "better.",
    "entropy": "The entropy of the kernel of all labelled rows before training: how different they "
    "are to the network.",
    "trace": "The trace of the kernel of all labelled rows before training.",
}
TITLES = {"error": "Error", "accuracy": "Accuracy", **labels.VARIABLES}
BARS = "Each point is a mean over repeats, its bar a 95 % interval."
SHARED = "Methods share the splits, so only paired differences show which one is better."
HEADINGS = {
    "method": "Method",
    "n_labelled": LABELS,
    "error": "Error",
    "accuracy": "Accuracy",
    "entropy": labels.axis_label("entropy"),
    "trace": labels.axis_label("trace"),
    "lower": "Lower end",
    "upper": "Upper end",
    "n_diverged": "Diverged",
    "measure": "Measure",
    "mean_difference": "Mean difference",
    "win_rate": "Share of repeats in which it is better",
}


def rounds_page(
    played: rounds.Rounds, setting: rounds.Setting, table: encoding.Table, origin: Origin, /
) -> str:
    """Return a page that needs no other file and no network.

    Also raises MissingPackageError if Plotly or Jinja is missing.

    Args:
        played: The rounds to show.
        setting: Their task, networks, points and repeats.
        table: The user's file, whose columns the page lists.
        origin: The command, time and versions of the rounds.

    Returns:
        The page in HTML.
    """
    cautions = rounds.cautions(played, setting)
    sentences = rounds.sentences(played, setting)
    differences = rounds.differences(played)
    if len(differences) > 1:
        sentences.append(
            f"Each interval is that of one comparison, and there are {len(differences)}. About one "
            "in twenty intervals does not contain the true difference."
        )
    summary = rounds.summary(played, setting)
    variables = played.means[["entropy", "trace"]]
    frames = {"Means over repeats, with a 95 % interval": _in_words(summary.join(variables))}
    if len(differences):
        title = f"{TITLES[setting.variable]} minus that of random rows, with a 95 % interval"
        frames[title] = _in_words(differences)
    content = page.Content(
        rounds.answer(played, setting, labels.method_label),
        cautions,
        [sentence for sentence in sentences if sentence not in cautions],
        frames,
        _pictures(played, setting),
    )
    methods = [name for name in played.means["method"].unique() if name != REFERENCE]
    found = {
        "methods": ", ".join(methods),
        "n-test": str(setting.n_test),
        "epochs": str(setting.n_epochs),
        "learning-rate": f"{setting.learning_rate:g}",
    }
    given = page.with_defaults(origin.settings, found, table)
    return page.filled(content, table, origin._replace(settings=given))


def _in_words(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(method=frame["method"].map(labels.method_label))
    return frame.rename(columns=HEADINGS)


def _pictures(played: rounds.Rounds, setting: rounds.Setting) -> list[dict[str, str]]:
    from collective_variables.papers import figures_2023
    from collective_variables.papers.pages import rendering

    means = played.means.rename(columns={"n_labelled": "n_points"})
    means = means.assign(group="", parametrisation="")
    unit = "" if setting.task == "classification" else f" (unit of {setting.target or 'targets'})"
    pictures = []
    for variable in (setting.variable, "entropy", "trace"):
        if means[variable].isna().all():
            continue
        figure = figures_2023.comparison(means, variable)
        # The single panel needs no title, because the page has one, and is as wide as the page.
        figure.layout.annotations, figure.layout.width = (), None
        figure.update_layout(height=page.HEIGHT, margin={"t": 50, "b": 60})
        figure.update_xaxes(title_text=LABELS)
        if variable == setting.variable:
            figure.update_yaxes(title_text=f"{TITLES[variable]}{unit}")
        pictures.append(
            {
                "name": variable,
                "title": TITLES[variable],
                "shows": SHOWS[variable],
                "caption": f"{BARS} {SHARED}",
                "command": "",
                "json": rendering.figure_json(figure),
            }
        )
    return pictures
