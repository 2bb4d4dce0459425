import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close

from collective_variables.ensembles import batching, execution, seeding
from collective_variables.networks import sequential
from collective_variables.training import ensemble_training, loop
from collective_variables.training.ensemble_training import Runs
from collective_variables.training.loop import Curves, Points
from collective_variables.training.schedules import Schedule

NETWORK = sequential.build_network(["dense 5", "dense 3"])
GENERATOR = np.random.default_rng(0)
ONE_HOT = np.eye(3)[np.arange(24) % 3]
POOL = Points(GENERATOR.normal(size=(24, 4)), ONE_HOT)
TEST = Points(GENERATOR.normal(size=(7, 4)), ONE_HOT[:7])
KEY, SEED = jax.random.key(3), 2
# Round-off grows over the steps of Adam; a wrong step changes losses by more than 1e-3.
STEPS = dict(operations=100_000)


pytestmark = pytest.mark.usefixtures("quick_float64")


def mse(outputs, targets):
    return ((outputs - targets) ** 2).sum() / targets.size


def cross_entropy(outputs, targets):
    probabilities = jnp.exp(outputs) / jnp.exp(outputs).sum(axis=1, keepdims=True)
    return -(targets * jnp.log(probabilities)).sum() / len(targets)


@functools.cache
def plain_step(schedule):
    loss = {"mse": mse, "cross-entropy": cross_entropy}[schedule.loss]
    optimiser = getattr(optax, schedule.optimiser)(schedule.learning_rate)

    @jax.jit
    def step(params, state, inputs, targets, factor):
        gradient = jax.grad(lambda p: loss(NETWORK.apply(p, inputs), targets))(params)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda leaf: factor * leaf, updates)), state

    return loss, optimiser, step


@jax.jit
def plain_trace(params, inputs):
    """Of the kernel, a mean over three outputs."""
    leaves = jax.tree.leaves(jax.jacrev(lambda p: NETWORK.apply(p, inputs))(params))
    return sum((leaf**2).sum() for leaf in leaves) / 3


def order_of_epoch(key, epoch, n_points):
    key = jax.random.fold_in(key, epoch)
    return sorted(
        range(n_points), key=lambda row: float(jax.random.uniform(jax.random.fold_in(key, row)))
    )


def plain_loop(params, subset, schedule, key):
    """Curves of training on exactly `subset`: loops over epochs and lists of rows, without
    padding.
    """
    loss, optimiser, step = plain_step(schedule)
    state, curves, traces, factor, n_steps = optimiser.init(params), [], [], 1.0, 0
    for epoch in range(schedule.n_epochs + 1):
        if epoch % schedule.evaluate_every == 0:
            outputs, test = (
                np.asarray(NETWORK.apply(params, points.inputs)) for points in (subset, TEST)
            )
            right = [row.argmax() == target.argmax() for row, target in zip(test, TEST.targets)]
            curves.append(
                [loss(outputs, subset.targets), loss(test, TEST.targets), sum(right) / len(right)]
            )
        n_points = len(subset.inputs)
        rows = (
            order_of_epoch(key, epoch, n_points) if schedule.batch_size else list(range(n_points))
        )
        while rows:
            batch, rows = (
                np.array(rows[: schedule.batch_size]),
                rows[schedule.batch_size or n_points :],
            )
            if schedule.trace_every and n_steps % schedule.trace_every == 0:
                traces.append(plain_trace(params, subset.inputs))
                factor = traces[0] / (traces[-1] + 1e-8)
            params, state = step(params, state, subset.inputs[batch], subset.targets[batch], factor)
            n_steps += 1
    return Curves(*np.array(curves, float).T)


def initial(key=KEY):
    return NETWORK.init(key, POOL.inputs[:1])


def first(n_points):
    return Points(*(jnp.asarray(part[:n_points]) for part in POOL))


def assert_curves_close(actual, expected):
    for name in Curves._fields:
        assert_close(getattr(actual, name), getattr(expected, name), **STEPS)


# one network


@pytest.mark.parametrize(
    "schedule, n_points, size",
    [
        (Schedule("mse", "adam", 0.02, n_epochs=6, evaluate_every=3), 10, 10),
        (
            Schedule("cross-entropy", "sgd", 0.3, n_epochs=4, batch_size=4),
            10,
            10,
        ),  # the last batch has 2 points
        (Schedule("mse", "adamw", 0.02, n_epochs=6, batch_size=4, evaluate_every=2), 10, 13),
        (Schedule("mse", "sgd", 0.3, n_epochs=4, batch_size=4, trace_every=2), 10, 13),
    ],
    ids=["full batch", "mini-batches", "mini-batches with padding", "rate by the trace"],
)
def test_training_is_a_plain_loop_over_exactly_the_points_of_the_subset(schedule, n_points, size):
    curves = loop.train(
        NETWORK, initial(), first(size), TEST, schedule=schedule, key=KEY, n_points=n_points
    )
    assert_curves_close(curves, plain_loop(initial(), first(n_points), schedule, KEY))
    assert all(len(curve) == len(schedule.epochs) for curve in curves)


