"""Train agents by proximal policy optimisation and record their kernels (Tovey et al. 2024)."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution, seeding
from collective_variables.training import recorded_training, recording
from collective_variables.training.agents import updates
from collective_variables.training.agents.rollout import (
    NETWORKS,
    PPO,
    Agent,
    flatten,
    mean_return,
    rollout,
    start_agent,
)
from collective_variables.training.agents.updates import Curves
from collective_variables.training.position import factors

POINTS = "observations"  # the points that kernels are computed on
N_OBSERVATIONS = 100  # unless a setting says how many
N_AVERAGED = 10  # updates of the running average of the reward (Tovey et al. 2024)

POSITION = "position"
ROLLOUTS = recorded_training.SAMPLES - 2  # folded into the key of an agent, for its positions


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
    targets are possible. "position" is that of each network's loss on a new rollout of the agent,
    on which it does not learn. Updates are the epochs of `settings.epochs`; n_test is ignored.

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


def without_positions(settings: recording.Settings, /) -> recording.Settings:
    """Return the settings of what is recorded on observations; positions are those of rollouts."""
    others = [name for name in settings.observables if name != POSITION]
    return replace(settings, observables=others)


class _Runner:
    """Hold what all agents share: functions that are compiled once."""

    def __init__(
        self, ppo: PPO, settings: recording.Settings, epochs: Int[np.ndarray, " n_recorded"]
    ):
        n = min(settings.n_train or N_OBSERVATIONS, ppo.n_points)
        self._epochs = epochs
        self._places = np.arange(n) * ppo.n_points // n
        self._has_position = POSITION in settings.observables
        self._recorders = {
            name: recording.Recorder(network.apply, without_positions(settings))
            for name, network in ppo.modules.items()
        }
        self._positions = batching.over_members(partial(_positions, ppo))
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

        positions = []

        def record(epoch: int, agent: Agent) -> None:
            for name, recorder in records.items():
                recorder.record(epoch, jax.tree.map(lambda leaf: leaf[0], agent.params[name]))
            if self._has_position:
                positions.append(self._positions(epoch, agent, key[None]))
            advance(1)

        record(0, agent)
        for first, last in itertools.pairwise(self._epochs):
            agent, curves = self._advance((first, last), agent, curves, key[None])
            record(last, agent)
        curves = jax.tree.map(lambda curve: np.asarray(curve)[0], curves)
        tables = [
            _with_curves(recorder.tables["recording"], name, curves).assign(
                **_columns([position[name] for position in positions])
            )
            for name, recorder in records.items()
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
    return agent, curves, flatten(steps.observations.swapaxes(0, 1))[places]


def _advance(
    ppo: PPO, span: tuple[Array, Array], agent: Agent, curves: Curves, key: PRNGKeyArray
) -> tuple[Agent, Curves]:
    """Return agent and curves after training from one number of updates to another."""

    def one(number: Int[Array, ""], progress: tuple[Agent, Curves]) -> tuple[Agent, Curves]:
        agent, curves = progress
        agent, values = updates.update(ppo, agent, jax.random.fold_in(key, number))
        curves = jax.tree.map(lambda curve, value: curve.at[number].set(value), curves, values)
        return agent, curves

    first, last = span
    return jax.lax.fori_loop(first + 1, last + 1, one, (agent, curves))


def _positions(
    ppo: PPO, epoch: Int[Array, ""], agent: Agent, key: PRNGKeyArray
) -> dict[str, factors.Factors]:
    rollout_key = jax.random.fold_in(jax.random.fold_in(key, ROLLOUTS), epoch)
    return updates.positions(ppo, agent, rollout_key)


def _columns(positions: list[factors.Factors]) -> dict[str, np.ndarray]:
    """Return the positions of one network at all recorded updates as columns, if there are any."""
    columns = map(np.concatenate, zip(*positions))
    return dict(zip(factors.Factors._fields, columns))


def _with_curves(table: pd.DataFrame, name: str, curves: Curves) -> pd.DataFrame:
    number = table["epoch"].to_numpy()
    place = len(recording.LABELS)
    average = pd.Series(curves.returns).rolling(N_AVERAGED, min_periods=1).mean().to_numpy()
    table.insert(place, "reward", curves.returns[number])
    table.insert(place + 1, "mean_reward", average[number])
    table.insert(place + 2, "loss", getattr(curves, name)[number])
    table.insert(0, "network", name)
    return table
