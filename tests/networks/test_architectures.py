"""Kernels of the architectures against float64 Jacobians, that each treats every point separately,
and what padding is worth.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from collective_variables.data import problems
from collective_variables.kernels import empirical
from collective_variables.networks import architectures, parameters
from collective_variables.training import ensemble_training, loop, schedules

GENERATOR = np.random.default_rng(0)
TOKENS = np.array(
    [[1, 2, 3, 4, 5, 1], [5, 4, 3, 0, 0, 0], [2, 2, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], float
)


def graphs():
    """Four graphs of up to three nodes with two features and symmetric weights; the last two have
    two nodes.
    """
    features, weights = GENERATOR.normal(size=(4, 3, 2)), np.abs(GENERATOR.normal(size=(4, 3, 3)))
    weights = (weights + weights.swapaxes(1, 2)) * (1 - np.eye(3))
    features[2:, 2], weights[2:, 2], weights[2:, :, 2] = 0.0, 0.0, 0.0
    return np.concatenate([features, weights], axis=-1)


CASES = {
    "resnet": (
        architectures.build_architecture("resnet", n_outputs=3, width=4, n_stages=2),
        GENERATOR.normal(size=(3, 6, 6, 1)),
    ),
    "transformer": (
        architectures.build_architecture(
            "transformer", n_outputs=3, n_tokens=5, width=8, n_heads=2, n_layers=1
        ),
        TOKENS,
    ),
    "graph-network": (
        architectures.build_architecture("graph-network", n_outputs=2, width=5, n_steps=2),
        graphs(),
    ),
}

pytestmark = pytest.mark.usefixtures("quick_float64")


def draw_params(module, inputs):
    drawn = jax.jit(module.init)(jax.random.key(0), jnp.asarray(inputs[:1]))
    # Biases and norms too.
    return jax.tree.map(
        lambda leaf: leaf.astype(float) + 0.2 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape),
        drawn,
    )


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_is_that_of_an_explicit_jacobian(name):
    module, inputs = CASES[name]
    params = draw_params(module, inputs)
    leaves = jax.tree.leaves(jax.jit(jax.jacrev(lambda p: module.apply(p, inputs)))(params))
    jacobian = np.concatenate(
        [np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1
    )
    for outputs, expected in {
        "mean": np.einsum("icp,jcp->ij", jacobian, jacobian) / jacobian.shape[1],
        "per-output": np.einsum("icp,jcp->cij", jacobian, jacobian),
    }.items():
        kernel = jax.jit(partial(empirical.empirical_ntk, module.apply, outputs=outputs))(
            params, inputs
        )
        assert_close(kernel, expected, operations=1e4)


@pytest.mark.parametrize("name", CASES)
def test_every_point_is_treated_by_itself(name):
    module, inputs = CASES[name]
    params = draw_params(module, inputs)
    together = np.asarray(jax.jit(module.apply)(params, inputs))
    apply = jax.jit(module.apply)
    alone = np.concatenate(
        [np.asarray(apply(params, inputs[i : i + 1])) for i in range(len(inputs))]
    )
    assert_close(together, alone, operations=1e3)


def test_what_is_behind_the_end_of_a_sequence_changes_nothing():
    module, _ = CASES["transformer"]
    params = draw_params(module, TOKENS)
    short = np.asarray(module.apply(params, TOKENS[1:2]))
    # Other embeddings and positions there leave the outputs as they are.
    changed = jax.tree.map(lambda leaf: leaf, params)
    changed["params"]["Embed_0"]["embedding"] = (
        params["params"]["Embed_0"]["embedding"].at[0].add(3.0)
    )
    changed["params"]["positions"] = params["params"]["positions"].at[:, 3:].add(3.0)
    assert_close(np.asarray(module.apply(changed, TOKENS[1:2])), short, operations=1e3)
    # And what is not behind it does count, order included.
    assert (
        np.abs(np.asarray(module.apply(params, TOKENS[1:2, [1, 0, 2, 3, 4, 5]])) - short).max()
        > 1e-3
    )


def test_the_order_of_nodes_and_absent_nodes_change_nothing():
    module, inputs = CASES["graph-network"]
    params = draw_params(module, inputs)
    order = np.array([2, 0, 1])
    features, weights = inputs[..., :2], inputs[..., 2:]
    shuffled = np.concatenate([features[:, order], weights[:, order][:, :, order]], axis=-1)
    expected = np.asarray(jax.jit(module.apply)(params, inputs))
    assert_close(np.asarray(jax.jit(module.apply)(params, shuffled)), expected, operations=1e3)
    smaller = np.concatenate([features[2:, :2], weights[2:, :2, :2]], axis=-1)
    assert_close(np.asarray(jax.jit(module.apply)(params, smaller)), expected[2:], operations=1e3)


def test_messages_go_as_far_as_there_are_steps():
    """On a path of five nodes the last one feels the first after four steps and not after three."""
    weights = np.eye(5, k=1) + np.eye(5, k=-1)
    inputs = np.concatenate([np.ones((1, 5, 1)), weights[None]], axis=-1)

    def last_node(n_steps, first):
        module = architectures.build_architecture(
            "graph-network", n_outputs=1, width=4, n_steps=n_steps
        )
        changed = inputs.copy()
        changed[0, 0, 0] = first
        _, state = module.apply(draw_params(module, inputs), changed, capture_intermediates=True)
        return np.asarray(state["intermediates"]["LayerNorm_0"]["__call__"][0])[0, -1]

    assert_close(last_node(3, 1.0), last_node(3, 2.0))
    assert np.abs(last_node(4, 1.0) - last_node(4, 2.0)).max() > 1e-6


@pytest.mark.parametrize(
    ("problem", "architecture", "options"),
    [
        ("words", "transformer", {"n_tokens": 26, "width": 8, "n_heads": 2, "n_layers": 1}),
        ("molecules", "graph-network", {"width": 8, "n_steps": 2}),
    ],
)
def test_they_learn_their_problems(problem, architecture, options):
    """A few epochs on a few points, by the training that everything else uses."""
    dataset = problems.load_problem(problem)
    module = architectures.build_architecture(
        architecture, n_outputs=dataset.targets.shape[1], **options
    )
    pool, test = (
        loop.Points(inputs[:40].astype(float), targets[:40].astype(float))
        for inputs, targets in (
            (dataset.inputs, dataset.targets),
            (dataset.test_inputs, dataset.test_targets),
        )
    )
    runs = ensemble_training.runs(np.arange(40)[None], np.array([[40]]), seed=0)
    schedule = schedules.Schedule(n_epochs=60, evaluate_every=60, learning_rate=0.01)
    (curves,) = ensemble_training.train_ensemble(module, pool, test, [runs], schedule=schedule)
    assert curves.train_loss[0, -1] < 0.7 * curves.train_loss[0, 0]
    parameters.check_fit(module, pool.inputs, pool.targets)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        (
            "perceptron",
            {},
            ValueError,
            f"architecture must be one of {', '.join(sorted(architectures.ARCHITECTURES))}: "
            "received 'perceptron'",
        ),
        (
            "resnet",
            {"n_outputs": 3, "depth": 4},
            ValueError,
            "options of resnet must be one of activation, n_blocks, n_outputs",
        ),
        (
            "resnet",
            {"n_outputs": 3, "activation": "step"},
            ValueError,
            "activation must be one of elu",
        ),
        ("resnet", {"n_outputs": 0}, ValueError, "n_outputs must be at least 1: received 0"),
        (
            "graph-network",
            {"n_outputs": 2, "width": 2.5},
            TypeError,
            "width must be an integer: received 2.5",
        ),
        (
            "transformer",
            {"n_outputs": 2, "n_tokens": 5, "width": 10, "n_heads": 4},
            ValueError,
            "width must be a multiple of n_heads: received 10 and 4",
        ),
        (
            "transformer",
            {"n_outputs": 2},
            ValueError,
            "transformer needs n_tokens: received n_outputs",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, error, message):
    with pytest.raises(error, match=message):
        architectures.build_architecture(name, **options)
