"""TrainAgent: an actor and a critic for each member, with the kernels of both through the
training.
"""

from dataclasses import fields
from pathlib import Path

import pandas as pd
import zntrack

from collective_variables.training import policy_optimisation, recording
from nodes import files, sources
from nodes.alone import alone


class TrainAgent(zntrack.Node):
    """Train agents by proximal policy optimisation on a control task
    (`collective_variables.training.policy_optimisation`).

    environment: of gymnax, with discrete actions. n_members: agents. seed: of all their random
    numbers. width, depth, n_updates, n_environments, n_steps, n_epochs, n_minibatches,
    learning_rate, discount, gae_lambda, clip, entropy_coefficient, value_coefficient,
    max_gradient_norm: of `policy_optimisation.PPO`.
    record: fields of `recording.Settings`, with observables that need no targets; n_train is the
    number of observations.
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
        default_factory=lambda: {"epochs": {"log_spaced": 20}, "observables": ["drift"]}
    )

    code: tuple = zntrack.deps_path(sources.of(__file__))
    recording_path: Path = zntrack.outs_path(zntrack.nwd / "recording.csv")
    returns_path: Path = zntrack.outs_path(zntrack.nwd / "returns.csv")

    @alone
    def run(self) -> None:
        ppo = policy_optimisation.PPO(
            **{of.name: getattr(self, of.name) for of in fields(policy_optimisation.PPO)}
        )
        options = {
            "settings": recording.Settings(**self.record),
            "seed": self.seed,
            "progress": self.name,
        }
        with files.kept(self.nwd / "unfinished", self.code) as store:
            found = policy_optimisation.train_ensemble(ppo, self.n_members, **options, store=store)
            files.write_table(
                self.recording_path, found.tables["recording"].rename(columns={"run": "member"})
            )
            files.write_table(self.returns_path, policy_optimisation.table(found.curves))

    @property
    def recording(self) -> pd.DataFrame:
        """A row for each member, network (actor or critic) and recorded number of updates, which is
        its epoch.
        """
        return files.read_table(self, self.recording_path)

    @property
    def returns(self) -> pd.DataFrame:
        """A row for each member and update, with the mean return of the episodes that ended in
        it.
        """
        return files.read_table(self, self.returns_path)
