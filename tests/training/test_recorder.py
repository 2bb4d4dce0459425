"""A recorder in loops that are not of this package: Flax, NNX, Equinox-like and plain functions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax import nnx

from collective_variables.kernels import empirical
from collective_variables.networks import sequential
from collective_variables.observables import collective, spectrum
from collective_variables.training.any_loop import recorder as recorders
from collective_variables.training.position import decomposition

pytestmark = pytest.mark.usefixtures("quick_float64")

GENERATOR = np.random.default_rng(0)
X, TARGETS = GENERATOR.normal(size=(8, 3)), GENERATOR.normal(size=(8, 2))
NETWORK = sequential.build_network(["dense 5", "dense 2"], activation="tanh")
START = jax.tree.map(
    lambda leaf: np.asarray(leaf, float), NETWORK.init(jax.random.key(0), np.float32(X[:1]))
)


def trained(apply_fn, params, n_steps, recorder, loss=lambda f, y: jnp.mean((f - y) ** 2)):
    """Gradient descent, with a call of the recorder before each step; all parameters."""
    gradient = jax.jit(jax.grad(lambda params: loss(apply_fn(params, X), TARGETS)))
    history = []
    for step in range(n_steps + 1):
        history.append(params)
        recorder(step, params)
        params = optax.apply_updates(params, jax.tree.map(lambda g: -0.1 * g, gradient(params)))
    return history


def test_a_row_has_what_the_functions_give():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS, every=5)
    history = trained(NETWORK.apply, START, 10, recorder)
    table = recorder.table()
    assert table["step"].tolist() == [0, 5, 10]
    first = np.asarray(empirical.empirical_ntk(NETWORK.apply, history[0], X))
    for _, row in table.iterrows():
        params = history[int(row["step"])]
        kernel = np.asarray(empirical.empirical_ntk(NETWORK.apply, params, X))
        variables = spectrum.collective_variables(spectrum.eigenvalues(kernel))
        found = decomposition.decompose(NETWORK.apply, params, X, TARGETS)
        expected = {name: variables[name] for name in recorders.SPECTRAL} | {
            "drift": collective.relative_distance(kernel, first),
            "initial_alignment": collective.kernel_alignment(kernel, first),
            "target_alignment": collective.target_alignment(kernel, TARGETS),
            **{name: getattr(found, name) for name in recorders.POSITION},
        }
        assert row.drop("step").to_dict() == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert table["loss"].is_monotonic_decreasing and table["drift"].iloc[0] == 0.0


def test_the_loss_falls_at_the_rate_that_is_recorded():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS)
    loss = lambda params: jnp.mean((NETWORK.apply(params, X) - TARGETS) ** 2)
    gradient = jax.grad(loss)(START)
    recorder(0, START)
    after = jax.tree.map(lambda leaf, g: leaf - 1e-6 * g, START, gradient)
    fall = float(loss(START) - loss(after)) / 1e-6
    assert recorder.table()["delta_loss"].item() == pytest.approx(fall, rel=1e-4)


def test_a_step_that_takes_over_the_memory_of_the_parameters_changes_no_record():
    """The numbers are computed while the loop goes on."""
    tables = []
    for donated in ((), (0,)):
        recorder = recorders.Recorder(NETWORK.apply, X, TARGETS, every=1)
        update = jax.jit(lambda w: jax.tree.map(lambda leaf: leaf * 0.9, w), donate_argnums=donated)
        params = jax.tree.map(jnp.array, START)
        for step in range(5):
            recorder(step, params)
            params = update(params)
        tables.append(recorder.table())
    pd.testing.assert_frame_equal(*tables)


def test_steps_are_spaced_logarithmically():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS)
    assert recorder.steps(20) == [0, 1, 2, 3, 4, 6, 9, 13, 19]
    assert len(recorder.steps(2000)) == 20
    trained(NETWORK.apply, START, 20, recorder)
    assert recorder.table()["step"].tolist() == recorder.steps(20)


def test_steps_between_calls_count_at_the_next_call():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS, every=3)
    for step in (0, 2, 4, 5, 11):
        recorder(step, START)
    assert recorder.table()["step"].tolist() == [0, 4, 11]
    recorder.record(12, START)
    assert recorder.table()["step"].tolist() == [0, 4, 11, 12]
    with pytest.raises(ValueError, match="greater than the last recorded one, 12: received 12"):
        recorder.record(12, START)


def test_points_are_drawn_from_the_seed():
    rows = [
        recorders.Recorder(NETWORK.apply, X, TARGETS, n_points=3, seed=seed).rows_.tolist()
        for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2] and len(set(rows[0])) == 3
    drawn = recorders.Recorder(NETWORK.apply, X, TARGETS, n_points=3)
    whole = recorders.Recorder(NETWORK.apply, X[drawn.rows_], TARGETS[drawn.rows_])
    for recorder in (drawn, whole):
        recorder(0, START)
    assert drawn.table().equals(whole.table())


class Normalised(nn.Module):
    """Batch normalisation and dropout, as people have them."""

    @nn.compact
    def __call__(self, x, train=False):
        y = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(jnp.tanh(y)))


def test_batch_normalisation_has_fixed_statistics_and_dropout_is_off():
    model = Normalised()
    variables = model.init(jax.random.key(0), X)
    variables = jax.tree.map(lambda leaf: leaf.astype(float), variables)
    recorder = recorders.Recorder(model.apply, X, TARGETS)
    recorder(0, variables)
    fixed = lambda params, x: model.apply(variables | {"params": params}, x)
    expected = decomposition.decompose(fixed, variables["params"], X, TARGETS)
    assert recorder.table()["chi_net"].item() == pytest.approx(expected.chi_net)
    assert recorder.table()["delta_loss"].item() == pytest.approx(expected.delta_loss)


def test_nnx_is_recorded_while_it_trains():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0), param_dtype=float)
    graph, params = nnx.split(model)
    recorder = recorders.Recorder(lambda params, x: nnx.merge(graph, params)(x), X, TARGETS)
    recorder(0, params)
    # A linear layer with biases: the kernel is that of inputs and a one, for each output.
    trace = 2 * np.sum(np.column_stack([X, np.ones(8)]) ** 2)
    assert recorder.table()["chi_net"].item() == pytest.approx(trace)
    assert recorder.table()["trace"].item() == pytest.approx(trace / 2)


def test_a_function_of_one_point_and_static_parts_is_recorded_as_in_equinox():
    static = {"activation": jnp.tanh}
    single = lambda params, point: static["activation"](params["w"] @ point)
    apply_fn = lambda params, x: jax.vmap(lambda point: single(params, point))(x)
    recorder = recorders.Recorder(apply_fn, X, TARGETS)
    params = {"w": jnp.asarray(GENERATOR.normal(size=(2, 3)))}
    trained(apply_fn, params, 4, recorder)
    assert recorder.table()["loss"].is_monotonic_decreasing


@pytest.mark.parametrize("targets", [np.arange(8) % 2, np.eye(2)[np.arange(8) % 2]])
def test_classes_may_be_whole_numbers_or_one_hot(targets):
    recorder = recorders.Recorder(NETWORK.apply, X, targets, loss="cross-entropy")
    recorder(0, START)
    row = recorder.table().iloc[0]
    kernel = empirical.empirical_ntk(NETWORK.apply, START, X)
    expected = collective.target_alignment(kernel, np.eye(2)[np.arange(8) % 2])
    assert row["target_alignment"] == pytest.approx(expected)


def test_other_targets_have_no_alignment():
    loss = lambda outputs, pair: jnp.mean(pair[1] * jnp.sum((outputs - pair[0]) ** 2, axis=1))
    weights = GENERATOR.uniform(size=8)
    recorder = recorders.Recorder(NETWORK.apply, X, (TARGETS, weights), loss=loss)
    recorder(0, START)
    assert "target_alignment" not in recorder.table()
    assert recorder.table()["loss"].item() > 0


def test_a_training_that_diverges_is_recorded_as_nan_and_goes_on():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS, every=1)
    lost = jax.tree.map(lambda leaf: leaf * jnp.nan, START)
    for step, params in enumerate((START, lost, START)):
        recorder(step, params)
    table = recorder.table()
    assert table.drop(columns="step").isna().all(axis=1).tolist() == [False, True, False]
    assert table["drift"].tolist()[2] == 0.0


def test_the_cost_is_known_before_and_leaves_no_record():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS)
    cost = recorder.cost(START, 2000)
    assert cost.n_records == 20
    assert cost.seconds_first > cost.seconds_each > 0
    assert cost.seconds == pytest.approx(cost.seconds_first + 19 * cost.seconds_each)
    assert recorder.table().empty
    recorder(0, START)
    assert len(recorder.table()) == 1


def test_the_figure_has_a_panel_for_each_quantity():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS)
    trained(NETWORK.apply, START, 4, recorder)
    figure, table = recorder.figure(), recorder.table()
    drawn = {trace.name: trace for trace in figure.data}
    assert len(drawn) == 6
    assert list(drawn["Spectral position"].y) == table["chi_pos"].tolist()
    assert list(drawn["Loss"].x) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"every": 0}, "every must be at least 1"),
        ({"n_points": 0}, "n_points must be at least 1"),
        ({"loss": "hinge"}, "loss must be one of cross-entropy, mse"),
        ({"targets": TARGETS[:5]}, "targets must be those of 8 points"),
        ({"x": X * np.nan}, "x must be finite"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    arguments = {"x": X, "targets": TARGETS} | changes
    with pytest.raises(ValueError, match=message):
        recorders.Recorder(NETWORK.apply, **arguments)


def test_before_the_first_record_the_table_is_empty_and_there_is_no_figure():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS)
    assert len(recorder.table()) == 0
    with pytest.raises(ValueError, match="figure needs a record: received none. Call the recorder"):
        recorder.figure()
    recorder(0, START)
    columns = [name for name in recorder.table() if name != "target_alignment"]
    assert recorders.Recorder(NETWORK.apply, X, TARGETS).table().columns.tolist() == columns


def test_targets_that_do_not_fit_the_outputs_are_refused_at_the_first_record():
    recorder = recorders.Recorder(NETWORK.apply, X, TARGETS[:, :1])
    with pytest.raises(ValueError, match=r"targets must have the shape of the outputs, \(8, 2\)"):
        recorder(0, START)
    assert recorder.table().empty
    classes = recorders.Recorder(NETWORK.apply, X, np.arange(8) % 2)
    with pytest.raises(ValueError, match="For classes, choose the loss cross-entropy"):
        classes(0, START)
