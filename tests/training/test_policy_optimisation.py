"""Proximal policy optimisation, compared with plain loops and formulas, and its recordings."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import assert_close

from collective_variables.ensembles import seeding
from collective_variables.observables import spectrum
from collective_variables.training import policy_optimisation, recording
from collective_variables.training.agents import updates
from collective_variables.training.agents.rollout import PPO

# Learns within seconds.
SMALL = PPO(width=16, depth=1, n_updates=20, n_environments=4, n_steps=64, learning_rate=0.01)
SETTINGS = recording.Settings(
    epochs=[3, 20], n_train=12, observables=["drift", "cosine", "position"]
)
RUNNER = policy_optimisation._Runner

pytestmark = pytest.mark.usefixtures("quick_float64")


def plain_advantages(rewards, values, next_values, terminated, ended, discount, gae_lambda):
    """A_t = Σ_l (γλ)^l δ_{t+l}, summed up to the end of each episode separately."""
    result = np.zeros(rewards.shape)
    for environment in range(rewards.shape[1]):
        ends = np.flatnonzero(ended[:, environment]) + 1
        for episode in np.split(np.arange(len(rewards)), ends):
            deltas = []
            for t in episode:
                following = 0.0 if terminated[t, environment] else next_values[t, environment]
                deltas.append(
                    rewards[t, environment] + discount * following - values[t, environment]
                )
            for place, t in enumerate(episode):
                powers = (discount * gae_lambda) ** np.arange(len(deltas) - place)
                result[t, environment] = np.sum(powers * deltas[place:])
    return result


def forward(xp, params, inputs):
    """One hidden layer of tanh."""
    first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
    return (
        xp.tanh(inputs @ first["kernel"] + first["bias"][None]) @ second["kernel"]
        + second["bias"][None]
    )


def formula(xp, ppo, params, batch):
    """The losses of both networks, with numpy or jax.numpy as `xp`."""
    logits, rows = forward(xp, params["actor"], batch.observations), np.arange(len(batch.actions))
    probabilities = xp.exp(logits) / xp.exp(logits).sum(axis=1)[:, None]
    ratios = probabilities[rows, batch.actions] / xp.exp(batch.log_probabilities)
    spread = xp.sqrt(xp.mean((batch.advantages - xp.mean(batch.advantages)) ** 2))
    normalised = (batch.advantages - xp.mean(batch.advantages)) / (spread + 1e-8)
    limits = xp.where(normalised > 0, 1 + ppo.clip, 1 - ppo.clip)
    beyond = xp.where(normalised > 0, ratios > limits, ratios < limits)
    gain = xp.mean(normalised * xp.where(beyond, limits, ratios))
    entropy = -xp.mean((probabilities * xp.log(probabilities)).sum(axis=1))
    error = forward(xp, params["critic"], batch.observations)[:, 0] - batch.targets
    return -gain - ppo.entropy_coefficient * entropy, xp.mean(error**2) / 2


@functools.cache
def compiled(function, ppo):
    return jax.jit(functools.partial(function, ppo))


@functools.cache
def runner(ppo, epochs):
    return RUNNER(ppo, SETTINGS, np.array(epochs))


def train(store, seed=3):
    """Two agents, by functions that are compiled once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            policy_optimisation,
            "_Runner",
            lambda ppo, _, epochs: runner(ppo, tuple(epochs.tolist())),
        )
        return policy_optimisation.train_ensemble(
            SMALL, 2, settings=SETTINGS, seed=seed, store=store
        )


@functools.cache
def trained():
    """The result, the epochs and parameters of each record in turn, and the store."""
    records, store, original = {}, {}, recording.Recording.record

    def record(self, epoch, params):
        records.setdefault(self, []).append((int(epoch), params))
        original(self, epoch, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording.Recording, "record", record)
        return train(store), list(records.values()), store


def keys_of(run):
    return [
        seeding.member_keys(seeding.key(3, purpose), 2)[run]
        for purpose in ("batches", "initialisation")
    ]


def rollout_key(run):
    """Of the first rollout."""
    return jax.random.split(jax.random.fold_in(keys_of(run)[0], 0))[1]


@functools.cache
def rolled(run):
    """An untrained agent, the steps of its first rollout and of the one that follows."""
    key, initialisation_key = keys_of(run)
    start_key, _ = jax.random.split(jax.random.fold_in(key, 0))
    agent = compiled(policy_optimisation.start_agent, SMALL)(start_key, initialisation_key)
    after, steps = compiled(policy_optimisation.rollout, SMALL)(agent, rollout_key(run))
    _, further = compiled(policy_optimisation.rollout, SMALL)(after, rollout_key(run))
    return agent, *(jax.tree.map(np.asarray, tree) for tree in (steps, further))


