"""Shares of the variance and correlations on tables that are made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from collective_variables.networks import sequential
from studies import predict_loss

GENERATOR = np.random.default_rng(0)


def layout(subset, network, both, order, shape=(400, 300, 2)):
    """Random effects with these standard deviations."""
    n_s, n_w, n_k = shape
    return (
        subset * GENERATOR.normal(size=(n_s, 1, 1))
        + network * GENERATOR.normal(size=(1, n_w, 1))
        + both * GENERATOR.normal(size=(n_s, n_w, 1))
        + order * GENERATOR.normal(size=shape)
    )


def test_shares_of_the_variance_are_those_that_were_put_in():
    found = predict_loss.split_variance(layout(2.0, 1.0, 1.5, 0.5))
    expected = np.array([4.0, 1.0, 2.25, 0.25]) / 7.5
    assert list(found) == ["subset", "network", "both", "neither"]
    np.testing.assert_allclose(list(found.values()), expected, atol=0.08)
    assert sum(found.values()) == pytest.approx(1)


def test_with_one_order_both_contains_the_rest():
    found = predict_loss.split_variance(layout(1.0, 0.0, 1.0, 1.0, shape=(400, 300, 1)))
    assert found["neither"] == 0.0
    np.testing.assert_allclose(list(found.values()), [1 / 3, 0, 2 / 3, 0], atol=0.08)


def test_effects_of_subset_alone_leave_nothing_for_the_others():
    values = np.broadcast_to(np.arange(4.0)[:, None, None], (4, 3, 2))
    assert predict_loss.split_variance(values) == {
        "subset": 1.0,
        "network": 0.0,
        "both": 0.0,
        "neither": 0.0,
    }


def test_activations_are_those_before_and_after_each_hidden_layer():
    network = sequential.build_network(["dense 5", "dense 4", "dense 2"], activation="tanh")
    x = jnp.asarray(GENERATOR.normal(size=(6, 3)), jnp.float32)
    params = network.init(jax.random.key(0), x)
    found = predict_loss.activations(network, params, x)
    layers, values = params["params"], x
    for number in range(2):
        layer = layers[f"Dense_{number}"]
        before = values @ layer["kernel"] + layer["bias"][None]
        values = jnp.tanh(before)
        np.testing.assert_allclose(found[2 * number], before, rtol=1e-5)
        np.testing.assert_allclose(found[2 * number + 1], values, rtol=1e-5)
    assert len(found) == 4


def test_a_predictor_that_is_the_loss_is_found_and_noise_is_not():
    n = 80
    runs = pd.DataFrame({name: GENERATOR.normal(size=n) for name in predict_loss.PREDICTORS})
    loss = np.exp(GENERATOR.normal(size=n))
    runs = runs.assign(
        n_points=GENERATOR.integers(5, 100, size=n),
        min_test_loss=loss,
        entropy=-loss,
        group="fuel-dense",
        parametrisation="lecun",
        method="random",
        member=np.arange(n),
        diverged=False,
    )
    table = predict_loss.correlate(runs)
    assert set(table["kind"]) == {"spearman", "spearman given size"}
    best = table[table["predictor"] == "entropy"]
    assert (best["coefficient"] < -0.9).all() and (best["p_value"] < 1e-6).all()
    assert "n_points" not in set(table.loc[table["kind"] == "spearman given size", "predictor"])
    text = predict_loss.correlations_table(table)
    assert [line.count("**") for line in text.splitlines() if line.startswith("| entropy ")] == [
        2,
        2,
    ]
    assert sum("**" in line for line in text.splitlines()) <= 3


def test_runs_that_were_kept_are_those_that_are_drawn_again():
    """The subsets and networks of the paper's scale, which another machine trained."""
    runs = predict_loss.group_runs("fuel-dense", n_kept=3)
    kept = predict_loss.kept_runs("fuel-dense")[:3]
    assert runs["n_points"].tolist() == kept["n_points"].tolist()
    for name in ("entropy", "trace", "min_test_loss"):
        np.testing.assert_allclose(runs[name], kept[name], rtol=1e-3)
    assert runs[list(predict_loss.PREDICTORS)].notna().all(axis=None)
    with pytest.raises(ValueError, match="entropy must be that of the kept runs: .* of run 2"):
        predict_loss.check_kept(runs, kept.assign(entropy=kept["entropy"] * [1.0, 1.0, 1.1]))
    with pytest.raises(ValueError, match="sizes of the kept runs"):
        predict_loss.check_kept(runs[::-1], kept)
