"""Define ActiveLearning: rounds of labelling, in which several methods choose the next rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import zntrack

from collective_variables import _errors
from collective_variables.active_learning import choosing, fitting, rounds
from collective_variables.data.problems import Dataset
from collective_variables.ensembles import seeding
from collective_variables.selection import base
from nodes import _files, network
from nodes.load_dataset import LoadDataset

TIMES = ("fit_seconds", "choice_seconds")  # a forced run must write the same file


class ActiveLearning(zntrack.Node):
    """Label rows in rounds, with the batches of each method, and test the networks in between.

    In a repeat all methods share the pool, the first rows and the initial networks. The seed is
    that of Ensemble, and the network is the first parametrisation of Network.

    Args:
        methods: Methods by their names in tables, each with fields of
            `collective_variables.active_learning.choosing.Rule` (method, kernel, n_features,
            options). Without a field `method` the name is the method. "random" must be among them.
        n_start: Number of rows with labels before the first round, drawn at random.
        n_batch: Number of rows that a round labels.
        n_rounds: Number of rounds.
        n_repeats: Number of repeats, with other first rows and networks. They share the test
            points.
        n_pool: Number of rows to choose from, drawn at random for each repeat; null for all.
        n_networks: Number of networks whose mean is tested, and whose kernels are averaged.
        n_epochs: Number of steps of a training, each with all labelled rows.
        learning_rate: Learning rate of the first step.
        weight_decay: Share of the parameters that a step takes off, per learning rate.
    """

    data: LoadDataset = zntrack.deps()
    members_path: Path = zntrack.deps_path()
    architecture_path: Path = zntrack.deps_path()

    methods: dict = zntrack.params(
        default_factory=lambda: {"random": {}, "bait": {}, "lcmd": {}, "rnd-linearised": {}}
    )
    n_start: int = zntrack.params(10)
    n_batch: int = zntrack.params(10)
    n_rounds: int = zntrack.params(5)
    n_repeats: int = zntrack.params(10)
    n_pool: int | None = zntrack.params(None)
    n_networks: int = zntrack.params(1)
    n_epochs: int = zntrack.params(300)
    learning_rate: float = zntrack.params(0.01)
    weight_decay: float = zntrack.params(1.0)

    code: Path = zntrack.deps_path(Path("nodes/Sources/ActiveLearning.txt"))
    rounds_path: Path = zntrack.outs_path(zntrack.nwd / "rounds.csv")
    metrics: dict = zntrack.metrics()

    def run(self) -> None:
        """Play the rounds, and write their table and the last errors."""
        dataset, seed = self.data.dataset, _files.read_values(self.members_path)["seed"]
        played = rounds.play(
            next(iter(network.read(self.architecture_path).values())),
            draw_splits(dataset, self.n_repeats, self.n_pool, seed),
            read_rules(self.methods),
            make_plan(self, seed),
            task=dataset.task,
            progress=self.name,
        )
        table = played.drop(columns=list(TIMES)).assign(group=self.nwd.parent.name)
        _files.write_table(self.rounds_path, table)
        last = played[played["round"] == self.n_rounds].groupby("method", sort=False)["error"]
        self.metrics = {
            "final_error": last.mean().to_dict(),
            "n_diverged": (last.size() - last.count()).to_dict(),
        }

    @property
    def played(self) -> pd.DataFrame:
        """A row for each method, repeat and round, with `rounds.COLUMNS` but the seconds."""
        return _files.read_table(self, self.rounds_path)


def read_rules(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, choosing.Rule]:
    """Return the rules that the parameter `methods` describes.

    Also raises TypeError or ValueError for an unknown method or kernel.

    Args:
        methods: Fields of each rule by its name.

    Returns:
        The rules.

    Raises:
        InvalidTypeError: A rule has other fields.
        InvalidValueError: "random" is not among the rules.
    """
    if "random" not in methods:
        raise _errors.InvalidValueError(
            "methods must have random, with which the others are compared: "
            f"received {', '.join(map(str, methods)) or 'none'}."
        )
    rules = {}
    for name, values in methods.items():
        known = choosing.Rule._fields
        if not isinstance(values, Mapping) or not set(values) <= set(known):
            raise _errors.InvalidTypeError(
                f"methods must have fields among {', '.join(known)} for {name}, or {{}}: "
                f"received {values!r}."
            )
        rules[name] = choosing.Rule(**{"method": name} | dict(values))
        rules[name].check()
    return rules


def make_plan(own: Any, seed: int) -> rounds.Plan:
    """Return the numbers of labelled rows and the training that a stage's parameters describe."""
    names = ("n_networks", "n_epochs", "learning_rate", "weight_decay")
    settings = fitting.FitSettings(**{name: getattr(own, name) for name in names})
    sizes = [own.n_start + number * own.n_batch for number in range(own.n_rounds + 1)]
    return rounds.Plan(sizes, settings, seed)


def draw_splits(
    dataset: Dataset, n_repeats: int, n_pool: int | None, seed: int
) -> list[rounds.Split]:
    """Return the pool of each repeat, with the test points that all share."""
    n_rows = len(dataset.inputs)
    drawn = base.random(
        n_rows,
        n_members=n_repeats,
        n_selected=n_rows if n_pool is None else n_pool,
        key=seeding.key(seed, "subsets"),
    )
    return [
        rounds.Split(
            dataset.inputs[rows], dataset.targets[rows], dataset.test_inputs, dataset.test_targets
        )
        for rows in drawn.indices
    ]