def test_positions_are_those_of_the_losses_on_a_new_rollout():
    """By explicit Jacobians, before the first update."""
    result, _, _ = trained()
    table, jacobian_of = (
        result.tables["recording"],
        jax.jit(jax.jacrev(functools.partial(forward, jnp))),
    )
    untrained, *_ = rolled(1)
    after, _ = compiled(policy_optimisation.rollout, SMALL)(untrained, rollout_key(1))
    key = jax.random.fold_in(jax.random.fold_in(keys_of(1)[0], policy_optimisation.ROLLOUTS), 0)
    _, steps = compiled(policy_optimisation.rollout, SMALL)(after, key)
    batch = compiled(updates.make_batch, SMALL)(after.params, steps)
    slopes = jax.jit(jax.jacrev(functools.partial(formula, jnp, SMALL)))(after.params, batch)
    for number, name in enumerate(policy_optimisation.NETWORKS):
        jacobians = jax.tree.leaves(jacobian_of(after.params[name], batch.observations))
        chi_net = sum(float(np.sum(np.square(leaf))) for leaf in jacobians)
        by_params = jax.tree.leaves(slopes[number][name])
        delta_loss = sum(float(np.sum(np.square(leaf))) for leaf in by_params)
        row = table[(table["run"] == 1) & (table["network"] == name)].iloc[0]
        found = [row["chi_net"], row["delta_loss"], row["chi_loss"] * row["chi_pos"]]
        assert_close(np.array(found), np.array([chi_net, delta_loss, delta_loss / chi_net]))
        assert 0 < row["chi_pos"] < 1


def test_advantages_are_those_of_a_plain_loop_over_episodes():
    generator = np.random.default_rng(0)
    rewards, values, next_values = generator.normal(size=(3, 30, 4))
    ended = generator.random((30, 4)) < 0.2
    terminated = ended & (generator.random((30, 4)) < 0.5)
    assert terminated.any() and (ended & ~terminated).any() and not ended[-1].all()
    result = updates.advantages(
        rewards, values, next_values, terminated, ended, discount=0.9, gae_lambda=0.8
    )
    assert_close(
        result, plain_advantages(rewards, values, next_values, terminated, ended, 0.9, 0.8)
    )


def test_losses_and_their_gradient_are_those_of_the_formula():
    generator = np.random.default_rng(0)
    params, n = jax.tree.map(np.asarray, rolled(0)[0].params), 40
    logarithms = np.log(0.5) + generator.normal(scale=0.4, size=n)
    batch = updates.Batch(
        generator.normal(size=(n, 4)),
        generator.integers(2, size=n),
        logarithms,
        *generator.normal(size=(2, n)),
    )
    losses = compiled(updates.losses, SMALL)(params, batch)
    assert_close(
        np.array([losses["actor"], losses["critic"]]), np.array(formula(np, SMALL, params, batch))
    )
    gradients = jax.jit(jax.jacrev(functools.partial(updates.losses, SMALL)))(params, batch)
    leaves, tree = jax.tree.flatten(params)
    for number, name in enumerate(policy_optimisation.NETWORKS):
        slopes = jax.tree.leaves(gradients[name])
        for place, leaf in enumerate(leaves):
            expected = np.zeros(leaf.shape)
            for entry in np.ndindex(leaf.shape):
                values = []
                for shift in (1e-6, -1e-6):
                    shifted = leaf.copy()
                    shifted[entry] += shift
                    changed = jax.tree.unflatten(
                        tree, [*leaves[:place], shifted, *leaves[place + 1 :]]
                    )
                    values.append(formula(np, SMALL, changed, batch)[number])
                expected[entry] = (values[0] - values[1]) / 2e-6
            np.testing.assert_allclose(slopes[place], expected, atol=1e-8)


