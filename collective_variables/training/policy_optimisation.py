"""Train agents by proximal policy optimisation and record their kernels (Tovey et al. 2024)."""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution, seeding
from collective_variables.training import recorded_training, recording
from collective_variables.training._rollout import (
    NETWORKS,
    PPO,
    Agent,
    Steps,
    mean_return,
    rollout,
    start_agent,
)

POINTS = "observations"  # the points that kernels are computed on
N_OBSERVATIONS = 100  # unless a setting says how many
N_AVERAGED = 10  # updates of the running average of the reward (Tovey et al. 2024)

Networks = dict[str, PyTree[Array]]


class Batch(NamedTuple):
    """Hold steps to learn from.

    Attributes:
        observations: Observations before each action.
        actions: Actions taken.
        log_probabilities: Logarithmic probabilities of the actions under the policy that took them.
        advantages: Advantages of the actions.
        targets: Targets of the critic.
    """

    observations: Float[Array, "n_points ..."]
    actions: Int[Array, " n_points"]
    log_probabilities: Float[Array, " n_points"]
    advantages: Float[Array, " n_points"]
    targets: Float[Array, " n_points"]


class Curves(NamedTuple):
    """Hold values at each update, the first before any (leading axes: runs).

    Attributes:
        returns: Mean sum of rewards of the episodes that ended in the rollout of the update, NaN if
            none did.
        actor: Loss of the actor, averaged over the steps of the optimiser; NaN before training.
        critic: The same for the critic.
    """

    returns: Float[Array, "*runs n_updates+1"]
    actor: Float[Array, "*runs n_updates+1"]
    critic: Float[Array, "*runs n_updates+1"]


