"""The comparison of methods on dirty tables: what is made dirty, what is trained and compared."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import bench_tables, dirty_tables
from benchmarks.bench_tables import KEYS, Case, Run
from collective_variables.data import encoding, scaling
from collective_variables.networks import parameters
from collective_variables.training import loop

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")

WINE = dirty_tables.BASES["wine"]()
TABLES = {kind: make(WINE, np.random.default_rng(0)) for kind, make in dirty_tables.KINDS.items()}


def n_blank(kind):
    return TABLES[kind].isna().sum().sum() / WINE.drop(columns="target").size


def added(kind):
    return TABLES[kind].drop(columns=WINE.columns, errors="ignore")


@pytest.mark.parametrize(
    "name, n_rows, n_columns", [("fuel", 392, 8), ("diabetes", 442, 11), ("cancer", 569, 31)]
)
def test_tables_hold_real_data(name, n_rows, n_columns):
    assert dirty_tables.BASES[name]().shape == (n_rows, n_columns)


def test_each_kind_has_what_its_name_says():
    assert len(TABLES) >= 12 and TABLES["clean"].equals(WINE)
    assert 0 < n_blank("1 % blank") < 0.02 and 0.15 < n_blank("20 % blank") < 0.25
    counts = added("rare categories")["place"].value_counts()
    assert (counts <= 2).sum() == 12 and (counts > 30).sum() == 4
    for column in added("misspelt"):
        counts = added("misspelt")[column].value_counts()
        assert (counts <= 2).sum() == 6 and (counts > 30).sum() == 4
    ratio = (TABLES["outliers"] != WINE).drop(columns="target").sum().sum()
    assert ratio == 10 and TABLES["outliers"].drop(columns="target").max().max() > 1e4
    flags = added("sparse flags")
    assert flags.shape[1] == 30 and 0 < flags.mean().max() < 0.06 and flags.sum().min() > 0
    assert added("heavy tails").abs().max().max() > 50
    assert added("id")["number"].is_unique
    assert added("constant").nunique().tolist() == [1, 2]
    assert TABLES["duplicates"].duplicated().sum() >= len(WINE) // 4
    assert added("200 irrelevant").shape[1] == 200


def run(n_features, member, n_points=7):
    generator = np.random.default_rng(member)
    inputs, test = (generator.normal(size=(n, n_features)).astype(np.float32) for n in (9, 5))
    targets, right = inputs[:, :2], test[:, :2]
    return Run(inputs, targets, test, right, n_points, member)


def test_padded_networks_are_those_of_the_library(monkeypatch):
    monkeypatch.setattr(bench_tables, "SCHEDULE", bench_tables.schedules.Schedule(n_epochs=20))
    runs = [run(3, 1), run(5, 2), run(3, 3, n_points=9)]
    expected = []
    for trained in runs:
        model = bench_tables.network(2)
        key = bench_tables.seeding.key(trained.member, "initialisation")
        params = parameters.initialise(model, key, trained.inputs[:1])
        points = trained.inputs[: trained.n_points], trained.targets[: trained.n_points]
        test = trained.test_inputs, trained.test_targets
        curves = loop.train(model, params, points, test, schedule=bench_tables.SCHEDULE)
        expected.append(float(curves.test_loss.min()))
    np.testing.assert_allclose(bench_tables.train(runs), expected, rtol=1e-4)


def test_a_table_goes_the_users_way(monkeypatch):
    monkeypatch.setattr(bench_tables, "SIZES", (4, 6))
    monkeypatch.setattr(bench_tables, "SCHEDULE", bench_tables.schedules.Schedule(n_epochs=2))
    method = bench_tables.DEFAULT[0]
    result = bench_tables.losses(Case("constant", "wine", (method, "k-center"), 2))
    counts = result.groupby(["scaling", "method"]).size()
    n_random, n_chosen = (2 * 2 * n for n in (bench_tables.RANDOM_MEMBERS, bench_tables.MEMBERS))
    expected = {(name, "random"): n_random for name in bench_tables.SCALINGS}
    expected |= {(name, method): n_chosen for name in bench_tables.SCALINGS}
    expected |= {(name, "k-center"): n_chosen for name in ("bounded", "standard")}
    assert counts.to_dict() == expected
    assert result["loss"].between(0, 10).all()
    np.testing.assert_allclose(result["in_file"], 1 / len(WINE))


def made(difference, *, kind="clean", base="fuel", method="rnd-linearised", scale=1.0):
    """Losses of a method that are `difference` (a number for each split) above random ones."""
    rows = []
    for split, change in enumerate(difference):
        for member in range(2):
            shift = 0.1 * (2 * member - 1) + 0.3 * split
            shares = {"standing_out": 0.0, "in_file": 0.0}
            label = dict(zip(KEYS, (kind, base, split, scaling.DEFAULT, 20)))
            reference = scale * (1.0 + shift)
            rows.append(label | shares | {"method": "random", "loss": reference})
            rows.append(label | shares | {"method": method, "loss": reference + scale * change})
    return pd.DataFrame(rows)


def test_tables_and_sizes_count_equally_and_losses_are_relative_to_random():
    runs = pd.concat([made([0.1, 0.3]), made([-0.1, 0.1], base="wine", scale=50.0)])
    pairs = bench_tables.pair(runs)
    # Random rows have the losses 1 and 1.3, times the scale of the table.
    np.testing.assert_allclose(pairs["loss"] / pairs["reference"], [1.1, 1.6 / 1.3, 0.9, 1.4 / 1.3])
    (row,) = bench_tables.summarise(pairs, ["kind", "method"]).itertuples()
    np.testing.assert_allclose(row.mean, 100 * (2.7 / 2.3 + 2.3 / 2.3 - 2) / 2)
    # Of two splits the bootstrap draws the same one twice in half of all cases.
    ends = [100 * (1.1 + 0.9 - 2) / 2, 100 * (1.6 / 1.3 + 1.4 / 1.3 - 2) / 2]
    np.testing.assert_allclose([row.lower, row.upper], ends, atol=1e-12)


def test_no_interval_reaches_below_the_loss_of_zero():
    today = [1000.0, 0.5, 0.5, 0.5]
    runs = made([0.0] * 4)
    pairs = bench_tables.pair_with_today(
        pd.concat([runs, *(made([value - 1] * 4).assign(scaling="standard") for value in today)])
    )
    row = bench_tables.summarise(pairs, ["kind"]).iloc[0]
    assert -100 < row["lower"] <= row["mean"] <= row["upper"] < 0


@pytest.mark.parametrize("worst, word", [(0.02, "PASS"), (0.05, "FAIL")])
def test_the_bar_is_for_the_worst_kind(worst, word, capsys):
    runs = pd.concat([made([-0.2, -0.1]), made([worst, worst], kind="outliers")])
    today = runs.assign(scaling="standard", loss=runs["loss"] * 1.1)
    sentences = bench_tables.verdict(pd.concat([runs, today]))
    # Random rows have the losses 1 and 1.3.
    mean, lower, upper = (100 * worst / scale for scale in (1.15, 1.3, 1.0))
    assert sentences[0] == (
        f"{word}: rnd-linearised with bounded is at worst {mean:+.1f} % "
        f"[{lower:+.1f}, {upper:+.1f}] from random rows (outliers); at most +2 % is wanted."
    )
    assert sentences[1].startswith("PASS: on clean tables its loss is -9.1 % [-9.1, -9.1]")
    bench_tables.print_today(pd.concat([runs, today]))
    assert "clean            -9 [-9, -9]" in capsys.readouterr().out


def test_what_was_computed_is_kept(tmp_path, monkeypatch):
    calls = []

    def losses(case):
        calls.append(case)
        return made([0.1, 0.2], kind=case.kind)

    monkeypatch.setattr(bench_tables, "losses", losses)
    case = Case("1 % blank", "fuel", ("rnd-linearised",), 2)
    first = bench_tables.kept_losses(case, tmp_path / "kept")
    pd.testing.assert_frame_equal(bench_tables.kept_losses(case, tmp_path / "kept"), first)
    bench_tables.kept_losses(case._replace(n_splits=3), tmp_path / "kept")
    bench_tables.kept_losses(case._replace(methods=("rnd",)), tmp_path / "kept")
    assert len(calls) == 3


def test_the_kinds_are_read_as_tables():
    contents = {name: column.to_numpy() for name, column in TABLES["id"].items()}
    table = encoding.encode_table(contents, "target")
    assert table.task == "classification" and len(table.inputs) == len(WINE)
