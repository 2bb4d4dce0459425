"""Define TrainAgent: an actor and a critic for each member, and their kernels during training."""

from dataclasses import fields
from pathlib import Path

import pandas as pd
import zntrack

from collective_variables.training import policy_optimisation, recording
from nodes import _files


class TrainAgent(zntrack.Node):
    """Train agents by proximal policy optimisation on a control task.

    All parameters from `width` on are described in
    `collective_variables.training.policy_optimisation.PPO`.

    Args:
        environment: Name of a task of gymnax with discrete actions.
        n_members: Number of agents.
        seed: Seed of all their random numbers.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        n_updates: Number of updates.
        n_environments: Number of environments that run in parallel.
        n_steps: Steps of an update in each environment.
        n_epochs: Passes of an update over its steps.
        n_minibatches: Minibatches of a pass.
        learning_rate: Learning rate at first.
        discount: Discount γ of rewards.
        gae_lambda: λ of the advantage estimates.
        clip: Clipping ε of the actor's loss.
        entropy_coefficient: Weight of the entropy.
        value_coefficient: Weight of the critic's loss.
        max_gradient_norm: Largest norm of the gradient.
        record: Fields of `collective_variables.training.recording.Settings`, with observables that
            do not need targets; n_train is the number of observations.
    """

    environment: str = zntrack.params("CartPole-v1")
    n_members: int = zntrack.params(5)
    seed: int = zntrack.params(0)
    width: int = zntrack.params(64)
    depth: int = zntrack.params(2)
    n_updates: int = zntrack.params(976)
    n_environments: int = zntrack.params(4)
    n_steps: int = zntrack.params(128)
    n_epochs: int = zntrack.params(4)
    n_minibatches: int = zntrack.params(4)
    learning_rate: float = zntrack.params(2.5e-4)
    discount: float = zntrack.params(0.99)
    gae_lambda: float = zntrack.params(0.95)
    clip: float = zntrack.params(0.2)
    entropy_coefficient: float = zntrack.params(0.01)
    value_coefficient: float = zntrack.params(0.5)
    max_gradient_norm: float = zntrack.params(0.5)
    record: dict = zntrack.params(
        default_factory=lambda: {"epochs": {"log_spaced": 20}, "observables": ["drift", "position"]}
    )

    code: Path = zntrack.deps_path(Path("nodes/Sources/TrainAgent.txt"))
    recording_path: Path = zntrack.outs_path(zntrack.nwd / "recording.csv")
    returns_path: Path = zntrack.outs_path(zntrack.nwd / "returns.csv")

    def run(self) -> None:
        """Train and record the agents, and write their tables."""
        ppo = policy_optimisation.PPO(
            **{field.name: getattr(self, field.name) for field in fields(policy_optimisation.PPO)}
        )
        options = {
            "settings": recording.Settings(**self.record),
            "seed": self.seed,
            "progress": self.name,
        }
        with _files.kept(self.nwd / "unfinished", self.code) as store:
            result = policy_optimisation.train_ensemble(ppo, self.n_members, **options, store=store)
            recording_table = result.tables["recording"].rename(columns={"run": "member"})
            _files.write_table(self.recording_path, recording_table)
            _files.write_table(self.returns_path, policy_optimisation.table(result.curves))

    @property
    def recording(self) -> pd.DataFrame:
        """A row for each member, network (actor or critic) and recorded update, its epoch."""
        return _files.read_table(self, self.recording_path)

    @property
    def returns(self) -> pd.DataFrame:
        """A row for each member and update: the mean return of the episodes that ended in it."""
        return _files.read_table(self, self.returns_path)