def test_an_update_is_that_of_a_plain_loop():
    key, initialisation_key = keys_of(0)
    one = runner(SMALL, (0, 3, 20))
    agent, curves, _ = one._start(np.arange(12), key[None], initialisation_key[None])
    after, curves = one._advance(tuple(np.arange(2)), agent, curves, key[None])
    agent, after, curves = jax.tree.map(lambda leaf: np.asarray(leaf)[0], (agent, after, curves))
    keys = jax.random.split(jax.random.fold_in(key, 1), 5)
    _, steps = compiled(policy_optimisation.rollout, SMALL)(agent, keys[0])
    params, steps = agent.params, jax.tree.map(np.asarray, steps)
    now, following = (
        forward(np, params["critic"], observations)[..., 0]
        for observations in (steps.observations, steps.next_observations)
    )
    advantages = plain_advantages(
        steps.rewards, now, following, steps.terminated, steps.ended, 0.99, 0.95
    )
    logits = forward(np, params["actor"], steps.observations)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    taken = np.take_along_axis(probabilities, steps.actions[..., None], axis=-1)[..., 0]
    fields = (steps.observations, steps.actions, np.log(taken), advantages, advantages + now)
    batch = updates.Batch(*(leaf.reshape(256, *leaf.shape[2:]) for leaf in fields))

    leaves, tree = jax.tree.flatten(params)
    leaves = [leaf.copy() for leaf in leaves]
    means, squares = ([np.zeros(leaf.shape) for leaf in leaves] for _ in range(2))

    def total(params, minibatch):
        actor, critic = formula(jnp, SMALL, params, minibatch)
        return actor + 0.5 * critic, (actor, critic)

    slope, losses = jax.jit(jax.grad(total, has_aux=True)), []
    for epoch_key in keys[1:]:
        for rows in np.asarray(jax.random.permutation(epoch_key, 256)).reshape(4, 64):
            gradient, step_losses = slope(
                jax.tree.unflatten(tree, leaves),
                updates.Batch(*(leaf[rows] for leaf in batch)),
            )
            gradient = [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
            norm = np.sqrt(sum((leaf**2).sum() for leaf in gradient))
            gradient = [leaf * min(1.0, 0.5 / norm) for leaf in gradient]
            means = [0.9 * old + 0.1 * new for old, new in zip(means, gradient)]
            squares = [0.999 * old + 0.001 * new**2 for old, new in zip(squares, gradient)]
            count = len(losses)
            rate = 0.01 * (1 - count / 320)
            for leaf, mean, square in zip(leaves, means, squares):
                mean, square = mean / (1 - 0.9 ** (count + 1)), square / (1 - 0.999 ** (count + 1))
                leaf[...] = leaf - rate * mean / (np.sqrt(square) + 1e-5)
            losses.append(step_losses)
    # Optax has its rate in 32 bits.
    for leaf, expected, before in zip(
        jax.tree.leaves(after.params), leaves, jax.tree.leaves(params)
    ):
        np.testing.assert_allclose(leaf, expected, atol=1e-6)
        assert np.abs(expected - before).max() > 0.01
    np.testing.assert_allclose(
        [curves.actor[1], curves.critic[1]], np.mean(losses, axis=0), rtol=1e-6
    )
    assert float(curves.returns[1]) == pytest.approx(float(policy_optimisation.mean_return(steps)))


def test_returns_are_those_summed_by_hand_over_rollouts():
    _, *rollouts = rolled(0)
    running = np.zeros(4)
    for steps in rollouts:
        sums = []
        for rewards, ended in zip(steps.rewards, steps.ended):
            running += rewards
            sums += running[ended].tolist()
            running[ended] = 0.0
        assert len(sums) > 1 and max(sums) > min(sums)
        assert float(policy_optimisation.mean_return(steps)) == pytest.approx(np.mean(sums))
    assert np.isnan(
        policy_optimisation.mean_return(rollouts[0]._replace(ended=np.zeros((64, 4), bool)))
    )


def test_an_episode_that_reaches_its_time_limit_is_cut_but_not_over():
    """Episodes of which 495 of 500 steps are over already, in which no pole falls."""
    agent, *_ = rolled(0)
    late = agent._replace(states=agent.states.replace(time=agent.states.time + 495))
    steps = jax.tree.map(
        np.asarray, compiled(policy_optimisation.rollout, SMALL)(late, jax.random.key(0))[1]
    )
    assert not steps.ended[:4].any() and steps.ended[4].all() and not steps.terminated[4].any()
    assert_close(steps.returns[:5, 0], np.arange(1.0, 6.0))
    # What came next follows from what was before, by one step of Euler's method, and the reset
    # comes after it.
    assert_close(
        steps.next_observations[..., 0],
        steps.observations[..., 0] + 0.02 * steps.observations[..., 1],
    )
    assert np.abs(steps.observations[5] - steps.next_observations[4]).max(axis=1).min() > 1e-3
    # An episode continues for as long as the pole stands.
    later = steps.ended[5:]
    assert later.any() and (later == steps.terminated[5:]).all()
    targets = np.asarray(compiled(updates.make_batch, SMALL)(agent.params, steps).targets).reshape(
        64, 4
    )
    assert_close(
        targets[4],
        1.0 + 0.99 * forward(np, agent.params["critic"], steps.next_observations[4])[:, 0],
    )
    assert_close(targets[5:][later], np.ones(later.sum()))


def test_rows_are_of_both_networks_on_the_same_observations():
    result, recorded, _ = trained()
    table = result.tables["recording"]
    assert list(table.columns[:7]) == [
        "run",
        "network",
        "points",
        "epoch",
        "reward",
        "mean_reward",
        "loss",
    ]
    assert (
        sorted(set(table["epoch"])) == [0, 3, 20]
        and set(table["points"]) == {"observations"}
        and len(table) == 12
    )
    jacobian_of = jax.jit(jax.jacrev(functools.partial(forward, jnp)))
    for run in range(2):
        untrained, steps, _ = rolled(run)
        in_order = np.concatenate(
            [np.asarray(steps.observations[:, environment]) for environment in range(4)]
        )
        observations = in_order[[256 * place // 12 for place in range(12)]]
        for number, name in enumerate(policy_optimisation.NETWORKS):
            rows = table[(table["run"] == run) & (table["network"] == name)]
            assert np.isnan(rows["loss"].iloc[0]) and len(rows) == 3
            for column, curve in (
                ("reward", result.curves.returns),
                ("loss", getattr(result.curves, name)),
            ):
                np.testing.assert_array_equal(rows[column], curve[run, [0, 3, 20]])
            last = [
                result.curves.returns[run, max(0, epoch - 9) : epoch + 1] for epoch in (0, 3, 20)
            ]
            finite = [[value for value in values if np.isfinite(value)] for values in last]
            expected = [sum(values) / len(values) if values else np.nan for values in finite]
            assert rows["mean_reward"].tolist() == pytest.approx(expected, nan_ok=True)
            assert rows["reward"].iloc[0] == pytest.approx(
                float(policy_optimisation.mean_return(steps)), nan_ok=True
            )
            (records,) = [
                record for record in recorded if begins_with(record, untrained.params[name])
            ]
            first = None
            for (epoch, params), row in zip(records, rows.to_dict("records")):
                leaves = jax.tree.leaves(jacobian_of(params, observations))
                jacobian = np.concatenate(
                    [np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1
                )
                kernel = np.einsum("icp,jcp->ij", jacobian, jacobian) / (2, 1)[number]
                first = kernel if first is None else first
                expected = {
                    "epoch": epoch,
                    "entropy": spectrum.entropy(spectrum.eigenvalues(kernel)),
                    "trace": np.trace(kernel),
                    "drift": np.linalg.norm(kernel - first) / np.linalg.norm(first),
                }
                for column, value in expected.items():
                    assert row[column] == pytest.approx(value, rel=1e-8, abs=1e-12), column
            assert row["drift"] > 0.01


def begins_with(records, params):
    leaves, first = jax.tree.leaves(params), jax.tree.leaves(records[0][1])
    return all(a.shape == b.shape and np.allclose(a, b) for a, b in zip(leaves, first, strict=True))


def test_an_interrupted_training_resumes_and_ends_with_the_same_numbers(monkeypatch):
    whole, _, store = trained()
    store, calls, original = dict(store), [], RUNNER.record
    assert len(store) == 2
    del store[sorted(store)[1]]
    monkeypatch.setattr(
        RUNNER, "record", lambda *arguments: (calls.append(1), original(*arguments))[1]
    )
    again = train(store)
    assert len(calls) == 1 and len(store) == 2
    pd.testing.assert_frame_equal(
        again.tables["recording"], whole.tables["recording"], check_dtype=False, rtol=1e-12
    )
    for first, second in zip(again.curves, whole.curves):
        np.testing.assert_allclose(first, second, rtol=1e-12)
    train(store, seed=4)
    assert len(calls) == 3 and len(store) == 4


def test_an_agent_learns():
    """Poles stand 11 and 3.4 times as long in the last four of 20 updates as in the first; twice as
    long is asked for.
    """
    returns = trained()[0].curves.returns
    assert returns.shape == (2, 21)
    assert (np.nanmean(returns[:, -4:], axis=1) > 2.0 * np.nanmean(returns[:, :4], axis=1)).all()


def test_an_agent_that_diverges_ends_with_missing_values_and_stops_no_other(monkeypatch):
    """The first agent starts with infinite parameters."""
    whole = trained()[0].tables["recording"]
    one, first = runner(SMALL, (0, 3, 20)), jax.random.key_data(keys_of(0)[0])
    original = one._start

    def start(places, key, initialisation_key):
        agent, *others = original(places, key, initialisation_key)
        if (jax.random.key_data(key[0]) == first).all():
            agent = agent._replace(params=jax.tree.map(lambda leaf: leaf + np.inf, agent.params))
        return agent, *others

    monkeypatch.setattr(one, "_start", start)
    table = train(None).tables["recording"]
    assert table.query("run == 0")[["entropy", "loss"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(table.query("run == 1"), whole.query("run == 1"), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "n_inputs", "n_actions"),
    [("FrozenLake-misc", 16, 4), ("Catch-bsuite", 50, 3), ("Acrobot-v1", 6, 3)],
)
def test_other_tasks_can_be_learnt(name, n_inputs, n_actions):
    ppo, key = PPO(environment=name, n_steps=8, depth=1, width=3), jax.random.key(0)
    # Most are written only for 32 bits.
    with jax.enable_x64(False):
        first = jax.eval_shape(functools.partial(policy_optimisation.start_agent, ppo), key, key)
        after, _ = jax.eval_shape(functools.partial(updates.update, ppo), first, key)
    shapes = {
        network: [leaf.shape for leaf in jax.tree.leaves(params)]
        for network, params in after.params.items()
    }
    assert shapes["actor"] == [(3,), (n_inputs, 3), (n_actions,), (3, n_actions)]
    assert shapes["critic"] == [(3,), (n_inputs, 3), (1,), (3, 1)]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"environment": "CartPole"},
            ValueError,
            "environment must be one of Acrobot-v1, .*: received 'CartPole'",
        ),
        (
            {"environment": "Pendulum-v1"},
            ValueError,
            "environment must have discrete actions: received 'Pendulum-v1'",
        ),
        ({"environment": None}, TypeError, "environment must be one of"),
        ({"width": 0}, ValueError, "width must be at least 1: received 0"),
        ({"n_updates": 2.5}, TypeError, "n_updates must be an integer: received 2.5"),
        (
            {"learning_rate": 0.0},
            ValueError,
            "learning_rate must be greater than 0.0: received 0.0",
        ),
        (
            {"learning_rate": "1e-3"},
            TypeError,
            "learning_rate must be a number: received '1e-3'. YAML",
        ),
        ({"discount": 1.01}, ValueError, "discount must not exceed 1: received 1.01"),
        ({"gae_lambda": -0.1}, ValueError, "gae_lambda must be at least 0.0: received -0.1"),
        (
            {"entropy_coefficient": -1.0},
            ValueError,
            "entropy_coefficient must be at least 0.0: received -1.0",
        ),
        (
            {"n_minibatches": 5},
            ValueError,
            r"n_minibatches must divide n_environments \* n_steps: received 5 and 512",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        PPO(**changes)


def test_observables_that_need_targets_are_refused():
    with pytest.raises(ValueError, match="The observables alignment need targets"):
        policy_optimisation.train_ensemble(SMALL, 1, settings=recording.Settings(), seed=0)
    with pytest.raises(ValueError, match="n_members must be at least 1: received 0"):
        policy_optimisation.train_ensemble(SMALL, 0, settings=SETTINGS, seed=0)


def test_gymnax_is_imported_only_where_it_is_used():
    """It computes as it is imported, and stages are forked after their imports."""
    modules = pathlib.Path(policy_optimisation.__file__).parent.rglob("*.py")
    imports = {
        path.stem: re.findall(r"^( *)(?:import|from) gymnax", path.read_text(), re.MULTILINE)
        for path in modules
    }
    indents = {name: lines for name, lines in imports.items() if lines}
    assert set(indents) == {"rollout"} and all(indents["rollout"])


def test_the_table_of_curves_has_a_row_for_each_member_and_update():
    curves = policy_optimisation.Curves(
        *(np.arange(6.0).reshape(2, 3) + 10 * place for place in range(3))
    )
    rows = (
        policy_optimisation.table(curves)[["member", "update", "reward", "actor", "critic"]]
        .to_numpy()
        .tolist()
    )
    assert rows == [
        [m, u, 3.0 * m + u, 10 + 3.0 * m + u, 20 + 3.0 * m + u] for m in range(2) for u in range(3)
    ]
