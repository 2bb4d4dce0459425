"""The rounds of a comparison of rules are kept, packed into one file, and found again."""

import pandas as pd
import pytest

from benchmarks import bench_labels

CASE = bench_labels.Case("concrete", 3, ("random", "bait"))


def keep(folder, case, rule, error):
    path = folder / bench_labels.file_name(case, rule)
    pd.DataFrame({"method": [rule], "round": [0], "error": [error]}).to_csv(path, index=False)


def test_packed_rounds_are_not_run_again(tmp_path, monkeypatch):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    for rule, error in (("random", 1.25), ("bait", 0.5)):
        keep(before, CASE, rule, error)
    bench_labels.pack(before, tmp_path / "rounds.csv.gz")
    bench_labels.unpack(tmp_path / "rounds.csv.gz", after)
    monkeypatch.setattr(bench_labels, "play", lambda case: pytest.fail("It was run again."))
    found = bench_labels.kept(CASE, after)
    assert found["method"].tolist() == ["random", "bait"]
    assert found["error"].tolist() == [1.25, 0.5]


def test_other_settings_are_run_again(tmp_path, monkeypatch):
    keep(tmp_path, CASE, "random", 1.25)
    monkeypatch.setattr(bench_labels, "SIZES", (32, 64))
    monkeypatch.setattr(bench_labels, "play", lambda case: pd.DataFrame({"error": [7.0]}))
    assert bench_labels.kept(CASE._replace(rules=("random",)), tmp_path)["error"].item() == 7.0
