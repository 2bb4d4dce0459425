"""Compare methods on a table in rounds of labelling, with networks trained in between."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import pandas as pd

from collective_variables import _checks
from collective_variables.active_learning import architecture, choosing, fitting, rounds
from collective_variables.cli import _arguments, commands
from collective_variables.data import encoding
from collective_variables.data import scaling as scalings
from collective_variables.data._errors import DataError
from collective_variables.ensembles import seeding
from collective_variables.networks import parameters


class Game(NamedTuple):
    """Hold what is played: the network, the splits, the rules by their methods, and the plan."""

    network: nn.Module
    splits: Sequence[rounds.Split]
    rules: dict[str, choosing.Rule]
    plan: rounds.Plan
    task: str

    def play(self, progress: str = "") -> pd.DataFrame:
        """Return a row for each method, repeat and round, as `rounds.play` does."""
        return rounds.play(
            self.network, self.splits, self.rules, self.plan, task=self.task, progress=progress
        )


def prepare(
    table: encoding.Table,
    name: str,
    /,
    *,
    n_points: int,
    n_rounds: int,
    methods: Sequence[str],
    n_members: int = 5,
    n_test: int | None = None,
    settings: fitting.FitSettings = fitting.FitSettings(),
    network: commands.Architecture = None,
    seed: int = 0,
    scaling: str = scalings.DEFAULT,
) -> Game:
    """Return a game of random selection and other methods on repeated splits of a table.

    Each repeat has another split, other first rows and other initial networks. The first repeat has
    the split of `commands.compare`. Inputs are scaled by the pool of each split, and targets keep
    their unit. Also raises DataError if the table has no target, if no row has one, or if all are
    of one class, and ValueError for a network that does not fit the table.

    Args:
        table: The rows.
        name: Name of the table.
        n_points: Number of first rows, and of rows in each batch.
        n_rounds: Number of batches.
        methods: Methods of `registry.SELECTION_METHODS`.
        n_members: Number of repeats.
        n_test: Number of test points; by default one row in `encoding.TEST_SHARE`.
        settings: How networks are trained.
        network: Hidden layers or a user's network; None for the default of `ActiveLearner`.
        seed: Random seed.
        scaling: Scaling of the inputs, one of `scaling.SCALINGS`.

    Returns:
        The game.
    """
    _checks.integer("n_members", n_members, minimum=1)
    seeding.key(seed, "subsets")  # so that a wrong seed is an error before the splits
    splits = []
    for repeat in range(n_members):
        dataset = encoding.split_table(
            table,
            name,
            n_test=n_test,
            # No two repeats of any two seeds share a split.
            seed=seed + repeat * (seeding.MAX_SEED + 1),
            input_scaling=scaling,
        )
        targets = table.targets[dataset.index], table.targets[dataset.test_index]
        splits.append(rounds.Split(dataset.inputs, targets[0], dataset.test_inputs, targets[1]))
    first = splits[0]
    network = architecture.build_network(network, first.inputs, first.targets.shape[1])
    parameters.check_fit(network, first.inputs, first.targets)
    names = [commands.REFERENCE, *(name for name in methods if name != commands.REFERENCE)]
    sizes = [n_points * (k + 1) for k in range(n_rounds + 1)]
    return Game(
        network,
        splits,
        {name: choosing.Rule(name) for name in names},
        rounds.Plan(sizes, settings, seed),
        table.task or "regression",
    )


def settings(arguments: argparse.Namespace, table: encoding.Table, /) -> dict[str, Any]:
    """Return the settings of `prepare` from arguments, checked before any work.

    Raises:
        DataError: Arguments do not fit each other or the table.

    Also raises TypeError or ValueError if a value is out of range.
    """
    if len(arguments.n_points) > 1:
        raise DataError(
            "--n-points must be a single number with --rounds, the rows of each batch: received "
            f"{' '.join(map(str, arguments.n_points))}."
        )
    (n_points,) = arguments.n_points
    for name, value in (("--n-points", n_points), ("--rounds", arguments.rounds)):
        _checks.integer(name, value, minimum=1)
    if arguments.loss is not None:
        raise DataError(
            "--loss must not be given with --rounds: a regression learns by the mean squared error "
            f"and classes by the cross-entropy. Received {arguments.loss}."
        )
    default = choosing.METHODS[table.task or "regression"]
    methods = list(dict.fromkeys(arguments.methods or [default]))
    for method in methods:
        if method in commands.TARGET_METHODS:
            raise DataError(
                f"{method} needs the target of every row, which rounds of labelling do not have: "
                "choose another method."
            )
        choosing.Rule(method).check_task(table.task or "regression")
    _arguments.check_split(arguments, table)
    given = {"n_epochs": arguments.epochs, "learning_rate": arguments.learning_rate}
    fit = fitting.FitSettings(**{name: value for name, value in given.items() if value is not None})
    return _arguments.shared(arguments) | {
        "n_points": n_points,
        "n_rounds": arguments.rounds,
        "methods": methods,
        "n_members": arguments.members,
        "n_test": arguments.n_test,
        "settings": fit,
        "scaling": arguments.scaling,
    }


def game(arguments: argparse.Namespace, table: encoding.Table, /) -> Game:
    """Return the game of `compare --rounds`; raises the errors of `settings` and `prepare`."""
    return prepare(table, Path(arguments.file).stem, **settings(arguments, table))
