"""The decomposition of a loss against explicit Jacobians, hand-computed cases and its identity."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kernel_networks import case, gradients

from collective_variables.networks import architectures, sequential
from collective_variables.training.autoencoders import model
from collective_variables.training.position import decomposition

pytestmark = pytest.mark.usefixtures("quick_float64")

GENERATOR = np.random.default_rng(0)
LINEAR = lambda w, x: x @ w


def graphs():
    features, weights = GENERATOR.normal(size=(4, 3, 2)), np.abs(GENERATOR.normal(size=(4, 3, 3)))
    weights = (weights + weights.swapaxes(1, 2)) * (1 - np.eye(3))
    return np.concatenate([features, weights], axis=-1)


def drawn(module, inputs):
    params = jax.jit(module.init)(jax.random.key(0), jnp.asarray(inputs[:1]))
    return jax.tree.map(
        lambda leaf: leaf.astype(float) + 0.2 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape),
        params,
    )


def negative_evidence(logits, images):
    return jnp.mean(jnp.sum(optax.sigmoid_binary_cross_entropy(logits, images), axis=1))


def policy_loss(logits, played):
    actions, advantages = played
    chances = jax.nn.log_softmax(logits)
    return -jnp.mean(advantages * jnp.take_along_axis(chances, actions[:, None], axis=1)[:, 0])


def one_hot(n_points, n_classes):
    return np.eye(n_classes)[np.arange(n_points) % n_classes]


def autoencoder_case():
    images = GENERATOR.uniform(size=(5, 12))
    built = model.build_autoencoder(12, 2, 4)
    params = jax.tree.map(
        lambda leaf: leaf.astype(float), built.initialise(jax.random.key(0), jnp.asarray(images))
    )

    def logits(params, images):
        return built.decoder.apply(params.decoder, built.mean(params.encoder, images))

    return logits, params, images, images, negative_evidence


def built(name, inputs, targets, loss, **options):
    module = architectures.build_architecture(name, n_outputs=targets.shape[1], **options)
    return module.apply, drawn(module, inputs), inputs, targets, loss


def sequence(layers, inputs, targets, loss):
    module = sequential.build_network(layers, activation="tanh")
    return module.apply, drawn(module, inputs), inputs, targets, loss


def tied():
    function, params, x = case("tokens with a tied last layer")
    n_outputs = jax.eval_shape(function, params, x).shape[1]
    return function, params, x, one_hot(len(x), n_outputs), "cross-entropy"


IMAGES, STATES = GENERATOR.normal(size=(4, 6, 6, 1)), GENERATOR.normal(size=(6, 4))
PLAYED = jnp.arange(6) % 2, jnp.asarray(GENERATOR.normal(size=6))
CASES = {
    "dense": lambda: sequence(["dense 6", "dense 3"], STATES, GENERATOR.normal(size=(6, 3)), "mse"),
    "one output": lambda: sequence(
        ["dense 6", "dense 1"], STATES, GENERATOR.normal(size=(6, 1)), "mse"
    ),
    "convolution": lambda: sequence(
        ["conv 3 2x2", "avgpool 2x2 stride 2", "dense 3"], IMAGES, one_hot(4, 3), "cross-entropy"
    ),
    "resnet": lambda: built("resnet", IMAGES, one_hot(4, 3), "cross-entropy", width=2, n_stages=1),
    "transformer with a tied embedding": tied,
    "graph network": lambda: built(
        "graph-network", graphs(), GENERATOR.normal(size=(4, 2)), "mse", width=5, n_steps=2
    ),
    "autoencoder": autoencoder_case,
    "actor": lambda: sequence(["dense 6", "dense 2"], STATES, PLAYED, policy_loss),
    "critic": lambda: sequence(
        ["dense 6", "dense 1"], STATES, GENERATOR.normal(size=(6, 1)), "mse"
    ),
}
LOSSES = {
    "mse": lambda outputs, targets: jnp.mean((outputs - targets) ** 2),
    "cross-entropy": lambda outputs, targets: (
        -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(outputs), axis=1))
    ),
}


def reference(function, params, x, targets, loss):
    """g and the Jacobian over points and outputs, without any code of the library."""
    loss = LOSSES.get(loss, loss)
    jacobian = gradients(function, params, jnp.asarray(x))
    outputs = function(params, jnp.asarray(x))
    g = jax.grad(loss)(outputs, jax.tree.map(jnp.asarray, targets))
    return np.asarray(g).reshape(-1), jacobian.reshape(g.size, -1), float(loss(outputs, targets))


@pytest.mark.parametrize("name", CASES)
def test_the_identity_holds_for_every_architecture(name):
    function, params, x, targets, loss = CASES[name]()
    g, jacobian, value = reference(function, params, x, targets, loss)
    kernel = jacobian @ jacobian.T
    values, vectors = np.linalg.eigh(kernel)
    position = np.sum((vectors.T @ g) ** 2 / (g @ g) * values / values.sum())
    expected = value, g @ g, np.trace(kernel), position, g @ kernel @ g
    assert position < 1
    for options in ({}, {"modes": True}):
        found = decomposition.decompose(function, params, x, targets, loss, **options)
        np.testing.assert_allclose(found[:5], expected, rtol=1e-9)
        product = found.chi_loss * found.chi_net * found.chi_pos
        assert product == pytest.approx(found.delta_loss, rel=1e-10)
        assert found.chi_net_error == found.chi_pos_error == 0.0


def test_modes_are_those_of_the_kernel_over_points_and_outputs():
    function, params, x, targets, loss = CASES["dense"]()
    g, jacobian, _ = reference(function, params, x, targets, loss)
    modes = decomposition.decompose(function, params, x, targets, loss, modes=True).modes
    values, vectors = np.linalg.eigh(jacobian @ jacobian.T)
    np.testing.assert_allclose(modes.eigenvalues, values[::-1], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(modes.shares, values[::-1] / values.sum(), rtol=1e-8, atol=1e-12)
    overlaps = (vectors.T @ g)[::-1] ** 2 / (g @ g)
    np.testing.assert_allclose(modes.squared_overlaps, overlaps, rtol=1e-6, atol=1e-10)
    assert modes.shares.sum() == pytest.approx(1) == modes.squared_overlaps.sum()


def test_a_linear_layer_has_a_closed_form():
    # f = x w with the mean squared error: g = 2 (f - y) / n, and the kernel is x xᵀ.
    x = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    found = decomposition.decompose(LINEAR, jnp.zeros((2, 1)), x, jnp.array([[-1.0], [-2.0]]))
    # g = (1, 2), λ = (9, 1), p = (0.9, 0.1), γ² = (0.2, 0.8).
    assert found.chi_loss == pytest.approx(5)
    assert found.chi_net == pytest.approx(10)
    assert found.chi_pos == pytest.approx(0.2 * 0.9 + 0.8 * 0.1)
    assert found.delta_loss == pytest.approx(13)
    assert found.loss == pytest.approx(2.5)
    assert found.chi_loss_per_point == pytest.approx(10)
    assert found.chi_net_per_point == pytest.approx(5)


def test_the_position_is_1_along_the_only_mode():
    x = jnp.array([[3.0], [-1.0]])
    found = decomposition.decompose(LINEAR, jnp.ones((1, 1)), x, jnp.zeros((2, 1)))
    assert found.chi_pos == pytest.approx(1.0, rel=1e-12)


def test_two_batches_multiply_their_gradients():
    function, params, x, targets, loss = CASES["dense"]()
    parts = [(x[:4], targets[:4]), (x[4:], targets[4:])]
    found = decomposition.decompose(function, params, *parts[0], loss, measured=parts[1])
    (g_a, j_a, _), (g_b, j_b, value) = (reference(function, params, *part, loss) for part in parts)
    traces = np.sum(j_a**2), np.sum(j_b**2)
    assert found.delta_loss == pytest.approx(g_b @ j_b @ j_a.T @ g_a, rel=1e-10)
    assert found.chi_loss == pytest.approx(np.linalg.norm(g_a) * np.linalg.norm(g_b), rel=1e-10)
    assert found.chi_net == pytest.approx(np.sqrt(np.prod(traces)), rel=1e-10)
    assert found.loss == pytest.approx(value)
    assert found.n_points == pytest.approx(np.sqrt(8))
    product = found.chi_loss * found.chi_net * found.chi_pos
    assert product == pytest.approx(found.delta_loss, rel=1e-10)


def test_the_position_between_two_batches_may_be_negative():
    x, first, second = jnp.ones((1, 1)), jnp.array([[1.0]]), jnp.array([[-1.0]])
    found = decomposition.decompose(LINEAR, jnp.zeros((1, 1)), x, first, measured=(x, second))
    assert found.chi_pos == pytest.approx(-1.0)
    assert found.delta_loss == pytest.approx(-4.0)


def test_a_batch_measured_by_itself_is_a_single_one():
    function, params, x, targets, loss = CASES["convolution"]()
    single = decomposition.decompose(function, params, x, targets, loss)
    both = decomposition.decompose(function, params, x, targets, loss, measured=(x, targets))
    np.testing.assert_allclose(both[:8], single[:8], rtol=1e-12)


def test_the_order_of_points_does_not_count():
    function, params, x, targets, loss = CASES["dense"]()
    order = np.array([3, 1, 5, 0, 2, 4])
    first = decomposition.decompose(function, params, x, targets, loss)
    second = decomposition.decompose(function, params, x[order], targets[order], loss)
    np.testing.assert_allclose(second[:8], first[:8], rtol=1e-12)


@pytest.mark.parametrize("block_size", [1, 4, 5])
def test_blocks_change_nothing(block_size):
    function, params, x, targets, loss = CASES["dense"]()
    whole = decomposition.decompose(function, params, x, targets, loss)
    parts = decomposition.decompose(function, params, x, targets, loss, block_size=block_size)
    np.testing.assert_allclose(parts[:8], whole[:8], rtol=1e-12)


def test_chi_net_adds_up_over_layers():
    function, params, x, targets, loss = CASES["convolution"]()
    leaves, tree = jax.tree.flatten(params)
    by_leaf = [
        decomposition.decompose(
            lambda leaf, x, place=place: function(
                jax.tree.unflatten(tree, [*leaves[:place], leaf, *leaves[place + 1 :]]), x
            ),
            leaves[place],
            x,
            targets,
            loss,
        )
        for place in range(len(leaves))
    ]
    whole = decomposition.decompose(function, params, x, targets, loss)
    assert sum(part.chi_net for part in by_leaf) == pytest.approx(whole.chi_net, rel=1e-10)
    assert sum(part.delta_loss for part in by_leaf) == pytest.approx(whole.delta_loss, rel=1e-10)


def test_probes_have_an_error_that_holds():
    function, params, x, targets, loss = CASES["dense"]()
    whole = decomposition.decompose(function, params, x, targets, loss)
    found = decomposition.decompose(
        function, params, x, targets, loss, n_probes=400, key=jax.random.key(0)
    )
    assert 0 < abs(found.chi_net - whole.chi_net) < 4 * found.chi_net_error
    assert 0 < abs(found.chi_pos - whole.chi_pos) < 4 * found.chi_pos_error
    assert found.chi_net_error / found.chi_net == pytest.approx(found.chi_pos_error / found.chi_pos)
    assert found.delta_loss == whole.delta_loss


def test_errors_of_two_batches_are_those_of_a_geometric_mean():
    function, params, x, targets, loss = CASES["dense"]()
    options = {"n_probes": 2, "measured": (x[:3], targets[:3])}
    whole = decomposition.decompose(
        function, params, x, targets, loss, measured=options["measured"]
    )
    found = [
        decomposition.decompose(
            function, params, x, targets, loss, key=jax.random.key(number), **options
        )
        for number in range(100)
    ]
    spread = np.std([estimate.chi_net for estimate in found])
    assert spread == pytest.approx(
        np.mean([estimate.chi_net_error for estimate in found]), rel=0.25
    )
    assert np.mean([estimate.chi_net for estimate in found]) == pytest.approx(
        whole.chi_net, rel=0.03
    )


def test_a_loss_of_0_has_no_position():
    x = jnp.eye(2)
    for options in ({}, {"modes": True}):
        found = decomposition.decompose(LINEAR, jnp.ones((2, 1)), x, jnp.ones((2, 1)), **options)
        assert found.loss == found.chi_loss == found.delta_loss == 0.0
        assert np.isnan(found.chi_pos)
        assert found.chi_net == pytest.approx(2.0)


def test_a_network_that_diverged_gives_nan():
    for options in ({}, {"modes": True}):
        found = decomposition.decompose(
            lambda w, x: jnp.tanh(x @ w),
            jnp.full((2, 1), jnp.nan),
            jnp.eye(2),
            jnp.ones((2, 1)),
            **options,
        )
        assert np.isnan(found[:5]).all()


def test_whole_numbers_are_classes_and_points():
    table = jnp.asarray(GENERATOR.normal(size=(7, 3)))
    look_up = lambda params, x: params[x].sum(axis=1)
    x = jnp.array([[0, 1], [6, 6], [2, 3]])
    classes = np.array([2, 0, 1])
    found = decomposition.decompose(look_up, table, x, classes, "cross-entropy")
    same = decomposition.decompose(look_up, table, x, np.eye(3)[classes], "cross-entropy")
    assert found == same
    g, jacobian, _ = reference(look_up, table, x, np.eye(3)[classes], "cross-entropy")
    assert found.chi_net == pytest.approx(np.sum(jacobian**2))
    assert found.delta_loss == pytest.approx(np.sum((jacobian.T @ g) ** 2))


def test_a_change_of_what_a_loss_sees_is_seen():
    scale = {"value": 1.0}
    loss = lambda outputs, targets: scale["value"] * jnp.mean((outputs - targets) ** 2)
    arguments = LINEAR, jnp.ones((2, 1)), jnp.eye(2), jnp.zeros((2, 1)), loss
    first = decomposition.decompose(*arguments)
    scale["value"] = 3.0
    assert decomposition.decompose(*arguments).chi_loss == pytest.approx(9 * first.chi_loss)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"targets": jnp.ones(2)}, "targets must have the shape of the outputs"),
        ({"targets": jnp.ones((3, 1))}, "targets must be those of 2 points"),
        ({"targets": jnp.full((2, 1), jnp.nan)}, "targets must be finite: 2 of 2"),
        ({"x": jnp.full((2, 2), jnp.nan)}, "x must be finite"),
        ({"loss": "hinge"}, "loss must be one of cross-entropy, mse"),
        ({"loss": lambda outputs, _: outputs[:, 0]}, "loss must return one real number"),
        ({"loss": "cross-entropy", "targets": np.array([0, 1])}, "classes from 0 to 0"),
        ({"n_probes": 1, "key": jax.random.key(0)}, "n_probes must be at least 2"),
        ({"n_probes": 2}, "key must be a JAX key"),
        ({"modes": True, "n_probes": 2, "key": jax.random.key(0)}, "leave out n_probes"),
        ({"modes": True, "measured": (jnp.eye(2), jnp.ones((2, 1)))}, "leave out measured"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"measured": (jnp.ones((2, 3)), jnp.ones((2, 1)))}, "measured x must have points shaped"),
        ({"measured": (jnp.eye(2), jnp.ones((3, 1)))}, "measured targets must be those of 2"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    arguments = {"params": jnp.ones((2, 1)), "x": jnp.eye(2), "targets": jnp.ones((2, 1))}
    with pytest.raises((ValueError, TypeError), match=message):
        decomposition.decompose(LINEAR, **arguments | changes)
