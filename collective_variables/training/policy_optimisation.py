"""Actors and critics trained by proximal policy optimisation (PPO), with a record of their kernels
(Tovey et al. 2024).
"""

import itertools
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution, seeding
from collective_variables.networks import parameters, sequential
from collective_variables.training import recorded_training, recording

NETWORKS = ("actor", "critic")
POINTS = "observations"  # the kind of points that kernels are of
N_OBSERVATIONS = 100  # unless a setting says how many
N_AVERAGED = 10  # updates of the running average of the reward (Tovey et al. 2024)


def _gymnax() -> ModuleType:
    # Not at the top: it computes as it is imported, which a process that forks after its imports
    # must not have done.
    import gymnax

    return gymnax


def environments() -> list[str]:
    """Names of the tasks of gymnax, but for the bandit with images, which would download them as it
    is made.
    """
    return [name for name in _gymnax().registered_envs if name != "MNISTBandit-bsuite"]


def _is_discrete(space: Any) -> bool:
    return isinstance(space, _gymnax().environments.spaces.Discrete)


@dataclass(frozen=True)
class PPO:
    """Proximal policy optimisation (Schulman et al. 2017) of an actor and a critic that share no
    parameters.

    Defaults are those of CleanRL's ppo.py and of PureJaxRL for CartPole, 500 000 steps in all.
    Other than there, networks start as those of `sequential.build_network` do and not from
    orthogonal matrices, the critic's loss isn't clipped (as in the paper, eq. 9), and a time limit
    doesn't count as the end of an episode (see `advantages`).

    environment: any of gymnax with discrete actions. width, depth: of the hidden layers of each
    network, with tanh.
    n_updates: each has n_steps steps in each of n_environments, then n_epochs passes over these in
    n_minibatches.
    learning_rate: of Adam at first; it falls linearly to 0 at the end of the training.
    discount γ, gae_lambda λ: of `advantages`. clip ε, entropy_coefficient: of the actor's loss in
    `losses`.
    value_coefficient: of the critic's loss beside the actor's; max_gradient_norm: of both networks'
    gradient together.
    """

    environment: str = "CartPole-v1"
    width: int = 64
    depth: int = 2
    n_updates: int = 976
    n_environments: int = 4
    n_steps: int = 128
    n_epochs: int = 4
    n_minibatches: int = 4
    learning_rate: float = 2.5e-4
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_coefficient: float = 0.01
    value_coefficient: float = 0.5
    max_gradient_norm: float = 0.5

    def __post_init__(self) -> None:
        _checks.choice("environment", self.environment, environments())
        for name in (
            "width",
            "depth",
            "n_updates",
            "n_environments",
            "n_steps",
            "n_epochs",
            "n_minibatches",
        ):
            _checks.integer(name, getattr(self, name), minimum=1)
        for name in ("learning_rate", "clip", "value_coefficient", "max_gradient_norm"):
            _checks.number(name, getattr(self, name), above=0.0)
        _checks.number("entropy_coefficient", self.entropy_coefficient, minimum=0.0)
        for name in ("discount", "gae_lambda"):
            if _checks.number(name, getattr(self, name), minimum=0.0) > 1.0:
                raise ValueError(f"{name} must not exceed 1: received {getattr(self, name)}.")
        if self.n_points % self.n_minibatches:
            raise ValueError(
                f"n_minibatches must divide n_environments * n_steps: received {self.n_minibatches} and {self.n_points}."
            )
        if not _is_discrete(self.actions):
            raise ValueError(
                f"environment must have discrete actions: received {self.environment!r} with continuous ones."
            )

    @property
    def n_points(self) -> int:
        """Steps of a rollout in all environments."""
        return self.n_environments * self.n_steps

    @cached_property
    def task(self) -> Any:
        """The environment itself, of gymnax."""
        return _gymnax().make(self.environment)[0]

    @property
    def actions(self) -> Any:
        """The space of the actions."""
        return self.task.action_space(self.task.default_params)

    @property
    def modules(self) -> dict[str, sequential.Network]:
        """The actor, whose outputs are logits of the actions, and the critic, whose output is an
        observation's value.
        """
        hidden = [f"dense {self.width}"] * self.depth
        widths = dict(zip(NETWORKS, (self.actions.n, 1)))
        return {
            name: sequential.build_network([*hidden, f"dense {n}"], activation="tanh")
            for name, n in widths.items()
        }

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser of both networks together."""
        rate = optax.linear_schedule(
            self.learning_rate, 0.0, self.n_updates * self.n_epochs * self.n_minibatches
        )
        return optax.chain(
            optax.clip_by_global_norm(self.max_gradient_norm), optax.adam(rate, eps=1e-5)
        )


class Agent(NamedTuple):
    """Where a training is. params: of each network, by its name. returns: the rewards of each
    episode so far.
    """

    params: dict[str, PyTree[Array]]
    optimiser_state: PyTree[Array]
    states: PyTree[Array]
    observations: Float[Array, "n_environments ..."]
    returns: Float[Array, " n_environments"]


class Steps(NamedTuple):
    """A rollout. next_observations: what an action led to, before the reset that follows the end of
    an episode.

    terminated: the episode is over. ended: it is, or its time limit has come. returns: rewards of
    the episode so far.
    """

    observations: Float[Array, "n_steps n_environments ..."]
    actions: Int[Array, "n_steps n_environments"]
    rewards: Float[Array, "n_steps n_environments"]
    next_observations: Float[Array, "n_steps n_environments ..."]
    terminated: Bool[Array, "n_steps n_environments"]
    ended: Bool[Array, "n_steps n_environments"]
    returns: Float[Array, "n_steps n_environments"]


class Batch(NamedTuple):
    """Steps to learn from: log_probabilities of the actions under the policy that took them,
    targets of the critic.
    """

    observations: Float[Array, "n_points ..."]
    actions: Int[Array, " n_points"]
    log_probabilities: Float[Array, " n_points"]
    advantages: Float[Array, " n_points"]
    targets: Float[Array, " n_points"]


class Curves(NamedTuple):
    """Values at each update, the first before any (leading axes: runs).

    returns: mean sum of rewards of the episodes that ended in the update's rollout, NaN where none
    did. actor, critic: the network's loss, averaged over the steps of its optimiser; NaN before
    training.
    """

    returns: Float[Array, "*runs n_updates+1"]
    actor: Float[Array, "*runs n_updates+1"]
    critic: Float[Array, "*runs n_updates+1"]


def start_agent(ppo: PPO, key: PRNGKeyArray, initialisation_key: PRNGKeyArray, /) -> Agent:
    """An untrained agent at the beginning of its first episodes."""
    observations, states = jax.vmap(ppo.task.reset)(jax.random.split(key, ppo.n_environments))
    observations = _points(ppo, observations)
    keys = jax.random.split(initialisation_key)
    params = {
        name: parameters.initialise(network, key, observations)
        for (name, network), key in zip(ppo.modules.items(), keys)
    }
    returns = jnp.zeros(ppo.n_environments, observations.dtype)
    return Agent(params, ppo.transformation().init(params), states, observations, returns)


def _points(ppo: PPO, observations: Array) -> Float[Array, "n_environments ..."]:
    """Observations as inputs of the networks; one of several places is a one-hot vector."""
    space = ppo.task.observation_space(ppo.task.default_params)
    return (
        jax.nn.one_hot(observations, space.n) if _is_discrete(space) else observations.astype(float)
    )


def rollout(ppo: PPO, agent: Agent, key: PRNGKeyArray, /) -> tuple[Agent, Steps]:
    """Let an agent act for n_steps in all environments; an episode that ends is followed by the
    next one.
    """
    actor = ppo.modules["actor"]

    def step(agent: Agent, keys: PRNGKeyArray) -> tuple[Agent, Steps]:
        actions = jax.random.categorical(
            keys[0], actor.apply(agent.params["actor"], agent.observations)
        )
        observations, states, rewards, terminated, truncated, info = jax.vmap(ppo.task.step)(
            keys[1:], agent.states, actions
        )
        ended, rewards = terminated | truncated, rewards.astype(agent.returns.dtype)
        returns, following = agent.returns + rewards, _points(ppo, info["final_observation"])
        found = Steps(agent.observations, actions, rewards, following, terminated, ended, returns)
        observations, returns = _points(ppo, observations), jnp.where(ended, 0.0, returns)
        return agent._replace(states=states, observations=observations, returns=returns), found

    return jax.lax.scan(step, agent, jax.random.split(key, (ppo.n_steps, 1 + ppo.n_environments)))


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
    """Generalised advantage estimates A_t = δ_t + γλ A_{t+1}, δ_t = r_t + γ V(s'_t) − V(s_t)
    (Schulman et al. 2016, eq. 16).

    A_{t+1} is 0 where an episode ended at t or the rollout does. V(s'_t) is 0 only where it
    terminated: an episode that meets its time limit would have gone on, so the value of its last
    observation counts (Pardo et al. 2018).
    """
    deltas = rewards + discount * jnp.where(terminated, 0.0, next_values) - values

    def before(following: Array, of: tuple[Array, Array]) -> tuple[Array, Array]:
        found = of[0] + discount * gae_lambda * jnp.where(of[1], 0.0, following)
        return found, found

    return jax.lax.scan(before, jnp.zeros_like(deltas[0]), (deltas, ended), reverse=True)[1]


def make_batch(ppo: PPO, params: dict[str, PyTree[Array]], steps: Steps, /) -> Batch:
    """What the steps of a rollout by these networks teach; the critic's targets are A_t +
    V(s_t).
    """

    def values(observations: Array) -> Float[Array, "n_steps n_environments"]:
        return (
            ppo.modules["critic"]
            .apply(params["critic"], _flat(observations))
            .reshape(steps.rewards.shape)
        )

    now = values(steps.observations)
    of_steps = (steps.rewards, now, values(steps.next_observations), steps.terminated, steps.ended)
    found = advantages(*of_steps, discount=ppo.discount, gae_lambda=ppo.gae_lambda)
    observations, actions = _flat(steps.observations), _flat(steps.actions)
    logarithms = jax.nn.log_softmax(ppo.modules["actor"].apply(params["actor"], observations))
    return Batch(
        observations, actions, _taken(logarithms, actions), _flat(found), _flat(found + now)
    )


def _flat(leaf: Array) -> Array:
    """Steps in all environments as points."""
    return leaf.reshape(-1, *leaf.shape[2:])


def _taken(
    logarithms: Float[Array, "n_points n_actions"], actions: Int[Array, " n_points"]
) -> Float[Array, " n_points"]:
    return jnp.take_along_axis(logarithms, actions[:, None], axis=1)[:, 0]


def losses(
    ppo: PPO, params: dict[str, PyTree[Array]], batch: Batch, /
) -> dict[str, Float[Array, ""]]:
    """The loss of each network on a minibatch (Schulman et al. 2017, eqs 7 and 9).

    actor: −mean min(ρA, clip(ρ, 1 − ε, 1 + ε) A), with ρ the probability of the action over that
    under the policy which took it and A normalised over the minibatch, minus the mean entropy of
    the policy times its coefficient. critic: half the mean squared error of the values.
    """
    logarithms = jax.nn.log_softmax(ppo.modules["actor"].apply(params["actor"], batch.observations))
    ratios = jnp.exp(_taken(logarithms, batch.actions) - batch.log_probabilities)
    normalised = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    clipped = jnp.clip(ratios, 1.0 - ppo.clip, 1.0 + ppo.clip)
    gain = jnp.minimum(ratios * normalised, clipped * normalised).mean()
    entropy = -jnp.sum(jnp.exp(logarithms) * logarithms, axis=1).mean()
    values = ppo.modules["critic"].apply(params["critic"], batch.observations)[:, 0]
    error = jnp.mean((values - batch.targets) ** 2) / 2
    return {"actor": -gain - ppo.entropy_coefficient * entropy, "critic": error}


def update(ppo: PPO, agent: Agent, key: PRNGKeyArray, /) -> tuple[Agent, Curves]:
    """One rollout and the steps of the optimiser that follow it, with the values of this update."""
    keys = jax.random.split(key, 1 + ppo.n_epochs)
    agent, steps = rollout(ppo, agent, keys[0])
    points, optimiser = make_batch(ppo, agent.params, steps), ppo.transformation()

    def loss(params: dict[str, PyTree[Array]], minibatch: Batch) -> tuple[Array, dict[str, Array]]:
        found = losses(ppo, params, minibatch)
        return found["actor"] + ppo.value_coefficient * found["critic"], found

    def step(
        at: tuple[PyTree[Array], PyTree[Array]], minibatch: Batch
    ) -> tuple[tuple, dict[str, Array]]:
        gradient, found = jax.grad(loss, has_aux=True)(at[0], minibatch)
        updates, kept = optimiser.update(gradient, at[1])
        return (optax.apply_updates(at[0], updates), kept), found

    def epoch(
        at: tuple[PyTree[Array], PyTree[Array]], key: PRNGKeyArray
    ) -> tuple[tuple, dict[str, Array]]:
        order = jax.random.permutation(key, ppo.n_points).reshape(ppo.n_minibatches, -1)
        return jax.lax.scan(step, at, jax.tree.map(lambda leaf: leaf[order], points))

    at = (agent.params, agent.optimiser_state)
    (params, kept), found = jax.lax.scan(epoch, at, keys[1:])
    found = jax.tree.map(jnp.mean, found)
    return agent._replace(params=params, optimiser_state=kept), Curves(mean_return(steps), **found)


def mean_return(steps: Steps, /) -> Float[Array, ""]:
    """Mean sum of rewards of the episodes that ended, NaN if none did."""
    return jnp.mean(steps.returns, where=steps.ended)


def table(curves: Curves, /) -> pd.DataFrame:
    """Curves of an ensemble as a row per member and update: member, update, reward, and the losses
    of actor and critic.
    """
    n_members, n_updates = curves.returns.shape
    columns = {
        "member": np.repeat(np.arange(n_members), n_updates),
        "update": np.tile(np.arange(n_updates), n_members),
    }
    return pd.DataFrame(
        columns
        | {
            "reward": curves.returns.ravel(),
            **{name: getattr(curves, name).ravel() for name in NETWORKS},
        }
    )


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

    Kernels are of at most `settings.n_train` observations (None for 100), the same through the
    training: of a rollout of the untrained agent, at equal distances in the time of all its
    environments. There are no targets, so only observables that need none can be had. Updates are
    the epochs of `settings.epochs`; n_test has no use.

    The table "recording" has the number of the run, network ("actor" or "critic"), points
    ("observations"), epoch (updates done), reward (`Curves.returns`), mean_reward (its mean over
    the last ten updates), the network's own loss and the columns of `recording.Recorder`. An agent
    that diverges ends with NaN in losses and kernels and stops no other. store: as in
    `ensemble_training.train_ensemble`.
    """
    _checks.integer("n_members", n_members, minimum=1)
    epochs = recording.recorded_epochs(settings.epochs, ppo.n_updates)
    one = _Runner(ppo, settings, epochs)
    fingerprint = (
        "" if store is None else checkpoints.fingerprint(ppo, settings, jnp.result_type(float))
    )
    keys = (
        seeding.member_keys(seeding.key(seed, use), n_members)
        for use in ("batches", "initialisation")
    )
    tasks = list(zip(*keys))
    kept = recorded_training.load_results(
        store,
        tasks,
        name=lambda of_run: f"{fingerprint}-{checkpoints.fingerprint(*of_run)}",
        curves=Curves,
    )

    def record(
        of_run: tuple[PRNGKeyArray, PRNGKeyArray], advance: _types.Advance
    ) -> recorded_training.Recorded:
        return one.recorded(*of_run, advance)

    with execution.Progress(progress, n_members * len(epochs), "updates recorded") as bar:
        bar.advance(len(kept.known) * len(epochs))
        return recorded_training.join_tables(execution.run(record, tasks, bar, kept=kept))


class _Runner:
    """What all agents share: functions that are compiled once."""

    def __init__(
        self, ppo: PPO, settings: recording.Settings, epochs: Int[np.ndarray, " n_recorded"]
    ):
        n = min(settings.n_train or N_OBSERVATIONS, ppo.n_points)
        self._epochs, self._places = epochs, np.arange(n) * ppo.n_points // n
        self._recorders = {
            name: recording.Recorder(of.apply, settings) for name, of in ppo.modules.items()
        }
        self._start = batching.over_members(partial(_start, ppo), runs_once=True)
        self._advance = batching.over_members(partial(_advance, ppo))

    def recorded(
        self, key: PRNGKeyArray, initialisation_key: PRNGKeyArray, advance: _types.Advance
    ) -> recorded_training.Recorded:
        """Train and record one agent."""
        agent, curves, observations = self._start(self._places, key[None], initialisation_key[None])
        points = {POINTS: recording.Points(np.asarray(observations)[0])}
        key_of_samples = jax.random.fold_in(key, recorded_training.SAMPLES)
        recordings = {
            name: of.recording(points, key=key_of_samples) for name, of in self._recorders.items()
        }

        def record(epoch: int, agent: Agent) -> None:
            for name, of in recordings.items():
                of.record(epoch, jax.tree.map(lambda leaf: leaf[0], agent.params[name]))
            advance(1)

        record(0, agent)
        for first, last in itertools.pairwise(self._epochs):
            agent, curves = self._advance((first, last), agent, curves, key[None])
            record(last, agent)
        curves = jax.tree.map(lambda curve: np.asarray(curve)[0], curves)
        tables = [
            _with_curves(of.tables["recording"], name, curves) for name, of in recordings.items()
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
    """The untrained agent after its rollout, of which the observations at `places` are taken."""
    start_key, rollout_key = jax.random.split(jax.random.fold_in(key, 0))
    agent, steps = rollout(ppo, start_agent(ppo, start_key, initialisation_key), rollout_key)
    curves = Curves(*jnp.full((3, ppo.n_updates + 1), jnp.nan))
    curves = curves._replace(returns=curves.returns.at[0].set(mean_return(steps)))
    return agent, curves, _flat(steps.observations.swapaxes(0, 1))[places]


def _advance(
    ppo: PPO, updates: tuple[Array, Array], agent: Agent, curves: Curves, key: PRNGKeyArray
) -> tuple[Agent, Curves]:
    """Go on from one number of updates to another."""

    def one(number: Int[Array, ""], at: tuple[Agent, Curves]) -> tuple[Agent, Curves]:
        agent, found = update(ppo, at[0], jax.random.fold_in(key, number))
        return agent, jax.tree.map(lambda curve, value: curve.at[number].set(value), at[1], found)

    first, last = updates
    return jax.lax.fori_loop(first + 1, last + 1, one, (agent, curves))


def _with_curves(table: pd.DataFrame, name: str, curves: Curves) -> pd.DataFrame:
    at, place = table["epoch"].to_numpy(), len(recording.LABELS)
    average = pd.Series(curves.returns).rolling(N_AVERAGED, min_periods=1).mean().to_numpy()
    table.insert(place, "reward", curves.returns[at])
    table.insert(place + 1, "mean_reward", average[at])
    table.insert(place + 2, "loss", getattr(curves, name)[at])
    table.insert(0, "network", name)
    return table
