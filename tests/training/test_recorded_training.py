"""A recorded training has the curves of a plain one, and rows of the networks on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from helpers import assert_close

from collective_variables.kernels import empirical
from collective_variables.kernels.traces import exact
from collective_variables.networks import parameters, sequential
from collective_variables.observables import spectrum
from collective_variables.training import ensemble_training, recorded_training, recording
from collective_variables.training.loop import Points
from collective_variables.training.recording import Settings
from collective_variables.training.schedules import Schedule

NETWORK = sequential.build_network(["dense 5", "dense 3"])
GENERATOR = np.random.default_rng(0)
POOL = Points(GENERATOR.normal(size=(30, 4)), np.eye(3)[np.arange(30) % 3])
TEST = Points(GENERATOR.normal(size=(7, 4)), np.eye(3)[np.arange(7) % 3])
INDICES = np.stack([np.random.default_rng(seed).permutation(30)[:12] for seed in range(2)])
N_POINTS = np.array([[6, 12], [6, 12]])  # padded to one width
RUNS = ensemble_training.runs(INDICES, N_POINTS, seed=3)
SETTINGS = Settings(epochs=[2, 4])
# Round-off grows over the steps of Adam; a wrong step changes losses by more than 1e-3.
STEPS = dict(operations=100_000)

pytestmark = pytest.mark.usefixtures("quick_float64")


def recorded(schedule, settings=SETTINGS, **options):
    (result,) = recorded_training.train_ensemble(
        NETWORK, POOL, TEST, [RUNS], schedule=schedule, settings=settings, **options
    )
    return result


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(n_epochs=6, evaluate_every=2, trace_every=2),
        Schedule(n_epochs=6, batch_size=4, loss="cross-entropy"),
    ],
    ids=str,
)
def test_the_curves_are_those_without_a_recording(schedule):
    """Of subsets that are padded to two widths."""
    indices = np.stack([np.random.default_rng(seed).permutation(30)[:20] for seed in range(2)])
    runs = ensemble_training.runs(indices, np.array([[6, 20], [6, 20]]), seed=3)
    (plain,) = ensemble_training.train_ensemble(NETWORK, POOL, TEST, [runs], schedule=schedule)
    (result,) = recorded_training.train_ensemble(
        NETWORK, POOL, TEST, [runs], schedule=schedule, settings=SETTINGS
    )
    for name, curve in plain._asdict().items():
        assert_close(getattr(result.curves, name), curve, **STEPS)


@pytest.mark.parametrize(
    "schedule",
    [Schedule(n_epochs=8, evaluate_every=2), Schedule(n_epochs=6, batch_size=4)],
    ids=str,
)
def test_without_the_epochs_between_all_that_is_recorded_is_the_same(schedule):
    whole, part = recorded(schedule), recorded(schedule, between=False)
    is_recorded = np.isin(schedule.epochs, [0, 2, 4, schedule.n_epochs])
    for name, curve in whole.curves._asdict().items():
        recorded_curve = getattr(part.curves, name)
        assert_close(recorded_curve[:, is_recorded], curve[:, is_recorded], **STEPS)
        assert np.isnan(recorded_curve[:, ~is_recorded]).all() and np.isfinite(curve).all()
    table = whole.tables["recording"]
    pd.testing.assert_frame_equal(part.tables["recording"], table, rtol=1e-9)
    assert table["loss"].notna().all()


def test_rows_are_of_the_network_at_that_epoch():
    """Full-batch training by a plain loop on the points of only one run."""
    schedule, run = Schedule(n_epochs=6, learning_rate=0.01), 2  # member 1 with 6 points
    table = recorded_training.by_member(
        recorded(schedule).tables["recording"], N_POINTS, "classification"
    )
    table = table[(table["member"] == 1) & (table["n_points"] == 6)]
    assert table["epoch"].tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    subset = Points(*(leaf[INDICES[1, :6]] for leaf in POOL))
    params = parameters.initialise(NETWORK, RUNS.initialisation_keys[run], jnp.asarray(POOL.inputs))
    optimiser = optax.adam(0.01)
    state, kernels = optimiser.init(params), {}
    for epoch in range(7):
        for row in table[table["epoch"] == epoch].to_dict("records"):
            points = subset if row["points"] == "train" else TEST
            kernel = empirical.empirical_ntk(NETWORK.apply, params, points.inputs)
            first = kernels.setdefault(row["points"], kernel)
            outputs = np.asarray(NETWORK.apply(params, points.inputs))
            expected = {
                "loss": np.mean((outputs - points.targets) ** 2),
                "entropy": spectrum.entropy(spectrum.eigenvalues(kernel)),
                "trace": np.trace(kernel),
                "drift": np.linalg.norm(kernel - first) / np.linalg.norm(first),
            }
            assert_close(
                np.array([row[name] for name in expected]),
                np.array(list(expected.values())),
                **STEPS,
            )
            right = np.mean(outputs.argmax(axis=1) == points.targets.argmax(axis=1))
            assert (
                np.isnan(row["accuracy"])
                if row["points"] == "train"
                else row["accuracy"] == pytest.approx(right)
            )
        gradient = jax.grad(
            lambda p: jnp.mean((NETWORK.apply(p, subset.inputs) - subset.targets) ** 2)
        )(params)
        updates, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, updates)


def test_points_are_limited_as_asked():
    schedule = Schedule(n_epochs=2)
    few = recorded(schedule, Settings(epochs=[0], n_train=4, n_test=3, observables=[])).tables[
        "recording"
    ]
    first = few[(few["run"] == 1) & (few["epoch"] == 0)].set_index("points")
    params = parameters.initialise(NETWORK, RUNS.initialisation_keys[1], jnp.asarray(POOL.inputs))
    for points, inputs in {"train": POOL.inputs[INDICES[0, :4]], "test": TEST.inputs[:3]}.items():
        assert_close(
            np.array(first.loc[points, "trace"]),
            np.trace(empirical.empirical_ntk(NETWORK.apply, params, inputs)),
            **STEPS,
        )


def test_an_interrupted_recording_resumes_and_ends_with_the_same_numbers(monkeypatch):
    schedule, store = Schedule(n_epochs=4, batch_size=5), {}
    settings = Settings(epochs=[2], observables=["drift", "alignment", "classes", "modes"])
    whole = recorded(schedule, settings)
    recorded(schedule, settings, store=store)
    assert len(store) == 4
    del store[sorted(store)[1]]
    calls = []
    original = recording.Recording.record
    monkeypatch.setattr(
        recording.Recording,
        "record",
        lambda *arguments: (calls.append(arguments[1]), original(*arguments)),
    )
    again = recorded(schedule, settings, store=store)
    assert sorted(calls) == [0, 2, 4]
    for name in whole.tables:
        pd.testing.assert_frame_equal(
            again.tables[name], whole.tables[name], check_dtype=False, rtol=1e-12
        )
    for first, second in zip(again.curves, whole.curves):
        assert_close(first, second)


def test_samples_of_a_run_are_its_own_and_the_same_again():
    settings = Settings(epochs=[0], subsample={"n_samples": 2, "sample_size": 3}, observables=[])
    first, second = (recorded(Schedule(n_epochs=2), settings).tables["recording"] for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    at_start = first[(first["epoch"] == 0) & (first["points"] == "test")]
    # Members start from other networks; the two sizes of a member share network, key and so samples
    # of the test points.
    assert at_start["trace"].nunique() == 2


def test_a_run_that_diverges_stops_no_other():
    schedule = Schedule(n_epochs=4, optimiser="sgd", learning_rate=1e200)
    result = recorded(schedule)
    last = result.tables["recording"].query("epoch == 4")
    assert last["entropy"].isna().all() and not np.isfinite(result.curves.train_loss[:, -1]).any()
    assert result.tables["recording"].query("epoch == 0")["entropy"].notna().all()


def test_epochs_are_rounded_to_evaluations():
    result = recorded(Schedule(n_epochs=6, evaluate_every=3), Settings(epochs={"every": 2}))
    assert sorted(set(result.tables["recording"]["epoch"])) == [0, 3, 6]


def test_all_ensembles_come_back_in_their_order():
    other = ensemble_training.runs(INDICES[::-1], N_POINTS, seed=3)
    options = {"schedule": Schedule(n_epochs=2), "settings": Settings(epochs=[0])}
    both = recorded_training.train_ensemble(NETWORK, POOL, TEST, [RUNS, other], **options)
    alone = recorded_training.train_ensemble(NETWORK, POOL, TEST, [other], **options)
    assert_close(both[1].curves.train_loss, alone[0].curves.train_loss)


def test_without_settings_nothing_is_recorded():
    schedule = Schedule(n_epochs=4)
    result = recorded(schedule, None)
    assert all(table.empty for table in result.tables.values()) and set(result.tables) == set(
        recorded_training.TABLES
    )
    (plain,) = ensemble_training.train_ensemble(NETWORK, POOL, TEST, [RUNS], schedule=schedule)
    assert_close(result.curves.test_loss, plain.test_loss)


def test_a_regression_has_no_accuracy():
    table = recorded(Schedule(n_epochs=2), Settings(epochs=[0])).tables["recording"]
    rows = recorded_training.by_member(table, N_POINTS, "regression").query("points == 'test'")
    assert rows["accuracy"].isna().all() and len(rows)


def test_all_initial_parameters_are_scaled():
    result = recorded(
        Schedule(n_epochs=2),
        Settings(epochs=[0]),
        changes=recorded_training.Changes(weight_scale=2.0),
    )
    at_start = result.tables["recording"].query("epoch == 0 and points == 'train'")
    for row in at_start.itertuples():
        params = parameters.initialise(NETWORK, RUNS.initialisation_keys[row.run], POOL.inputs)
        doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
        points = POOL.inputs[RUNS.indices[row.run][: RUNS.n_points[row.run]]]
        assert_close(
            row.trace,
            np.array(exact.ntk_trace(NETWORK.apply, doubled, points)),
            operations=1000,
        )


@pytest.mark.parametrize(
    "schedule",
    [Schedule(n_epochs=6, evaluate_every=2), Schedule(n_epochs=4, batch_size=4)],
    ids=str,
)
def test_labels_are_exchanged_from_an_epoch_on(schedule):
    changes = recorded_training.Changes(label_noise=0.5, noise_from=2)
    plain, noisy = recorded(schedule), recorded(schedule, changes=changes)
    before, at = schedule.epochs < 2, schedule.epochs == 2
    assert_close(noisy.curves.train_loss[:, before], plain.curves.train_loss[:, before], **STEPS)
    # The train loss of the same network in epoch 2 is that of the new targets; the network differs
    # afterwards.
    assert (
        np.abs(noisy.curves.train_loss[:, at] / plain.curves.train_loss[:, at] - 1) > 1e-3
    ).all()
    assert_close(noisy.curves.test_loss[:, at], plain.curves.test_loss[:, at], **STEPS)
    assert (
        2 in noisy.tables["recording"]["epoch"].to_numpy()
    )  # where the training was stopped for it
    assert (np.abs(noisy.curves.test_loss[:, -1] / plain.curves.test_loss[:, -1] - 1) > 1e-4).all()


@pytest.mark.parametrize(
    ("fraction", "n_changed"), [(0.5, {6: 3, 12: 6}), (1.0, {6: 6, 12: 12}), (0.01, {6: 2, 12: 2})]
)
def test_as_many_labels_are_exchanged_as_asked_for_and_none_is_lost(fraction, n_changed):
    pool = POOL._replace(targets=jnp.arange(90.0).reshape(30, 3))
    for run in range(4):
        one = jax.tree.map(lambda leaf: leaf[run], RUNS)
        n, rows = int(one.n_points), one.indices[: one.n_points]
        targets = np.asarray(recorded_training.noisy_targets(pool.targets, one, fraction))
        changed = (targets != np.asarray(pool.targets)).any(axis=1)
        assert changed.sum() == n_changed[n] and set(np.flatnonzero(changed)) <= set(rows)
        assert sorted(map(tuple, targets[rows])) == sorted(
            map(tuple, np.asarray(pool.targets)[rows])
        )


@pytest.mark.parametrize(
    ("noise_from", "message"),
    [
        (8, "noise_from must be a multiple of evaluate_every: received 8 and 5."),
        (15, "noise_from must not exceed n_epochs: 15 > 10."),
        (-5, "noise_from must be at least 0: received -5."),
    ],
)
def test_labels_that_would_change_between_two_evaluations_are_refused(
    noise_from, message, monkeypatch
):
    """A training stops only at its evaluations; epoch 8 would become 5 or 10 in silence."""
    monkeypatch.setattr(recorded_training.execution, "run", None)
    changes = recorded_training.Changes(label_noise=0.5, noise_from=noise_from)
    with pytest.raises(ValueError) as caught:
        recorded(Schedule(n_epochs=10, evaluate_every=5), changes=changes)
    assert str(caught.value) == message


def test_without_label_noise_the_epoch_of_its_start_does_not_matter():
    changes = recorded_training.Changes(noise_from=8)
    result = recorded(
        Schedule(n_epochs=10, evaluate_every=5), Settings(epochs=[0]), changes=changes
    )
    assert sorted(set(result.tables["recording"]["epoch"])) == [0, 10]
