"""Learn from a rollout by proximal policy optimisation (Schulman et al. 2017)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from collective_variables.training.agents.rollout import (
    PPO,
    Agent,
    Steps,
    flatten,
    mean_return,
    rollout,
)
from collective_variables.training.position import factors

Networks = dict[str, PyTree[Array]]
LossFunction = Callable[[Array], Float[Array, ""]]


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
        outputs = ppo.modules["critic"].apply(params["critic"], flatten(observations))
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
    observations, actions = flatten(steps.observations), flatten(steps.actions)
    logarithms = jax.nn.log_softmax(ppo.modules["actor"].apply(params["actor"], observations))
    return Batch(
        observations,
        actions,
        _at_actions(logarithms, actions),
        flatten(estimates),
        flatten(estimates + now),
    )


def _at_actions(
    logarithms: Float[Array, "n_points n_actions"], actions: Int[Array, " n_points"]
) -> Float[Array, " n_points"]:
    return jnp.take_along_axis(logarithms, actions[:, None], axis=1)[:, 0]


def losses(ppo: PPO, params: Networks, batch: Batch, /) -> dict[str, Float[Array, ""]]:
    """Return the loss of each network on a minibatch (see `loss_functions`)."""
    functions = loss_functions(ppo, batch)
    return {
        name: functions[name](network.apply(params[name], batch.observations))
        for name, network in ppo.modules.items()
    }


def loss_functions(ppo: PPO, batch: Batch, /) -> dict[str, LossFunction]:
    """Return the losses as functions of the outputs (Schulman et al. 2017, eqs 7 and 9).

    The actor's loss is −mean min(ρA, clip(ρ, 1 − ε, 1 + ε) A) − coefficient · mean entropy of the
    policy. ρ is the probability of the action, divided by that under the policy which took it; A is
    normalised over the minibatch. The critic's loss is half the mean squared error of the values.
    """

    def actor(outputs: Float[Array, "n_points n_actions"]) -> Float[Array, ""]:
        logarithms = jax.nn.log_softmax(outputs)
        ratios = jnp.exp(_at_actions(logarithms, batch.actions) - batch.log_probabilities)
        normalised = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
        clipped = jnp.clip(ratios, 1.0 - ppo.clip, 1.0 + ppo.clip)
        gain = jnp.minimum(ratios * normalised, clipped * normalised).mean()
        entropy = -jnp.sum(jnp.exp(logarithms) * logarithms, axis=1).mean()
        return -gain - ppo.entropy_coefficient * entropy

    def critic(outputs: Float[Array, "n_points 1"]) -> Float[Array, ""]:
        return jnp.mean((outputs[:, 0] - batch.targets) ** 2) / 2

    return {"actor": actor, "critic": critic}


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


def positions(ppo: PPO, agent: Agent, key: PRNGKeyArray, /) -> dict[str, factors.Factors]:
    """Return the decomposition of each network's loss on a new rollout, which changes nothing."""
    _, steps = rollout(ppo, agent, key)
    batch = make_batch(ppo, agent.params, steps)
    functions = loss_functions(ppo, batch)
    return {
        name: factors.compute_factors(
            network.apply, agent.params[name], batch.observations, functions[name]
        )
        for name, network in ppo.modules.items()
    }
