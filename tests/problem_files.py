"""Files of the problems for tests: what the public ones hold, and comparisons of what is loaded."""

import csv
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np

from collective_variables.data import problems

ROOT = Path(__file__).resolve().parents[1]
IMAGES, LABELS = problems.PROBLEMS["mnist-60000"].files
# The heads of two idx files without the number of points, which follows the fourth byte.
HEADS = {IMAGES: (b"\0\0\x08\3", b"\0\0\0\x1c" * 2), LABELS: (b"\0\0\x08\1", b"")}


def embedded():
    """The images (10000, 28, 28), labels (10000,) and index (10000,) of mnist_10k.npz."""
    with np.load(ROOT / "data" / "mnist_10k.npz", allow_pickle=False) as file:
        return file["images"], file["labels"], file["index"]


def idx(file, array):
    """The content of an idx file that holds `array`."""
    before, after = HEADS[file]
    return before + len(array).to_bytes(4, "big") + after + array.tobytes()


def with_file(problem, file=None, **changes):
    """The problem with other fields of a file, by default of its only one."""
    (only,) = problem.files if file is None else (file,)
    return replace(
        problem,
        files=tuple(replace(f, **changes) if f.name == only.name else f for f in problem.files),
    )


def slump_table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [[float(value) for value in row[1:]] for row in list(csv.reader(file))[1:]]


def assert_z_scores(dataset, table, reference):
    """Compare with z-scores by the rows `reference` of `table` (inputs, then targets), up to
    rounding to float32.
    """
    columns = list(zip(*[table[row] for row in reference]))
    means, stds = [statistics.fmean(c) for c in columns], [statistics.pstdev(c) for c in columns]
    for rows, inputs, targets in (
        (dataset.index, dataset.inputs, dataset.targets),
        (dataset.test_index, dataset.test_inputs, dataset.test_targets),
    ):
        expected = [[(x - m) / s for x, m, s in zip(table[row], means, stds)] for row in rows]
        received = np.hstack([inputs, targets])
        np.testing.assert_allclose(received, expected, rtol=np.finfo(np.float32).eps, atol=1e-12)


def assert_one_error(error, *parts):
    """One error without a chain of tracebacks, whose message has all `parts`."""
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    for part in parts:
        assert str(part) in str(error)