def advantages(
    rewards: Float[Array, "n_steps n_environments"],
    values: Float[Array, "n_steps n_environments"],
    next_values: Float[Array, "n_steps n_environments"],
    terminated: Bool[Array, "n_steps n_environments"],
    ended: Bool[Array, "n_steps n_environments"],
    /,
    *,
    discount: float,
    gae_lambda: float,
) -> Float[Array, "n_steps n_environments"]:
    """Return generalised advantage estimates (Schulman et al. 2016, eq. 16).

    A_t = δ_t + γλ A_{t+1} with δ_t = r_t + γ V(s'_t) − V(s_t). A_{t+1} is 0 if an episode ended at
    t or the rollout does. V(s'_t) is 0 only if the episode terminated: one that reaches its time
    limit would have continued, so the value of its last observation counts (Pardo et al. 2018).
    """
    deltas = rewards + discount * jnp.where(terminated, 0.0, next_values) - values

    def before(following: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, is_end = step
        advantage = delta + discount * gae_lambda * jnp.where(is_end, 0.0, following)
        return advantage, advantage

    return jax.lax.scan(before, jnp.zeros_like(deltas[0]), (deltas, ended), reverse=True)[1]


def make_batch(ppo: PPO, params: Networks, steps: Steps, /) -> Batch:
    """Return the batch of a rollout's steps; the targets of the critic are A_t + V(s_t)."""

    def values(observations: Array) -> Float[Array, "n_steps n_environments"]:
        outputs = ppo.modules["critic"].apply(params["critic"], _flatten(observations))
        return outputs.reshape(steps.rewards.shape)

    now = values(steps.observations)
    following = values(steps.next_observations)
    estimates = advantages(
        steps.rewards,
        now,
        following,
        steps.terminated,
        steps.ended,
        discount=ppo.discount,
        gae_lambda=ppo.gae_lambda,
    )
    observations, actions = _flatten(steps.observations), _flatten(steps.actions)
    logarithms = jax.nn.log_softmax(ppo.modules["actor"].apply(params["actor"], observations))
    return Batch(
        observations,
        actions,
        _at_actions(logarithms, actions),
        _flatten(estimates),
        _flatten(estimates + now),
    )


def _flatten(leaf: Array) -> Array:
    """Return steps in all environments as points."""
    return leaf.reshape(-1, *leaf.shape[2:])


def _at_actions(
    logarithms: Float[Array, "n_points n_actions"], actions: Int[Array, " n_points"]
) -> Float[Array, " n_points"]:
    return jnp.take_along_axis(logarithms, actions[:, None], axis=1)[:, 0]


def losses(ppo: PPO, params: Networks, batch: Batch, /) -> dict[str, Float[Array, ""]]:
    """Return the loss of each network on a minibatch (Schulman et al. 2017, eqs 7 and 9).

    The actor's loss is −mean min(ρA, clip(ρ, 1 − ε, 1 + ε) A) − coefficient · mean entropy of the
    policy. ρ is the probability of the action, divided by that under the policy which took it; A is
    normalised over the minibatch. The critic's loss is half the mean squared error of the values.
    """
    logarithms = jax.nn.log_softmax(ppo.modules["actor"].apply(params["actor"], batch.observations))
    ratios = jnp.exp(_at_actions(logarithms, batch.actions) - batch.log_probabilities)
    normalised = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    clipped = jnp.clip(ratios, 1.0 - ppo.clip, 1.0 + ppo.clip)
    gain = jnp.minimum(ratios * normalised, clipped * normalised).mean()
    entropy = -jnp.sum(jnp.exp(logarithms) * logarithms, axis=1).mean()
    values = ppo.modules["critic"].apply(params["critic"], batch.observations)[:, 0]
    error = jnp.mean((values - batch.targets) ** 2) / 2
    return {"actor": -gain - ppo.entropy_coefficient * entropy, "critic": error}


def update(ppo: PPO, agent: Agent, key: PRNGKeyArray, /) -> tuple[Agent, Curves]:
    """Return the agent and its values after one rollout and the optimiser steps that follow it."""
    keys = jax.random.split(key, 1 + ppo.n_epochs)
    agent, steps = rollout(ppo, agent, keys[0])
    points = make_batch(ppo, agent.params, steps)
    optimiser = ppo.transformation()

    def loss(params: Networks, minibatch: Batch) -> tuple[Array, dict[str, Array]]:
        parts = losses(ppo, params, minibatch)
        return parts["actor"] + ppo.value_coefficient * parts["critic"], parts

    def step(
        state: tuple[Networks, PyTree[Array]], minibatch: Batch
    ) -> tuple[tuple, dict[str, Array]]:
        params, memory = state
        gradient, parts = jax.grad(loss, has_aux=True)(params, minibatch)
        updates, memory = optimiser.update(gradient, memory)
        return (optax.apply_updates(params, updates), memory), parts

    def epoch(
        state: tuple[Networks, PyTree[Array]], key: PRNGKeyArray
    ) -> tuple[tuple, dict[str, Array]]:
        order = jax.random.permutation(key, ppo.n_points).reshape(ppo.n_minibatches, -1)
        return jax.lax.scan(step, state, jax.tree.map(lambda leaf: leaf[order], points))

    state = (agent.params, agent.optimiser_state)
    (params, memory), parts = jax.lax.scan(epoch, state, keys[1:])
    means = jax.tree.map(jnp.mean, parts)
    agent = agent._replace(params=params, optimiser_state=memory)
    return agent, Curves(mean_return(steps), **means)


def table(curves: Curves, /) -> pd.DataFrame:
    """Return the curves of an ensemble with a row per member and update.

    The columns are member, update, reward, and the losses of actor and critic.
    """
    n_members, n_updates = curves.returns.shape
    columns = {
        "member": np.repeat(np.arange(n_members), n_updates),
        "update": np.tile(np.arange(n_updates), n_members),
        "reward": curves.returns.ravel(),
    }
    return pd.DataFrame(columns | {name: getattr(curves, name).ravel() for name in NETWORKS})


def train_ensemble(
    ppo: PPO,
    n_members: int,
    /,
    *,
    settings: recording.Settings,
    seed: int,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> recorded_training.Recorded:
    """Train an agent for each member, and record the kernels of its actor and of its critic.

    Kernels are computed on at most `settings.n_train` observations (None for 100), which stay the
    same throughout the training. They come from a rollout of the untrained agent, at equal
    distances in the time of all its environments. There are no targets, so only observables without
    targets are possible. Updates are the epochs of `settings.epochs`; n_test is ignored.

    Args:
        ppo: The environment, the networks and their training.
        n_members: Number of agents.
        settings: What to record, and when.
        seed: Seed of all random numbers.
        progress: Text in front of the progress bar; "" shows none.
        store: Keeps finished runs, as in `ensemble_training.train_ensemble`.

    Returns:
        Curves and the table "recording". Its columns are the number of the run, network ("actor" or
        "critic"), points ("observations"), epoch (updates so far), reward (`Curves.returns`),
        mean_reward (its mean over the last ten updates), the loss of the network and those of
        `recording.Recorder`. An agent that diverges ends with NaN in losses and kernels and stops
        no other.
    """
    _checks.integer("n_members", n_members, minimum=1)
    epochs = recording.recorded_epochs(settings.epochs, ppo.n_updates)
    runner = _Runner(ppo, settings, epochs)
    decisive = (ppo, settings, jnp.result_type(float))
    fingerprint = "" if store is None else checkpoints.fingerprint(*decisive)
    purposes = ("batches", "initialisation")
    keys = (seeding.member_keys(seeding.key(seed, purpose), n_members) for purpose in purposes)
    tasks = list(zip(*keys))
    checkpoint = recorded_training.load_results(
        store,
        tasks,
        name=lambda member_keys: f"{fingerprint}-{checkpoints.fingerprint(*member_keys)}",
        curves=Curves,
    )

    def record(
        member_keys: tuple[PRNGKeyArray, PRNGKeyArray], advance: _types.Advance
    ) -> recorded_training.Recorded:
        return runner.record(*member_keys, advance)

    with execution.Progress(progress, n_members * len(epochs), "updates recorded") as bar:
        bar.advance(len(checkpoint.known) * len(epochs))
        return recorded_training.join_tables(
            execution.run(record, tasks, bar, checkpoint=checkpoint)
        )


class _Runner:
    """Hold what all agents share: functions that are compiled once."""

    def __init__(
        self, ppo: PPO, settings: recording.Settings, epochs: Int[np.ndarray, " n_recorded"]
    ):
        n = min(settings.n_train or N_OBSERVATIONS, ppo.n_points)
        self._epochs = epochs
        self._places = np.arange(n) * ppo.n_points // n
        self._recorders = {
            name: recording.Recorder(network.apply, settings)
            for name, network in ppo.modules.items()
        }
        self._start = batching.over_members(partial(_start, ppo), runs_once=True)
        self._advance = batching.over_members(partial(_advance, ppo))

    def record(
        self, key: PRNGKeyArray, initialisation_key: PRNGKeyArray, advance: _types.Advance
    ) -> recorded_training.Recorded:
        """Train and record one agent."""
        agent, curves, observations = self._start(self._places, key[None], initialisation_key[None])
        points = {POINTS: recording.Points(np.asarray(observations)[0])}
        sample_key = jax.random.fold_in(key, recorded_training.SAMPLES)
        records = {
            name: recorder.recording(points, key=sample_key)
            for name, recorder in self._recorders.items()
        }

        def record(epoch: int, agent: Agent) -> None:
            for name, each in records.items():
                each.record(epoch, jax.tree.map(lambda leaf: leaf[0], agent.params[name]))
            advance(1)

        record(0, agent)
        for first, last in itertools.pairwise(self._epochs):
            agent, curves = self._advance((first, last), agent, curves, key[None])
            record(last, agent)
        curves = jax.tree.map(lambda curve: np.asarray(curve)[0], curves)
        tables = [
            _with_curves(each.tables["recording"], name, curves) for name, each in records.items()
        ]
        return recorded_training.Recorded(
            curves, {"recording": pd.concat(tables, ignore_index=True)}
        )


def _start(
    ppo: PPO,
    places: Int[Array, " n_observations"],
    key: PRNGKeyArray,
    initialisation_key: PRNGKeyArray,
) -> tuple[Agent, Curves, Float[Array, "n_observations ..."]]:
    """Return the untrained agent after its rollout, and its observations at `places` there."""
    start_key, rollout_key = jax.random.split(jax.random.fold_in(key, 0))
    agent, steps = rollout(ppo, start_agent(ppo, start_key, initialisation_key), rollout_key)
    curves = Curves(*jnp.full((3, ppo.n_updates + 1), jnp.nan))
    curves = curves._replace(returns=curves.returns.at[0].set(mean_return(steps)))
    return agent, curves, _flatten(steps.observations.swapaxes(0, 1))[places]


def _advance(
    ppo: PPO, updates: tuple[Array, Array], agent: Agent, curves: Curves, key: PRNGKeyArray
) -> tuple[Agent, Curves]:
    """Return agent and curves after training from one number of updates to another."""

    def one(number: Int[Array, ""], progress: tuple[Agent, Curves]) -> tuple[Agent, Curves]:
        agent, curves = progress
        agent, values = update(ppo, agent, jax.random.fold_in(key, number))
        curves = jax.tree.map(lambda curve, value: curve.at[number].set(value), curves, values)
        return agent, curves

    first, last = updates
    return jax.lax.fori_loop(first + 1, last + 1, one, (agent, curves))


def _with_curves(table: pd.DataFrame, name: str, curves: Curves) -> pd.DataFrame:
    number = table["epoch"].to_numpy()
    place = len(recording.LABELS)
    average = pd.Series(curves.returns).rolling(N_AVERAGED, min_periods=1).mean().to_numpy()
    table.insert(place, "reward", curves.returns[number])
    table.insert(place + 1, "mean_reward", average[number])
    table.insert(place + 2, "loss", getattr(curves, name)[number])
    table.insert(0, "network", name)
    return table