def test_the_rate_by_the_trace_is_not_that_of_the_optimiser():
    """So that the plain loop can tell one from the other."""
    losses = [
        loop.train(NETWORK, initial(), first(10), TEST, schedule=schedule, key=KEY).train_loss
        for schedule in (
            Schedule("mse", "sgd", 0.3, n_epochs=4, batch_size=4, trace_every=steps)
            for steps in (None, 2)
        )
    ]
    assert abs(losses[0][-1] / losses[1][-1] - 1) > 1e-3


@pytest.mark.parametrize("batch_size", [None, 2])
def test_padding_changes_nothing_whatever_it_holds(batch_size):
    schedule = Schedule(n_epochs=2, batch_size=batch_size)

    @jax.jit
    def train(fill):
        padded = Points(*(jnp.where(np.arange(8)[:, None] < 5, part, fill) for part in first(8)))
        return loop.train(NETWORK, initial(), padded, TEST, schedule=schedule, key=KEY, n_points=5)

    for fill in (1e3, 1e200, np.inf, np.nan):
        assert_curves_close(train(fill), train(0.0))


def test_a_batch_larger_than_the_subset_is_the_whole_subset():
    one = Schedule(optimiser="sgd", n_epochs=2, batch_size=100)
    curves = loop.train(NETWORK, initial(), first(5), TEST, schedule=one, key=KEY)
    assert_curves_close(
        curves, plain_loop(initial(), first(5), Schedule(optimiser="sgd", n_epochs=2), None)
    )


def test_mini_batches_need_a_key():
    with pytest.raises(ValueError, match="key must be given for mini-batches: received None."):
        loop.train(NETWORK, initial(), first(5), TEST, schedule=Schedule(batch_size=2))


# ensembles: 2 methods of 3 members, and a third whose only member holds the point that makes the
# loss infinite. In each of the buckets 16 and 18 are 7 runs, which are no multiple of a chunk.

SCHEDULE = Schedule(learning_rate=0.02, n_epochs=4, batch_size=4, evaluate_every=2)
SIZES = [5, 18]
POISONED = Points(
    np.concatenate([POOL.inputs, np.full((1, 4), 1e200)]), np.concatenate([ONE_HOT, ONE_HOT[:1]])
)
INDICES = [
    np.stack([np.random.default_rng(seed + m).permutation(24)[:18] for m in range(3)])
    for seed in (10, 20)
]
INDICES.append(np.concatenate([[24], np.arange(17)])[None])


def train_all(store=None, schedule=SCHEDULE):
    runs = [
        ensemble_training.runs(rows, np.tile(SIZES, (len(rows), 1)), seed=SEED) for rows in INDICES
    ]
    return ensemble_training.train_ensemble(
        NETWORK, POISONED, TEST, runs, schedule=schedule, store=store
    )


@functools.cache
def trained():
    return train_all()


@pytest.mark.parametrize("method", [0, 1])
def test_an_ensemble_is_its_runs_one_by_one_each_on_its_exact_subset_in_their_order(method):
    keys = [seeding.key(SEED, use) for use in ("initialisation", "batches")]
    assert trained()[method].train_loss.shape == (6, 3)
    for member in range(3):
        initialisation, batches = (jax.random.fold_in(key, member) for key in keys)
        for place, size in enumerate(SIZES):
            subset = Points(*(part[INDICES[method][member, :size]] for part in POOL))
            expected = plain_loop(initial(initialisation), subset, SCHEDULE, batches)
            assert_curves_close(
                Curves(*(curve[2 * member + place] for curve in trained()[method])), expected
            )


def test_a_member_starts_from_one_network_at_every_size_and_with_every_method():
    before = np.stack([curves.test_loss[:, 0].reshape(3, 2) for curves in trained()[:2]])
    np.testing.assert_array_equal(before, np.broadcast_to(before[:1, :, :1], before.shape))
    assert len(np.unique(before)) == 3


def test_a_run_that_diverges_is_marked_and_stops_no_other():
    tables = [
        ensemble_training.losses_table(curves, np.tile(SIZES, (len(rows), 1)), "regression")
        for curves, rows in zip(trained(), INDICES)
    ]
    assert [table["diverged"].tolist() for table in tables] == [
        [False] * 6,
        [False] * 6,
        [True] * 2,
    ]
    assert (
        np.isnan(trained()[2].test_loss[:, -1]).all()
        and np.isfinite(trained()[2].test_loss[:, 0]).all()
    )


