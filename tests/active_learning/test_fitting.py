"""Networks trained on labels, against a plain loop of the same optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables import _errors
from collective_variables.active_learning import fitting
from collective_variables.networks import sequential

SETTINGS = fitting.FitSettings(n_networks=2, n_epochs=20, learning_rate=0.02, weight_decay=0.5)


def problem(n=21, n_outputs=1):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(n, 3)).astype(np.float32)
    targets = generator.normal(size=(n, n_outputs)).astype(np.float32)
    network = sequential.build_network(["dense 5", f"dense {n_outputs}"], activation="tanh")
    keys = jax.random.split(jax.random.key(0), 2)
    return network, inputs, targets, fitting.initialise(network, inputs[:1], keys)


def adamw(params, gradient, steps, rate, decay):
    """Adam with decoupled weight decay and a cosine (Loshchilov, Hutter 2019, Algorithm 2)."""
    params = [np.asarray(leaf, np.float64) for leaf in params]
    first, second = ([np.zeros_like(leaf) for leaf in params] for _ in range(2))
    for step in range(steps):
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        for i, slope in enumerate(gradient(params)):
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.999 * second[i] + 0.001 * slope**2
            mean = first[i] / (1 - 0.9 ** (step + 1))
            square = second[i] / (1 - 0.999 ** (step + 1))
            params[i] = params[i] - now * (mean / (np.sqrt(square) + 1e-8) + decay * params[i])
    return params


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_fit_is_adam_with_weight_decay_on_all_labels(task):
    n_outputs = 1 if task == "regression" else 3
    network, inputs, targets, initial = problem(n_outputs=n_outputs)
    if task == "classification":
        targets = np.eye(3, dtype=np.float32)[targets.argmax(axis=1)]

    def loss(params):
        outputs = network.apply(params, jnp.asarray(inputs, jnp.float64))
        known = jnp.asarray(targets, jnp.float64)
        if task == "regression":
            return jnp.mean((outputs - known) ** 2)
        shifted = outputs - jax.scipy.special.logsumexp(outputs, axis=1, keepdims=True)
        return -jnp.mean(jnp.sum(shifted * known, axis=1))

    trained = fitting.fit(network, inputs, targets, task=task, initial=initial, settings=SETTINGS)
    assert len(trained) == 2
    with jax.enable_x64(True):
        for start, end in zip(initial, trained):
            wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start)
            leaves, tree = jax.tree.flatten(wide)
            slope = jax.jit(
                lambda leaves, tree=tree: jax.tree.leaves(
                    jax.grad(loss)(jax.tree.unflatten(tree, leaves))
                )
            )
            expected = adamw(leaves, slope, 20, 0.02, 0.5)
            for a, b in zip(jax.tree.leaves(end), expected):
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_outputs_have_a_row_for_each_network_and_ignore_blocks(monkeypatch):
    network, inputs, _, initial = problem()
    whole = fitting.outputs(network, initial, inputs)
    assert whole.shape == (2, 21, 1)
    np.testing.assert_allclose(whole[1], network.apply(initial[1], inputs), atol=1e-6)
    monkeypatch.setattr(fitting, "AT_ONCE", 8)
    np.testing.assert_allclose(fitting.outputs(network, initial, inputs), whole, atol=1e-6)


def test_a_diverged_training_is_one_sentence_and_exit_code_1():
    network, inputs, targets, initial = problem()
    wild = fitting.FitSettings(n_networks=2, n_epochs=20, learning_rate=1e30)
    with pytest.raises(_errors.ComputationError, match="21 labelled points diverged.*lower it"):
        fitting.fit(network, inputs, targets, task="regression", initial=initial, settings=wild)


@pytest.mark.parametrize(
    "wrong",
    [{"n_networks": 0}, {"n_epochs": 0.5}, {"learning_rate": 0.0}, {"weight_decay": -1.0}],
)
def test_wrong_settings_name_the_quantity(wrong):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        fitting.FitSettings(**wrong)
