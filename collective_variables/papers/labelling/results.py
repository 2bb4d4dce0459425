"""Say in sentences and a table which method of labelling has the lowest test error."""

from collections.abc import Mapping

import pandas as pd

from collective_variables.analysis import labelling_curves, statistics
from collective_variables.papers import labels, report
from collective_variables.papers.labelling import figures
from collective_variables.papers.report import Picture, Table

BEST = (
    "The method with the lowest mean error in the last round, its difference from random rows and "
    "an interval that accounts for the number of methods:"
)
CAPTION = (
    "Means over repeats with {percent:.0f} % intervals, against the number of labelled rows. In a "
    "repeat all methods share the pool, the first rows and the initial networks. All repeats have "
    "the same test points, so the intervals do not include their scatter. The error of a "
    "regression is the root mean squared error of standardised targets, that of a classification "
    "the share of wrong classes. Entropy and trace are those of the kernel of all labelled rows "
    "before training."
)
TABLE_CAPTION = (
    "Differences from random rows, paired over repeats, relative to the mean of random rows. "
    "“final” is the last round, “area” the mean over all rounds but the first. The intervals of a "
    "problem's methods hold together with a confidence of {percent:.0f} % (Bonferroni). "
    "“wins” is the share of repeats below random rows."
)
REFERENCE = "random"
SHOWN = (("error", "final"), ("error", "area"), ("entropy", "final"), ("trace", "final"))
RELATIVE = ("relative_difference", "lower", "upper")
Rounds = Mapping[str, pd.DataFrame]


def differences(
    played: pd.DataFrame, variable: str = "error", *, confidence: float = 0.95
) -> pd.DataFrame:
    """Return differences from random rows, with intervals that hold for all methods together.

    Each interval has the confidence 1 - (1 - confidence) / number of methods (Bonferroni).

    Also raises the errors of `labelling_curves.differences`.

    Args:
        played: Rounds of one problem, with random rows.
        variable: Column of the table.
        confidence: Confidence of all intervals together.

    Returns:
        The table of `labelling_curves.differences`, with `lower` and `upper` relative to the mean
        of random rows too. It is empty if there is no other method.
    """
    doubt = 2 * statistics.tail_probability(confidence)
    n_methods = max(1, played["method"].nunique() - 1)
    found = labelling_curves.differences(
        played, variable, reference=REFERENCE, confidence=1 - doubt / n_methods
    )
    means = found["reference_value"].where(found["reference_value"] != 0)
    return found.assign(lower=found["lower"] / means, upper=found["upper"] / means)


def best_method(played: pd.DataFrame, /, *, confidence: float = 0.95) -> pd.Series | None:
    """Return the row of the method with the lowest mean error in the last round.

    Also raises the errors of `labelling_curves.differences`.

    Args:
        played: Rounds of one problem, with random rows.
        confidence: Confidence of the intervals of all methods together.

    Returns:
        A row of `differences`, of a method other than random rows. None if there is no such method,
        or if a training of each pair diverged.
    """
    table = differences(played, confidence=confidence)
    table = table[(table["measure"] == "final") & table["relative_difference"].notna()]
    return None if table.empty else table.loc[table["relative_difference"].idxmin()]


def finding(name: str, played: pd.DataFrame, /, *, confidence: float = 0.95) -> str:
    """Say how the best method of a problem compares with random rows in the last round.

    Also raises the errors of `labelling_curves.differences`.

    Args:
        name: Name of the problem.
        played: Its rounds, with random rows.
        confidence: Confidence of the intervals of all methods together.

    Returns:
        A sentence.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"method": ["random", "random", "lcmd", "lcmd"]}).assign(
        ...     repeat=[0, 1, 0, 1], round=1, n_labelled=9, error=[1.0, 1.0, 0.5, 0.5],
        ...     accuracy=float("nan"), entropy=2.5, trace=9.0
        ... )
        >>> finding("fuel", table)
        'fuel, 9 labels: -50 % [-50 %, -50 %], lower than random rows (LCMD).'
    """
    best = best_method(played, confidence=confidence)
    if best is None:
        return f"{name}: no comparison with random rows."
    numbers = [_percent(best[column]) for column in RELATIVE]
    verdict = "undecided"
    if best["upper"] < 0:
        verdict = "lower than random rows"
    elif best["lower"] > 0:
        verdict = "higher than random rows"
    return (
        f"{name}, {played['n_labelled'].max()} labels: {numbers[0]} [{numbers[1]}, {numbers[2]}], "
        f"{verdict} ({labels.method_label(best['method'])})."
    )


def _percent(share: float) -> str:
    """Format a share with as few digits as show on which side of 0 it lies."""
    if pd.isna(share):
        return "–"
    texts = [f"{100 * share:+.{digits}f}" for digits in range(report.MOST_DIGITS)]
    return f"{next((text for text in texts if float(text)), '0')} %"


def pictures(played: Rounds, /, *, confidence: float = 0.95) -> list[Picture]:
    """Draw the learning curves of all problems, with a sentence on each in the caption.

    Also raises the errors of `labelling_curves.differences`.

    Args:
        played: Rounds of each problem by its name.
        confidence: Confidence of the intervals.

    Returns:
        One figure, or none without a problem.
    """
    if not played:
        return []
    rows = [best_method(table, confidence=confidence) for table in played.values()]
    n_lower = sum(row is not None and row["upper"] < 0 for row in rows)
    shows = (
        "The test error of networks whose training rows are chosen in rounds, and entropy and "
        "trace of these rows. In the last round the error of the best method is below that of "
        f"random rows on {n_lower} of {len(played)} problems."
    )
    found = [finding(name, table, confidence=confidence) for name, table in played.items()]
    figure = figures.learning_curves(played, confidence=confidence)
    caption = " ".join([BEST, *found, CAPTION.format(percent=100 * confidence)])
    return [Picture("labelling", "Rounds of labelling", caption, figure, shows)]


def tables(played: Rounds, /, *, confidence: float = 0.95) -> list[Table]:
    """Tabulate the differences of all methods from random rows.

    Also raises the errors of `labelling_curves.differences`.

    Args:
        played: Rounds of each problem by its name.
        confidence: Confidence of the intervals of a problem's methods together.

    Returns:
        One table, or none without a problem.
    """
    rows = [
        {"group": name, "method": labels.method_label(row["method"]), "variable": variable}
        | {"measure": measure, "pairs": row["n_pairs"], "diverged": row["n_diverged"]}
        | {"value": row["value"], "value, random rows": row["reference_value"]}
        | {column: row[column] for column in RELATIVE}
        | {"wins": row["win_rate"]}
        for name, table in played.items()
        for variable, measure in SHOWN
        for _, row in differences(table, variable, confidence=confidence).iterrows()
        if row["measure"] == measure
    ]
    caption = TABLE_CAPTION.format(percent=100 * confidence)
    title = "Rounds of labelling: differences from random rows"
    return [Table("labelling-table", title, caption, pd.DataFrame(rows))] if rows else []
