"""The report on columns: one line for many alike, and every column for programs."""

import numpy as np
import pandas as pd
import pytest

from collective_variables.data.columns import report
from collective_variables.data.encoding import encode_table, read_table

RNG = np.random.default_rng(0)


def test_many_like_columns_are_one_line(tmp_path):
    np.save(tmp_path / "data.npy", RNG.normal(size=(30, 500)))
    table = read_table(tmp_path / "data.npy", "499")
    lines = table.report().splitlines()
    assert len(table.columns) == 500 and len(lines) == 4
    assert lines[1].split() == [
        "0",
        "…",
        "498",
        "(499",
        "columns)",
        "input",
        "numbers",
        "0",
        "30",
        "scaled",
    ]
    assert lines[2].split() == ["499", "target", "numbers", "0", "30", "z-scores"]
    assert lines[3] == "30 rows, regression"


def test_lines_are_at_the_place_of_the_first_column_and_sum_up_all():
    columns = {"town": np.array(["Ulm", "Bonn"] * 10, dtype=object)}
    columns |= {f"x{number}": RNG.normal(size=20) for number in range(11)}
    columns |= {"count": np.arange(20) % 3}
    columns |= {f"z{number}": np.arange(20.0) % (number + 2) + 0.5 for number in range(12)}
    for number in range(12):
        columns[f"z{number}"][number] = np.nan
    table = encode_table(columns)
    summary = report.summarise(table.columns)
    assert summary["column"].tolist() == [
        "town",
        "x0 … x10 (11 columns)",
        "count",
        "z0 … z11 (12 columns)",
    ]
    assert summary["missing"].tolist() == [0, 0, 0, 12]
    assert summary["distinct"].tolist() == [2, 20, 3, "2 to 12"]
    # Ten are few enough to be listed.
    few = encode_table({f"x{number}": RNG.normal(size=20) for number in range(10)})
    pd.testing.assert_frame_equal(report.summarise(few.columns), few.columns, check_dtype=False)


@pytest.mark.parametrize("n_columns", [1, 10, 11, 300])
def test_what_is_not_known_of_a_column_is_empty(n_columns):
    columns = {f"a{number}": RNG.normal(size=(5, 2)) for number in range(n_columns)}
    (_, first, *others) = encode_table(columns).report().splitlines()
    assert first.split()[-7:] == ["input", "2", "columns", "of", "numbers", "0", "scaled"]
    assert len(others) == (n_columns if n_columns <= 10 else 1)
