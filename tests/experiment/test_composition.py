"""The experiment is its parts put together, and refuses what does not fit before any work."""

import numpy as np
import pandas as pd
import pytest

from collective_variables.data import problems
from collective_variables.ensembles import seeding, subset_sizes
from collective_variables.experiment import join, select
from collective_variables.experiment.composition import run_experiment
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.selection import base
from collective_variables.training import ensemble_training, loop, schedules

NETWORK = sequential.build_network(["dense 4", "dense 1"], parametrisation="ntk")
GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(30, 3)).astype(np.float32)
DATASET = problems.Dataset(
    ROWS[:24], ROWS[:24, :1], ROWS[24:], ROWS[24:, :1], "regression", np.arange(24),
    np.arange(24, 30), "toy",
)  # fmt: skip
SCHEDULE = schedules.Schedule(n_epochs=4, evaluate_every=2)
SEED = 5
METHODS = {"random": ("random", {}), "far": ("k-center", {})}

pytestmark = pytest.mark.usefixtures("standard_promotion", "quickly_compiled")


def run(methods=METHODS, n_points=(4, 8), **options):
    options = {"members": 3, "seed": SEED, "schedule": SCHEDULE} | options
    return run_experiment(DATASET, NETWORK, methods, n_points, **options)


def random_rows():
    return base.random(24, n_selected=8, n_members=3, key=seeding.key(SEED, "subsets")).indices


def test_every_row_has_the_kernel_and_the_losses_of_its_parts():
    runs = run()
    assert runs.columns[:5].tolist() == ["group", *join.KEYS]
    assert set(runs["group"]) == {"toy"} and set(runs["parametrisation"]) == {"ntk"}
    assert runs["method"].tolist() == ["random"] * 6 + ["far"] * 6
    sizes = np.tile([4, 8], (3, 1))
    test = loop.Points(DATASET.test_inputs, DATASET.test_targets)
    pool = loop.Points(DATASET.inputs, DATASET.targets)
    training = ensemble_training.runs(random_rows(), sizes, seed=SEED)
    (curves,) = ensemble_training.train_ensemble(NETWORK, pool, test, [training], schedule=SCHEDULE)
    (measured,) = measurement.measure_ensemble(
        NETWORK, measurement.Pool(*pool), [random_rows()], sizes, seed=SEED
    )
    part = runs[runs["method"] == "random"]
    variables = measured.tables["collective_variables"]
    for keys in ("member", "n_points"):
        assert part[keys].tolist() == variables[keys].tolist()
    np.testing.assert_array_equal(part["entropy"], variables["entropy"])
    np.testing.assert_array_equal(part["final_test_loss"], curves.test_loss[:, -1])


def test_rows_that_were_selected_before_give_the_runs_of_their_method():
    subsets = select.select_subsets(DATASET, NETWORK, METHODS, 8, 3, seed=SEED)
    np.testing.assert_array_equal(subsets["random"], random_rows())
    pd.testing.assert_frame_equal(run(subsets, members=None), run())
    mixed = {"random": subsets["random"], "far": METHODS["far"]}
    pd.testing.assert_frame_equal(run(mixed, members=None), run())


def test_methods_are_named_and_kernels_left_out_as_asked():
    runs = run(["random", "k-center"], name="other", measure=False)
    assert set(runs["method"]) == {"random", "k-center"} and set(runs["group"]) == {"other"}
    assert "entropy" not in runs and len(runs) == 12
    with_kernels = run(["random"], measure=True)
    pd.testing.assert_series_equal(runs["min_test_loss"][:6], with_kernels["min_test_loss"])


def test_a_range_of_sizes_gives_each_member_the_size_that_is_drawn_for_it():
    sizes = {"low": 3, "high": 9, "distribution": "uniform"}
    runs = run(["random"], sizes, measure=False)
    drawn = subset_sizes.draw(sizes, n_members=3, seed=SEED)
    assert runs["n_points"].tolist() == drawn[:, 0].tolist()
    pd.testing.assert_frame_equal(run(["random"], drawn, measure=False, members=None), runs)


def test_every_part_is_watched_once():
    parts = []

    class Watched:
        def __init__(self, part):
            parts.append(part)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            parts.append("end")

    run(watch=Watched)
    names = ["selection, random", "selection, far", "training", "kernels"]
    assert parts == [word for name in names for word in (name, "end")]


@pytest.mark.parametrize(
    ("methods", "options", "error", "message"),
    [
        (["random"], {"members": None}, TypeError, "members must be given, or rows or sizes"),
        (
            {"a": np.zeros((2, 8), int)},
            {},
            ValueError,
            "a must have a row for each of 3 members: 2",
        ),
        ({"a": "random"}, {}, TypeError, "methods must have a method with its options, or an arr"),
        ({}, {}, ValueError, "methods must name at least one method: received none."),
        (["random", "random"], {}, ValueError, "methods must not repeat an entry"),
        (["guess"], {}, ValueError, "method must be one of"),
        (["random"], {"members": 0}, ValueError, "members must be at least 1: received 0"),
        ({"a": np.zeros((3, 5), int)}, {}, ValueError, "n_points must not exceed the points sel"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_network_is_trained(
    methods, options, error, message, monkeypatch
):
    monkeypatch.setattr(ensemble_training.execution, "run", None)
    with pytest.raises(error, match=f"^{message}"):
        run(methods, **options)


def test_runs_are_matched_by_their_keys_and_not_by_their_order():
    losses = pd.DataFrame({"member": [0, 1], "n_points": [4, 4], "loss": [1.0, 2.0]})
    variables = pd.DataFrame({"member": [1, 0], "n_points": [4, 4], "trace": [20.0, 10.0]})
    tables = [join.label_tables({"ntk/a": rows}) for rows in (variables, losses)]
    runs = join.join_runs(*tables, group="g")
    assert runs.columns.tolist() == ["group", *join.KEYS, "trace", "loss"]
    assert runs.set_index("member")["trace"].to_dict() == {0: 10.0, 1: 20.0}
    assert runs.set_index("member")["loss"].to_dict() == {0: 1.0, 1: 2.0}
    twice = pd.concat([tables[1], tables[1]])
    with pytest.raises(pd.errors.MergeError):
        join.join_runs(tables[0], twice, group="g")
