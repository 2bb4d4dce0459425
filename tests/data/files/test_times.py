"""Times of day and durations in columns of texts."""

import numpy as np
import pytest

from collective_variables.data.reading import read_file


def read(tmp_path, cells, name="a.csv"):
    path = tmp_path / name
    path.write_text("\n".join(["x;y", *(f"{cell};{row}" for row, cell in enumerate(cells)), ""]))
    return read_file(path)


@pytest.mark.parametrize(
    "cells, hours",
    [
        (["8:00", "8:30", "17:45"], [8, 8.5, 17.75]),
        (["08:00", "", "?"], [8, np.nan, np.nan]),
        (["0:00:36", "1:30:00", "100:00:00"], [0.01, 1.5, 100]),
        (["0:00:00,9", "-1:30:00"], [0.00025, -1.5]),
        (["12:15 AM", "12:15 p.m.", "9:30 PM"], [0.25, 12.25, 21.5]),
        (["0 days 00:36:00", "2 days, 12:00:00"], [0.6, 60]),
    ],
)
def test_times_are_read_as_hours(cells, hours, tmp_path):
    contents = read(tmp_path, cells)
    np.testing.assert_allclose(contents["x"], hours, atol=1e-12)
    first = f"Times are read as hours: {cells[0]!r} is {hours[0]:g} in column x."
    assert first in contents.notes and not contents.refused


@pytest.mark.parametrize(
    "cells", [["1:10", "1:20", "1:50"], ["25:17", "25:23"], ["8:00", "8:00:30"], ["8:00", "late"]]
)
def test_ratios_scores_and_mixtures_stay_texts(cells, tmp_path):
    contents = read(tmp_path, cells)
    assert contents["x"].tolist() == cells and not contents.refused
