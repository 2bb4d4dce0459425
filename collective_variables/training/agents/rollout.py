"""Let an actor act in environments of gymnax, and describe how it is trained."""

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks, _extras
from collective_variables.networks import parameters, sequential

NETWORKS = ("actor", "critic")
COUNTS = (
    "width",
    "depth",
    "n_updates",
    "n_environments",
    "n_steps",
    "n_epochs",
    "n_minibatches",
)


def _gymnax() -> ModuleType:
    # Not at the top: the import runs JAX, which must not happen before a process forks.
    with _extras.required("rl"):
        import gymnax

    return gymnax


def environments() -> list[str]:
    """Return the names of the tasks of gymnax.

    The bandit with images is left out, since it would download them.
    """
    return [name for name in _gymnax().registered_envs if name != "MNISTBandit-bsuite"]


def _is_discrete(space: Any) -> bool:
    return isinstance(space, _gymnax().environments.spaces.Discrete)


@dataclass(frozen=True)
class PPO:
    """Describe proximal policy optimisation (Schulman et al. 2017) without shared parameters.

    Defaults are those of CleanRL's ppo.py and of PureJaxRL for CartPole, 500 000 steps in total.
    Three things differ: networks start as those of `sequential.build_network` and not from
    orthogonal matrices, the critic's loss is not clipped (as in the paper, eq. 9), and a time limit
    does not count as the end of an episode (see `policy_optimisation.advantages`).

    Args:
        environment: A task of gymnax with discrete actions.
        width: Width of the hidden layers of actor and critic, with tanh.
        depth: Number of hidden layers of each network.
        n_updates: Number of updates. Each has n_steps steps in each environment, then n_epochs
            passes over these in n_minibatches.
        n_environments: Number of environments that run in parallel.
        n_steps: Steps of an update in each environment.
        n_epochs: Passes of an update over its steps.
        n_minibatches: Minibatches of a pass; must divide n_environments · n_steps.
        learning_rate: Learning rate of Adam at first; it falls linearly to 0 at the end of the
            training.
        discount: γ of `policy_optimisation.advantages`.
        gae_lambda: λ of `policy_optimisation.advantages`.
        clip: ε of the actor's loss in `policy_optimisation.losses`.
        entropy_coefficient: Weight of the entropy in the actor's loss.
        value_coefficient: Weight of the critic's loss relative to the actor's.
        max_gradient_norm: Largest norm of the gradient of both networks together.
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
        for name in COUNTS:
            _checks.integer(name, getattr(self, name), minimum=1)
        for name in ("learning_rate", "clip", "value_coefficient", "max_gradient_norm"):
            _checks.number(name, getattr(self, name), above=0.0)
        _checks.number("entropy_coefficient", self.entropy_coefficient, minimum=0.0)
        for name in ("discount", "gae_lambda"):
            if _checks.number(name, getattr(self, name), minimum=0.0) > 1.0:
                raise ValueError(f"{name} must not exceed 1: received {getattr(self, name)}.")
        if self.n_points % self.n_minibatches:
            raise ValueError(
                "n_minibatches must divide n_environments * n_steps: "
                f"received {self.n_minibatches} and {self.n_points}."
            )
        if not _is_discrete(self.actions):
            raise ValueError(
                "environment must have discrete actions: "
                f"received {self.environment!r} with continuous ones."
            )

    @property
    def n_points(self) -> int:
        """Number of steps of a rollout in all environments."""
        return self.n_environments * self.n_steps

    @cached_property
    def task(self) -> Any:
        """The environment of gymnax."""
        return _gymnax().make(self.environment)[0]

    @property
    def actions(self) -> Any:
        """The space of the actions."""
        return self.task.action_space(self.task.default_params)

    @property
    def modules(self) -> dict[str, sequential.Network]:
        """The actor, whose outputs are logits of the actions, and the critic, with one value."""
        hidden = [f"dense {self.width}"] * self.depth
        widths = dict(zip(NETWORKS, (self.actions.n, 1)))
        return {
            name: sequential.build_network([*hidden, f"dense {n}"], activation="tanh")
            for name, n in widths.items()
        }

    def transformation(self) -> optax.GradientTransformation:
        """Return the optimiser of both networks together."""
        rate = optax.linear_schedule(
            self.learning_rate, 0.0, self.n_updates * self.n_epochs * self.n_minibatches
        )
        return optax.chain(
            optax.clip_by_global_norm(self.max_gradient_norm), optax.adam(rate, eps=1e-5)
        )


class Agent(NamedTuple):
    """Hold the state of a training.

    Attributes:
        params: Parameters of each network, by its name.
        optimiser_state: State of the optimiser of both networks.
        states: States of the environments.
        observations: What the agent observes next.
        returns: Sum of the rewards of each present episode so far.
    """

    params: dict[str, PyTree[Array]]
    optimiser_state: PyTree[Array]
    states: PyTree[Array]
    observations: Float[Array, "n_environments ..."]
    returns: Float[Array, " n_environments"]


class Steps(NamedTuple):
    """Hold the steps of a rollout.

    Attributes:
        observations: Observations before each action.
        actions: Actions taken.
        rewards: Rewards of the actions.
        next_observations: Observations after each action, before the reset that follows the end of
            an episode.
        terminated: Whether the episode is over.
        ended: Whether it is over or its time limit is reached.
        returns: Sum of the rewards of the episode so far.
    """

    observations: Float[Array, "n_steps n_environments ..."]
    actions: Int[Array, "n_steps n_environments"]
    rewards: Float[Array, "n_steps n_environments"]
    next_observations: Float[Array, "n_steps n_environments ..."]
    terminated: Bool[Array, "n_steps n_environments"]
    ended: Bool[Array, "n_steps n_environments"]
    returns: Float[Array, "n_steps n_environments"]


def start_agent(ppo: PPO, key: PRNGKeyArray, initialisation_key: PRNGKeyArray, /) -> Agent:
    """Return an untrained agent at the beginning of its first episodes."""
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
    """Return observations as inputs of the networks; discrete ones become one-hot vectors."""
    space = ppo.task.observation_space(ppo.task.default_params)
    if _is_discrete(space):
        return jax.nn.one_hot(observations, space.n)
    return observations.astype(float)


def rollout(ppo: PPO, agent: Agent, key: PRNGKeyArray, /) -> tuple[Agent, Steps]:
    """Return the agent and its steps after n_steps in all environments, where episodes restart."""
    actor = ppo.modules["actor"]

    def step(agent: Agent, keys: PRNGKeyArray) -> tuple[Agent, Steps]:
        logits = actor.apply(agent.params["actor"], agent.observations)
        actions = jax.random.categorical(keys[0], logits)
        observations, states, rewards, terminated, truncated, info = jax.vmap(ppo.task.step)(
            keys[1:], agent.states, actions
        )
        ended = terminated | truncated
        rewards = rewards.astype(agent.returns.dtype)
        returns = agent.returns + rewards
        following = _points(ppo, info["final_observation"])
        steps = Steps(agent.observations, actions, rewards, following, terminated, ended, returns)
        return agent._replace(
            states=states,
            observations=_points(ppo, observations),
            returns=jnp.where(ended, 0.0, returns),
        ), steps

    return jax.lax.scan(step, agent, jax.random.split(key, (ppo.n_steps, 1 + ppo.n_environments)))


def mean_return(steps: Steps, /) -> Float[Array, ""]:
    """Return the mean sum of rewards of the episodes that ended, NaN if none did."""
    return jnp.mean(steps.returns, where=steps.ended)


def flatten(leaf: Float[Array, "n_steps n_environments ..."], /) -> Float[Array, "n_points ..."]:
    """Return steps in all environments as points."""
    return leaf.reshape(-1, *leaf.shape[2:])
