"""The recording, compared with an explicit Jacobian in plain float64 loops, and its rules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from collective_variables.networks import sequential
from collective_variables.training.recording import Points, Recorder, Settings, recorded_epochs

NETWORK = sequential.build_network(["dense 6", "dense 3"], activation="tanh")
GENERATOR = np.random.default_rng(0)
CLASSES = np.array([0, 1, 2, 0, 1, 0, 2, 1])
POINTS = Points(GENERATOR.normal(size=(8, 4)), np.eye(3)[CLASSES])
OTHERS = Points(GENERATOR.normal(size=(5, 4)), np.eye(3)[CLASSES[:5]])
EVERY = (
    "drift",
    "alignment",
    "cosine",
    "magnitude",
    "loss-derivative",
    "loss-kernel",
    "position",
    "fisher",
)

pytestmark = pytest.mark.usefixtures("quick_float64")


def params(seed, scale=1.0):
    drawn = jax.jit(NETWORK.init)(jax.random.key(seed), jnp.ones((1, 4)))
    # Biases too.
    return jax.tree.map(
        lambda leaf: (
            scale * leaf.astype(float) + 0.3 * np.cos(np.arange(leaf.size)).reshape(leaf.shape)
        ),
        drawn,
    )


jacobian_leaves = jax.jit(
    lambda weights, inputs: jax.jacrev(lambda p: NETWORK.apply(p, inputs))(weights)
)


def jacobian(weights, inputs):
    """(n, C, P) by one reverse pass for each entry."""
    leaves = jax.tree.leaves(jacobian_leaves(weights, inputs))
    return np.concatenate(
        [np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1
    )


def kernel_of(jacobian):
    n, n_outputs, _ = jacobian.shape
    return np.array(
        [
            [sum(a @ b for a, b in zip(jacobian[i], jacobian[j])) / n_outputs for j in range(n)]
            for i in range(n)
        ]
    )


def naive_entropy(kernel):
    p = np.linalg.eigvalsh(kernel)
    p = p[p > 1e-12 * p.max()] / p.sum()
    return -sum(x * math.log(x) for x in p)


def softmax(outputs):
    exponentials = np.exp(outputs)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def plain_row(weights, initial, points, loss):
    """Every observable of one network, from its definition."""
    inputs, targets = points
    n, n_outputs = targets.shape
    all_gradients, outputs = (
        jacobian(weights, inputs),
        np.asarray(NETWORK.apply(weights, inputs)),
    )
    kernel, first = kernel_of(all_gradients), kernel_of(jacobian(initial, inputs))
    trace, largest = sum(kernel[i, i] for i in range(n)), np.linalg.eigvalsh(kernel)[-1]
    target_kernel, centring = targets @ targets.T, np.eye(n) - 1 / n
    frobenius = lambda a, b: sum(a[i, j] * b[i, j] for i in range(n) for j in range(n))
    cosine = lambda a, b: frobenius(a, b) / math.sqrt(frobenius(a, a) * frobenius(b, b))
    lengths = [math.sqrt(kernel[i, i]) for i in range(n)]
    shares = [length / sum(lengths) for length in lengths]
    mean = sum(lengths) / n
    if loss == "mse":
        derivative = 2 * (outputs - targets) / n_outputs
        scores = [[all_gradients[i, c] for c in range(n_outputs)] for i in range(n)]
    else:
        p = softmax(outputs)
        derivative = p - targets
        log_gradients = [
            [all_gradients[i, c] - p[i] @ all_gradients[i] for c in range(n_outputs)]
            for i in range(n)
        ]
        scores = [
            [math.sqrt(p[i, c]) * log_gradients[i][c] for c in range(n_outputs)] for i in range(n)
        ]
    loss_gradients = np.array([derivative[i] @ all_gradients[i] for i in range(n)])
    chi_loss = sum(row @ row for row in derivative) / n**2
    slope = sum(loss_gradients) / n
    fisher = sum(np.outer(score, score) for rows in scores for score in rows)
    return {
        "entropy": naive_entropy(kernel),
        "trace": trace,
        "largest_eigenvalue": largest,
        "effective_entropy": naive_entropy(kernel) / math.log(n),
        "effective_rank": math.exp(naive_entropy(kernel)),
        "trace_per_point": trace / n,
        "largest_eigenvalue_fraction": largest / trace,
        "drift": math.sqrt(frobenius(kernel - first, kernel - first) / frobenius(first, first)),
        "initial_alignment": cosine(kernel, first),
        "rotation": math.acos(cosine(kernel, first)),
        "target_alignment": cosine(kernel, target_kernel),
        "centred_target_alignment": cosine(
            centring @ kernel @ centring, centring @ target_kernel @ centring
        ),
        "cosine_entropy": naive_entropy(kernel / np.outer(lengths, lengths)),
        "magnitude_entropy": -sum(x * math.log(x) for x in shares),
        "magnitude_variance": sum((length - mean) ** 2 for length in lengths) / n / mean**2,
        "loss_derivative": sum(np.linalg.norm(row) for row in derivative) / n,
        "loss_entropy": naive_entropy(loss_gradients @ loss_gradients.T),
        "loss_trace": sum(gradient @ gradient for gradient in loss_gradients),
        "chi_loss": chi_loss,
        "chi_net": n_outputs * trace,
        "chi_pos": slope @ slope / (chi_loss * n_outputs * trace),
        "delta_loss": slope @ slope,
        "fisher_trace": np.trace(fisher),
    }


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_every_observable_is_that_of_an_explicit_jacobian(loss):
    record = Recorder(NETWORK.apply, Settings(observables=EVERY), loss=loss).recording(
        {"train": POINTS, "test": OTHERS}
    )
    networks_in_turn = [params(0), params(1), params(2, scale=2.0)]
    for epoch, weights in zip((0, 3, 7), networks_in_turn):
        record.record(epoch, weights)
    table = record.tables["recording"]
    assert table[["points", "epoch"]].values.tolist() == [
        [kind, epoch] for epoch in (0, 3, 7) for kind in ("train", "test")
    ]
    for kind, points in {"train": POINTS, "test": OTHERS}.items():
        for epoch, weights in zip((3, 7), networks_in_turn[1:]):
            row = table[(table["points"] == kind) & (table["epoch"] == epoch)].iloc[0]
            expected = plain_row(weights, networks_in_turn[0], points, loss)
            assert_close(
                row[list(expected)].to_numpy(float),
                np.array(list(expected.values())),
                operations=1e6,
            )
    first = table[table["epoch"] == 0]
    assert (first["drift"] == 0).all() and (first["rotation"] < 1e-7).all()


def test_positions_do_not_depend_on_padding_nor_on_how_outputs_are_combined():
    rows = []
    for outputs, widths in (("mean", {}), ("sum", {}), ("mean", {"train": 16})):
        settings = Settings(observables=["position"], outputs=outputs)
        recorder = Recorder(NETWORK.apply, settings, loss="cross-entropy")
        record = recorder.recording({"train": POINTS}, widths=widths)
        record.record(0, params(1))
        rows.append(record.tables["recording"].iloc[0][["chi_net", "chi_pos", "delta_loss"]])
    for row in rows[1:]:
        assert_close(row.to_numpy(float), rows[0].to_numpy(float), operations=1e5)


def test_a_loss_that_is_zero_has_no_position():
    outputs = np.asarray(NETWORK.apply(params(1), POINTS.inputs))
    recorder = Recorder(NETWORK.apply, Settings(observables=["position"]), loss="mse")
    record = recorder.recording({"train": Points(POINTS.inputs, outputs)})
    record.record(0, params(1))
    row = record.tables["recording"].iloc[0]
    assert row["chi_loss"] == row["delta_loss"] == 0 and math.isnan(row["chi_pos"])


def test_classes_and_their_unions_are_blocks_of_the_kernel():
    record = Recorder(NETWORK.apply, Settings(observables=["classes"]), loss="mse").recording(
        {"train": POINTS}
    )
    record.record(0, params(1))
    table, kernel = record.tables["classes"], kernel_of(jacobian(params(1), POINTS.inputs))
    assert len(table) == 3 + 3

    def block(*classes):
        rows = [i for value in classes for i in range(8) if CLASSES[i] == value]
        return kernel[np.ix_(rows, rows)]

    for row in table.to_dict("records"):
        classes = [int(row[name]) for name in ("first", "second") if not math.isnan(row[name])]
        kernel_block = block(*classes)
        assert row["n_in_classes"] == len(kernel_block)
        assert_close(
            np.array([row["entropy"], row["trace"]]),
            np.array([naive_entropy(kernel_block), np.trace(kernel_block)]),
            operations=1e5,
        )
        if len(classes) == 2:
            first, second = (naive_entropy(block(value)) for value in classes)
            expected = 2 * (first + second - naive_entropy(kernel_block)) / (first + second)
            assert_close(
                np.array([row["mutual_information"]]), np.array([expected]), operations=1e5
            )


def test_modes_are_those_of_the_first_kernel_with_the_residual_along_them():
    settings = Settings(observables=["modes"], n_modes=3)
    record = Recorder(NETWORK.apply, settings, loss="mse").recording({"train": POINTS})
    record.record(0, params(0))
    record.record(4, params(1))
    values, vectors = np.linalg.eigh(kernel_of(jacobian(params(0), POINTS.inputs)))
    table = record.tables["modes"]
    assert table["epoch"].tolist() == [0] * 3 + [4] * 3 and table["mode"].tolist() == [0, 1, 2] * 2
    kernel = kernel_of(jacobian(params(1), POINTS.inputs))
    residual = 2 * (np.asarray(NETWORK.apply(params(1), POINTS.inputs)) - POINTS.targets) / 3
    expected = [
        [
            values[-1 - k],
            vectors[:, -1 - k] @ kernel @ vectors[:, -1 - k],
            np.linalg.norm(vectors[:, -1 - k] @ residual),
        ]
        for k in range(3)
    ]
    assert_close(
        table[["eigenvalue", "eigenvalue_now", "residual"]].to_numpy()[3:],
        np.array(expected),
        operations=1e5,
    )


def test_samples_give_means_and_deviations_of_the_same_points_at_every_epoch():
    settings = Settings(subsample={"n_samples": 4, "sample_size": 3}, observables=["drift"])
    recorder = Recorder(NETWORK.apply, settings)
    record = recorder.recording({"train": Points(POINTS.inputs)}, key=jax.random.key(5))
    for epoch in (0, 1):
        record.record(epoch, params(epoch))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(5), 0), 4)
    rows = [np.asarray(jax.random.permutation(key, 8))[:3] for key in keys]
    kernels = [
        [kernel_of(jacobian(params(epoch), POINTS.inputs[chosen])) for chosen in rows]
        for epoch in (0, 1)
    ]
    entropies = [naive_entropy(kernel) for kernel in kernels[1]]
    drifts = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(*kernels)]
    row = record.tables["recording"].iloc[1]
    names = ["entropy", "entropy_standard_deviation", "drift", "drift_standard_deviation"]
    expected = [
        value
        for values in (entropies, drifts)
        for value in (np.mean(values), np.std(values, ddof=1))
    ]
    assert_close(row[names].to_numpy(float), np.array(expected), operations=1e5)


def test_padding_changes_nothing():
    records = [
        Recorder(NETWORK.apply, Settings(observables=EVERY), loss="mse").recording(
            {"train": POINTS}, widths=widths
        )
        for widths in (None, {"train": 16})
    ]
    for record in records:
        record.record(0, params(0))
        record.record(1, params(1))
    columns = [name for name in records[0].tables["recording"] if name != "points"]
    assert_close(
        *(record.tables["recording"][columns].to_numpy() for record in records), operations=1e4
    )


def test_a_network_that_diverged_has_no_variables_and_stops_nothing():
    settings = Settings(observables=("drift", "classes"))
    record = Recorder(NETWORK.apply, settings, loss="mse").recording({"train": POINTS})
    record.record(0, params(0))
    record.record(1, jax.tree.map(lambda leaf: leaf * np.nan, params(0)))
    table = record.tables["recording"].set_index("epoch")
    assert table.loc[0].drop("points").notna().all() and table.loc[1].drop("points").isna().all()
    assert set(record.tables["classes"]["epoch"]) == {0}


@pytest.mark.parametrize(
    ("rule", "every", "expected"),
    [
        ({"every": 4}, 1, [0, 4, 8, 10]),
        ({"every": 3}, 2, [0, 4, 6, 8, 10]),
        ([3, 7], 1, [0, 3, 7, 10]),
        ([0, 10], 5, [0, 10]),
        ({"log_spaced": 5}, 1, [0, 1, 2, 5, 10]),
        ({"log_spaced": 2}, 1, [0, 1, 10]),
        ({"log_spaced": 100}, 1, list(range(11))),
    ],
)
def test_epochs_are_ascending_multiples_with_both_ends(rule, every, expected):
    assert recorded_epochs(rule, 10, evaluate_every=every).tolist() == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"observables": ["drift", "speed"]}, ValueError, "observables must be one of"),
        ({"outputs": "full"}, ValueError, "outputs must be one of mean, sum: received 'full'"),
        ({"n_train": 1}, ValueError, "n_train must be at least 2: received 1"),
        (
            {"subsample": {"n_samples": 3}},
            ValueError,
            "subsample must have n_samples and sample_size",
        ),
        (
            {"subsample": {"n_samples": 1, "sample_size": 5}},
            ValueError,
            "subsample.n_samples must be at least 2",
        ),
        (
            {"subsample": {"n_samples": 2, "sample_size": 5}, "observables": ["classes"]},
            ValueError,
            "Observables classes need the kernel of all points and cannot be combined with",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        Settings(**change)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ([3, 11], "epochs must not exceed n_epochs: 11 > 10"),
        ({"each": 3}, "epochs must be a list or have one of every and log_spaced"),
        ({"every": 0}, "epochs.every must be at least 1"),
        ({"log_spaced": 1}, "epochs.log_spaced must be at least 2"),
    ],
)
def test_epochs_that_are_not_in_the_training_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        recorded_epochs(rule, 10)


def test_observables_of_targets_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match=r"alignment, position need targets and a loss"):
        Recorder(NETWORK.apply, Settings(), loss=None)


def test_samples_larger_than_the_points_are_refused():
    settings = Settings(subsample={"n_samples": 2, "sample_size": 9}, observables=[])
    with pytest.raises(ValueError, match="sample_size must not exceed the train points: 9 > 8"):
        Recorder(NETWORK.apply, settings).recording(
            {"train": Points(POINTS.inputs)}, key=jax.random.key(0)
        )