@pytest.mark.parametrize("n_together, in_turn", [(1, 7), (2, 3), (1, 4)])
def test_runs_that_share_a_call_in_turn_have_the_same_curves_as_those_side_by_side(
    n_together, in_turn, monkeypatch
):
    monkeypatch.setattr(batching, "chunk_size", lambda n_parameters, n_members: n_together)
    monkeypatch.setattr(ensemble_training, "CALLS_PER_WIDTH", 1)
    monkeypatch.setattr(ensemble_training, "MOST_IN_TURN", in_turn)
    store = {}
    for curves, expected in zip(train_all(store)[:2], trained()[:2]):  # the third diverges
        assert_curves_close(curves, expected)
    assert {len(arrays["train_loss"]) for arrays in store.values()} == {n_together * in_turn}


def test_many_runs_are_padded_to_more_sizes_and_have_the_same_curves(monkeypatch):
    monkeypatch.setattr(batching, "SMALLEST_BUCKET", 4)
    store = {}
    monkeypatch.setattr(ensemble_training, "FINE_FROM", 14)
    for curves, expected in zip(train_all(store)[:2], trained()[:2]):  # the third diverges
        assert_curves_close(curves, expected)
    assert {name.split("-")[1] for name in store} == {"6", "18"}  # for 5 and 18 points


class Interrupted(Exception):
    pass


class Interrupting(dict):
    """A store that interrupts what writes to it for the third time."""

    def __setitem__(self, name, arrays):
        if len(self) == 2:
            raise Interrupted
        super().__setitem__(name, arrays)


def test_an_interrupted_ensemble_resumes_and_ends_with_the_same_numbers():
    store = Interrupting()
    with pytest.raises(Interrupted):
        train_all(store)
    rest = dict(store)
    again = train_all(rest)
    assert len(store) == 2 and len(rest) == 4  # two sizes of subsets with 7 runs each, five at once
    for curves, expected in zip(again, trained()):
        np.testing.assert_equal(curves, expected)
    # What is there is read and not computed again.
    marked = {
        name: arrays | {"test_loss": arrays["test_loss"] + 1} for name, arrays in rest.items()
    }
    np.testing.assert_equal(train_all(marked)[0].test_loss, trained()[0].test_loss + 1)
    # And nothing of another call is.
    train_all(rest, Schedule(learning_rate=0.03, n_epochs=4, batch_size=4, evaluate_every=2))
    assert len(rest) == 8


def test_runs_repeat_each_member_for_its_sizes_with_the_keys_of_its_number():
    indices, n_points = np.arange(8).reshape(2, 4), np.array([[2, 4], [3, 4]])
    runs = ensemble_training.runs(indices, n_points, seed=SEED)
    assert isinstance(runs, Runs) and runs.n_points.tolist() == [2, 4, 3, 4]
    np.testing.assert_array_equal(runs.indices, indices[[0, 0, 1, 1]])
    for keys, purpose in (
        (runs.initialisation_keys, "initialisation"),
        (runs.batch_keys, "batches"),
    ):
        expected = [
            jax.random.fold_in(seeding.key(SEED, purpose), member) for member in (0, 0, 1, 1)
        ]
        np.testing.assert_array_equal(
            jax.random.key_data(keys), [jax.random.key_data(key) for key in expected]
        )


def test_networks_and_points_that_do_not_fit_are_errors_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(execution, "run", None)
    runs = [ensemble_training.runs(INDICES[0], np.full((3, 1), 5), seed=SEED)]

    def message(pool):
        with pytest.raises(ValueError) as caught:
            ensemble_training.train_ensemble(NETWORK, pool, TEST, runs, schedule=SCHEDULE)
        return str(caught.value)

    wide = message(POOL._replace(targets=np.zeros((24, 2))))
    assert wide == "The last layer must have as many outputs as the targets: 3 != 2."
    for name in ("inputs", "targets"):
        bad = getattr(POOL, name).copy()
        bad[4, 1] = np.nan
        expected = (
            f"{name} of the pool must be finite: 1 of {bad.size} values are NaN or infinite, "
            "the first at (4, 1)."
        )
        assert message(POOL._replace(**{name: bad})) == expected


# tables


