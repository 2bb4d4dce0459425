"""Make the tables of the second paper's studies: networks, phases of entropy, power laws."""

import pandas as pd

from benchmarks._markdown import NONE, fold, table
from benchmarks.pages.files import read


def number(value: float, digits: int = 3) -> str:
    """Return a number with some significant digits, or all before the point; NaN is a dash."""
    if pd.isna(value):
        return NONE
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


NAMES = {"S": "entropy", "Tr": "trace", "loss": "loss", "χ_pos": "chi_pos"}


def networks_table() -> str:
    """Return entropy, trace, loss and position of networks before and after training, by group."""
    header = ["network", "points", "members"]
    header += [f"{name} {end}" for name in NAMES for end in ("before", "after")]
    header.append("phases of the entropy")
    texts = []
    for group, part in read("dynamics/networks.csv").groupby("group", sort=False):
        rows = []
        for row in part.to_dict("records"):
            values = [
                number(row[f"{name}_{end}"]) for name in NAMES.values() for end in ("first", "last")
            ]
            cells = [row["network"], row["points"], f"{row['n_members']}"]
            rows.append([*cells, *values, row["regime"]])
        texts.append(fold(f"{group}", table(header, rows)))
    return "\n\n".join(texts)


def phases_table() -> str:
    """Return every phase of the entropy with its onset, change and test."""
    rows = []
    for row in read("dynamics/phases.csv").to_dict("records"):
        interval = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        cells = [row["group"], row["network"], row["points"], f"{row['phase']}", row["kind"]]
        cells += [f"{number(row['onset'])} ± {number(row['onset_error'], 2)}", number(row["end"])]
        cells += [f"{row['change']:+.2f} {interval}", number(row["p"], 2)]
        rows.append([*cells, "yes" if row["supported"] else "no"])
    header = ["group", "network", "points", "phase", "kind", "begins at epoch", "ends at epoch"]
    header += ["change of S, nats", "p", "supported"]
    return fold("Every phase", table(header, rows))


def laws_table() -> str:
    """Return the power laws in the width, before and after training, by group."""
    rows = []
    laws = read("dynamics/laws.csv").sort_values("epoch", kind="stable")
    for keys, part in laws.groupby(["group", "depth", "variable"], sort=False):
        cells = []
        for row in part.to_dict("records"):
            cells.append(f"{row['exponent']:+.3f} ± {row['standard_error']:.3f}")
            cells.append(f"{row['r_squared']:.2f}")
        rows.append([*map(str, keys), *cells])
    rows.sort(key=lambda row: row[:2])
    header = ["group", "depth", "variable", "exponent before training", "R²", "after", "R²"]
    return table(header, rows)