def test_a_table_holds_the_smallest_and_last_losses_of_each_run_in_their_order():
    train = np.array([[4.0, 2, 3], [9, 8, 7], [5, np.nan, 6], [1, np.inf, np.nan]])
    test = np.array([[6.0, 5, 8], [3, 4, 5], [7, 7, 7], [2, 1, 2]])
    accuracy = np.array([[0.1, 0.5, 0.4], [0.2, 0.3, 0.3], [0, 0, 0], [0, 0, 0]])
    table = ensemble_training.losses_table(
        Curves(train, test, accuracy), np.array([[5, 9], [6, 8]]), "classification"
    )
    expected = {
        "member": [0, 0, 1, 1],
        "n_points": [5, 9, 6, 8],
        "min_test_loss": [5, 3, 7, 1],
        "final_test_loss": [8, 5, 7, 2],
        "min_train_loss": [2, 7, 5, 1],
        "max_test_accuracy": [0.5, 0.3, 0, 0],
        "final_test_accuracy": [0.4, 0.3, 0, 0],
        "diverged": [False, False, True, True],
    }
    assert {name: table[name].tolist() for name in expected} == expected
    assert table["final_train_loss"].tolist()[:3] == [3, 7, 6] and not np.isfinite(
        table["final_train_loss"][3]
    )


def test_a_regression_has_no_accuracy():
    curves = Curves(*np.ones((3, 2, 4)))
    table = ensemble_training.losses_table(curves, np.array([[5], [6]]), "regression")
    assert (
        table[["max_test_accuracy", "final_test_accuracy"]].isna().all(axis=None)
        and not table["diverged"].any()
    )


# schedules


def test_epochs_run_from_0_to_the_last():
    assert Schedule(n_epochs=6, evaluate_every=2).epochs.tolist() == [0, 2, 4, 6]
    assert Schedule(n_epochs=3).epochs.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "field, value, error, message",
    [
        ("loss", "hinge", ValueError, "loss must be one of cross-entropy, mse: received 'hinge'."),
        (
            "evaluate_every",
            7,
            ValueError,
            "evaluate_every must divide n_epochs: received 7 and 500.",
        ),
        ("trace_every", 0, ValueError, "trace_every must be at least 1: received 0."),
        (
            "learning_rate",
            -0.1,
            ValueError,
            "learning_rate must be greater than 0.0: received -0.1.",
        ),
        (
            "learning_rate",
            "1e-3",
            TypeError,
            "learning_rate must be a number: received '1e-3'. YAML reads 1e-3 as te",
        ),
        ("learning_rate", True, TypeError, "learning_rate must be a number: received True."),
        ("batch_size", 0, ValueError, "batch_size must be at least 1: received 0."),
        ("n_epochs", 0, ValueError, "n_epochs must be at least 1: received 0."),
        ("n_epochs", 5.0, TypeError, "n_epochs must be an integer: received 5.0."),
    ],
)
def test_a_wrong_schedule_is_an_error_that_names_the_field(field, value, error, message):
    with pytest.raises(error) as caught:
        Schedule(**{field: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "name",
    [
        "adem",
        "softmax_cross_entropy",
        "constant_schedule",
        "chain",
        "clip",
        "Schedule",
        "lbfgs",
        None,
    ],
)
def test_anything_but_an_optimiser_of_optax_with_a_learning_rate_is_an_error(name):
    message = (
        "optimiser must be one of optax's that need only a learning rate and gradients, "
        "such as 'adam': received"
    )
    with pytest.raises(ValueError) as caught:
        Schedule(optimiser=name)
    assert str(caught.value) == f"{message} {name!r}."


def test_an_index_outside_the_pool_or_ensembles_of_different_widths_are_errors():
    def runs(indices):
        return ensemble_training.runs(np.array([indices]), np.array([[3]]), seed=0)

    with pytest.raises(
        ValueError, match="^indices must be rows of the pool, 0 to 23: received 24.$"
    ):
        ensemble_training.train_ensemble(
            NETWORK, POOL, TEST, [runs([0, 1, 2]), runs([3, 24, 5])], schedule=Schedule(n_epochs=1)
        )
    with pytest.raises(
        ValueError,
        match=r"^Ensembles trained together must select equally many points: received \[3, 4\].$",
    ):
        ensemble_training.train_ensemble(
            NETWORK,
            POOL,
            TEST,
            [runs([0, 1, 2, 3]), runs([3, 4, 5])],
            schedule=Schedule(n_epochs=1),
        )


@pytest.mark.parametrize(
    "pool, test",
    [
        (np.ones((24, 1)), np.ones((7, 1))),
        (POOL.inputs[:, :3], TEST.targets),
        (POOL.targets, 2 * TEST.targets),
    ],
)
def test_cross_entropy_wants_classes(pool, test):
    network = sequential.build_network(["dense 5", f"dense {pool.shape[1]}"])
    data = Points(POOL.inputs, pool), Points(TEST.inputs, test)
    ensemble = ensemble_training.runs(np.arange(4)[None], np.array([[3]]), seed=0)
    with pytest.raises(
        ValueError,
        match="^loss 'cross-entropy' needs targets that are one-hot over at least 2 classes: ",
    ):
        ensemble_training.train_ensemble(
            network, *data, [ensemble], schedule=Schedule("cross-entropy", n_epochs=1)
        )
